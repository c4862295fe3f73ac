"""Plain functions in a bounded pool of threads, and how one that nobody waits for any more is stopped.

A thread can be stopped at its next bytecode, by an exception that another thread has the interpreter raise in it. What
must never happen is that it comes late, and hits the pool's own code or the thread's next work. Hence:

- A piece of work has one *claim* while its function executes. Whoever takes it first, by the one atomic ``pop``, has
  the say: the thread, which then can't be hit any more; or who stops it, which then raises exactly once.
- A thread that finds its claim taken waits until the exception was sent, and goes on only after bytecodes at which it
  would have come. All that is inside of the ``try`` that catches it.

There is no lock in this, since an exception between acquiring one and the ``try`` after it would keep it for good.
"""

import asyncio
import contextlib
import ctypes
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Generic, TypeVar

from loadtest.reference_api.authoring import here

_T = TypeVar("_T")

COURTESY: Final = 1.0
"""Seconds that a function has to end by itself, if it has asked whether it should, before an exception ends it."""

STOPPING: Final = 1.0
"""Seconds that a stopping server waits for functions that it has told to stop."""

_raise_in: Final[Callable[..., int]] = ctypes.pythonapi.PyThreadState_SetAsyncExc


class StoppedError(BaseException):
    """Raised in the thread of a plain function whose result nobody wants any more."""


class _Piece(Generic[_T]):
    """One function call, on its way through a thread."""

    __slots__ = ("_call", "_claim", "_result", "_sent", "asked", "future", "loop", "pool", "stopped")

    def __init__(self, call: Callable[[], _T], loop: asyncio.AbstractEventLoop, pool: "Threads") -> None:
        self.asked = False
        self.stopped = False
        self.loop = loop
        self.pool = pool
        self.future: asyncio.Future[_T] = loop.create_future()
        self._call = call
        self._claim: list[int] = []
        self._sent = False
        self._result: Any = None

    def __call__(self) -> None:
        """Execute it; this is what a thread of the pool calls, and nothing is ever raised out of it."""
        try:
            try:
                self._execute()
            except StoppedError:
                self._leave()
        except StoppedError:  # twice at most: once from outside, once if the function raises one that it has kept
            self._leave()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self.loop.call_soon_threadsafe(self._deliver)

    def _execute(self) -> None:
        here.work = self
        self._claim.append(threading.get_ident())
        if not self.stopped:  # else nobody waited any more before a thread was free: it never begins
            try:
                self._result = (self._call(), None)
            except StoppedError:
                raise
            except BaseException as error:  # noqa: BLE001 -- whoever waits is the one to handle it
                self._result = (None, error)
        self._leave()

    def _leave(self) -> None:
        try:
            self._claim.pop()
        except IndexError:
            while not self._sent:
                time.sleep(0)
            # What is still to be raised is raised here. Taking it back instead would leave the interpreter looking for
            # it at every turn, in all threads: it stops looking only when it has raised something.
            for _ in range(3):
                time.sleep(0)
        here.work = None

    def _deliver(self) -> None:
        self.pool.live.discard(self)
        if self.future.done():
            return
        if self._result is None:
            self.future.cancel()
        elif self._result[1] is not None:
            self.future.set_exception(self._result[1])
        else:
            self.future.set_result(self._result[0])

    def stop(self, *, now: bool = False) -> None:
        """Let it never begin, or end early: by itself, if it has asked whether it should, else by an exception."""
        self.stopped = True
        if self.asked and not now:
            self.loop.call_later(COURTESY, self._raise)
        else:
            self._raise()

    def _raise(self) -> None:
        try:
            thread = self._claim.pop()
        except IndexError:  # it has not begun, has ended, or was stopped before
            return
        _raise_in(ctypes.c_ulong(thread), ctypes.py_object(StoppedError))
        self._sent = True


class Threads:
    """A pool of threads for plain functions.

    Args:
        size: how many execute at the same time.
    """

    def __init__(self, size: int) -> None:
        # Threads begin as they are needed, so that a pool which nothing uses costs nothing.
        self._size = size
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="workflow")
        self.live: set[_Piece[Any]] = set()

    @property
    def busy(self) -> int:
        """How many threads execute a function."""
        return min(len(self.live), self._size)

    async def run(self, call: Callable[[], _T]) -> _T:
        """Call it in a thread and wait for what it gives; stop it if the waiting is cancelled.

        A call in blocking C code, which executes no bytecode, goes on until it returns.

        Raises:
            Exception: what the call raises.
        """
        # Not `loop.run_in_executor`: chaining the pool's future to one of the loop costs as much again as all the
        # rest, and could not say whether the call has begun.
        piece = _Piece(call, asyncio.get_running_loop(), self)
        self.live.add(piece)
        self._pool.submit(piece)
        try:
            return await piece.future
        except asyncio.CancelledError:
            piece.stop()
            raise

    async def close(self) -> int:
        """Stop everything, and wait a moment for it to end.

        Returns:
            How many calls go on regardless.
        """
        for piece in self.live:
            piece.stop(now=True)
        self._pool.shutdown(wait=False)
        deadline = time.monotonic() + STOPPING
        while self.live and time.monotonic() < deadline:  # noqa: ASYNC110 -- several may end, in any order
            await asyncio.sleep(0.005)
        return self.busy
