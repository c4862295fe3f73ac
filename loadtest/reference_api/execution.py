"""Execution of workflows, and measurement of their execution times.

Coroutine functions execute on the event loop, plain functions in a bounded pool of threads.
"""

import asyncio
import contextlib
import logging
import time
from bisect import bisect_left
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, TypeVar

from loadtest.contract import ErrorCode
from loadtest.reference_api import WorkflowFailedError, current_thread
from loadtest.reference_api.messages import ApiError, encode
from loadtest.words import nearest

logger = logging.getLogger(__name__)
_T = TypeVar("_T")

INTERNAL: Final = "Internal error"
"""Message for the caller after an unexpected exception. The details appear only in the log."""

BOUNDS: Final = (0.1, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5)
"""Upper bounds of ``ExecutionHistogram``'s buckets in ms. One more bucket has no bound."""


class ExecutionHistogram:
    """A histogram of execution times."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        """Number of executions in each bucket. A bucket includes its upper bound."""
        self.total = 0.0
        """Sum of all times in ms."""

    def add(self, milliseconds: float) -> None:
        self.counts[bisect_left(BOUNDS, milliseconds)] += 1
        self.total += milliseconds


STOP_TIMEOUT: Final = 1.0
"""A stopping server waits at most this many seconds for plain functions to stop, and again for coroutines."""


class _Call(Generic[_T]):
    """A function call that a thread executes."""

    __slots__ = ("_error", "_function", "_live", "_result", "future", "loop", "stopped")

    def __init__(self, function: Callable[[], _T], live: "set[_Call[Any]]") -> None:
        self.stopped = False
        """Whether the function's result is no longer needed."""
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[_T] = self.loop.create_future()
        self._function = function
        self._live = live
        self._result: Any = None
        self._error: BaseException | None = None

    def __call__(self) -> None:
        """Execute the function in a thread of the pool. This never raises."""
        if not self.stopped:  # otherwise the call was cancelled before a thread was free
            current_thread.call = self
            try:
                self._result = self._function()
            except BaseException as error:  # noqa: BLE001 - raised again in the waiting task
                self._error = error
            current_thread.call = None
        with contextlib.suppress(RuntimeError):  # the loop is closed
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
    """A pool of ``size`` threads for plain functions."""

    def __init__(self, size: int) -> None:
        # The pool starts threads as needed, so an unused pool costs nothing.
        self._size = size
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="workflow")
        self._live: set[_Call[Any]] = set()

    @property
    def busy(self) -> int:
        return min(len(self._live), self._size)

    async def run(self, function: Callable[[], _T]) -> _T:
        """Call a function in a thread, and return its result or raise its exception.

        If the wait is cancelled before the function has started, the function never starts. A function that has started
        keeps its thread until it returns, and ``cancelled()`` returns true in it.
        """
        # `loop.run_in_executor` would chain the pool's future to a future of the loop. That doubles the cost, and does
        # not show whether the call has started.
        call = _Call(function, self._live)
        self._live.add(call)
        self._pool.submit(call)
        try:
            return await call.future
        except asyncio.CancelledError:
            call.stopped = True
            raise

    async def close(self) -> int:
        """Tell all calls to stop, wait briefly, and return how many still run."""
        for call in self._live:
            call.stopped = True
        self._pool.shutdown(wait=False)
        deadline = time.monotonic() + STOP_TIMEOUT
        while self._live and time.monotonic() < deadline:  # noqa: ASYNC110 - several may end, in any order
            await asyncio.sleep(0.005)
        return self.busy


async def pause(seconds: float) -> None:
    """Sleep for at least ``seconds``. The event loop's timers have a resolution of 1 ms and may fire too early."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:  # noqa: ASYNC110 - it waits for time, not for an event
        await asyncio.sleep(max(left, 0.001))


Call = Callable[[], Any]
"""A workflow's function with bound arguments. A call returns a JSON object or, for an async function, a coroutine."""


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow of the server."""

    name: str
    call: Callable[[dict[str, Any]], Call]
    """Binds a request's parameters to the function, or raises ``ApiError`` 400, which names the field."""
    threads: Threads | None
    """The pool for a plain function. None for a coroutine function."""
    times: ExecutionHistogram = field(default_factory=ExecutionHistogram, compare=False)


