"""The order and distribution of tests, if several workers share them as in `make test`.

Any free worker takes the next test. There are two exceptions:

- Tests of a file with a module fixture or a cache stay together, so that it is made once. So do the tests of all files
  that check the tour's report, which takes longest.
- Tests marked `judged` run one after the other. Two real runs are never made at the same time if they must be valid or
  if their times are checked.

Tests that stay together come first, and judged tests before all others. Quick tests follow, because they take at most a
core from judged tests. Tests that start processes come last.

If a run was invalid while other tests ran, it is made again while no other test runs (``alone``).

xdist's own groups (`--dist loadgroup`) would need no code, but do not work with pytest 9.2: it no longer reads the
attribute that xdist 3.8 sets.
"""

import fcntl
import functools
import re
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

_JUDGED = re.compile(r"^@pytest\.mark\.judged\b.*\n(?:@.*\n)*def (\w+)", re.MULTILINE)
_STARTING = {"browser", "free_port", "launch", "loadtest", "offer"}
"""Tests that start processes use these fixtures, directly or through other fixtures."""


_locks: list[IO[bytes]] = []
"""Two locks: a gate that each test of any worker passes, and a lock that it holds while it runs. Empty with one worker.
"""


def pytest_configure(config: pytest.Config) -> None:
    """Open the locks that the workers of a run share."""
    if (worker := getattr(config, "workerinput", None)) and not _locks:
        place = Path(tempfile.gettempdir()) / f"loadtest-tests-{worker['testrunuid']}"
        _locks.extend(place.with_suffix(name).open("wb") for name in (".gate", ".running"))


def _compiled() -> bool:
    return sys.dont_write_bytecode or any(Path(__file__).parents[1].glob("cli/__pycache__/*-pytest-*.pyc"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """In a fresh checkout, let one worker compile the tests. The others then read the compiled files."""
    if not _locks or _compiled():
        return (yield)
    gate = _locks[0]
    fcntl.flock(gate, fcntl.LOCK_EX)
    if _compiled():  # the worker that held the lock has compiled them
        fcntl.flock(gate, fcntl.LOCK_UN)
    try:
        return (yield)
    finally:
        fcntl.flock(gate, fcntl.LOCK_UN)


def pytest_unconfigure() -> None:
    """Remove the files of the locks."""
    for lock in _locks:
        Path(lock.name).unlink(missing_ok=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before the test's time-out begins
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Hold a lock while a test runs. Wait first if another test runs ``alone`` or waits for that."""
    if not _locks:
        return (yield)
    gate, running = _locks
    fcntl.flock(gate, fcntl.LOCK_EX)
    fcntl.flock(running, fcntl.LOCK_SH)
    fcntl.flock(gate, fcntl.LOCK_UN)
    try:
        return (yield)
    finally:
        fcntl.flock(running, fcntl.LOCK_UN)


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other worker runs a test, and let none begin during the context. Call this within a test."""
    if not _locks:
        yield
        return
    gate, running = _locks
    fcntl.flock(running, fcntl.LOCK_UN)  # another test may want to be alone, too
    fcntl.flock(gate, fcntl.LOCK_EX)
    try:
        fcntl.flock(running, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(running, fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)


class _Sharing(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return _group(self.config.rootpath / file, test.partition("[")[0]) or nodeid

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """Note the end of a test, and forget its group if it is done. Each call looks at all remembered groups."""
        super().mark_test_complete(node, item_index, duration)
        group = self._split_scope(self.registered_collections[node][item_index])
        if all(self.assigned_work[node][group].values()):
            del self.assigned_work[node][group]


@functools.cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def _judged(path: Path) -> frozenset[str]:
    return frozenset(_JUDGED.findall(_text(path)))


@functools.cache
def _group(path: Path, test: str) -> str | None:
    """Return the name of a test's group, or None if the test is in no group."""
    text = _text(path)
    if "pytestmark = pytest.mark.judged" in text or test in _judged(path):
        return "judged"
    if re.search(r"\btoured\b", text):
        return "toured"
    return str(path) if 'scope="module"' in text or "@functools.cache" in text else None


def _rank(item: pytest.Item) -> int:
    """Return a test's place in the order. Tests with a time-out of their own come first."""
    if item.get_closest_marker("timeout") is not None:
        return -1
    group = _group(item.path, item.nodeid.partition("::")[2].partition("[")[0])
    if group in {"judged", "toured"}:
        return ("judged", "toured").index(group)
    starts = not _STARTING.isdisjoint(getattr(item, "fixturenames", ())) or "import subprocess" in _text(item.path)
    return 2 if group else 4 if starts else 3


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort tests so that long tests come first. Tests of equal rank keep their order."""
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Distribute tests in this way, unless --dist names another way."""
    if config.getvalue("dist") != "load":
        return None
    config.option.loadscopereorder = False
    return _Sharing(config, log)
