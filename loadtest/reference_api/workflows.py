"""A workflow that can be run, and how one is looked up."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from loadtest.reference_api.answers import ApiError
from loadtest.reference_api.signature import Parameters, ParametersError
from loadtest.reference_api.threads import Threads
from loadtest.reference_api.times import Times


@dataclass(frozen=True, slots=True)
class Workflow:
    """One workflow that can be run.

    Attributes:
        name: what a request calls it.
        parameters: what a request's parameters must be.
        function: takes what ``parse`` gives, as keyword arguments; gives the result, a JSON object, or a coroutine
            that does. Raises WorkflowFailedError.
        threads: where it runs if it is a plain function; None for a coroutine function.
        times: of its executions so far.
    """

    name: str
    parameters: Parameters
    function: Callable[..., Any]
    threads: Threads | None
    times: Times = field(default_factory=Times, compare=False)

    def parse(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Convert a request's parameters to what the workflow takes.

        Raises:
            ApiError: 400 ``invalid_parameters``, naming the field.
        """
        try:
            return self.parameters.convert(parameters)
        except ParametersError as error:
            details = {"workflow": self.name, **error.details}
            raise ApiError(400, "invalid_parameters", f"Invalid parameters for {self.name}", details) from None


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a function runs on the event loop, not in a thread."""
    return inspect.iscoroutinefunction(function)


def find(workflows: dict[str, Workflow], name: str) -> Workflow:
    """Look a workflow up.

    Raises:
        ApiError: 404 ``unknown_workflow``, with the names that exist and the nearest.
    """
    workflow = workflows.get(name)
    if workflow is None:
        details: dict[str, Any] = {"field": "name", "known": list(workflows)}
        # Matching takes time that grows with the square of the length: a name of 60 kB must not stall the server.
        if nearest := get_close_matches(name[:64], workflows, n=1):
            details["nearest"] = nearest[0]
        raise ApiError(404, "unknown_workflow", "There is no workflow of this name", details)
    return workflow
