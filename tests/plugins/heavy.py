"""Tests that are heavy by nature: images that are built, workers that come and go, long cycles of the web UI.

`make test` leaves them out (``-m "not heavy"``) and says how many they were; `make test-heavy` runs them alone.
"""

from typing import Any

import pytest

COLLECTED = pytest.StashKey[int]()
"""How many of the tests that were collected are heavy."""
_left_out = pytest.StashKey[int]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Count the heavy ones before any is left out."""
    config.stash[COLLECTED] = sum(item.get_closest_marker("heavy") is not None for item in items)


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the heavy ones."""
    for item in items:
        if item.get_closest_marker("heavy") is not None:
            item.config.stash[_left_out] = item.config.stash.get(_left_out, 0) + 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the count to the process that reports, where this is one of several workers."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["heavy_left_out"] = session.config.stash.get(_left_out, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over a worker's count; all workers collect the same tests."""
    node.config.stash[_left_out] = getattr(node, "workeroutput", {}).get("heavy_left_out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out."""
    left_out = config.stash.get(_left_out, 0)
    if left_out and "not heavy" in config.option.markexpr:
        tests = "1 heavy test was" if left_out == 1 else f"{left_out} heavy tests were"
        terminalreporter.write_line(f"{tests} left out; `make test-heavy` runs what is heavy.")