def find(workflows: dict[str, Workflow], name: str) -> Workflow:
    """Return a workflow by name. Raise ``ApiError`` 404 with the known names and the most similar name, if any."""
    workflow = workflows.get(name)
    if workflow is None:
        details: dict[str, Any] = {"field": "name", "known": list(workflows)}
        # The search takes time that grows with the square of the length. A name of 60 kB must not stall the server.
        if near := nearest(name[:64], workflows):
            details["nearest"] = near
        raise ApiError(ErrorCode.UNKNOWN_WORKFLOW, "There is no workflow of this name", details)
    return workflow


class ExecutionOutcome(NamedTuple):
    """The result or error of an execution, with its time."""

    result: bytes | None
    """The result as JSON. None if the execution failed."""
    error: str | None
    milliseconds: float
    """Execution time. It excludes queueing, waiting for a thread, parsing and sending."""
    internal: bool = False
    """Whether an unexpected exception ended the execution."""


class Execution:
    """One execution of a workflow."""

    __slots__ = ("_call", "_started", "_workflow")

    def __init__(self, workflow: Workflow, call: Call) -> None:
        self._workflow = workflow
        self._call = call
        self._started = 0.0

    @property
    def milliseconds(self) -> float:
        """Execution time so far. 0 while the execution waits for a thread."""
        return round((time.perf_counter() - self._started) * 1000, 3) if self._started else 0.0

    async def run(self) -> ExecutionOutcome:
        """Execute the workflow. A failure is returned as an outcome, and never raised."""
        threads = self._workflow.threads
        outcome = await (self._on_the_loop() if threads is None else threads.run(self._in_a_thread))
        self._workflow.times.add(outcome.milliseconds)
        return outcome

    async def _on_the_loop(self) -> ExecutionOutcome:
        self._started = time.perf_counter()
        try:
            result = await self._call()
        except GeneratorExit:  # the coroutine is being closed
            raise
        except BaseException as error:
            # If this task was not cancelled itself, the workflow awaited something that was cancelled, and has failed.
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            return self._failed(error)
        return _written(result, self.milliseconds)

    def _in_a_thread(self) -> ExecutionOutcome:
        self._started = time.perf_counter()
        try:
            result = self._call()
        except BaseException as error:  # noqa: BLE001 - SystemExit must end only this execution
            return self._failed(error)
        return _written(result, self.milliseconds)

    def _failed(self, error: BaseException) -> ExecutionOutcome:
        if isinstance(error, WorkflowFailedError):
            return ExecutionOutcome(None, _json_text(error), self.milliseconds)
        milliseconds = self.milliseconds
        logger.error("workflow %s broke", self._workflow.name, exc_info=error)
        return ExecutionOutcome(None, INTERNAL, milliseconds, internal=True)


def _written(result: Any, milliseconds: float) -> ExecutionOutcome:
    try:
        written = encode(result)
    except RecursionError:
        return ExecutionOutcome(None, "The result is nested too deeply", milliseconds)
    except Exception as error:  # noqa: BLE001 - custom classes may raise anything
        return ExecutionOutcome(None, f"The result cannot be written as JSON: {_json_text(error)}", milliseconds)
    if not written.startswith(b"{"):  # the server does not wrap other values in an object
        return ExecutionOutcome(None, f"The result is of type {type(result).__name__}, not a JSON object", milliseconds)
    return ExecutionOutcome(written, None, milliseconds)


def _json_text(error: BaseException) -> str:
    # A message may contain bytes that are not text, for example in a file name.
    return str(error).encode(errors="backslashreplace").decode()
