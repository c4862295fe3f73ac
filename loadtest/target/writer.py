"""Group commit: one thread writes what has gathered while it wrote what had gathered before.

The event loop never waits for the disk, and a busy server pays one flush for many jobs. A group is in the hands of
either the loop or the thread, never of both, so there is nothing to lock.
"""

import asyncio
import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from loadtest.target.database import DELETE, FINISH, INSERT, Database

logger = logging.getLogger(__name__)

GROUP: Final = 500
"""Writes in one transaction at most: what follows from one must not hold up requests for long."""

RETRY: Final = 0.5
"""Seconds after which what could not be written, and must be, is tried again."""

CLOSING: Final = 5.0
"""Seconds that the last writes may take when the server stops."""


class Write(NamedTuple):
    """A row to be written.

    Attributes:
        statement: INSERT, FINISH or DELETE.
        values: its parameters.
        done: called in the event loop when it is on disk.
        refused: called in the event loop when it can't be; None for what is tried again until it can.
    """

    statement: str
    values: tuple[Any, ...]
    done: Callable[[], None] | None
    refused: Callable[[], None] | None = None


class Writer:
    """Writes to a database from within a running event loop.

    Args:
        database: what is written to, and closed in the end.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._gathered: deque[Write] = deque()
        self._busy = False
        self._failing = False
        self._retrying = False
        self._groups: queue.SimpleQueue[list[Write] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="jobs to disk", daemon=True)
        self._thread.start()

    @property
    def failing(self) -> bool:
        """Whether the last attempt to write was in vain."""
        return self._failing

    def add(self, write: Write) -> None:
        """Write it with the next group."""
        self._gathered.append(write)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._hand_over)  # after whatever else this turn of the loop brings

    def close(self) -> None:
        """Write what must be written, unless the disk refuses it; then close the database."""
        if self._gathered and not self._failing:
            self._groups.put([write for write in self._gathered if write.refused is None])
        self._gathered.clear()
        self._groups.put(None)
        self._thread.join(CLOSING)

    def _hand_over(self) -> None:
        if self._gathered or self._failing:  # an empty group tries whether there is room again
            self._groups.put([self._gathered.popleft() for _ in range(min(GROUP, len(self._gathered)))])
        else:
            self._busy = False

    def _written(self, group: list[Write], error: Exception | None) -> None:
        """In the event loop: a group has come back."""
        if error is not None:
            self._fail(group, error)
            return
        if self._failing:
            logger.warning("%s can be written again", self._database.path)
            self._failing = False
        self._hand_over()  # the thread writes on while what follows from this group is done here
        for write in group:
            if write.done is not None:
                write.done()

    def _fail(self, group: list[Write], error: Exception) -> None:
        if not self._failing:
            logger.error("%s cannot be written, tried again every %g s: %s", self._database.path, RETRY, error)
        self._failing = True
        self._busy = False
        writes = [*group, *self._gathered]
        self._gathered = deque(write for write in writes if write.refused is None)
        if not self._retrying:
            self._retrying = True
            self._loop.call_later(RETRY, self._retry)
        for write in writes:
            if write.refused is not None:
                write.refused()

    def _retry(self) -> None:
        self._retrying = False
        if not self._busy:
            self._busy = True
            self._hand_over()

    def _write_all(self) -> None:
        while (group := self._groups.get()) is not None:
            error = None
            try:
                self._database.write((each, _rows(group, each)) for each in (INSERT, FINISH, DELETE) if group)
            except Exception as problem:  # noqa: BLE001 -- whatever it is, those who wait for it must be told
                error = problem
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._written, group, error)
        self._database.close()


def _rows(group: list[Write], statement: str) -> list[tuple[Any, ...]]:
    # Kind by kind, not in their order: one row is never both inserted and finished, or finished and deleted, in one
    # group, since the later of the two follows from the earlier's being on disk.
    return [write.values for write in group if write.statement == statement]
