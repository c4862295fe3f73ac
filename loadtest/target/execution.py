"""Execute one workflow and measure it: the ``executionTime`` of every answer comes from here."""

import time
from collections.abc import Awaitable
from typing import Any, NamedTuple

from loadtest.target.answers import encode
from loadtest.target.workflows import Workflow, WorkflowFailedError


class Outcome(NamedTuple):
    """How an execution ended.

    Attributes:
        result: the result as JSON, or None if it failed.
        error: why it failed, or None.
        milliseconds: what the execution took, without queueing, parsing and sending.
    """

    result: bytes | None
    error: str | None
    milliseconds: float


async def execute(workflow: Workflow, parameters: Any) -> Outcome:
    """Run ``workflow`` with parameters from its own ``parse``; a workflow's failure is an outcome, not an exception."""
    start = time.perf_counter()
    try:
        result = workflow.work(parameters)
        if isinstance(result, Awaitable):
            result = await result
    except WorkflowFailedError as failure:
        return Outcome(None, str(failure), _since(start))
    took = _since(start)
    try:
        return Outcome(encode(result), None, took)
    except RecursionError:
        return Outcome(None, "The result is nested too deeply", took)


def _since(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 3)
