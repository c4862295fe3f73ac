"""Execute one workflow and measure it: the ``executionTime`` of every answer comes from here."""

import asyncio
import logging
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from loadtest.contract import ErrorCode
from loadtest.reference_api import WorkflowFailedError
from loadtest.reference_api.http.messages import ApiError, encode
from loadtest.reference_api.workflows.threads import Threads
from loadtest.words import nearest

logger = logging.getLogger(__name__)

INTERNAL: Final = "Internal error"
"""All that a caller is told of an exception that is none of its business."""

BOUNDS: Final = (0.1, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5)
"""Upper bounds of the buckets of ``ExecutionHistogram`` but the last, which has none; in ms."""


class ExecutionHistogram:
    """How long executions took, as a histogram that costs next to nothing to add to.

    Attributes:
        counts: how many took longer than the bound before, and at most the one of the same index.
        total: ms of all together.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, milliseconds: float) -> None:
        self.counts[bisect_left(BOUNDS, milliseconds)] += 1
        self.total += milliseconds


Call = Callable[[], Any]
"""A workflow's function with its arguments: gives the result, a JSON object, or a coroutine that does."""


@dataclass(frozen=True, slots=True)
class Workflow:
    """One workflow that can be run.

    Attributes:
        name: what a request calls it.
        bind: binds a request's parameters to the function; raises ``ParametersError`` where they don't fit.
        threads: where it runs if it is a plain function; None for a coroutine function.
        times: of its executions so far.
    """

    name: str
    bind: Callable[[dict[str, Any]], Call]
    threads: Threads | None
    times: ExecutionHistogram = field(default_factory=ExecutionHistogram, compare=False)

    def call(self, parameters: dict[str, Any]) -> Call:
        """The function with a request's parameters, ready to be executed.

        Raises:
            ApiError: 400 ``invalid_parameters``, naming the field.
        """
        try:
            return self.bind(parameters)
        except ParametersError as error:
            details = {"workflow": self.name, **error.details}
            raise ApiError(ErrorCode.INVALID_PARAMETERS, f"Invalid parameters for {self.name}", details) from None


class ParametersError(Exception):
    """A request's parameters are not what the workflow takes.

    Args:
        details: ``field`` and ``problem``.
    """

    def __init__(self, details: dict[str, str]) -> None:
        super().__init__(details["problem"])
        self.details = details


def find(workflows: dict[str, Workflow], name: str) -> Workflow:
    """Look a workflow up.

    Raises:
        ApiError: 404 ``unknown_workflow``, with the names that exist and the nearest.
    """
    workflow = workflows.get(name)
    if workflow is None:
        details: dict[str, Any] = {"field": "name", "known": list(workflows)}
        # Matching takes time that grows with the square of the length: a name of 60 kB must not stall the server.
        if near := nearest(name[:64], workflows):
            details["nearest"] = near
        raise ApiError(ErrorCode.UNKNOWN_WORKFLOW, "There is no workflow of this name", details)
    return workflow


class ExecutionOutcome(NamedTuple):
    """How an execution ended.

    Attributes:
        result: the result as JSON, or None if it failed.
        error: why it failed, or None.
        milliseconds: what the execution took, without queueing, waiting for a thread, parsing and sending.
        internal: whether it broke, which is nothing that its caller could help.
    """

    result: bytes | None
    error: str | None
    milliseconds: float
    internal: bool = False


class Execution:
    """One execution of a workflow."""

    __slots__ = ("_call", "_started", "_workflow")

    def __init__(self, workflow: Workflow, call: Call) -> None:
        self._workflow = workflow
        self._call = call
        self._started = 0.0

    @property
    def milliseconds(self) -> float:
        """How long it has executed so far; 0 while it waits for a thread."""
        return round((time.perf_counter() - self._started) * 1000, 3) if self._started else 0.0

    async def run(self) -> ExecutionOutcome:
        """Execute; a workflow's failure is an outcome, not an exception."""
        threads = self._workflow.threads
        outcome = await (self._on_the_loop() if threads is None else threads.run(self._in_a_thread))
        self._workflow.times.add(outcome.milliseconds)
        return outcome

    async def _on_the_loop(self) -> ExecutionOutcome:
        self._started = time.perf_counter()
        try:
            result = await self._call()
        except GeneratorExit:  # it is being thrown away
            raise
        except BaseException as error:
            # Unless it was told to stop, it has awaited something that was cancelled.
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            return self._failed(error)
        return _written(result, self.milliseconds)

    def _in_a_thread(self) -> ExecutionOutcome:
        self._started = time.perf_counter()
        try:
            result = self._call()
        except BaseException as error:  # noqa: BLE001 -- SystemExit, too, ends no more than this execution
            return self._failed(error)
        return _written(result, self.milliseconds)

    def _failed(self, error: BaseException) -> ExecutionOutcome:
        if isinstance(error, WorkflowFailedError):
            return ExecutionOutcome(None, _json_text(error), self.milliseconds)
        milliseconds = self.milliseconds
        logger.error("workflow %s broke", self._workflow.name, exc_info=error)
        return ExecutionOutcome(None, INTERNAL, milliseconds, internal=True)


async def execute(workflow: Workflow, call: Call) -> ExecutionOutcome:
    """Run ``workflow`` with a call from its own ``call``; its failure is an outcome, not an exception."""
    return await Execution(workflow, call).run()


def _written(result: Any, milliseconds: float) -> ExecutionOutcome:
    try:
        written = encode(result)
    except RecursionError:
        return ExecutionOutcome(None, "The result is nested too deeply", milliseconds)
    except Exception as error:  # noqa: BLE001 -- classes of a workflow's own may raise anything
        return ExecutionOutcome(None, f"The result cannot be written as JSON: {_json_text(error)}", milliseconds)
    if not written.startswith(b"{"):  # not wrapped in one: the caller would have to know
        return ExecutionOutcome(None, f"The result is not a JSON object but a {type(result).__name__}", milliseconds)
    return ExecutionOutcome(written, None, milliseconds)


def _json_text(error: BaseException) -> str:
    # A file's name, for example, may have bytes in it that are no text.
    return str(error).encode(errors="backslashreplace").decode()
