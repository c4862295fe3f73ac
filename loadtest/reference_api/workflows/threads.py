"""Plain functions in a bounded pool of threads."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Generic, TypeVar

from loadtest.reference_api import StopFlag, current_thread

_T = TypeVar("_T")

STOP_TIMEOUT: Final = 1.0
"""Seconds that a stopping server waits for functions that were told to stop."""


class _Call(StopFlag, Generic[_T]):
    """One function call, on its way through a thread."""

    __slots__ = ("_error", "_function", "_live", "_result", "future", "loop")

    def __init__(self, function: Callable[[], _T], live: "set[_Call[Any]]") -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[_T] = self.loop.create_future()
        self._function = function
        self._live = live
        self._result: Any = None
        self._error: BaseException | None = None

    def __call__(self) -> None:
        """Execute it; this is what a thread of the pool calls, and nothing is ever raised out of it."""
        if not self.stopped:  # else nobody waited any more before a thread was free: it never begins
            current_thread.flag = self
            try:
                self._result = self._function()
            except BaseException as error:  # noqa: BLE001 -- whoever waits is the one to handle it
                self._error = error
            current_thread.flag = None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._live.discard(self)
        if self.future.done():
            return
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._result)


class Threads:
    """A pool of threads for plain functions.

    Args:
        size: how many execute at the same time.
    """

    def __init__(self, size: int) -> None:
        # Threads begin as they are needed, so that a pool which nothing uses costs nothing.
        self._size = size
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="workflow")
        self._live: set[_Call[Any]] = set()

    @property
    def busy(self) -> int:
        return min(len(self._live), self._size)

    async def run(self, function: Callable[[], _T]) -> _T:
        """Call it in a thread and wait for its result.

        Where the waiting is cancelled, a function that has not begun never does; one that has is told by
        ``cancelled()``, and keeps its thread until it returns.

        Raises:
            Exception: what the function raises.
        """
        # Not `loop.run_in_executor`: chaining the pool's future to one of the loop costs as much again as all the
        # rest, and could not say whether the call has begun.
        call = _Call(function, self._live)
        self._live.add(call)
        self._pool.submit(call)
        try:
            return await call.future
        except asyncio.CancelledError:
            call.stopped = True
            raise

    async def close(self) -> int:
        """Tell everything to stop, and wait a moment for it to end.

        Returns:
            How many calls go on regardless.
        """
        for call in self._live:
            call.stopped = True
        self._pool.shutdown(wait=False)
        deadline = time.monotonic() + STOP_TIMEOUT
        while self._live and time.monotonic() < deadline:  # noqa: ASYNC110 -- several may end, in any order
            await asyncio.sleep(0.005)
        return self.busy
