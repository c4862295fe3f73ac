"""Heavy tests: they build images, start and stop workers, or run long cycles of the web UI.

`make test` leaves them out (``-m "not heavy"``) and prints their number. `make test-heavy` runs only heavy tests.
"""

from typing import Any

import pytest

COLLECTED = pytest.StashKey[int]()
"""Number of heavy tests among the collected tests."""
_left_out = pytest.StashKey[int]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Count the heavy tests before any test is left out."""
    config.stash[COLLECTED] = sum(item.get_closest_marker("heavy") is not None for item in items)


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the heavy tests that are left out."""
    for item in items:
        if item.get_closest_marker("heavy") is not None:
            item.config.stash[_left_out] = item.config.stash.get(_left_out, 0) + 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Pass the count to the reporting process, if this process is one of several workers."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["heavy_left_out"] = session.config.stash.get(_left_out, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over a worker's count. All workers collect the same tests."""
    node.config.stash[_left_out] = getattr(node, "workeroutput", {}).get("heavy_left_out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print how many heavy tests were left out."""
    left_out = config.stash.get(_left_out, 0)
    if left_out and "not heavy" in config.option.markexpr:
        tests = "1 heavy test was" if left_out == 1 else f"{left_out} heavy tests were"
        terminalreporter.write_line(f"{tests} left out; `make test-heavy` runs what is heavy.")
