"""The workflows that the reference server really executes, each with its signature.

Parameters are typed: an unknown or wrongly typed one is refused before anything runs.
"""

import asyncio
import hashlib
import inspect
import os
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Final

import msgspec

from loadtest.target.answers import ApiError
from loadtest.target.sleeping import Sleep, sleep
from loadtest.target.validation import explain

Result = dict[str, Any]


class WorkflowFailedError(Exception):
    """The workflow ended in failure, as a workflow may; its message is for the caller."""


class SayHello(msgspec.Struct, forbid_unknown_fields=True):
    """``say-hello(name = "World")`` -> ``{"greeting": "Hello, NAME!"}``."""

    name: str = "World"


class Fail(msgspec.Struct, forbid_unknown_fields=True):
    """``fail(message)`` always fails, with that message."""

    message: str = "This workflow always fails"


class Cpu(msgspec.Struct, forbid_unknown_fields=True):
    """``cpu(ms = 10)`` spends that much CPU time in a thread -> ``{"cpuMs": spent}``."""

    ms: Annotated[float, msgspec.Meta(ge=0, le=60_000)] = 10.0


def _say_hello(parameters: SayHello) -> Result:
    return {"greeting": f"Hello, {parameters.name}!"}


def _echo(parameters: Result) -> Result:
    return parameters


def _fail(parameters: Fail) -> Result:
    raise WorkflowFailedError(parameters.message)


_BURNERS: Final = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="cpu")


def _burn(seconds: float, stop: threading.Event) -> float:
    # hashlib lets go of the interpreter lock on blocks this large, so that a burning thread doesn't stall the server.
    block = bytes(64 * 1024)
    start = time.thread_time()
    while (spent := time.thread_time() - start) < seconds and not stop.is_set():
        hashlib.sha256(block).digest()
    return spent


async def _cpu(parameters: Cpu) -> Result:
    stop = threading.Event()
    try:
        loop = asyncio.get_running_loop()
        spent = await loop.run_in_executor(_BURNERS, _burn, parameters.ms / 1000, stop)
    finally:
        stop.set()  # when the caller is gone, so is the reason to burn
    return {"cpuMs": round(spent * 1000, 3)}


@dataclass(frozen=True, slots=True)
class Workflow:
    """One workflow that can be run.

    Attributes:
        name: what a request calls it.
        parameters: the type that its parameters are converted to.
        work: takes the parameters, gives the result or an awaitable of it; raises WorkflowFailedError.
        defaults: parameters that are added where a request leaves them out, before conversion.
    """

    name: str
    parameters: Any
    work: Callable[[Any], Result | Awaitable[Result]]
    defaults: Result | None = None

    @property
    def waits(self) -> bool:
        """Whether its work awaits anything, so that it may take a while."""
        return inspect.iscoroutinefunction(self.work)

    def parse(self, parameters: Result) -> Any:
        """Convert a request's parameters to the workflow's own type.

        Raises:
            ApiError: 400 ``invalid_parameters``, naming the field.
        """
        try:
            return msgspec.convert({**(self.defaults or {}), **parameters}, self.parameters)
        except msgspec.ValidationError as error:
            details = {"workflow": self.name, **explain(error, "parameters")}
            raise ApiError(400, "invalid_parameters", f"Invalid parameters for {self.name}", details) from None


WORKFLOWS: Final[dict[str, Workflow]] = {
    workflow.name: workflow
    for workflow in (
        Workflow("say-hello", SayHello, _say_hello),
        Workflow("echo", Result, _echo),
        Workflow("sleep", Sleep, sleep, {"distribution": "constant"}),
        Workflow("fail", Fail, _fail),
        Workflow("cpu", Cpu, _cpu),
    )
}


def find(workflows: dict[str, Workflow], name: str) -> Workflow:
    """Look a workflow up.

    Raises:
        ApiError: 404 ``unknown_workflow``, with the names that exist and the nearest.
    """
    workflow = workflows.get(name)
    if workflow is None:
        details: Result = {"field": "name", "known": list(workflows)}
        # Matching takes time that grows with the square of the length: a name of 60 kB must not stall the server.
        if nearest := get_close_matches(name[:64], workflows, n=1):
            details["nearest"] = nearest[0]
        raise ApiError(404, "unknown_workflow", "There is no workflow of this name", details)
    return workflow
