"""Synchronous runs end early when their client hangs up, and when the server's time limit has passed.

So does a request's wait for its turn, where a limiter makes it wait.

A run executes in the task of its own request. What ends it early cancels that task, as ``asyncio.timeout`` does; so
it costs a run next to nothing to be watched, and one that never waits needs no task or timer at all.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

from loadtest.reference_api.http.messages import DisconnectedError, Scope

_T = TypeVar("_T")

LINE: Final = "line"
"""Where a request's ``state`` has its connection."""


class Line:
    """One client's connection, as far as what it waits for is concerned.

    Attributes:
        lost: called when the connection ends.
    """

    __slots__ = ("lost",)

    def __init__(self) -> None:
        self.lost: Callable[[], None] | None = None


class RunTimeoutError(Exception):
    """A run took longer than a synchronous one may."""


class _Run:
    __slots__ = ("_task", "reason")

    def __init__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a run is watched from within its request's task")
        self._task = task
        self.reason: type[Exception] | None = None

    def stop(self, reason: type[Exception]) -> None:
        if self.reason is None:
            self.reason = reason
            self._task.cancel()

    def hang_up(self) -> None:
        self.stop(DisconnectedError)

    def explain(self) -> Exception | None:
        """Why it was stopped by us; None if it wasn't, or was by the server's end as well."""
        return self.reason() if self.reason is not None and self._task.uncancel() == 0 else None


class Attendance:
    """The synchronous runs of a server, while they execute.

    Args:
        limit: seconds that a run may take, from the time that it is read.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        # In the order of their deadlines, as the limit is the same for all: one timer does for them together.
        self._deadlines: dict[_Run, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def attend(self, work: Awaitable[_T], scope: Scope) -> _T:
        """Await ``work``; cancel it when the client hangs up or the time has passed.

        Raises:
            DisconnectedError: if the client hung up.
            RunTimeoutError: if the time has passed.
        """
        line = _line(scope)
        run = _Run()
        line.lost = run.hang_up
        self._deadlines[run] = time.monotonic() + self._limit
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._limit, self._expire)
        try:
            result = await work
        except asyncio.CancelledError:
            reason = run.explain()
            if reason is None:
                raise
            raise reason from None
        finally:
            line.lost = None
            del self._deadlines[run]
        if run.reason is not None and (reason := run.explain()) is not None:  # it didn't listen
            raise reason
        return result

    def _expire(self) -> None:
        now = time.monotonic()
        self._timer = None
        for run, deadline in self._deadlines.items():
            if deadline > now:
                self._timer = asyncio.get_running_loop().call_later(max(deadline - now, 0.001), self._expire)
                return
            run.stop(RunTimeoutError)


async def wait(seconds: float, scope: Scope) -> None:
    """Let a request wait before it is carried out, or until its client hangs up.

    Raises:
        DisconnectedError: if the client hung up.
    """
    loop = asyncio.get_running_loop()
    over: asyncio.Future[bool] = loop.create_future()

    def end(hung_up: bool) -> None:
        if not over.done():
            over.set_result(hung_up)

    line = _line(scope)
    line.lost = partial(end, hung_up=True)
    timer = loop.call_later(seconds, end, False)
    try:
        if await over:
            raise DisconnectedError
    finally:
        timer.cancel()
        line.lost = None


def _line(scope: Scope) -> Line:
    state: dict[str, Any] | None = scope.get("state")
    line: Line = state[LINE] if state else Line()
    return line
