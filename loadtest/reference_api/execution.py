"""Execute one workflow and measure it: the ``executionTime`` of every answer comes from here."""

import asyncio
import logging
import time
from typing import Any, Final, NamedTuple

from loadtest.reference_api.answers import encode
from loadtest.reference_api.authoring import WorkflowFailedError
from loadtest.reference_api.threads import StoppedError
from loadtest.reference_api.workflows import Workflow

logger = logging.getLogger(__name__)

INTERNAL: Final = "Internal error"
"""All that a caller is told of an exception that is none of its business."""


class Outcome(NamedTuple):
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
    """One execution of a workflow.

    Args:
        workflow: what to execute.
        parameters: from its ``parse``.
    """

    __slots__ = ("_broke", "_parameters", "_started", "_workflow")

    def __init__(self, workflow: Workflow, parameters: dict[str, Any]) -> None:
        self._workflow = workflow
        self._parameters = parameters
        self._started = 0.0
        self._broke: BaseException | None = None

    @property
    def milliseconds(self) -> float:
        """How long it has executed so far; 0 while it waits for a thread."""
        return _since(self._started) if self._started else 0.0

    async def run(self) -> Outcome:
        """Execute; a workflow's failure is an outcome, not an exception."""
        threads = self._workflow.threads
        if threads is None:
            outcome = await self._on_the_loop()
        else:
            outcome = await threads.run(self._in_a_thread)
            if self._broke is not None:
                # Only now: whoever is stopped by an exception in the middle of logging may keep its lock for good.
                self._log(self._broke)
        self._workflow.times.add(outcome.milliseconds)
        return outcome

    async def _on_the_loop(self) -> Outcome:
        self._started = time.perf_counter()
        try:
            result = await self._workflow.function(**self._parameters)
        except WorkflowFailedError as failure:
            return Outcome(None, _words(failure), _since(self._started))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._log(error)  # it was not told to stop, but has awaited something that was cancelled
            return Outcome(None, INTERNAL, _since(self._started), internal=True)
        except GeneratorExit:  # it is being thrown away
            raise
        except BaseException as error:  # noqa: BLE001 -- SystemExit, too, ends no more than this execution
            self._log(error)
            return Outcome(None, INTERNAL, _since(self._started), internal=True)
        return _written(result, _since(self._started))

    def _in_a_thread(self) -> Outcome:
        self._started = time.perf_counter()
        try:
            result = self._workflow.function(**self._parameters)
        except WorkflowFailedError as failure:
            return Outcome(None, _words(failure), _since(self._started))
        except StoppedError:
            raise
        except BaseException as error:  # noqa: BLE001 -- SystemExit, too, ends no more than this execution
            self._broke = error
            return Outcome(None, INTERNAL, _since(self._started), internal=True)
        return _written(result, _since(self._started))

    def _log(self, error: BaseException) -> None:
        logger.error("workflow %s broke", self._workflow.name, exc_info=error)


async def execute(workflow: Workflow, parameters: dict[str, Any]) -> Outcome:
    """Run ``workflow`` with parameters from its own ``parse``; a workflow's failure is an outcome, not an exception."""
    return await Execution(workflow, parameters).run()


def _written(result: Any, milliseconds: float) -> Outcome:
    try:
        written = encode(result)
    except RecursionError:
        return Outcome(None, "The result is nested too deeply", milliseconds)
    except Exception as error:  # noqa: BLE001 -- classes of a workflow's own may raise anything
        return Outcome(None, f"The result cannot be written as JSON: {_words(error)}", milliseconds)
    if not written.startswith(b"{"):  # not wrapped in one: the caller would have to know
        return Outcome(None, f"The result is not a JSON object but a {type(result).__name__}", milliseconds)
    return Outcome(written, None, milliseconds)


def _words(error: Exception) -> str:
    # As text that JSON can carry: a file's name, for example, may have bytes in it that are no text.
    return str(error).encode(errors="backslashreplace").decode()


def _since(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 3)
