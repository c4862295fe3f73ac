"""What a module with workflows of one's own uses: a decorator, a failure, and whether anybody still waits.

Importing it costs nothing: no part of the server comes with it.
"""

import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol, TypeVar, overload

_Function = TypeVar("_Function", bound=Callable[..., Any])


class WorkflowFailedError(Exception):
    """The workflow ended in failure, as a workflow may; its message is for the caller."""


class Registered(NamedTuple):
    """A function that was declared to be a workflow.

    Attributes:
        name: what a request calls it.
        function: plain, or a coroutine function.
        parameters: a type for all its parameters together, which the function takes as its only argument; None
            where its signature says what they are.
        defaults: parameters that are added where a request leaves them out, before they are converted.
    """

    name: str
    function: Callable[..., Any]
    parameters: Any
    defaults: dict[str, Any]


REGISTERED: Final[list[Registered]] = []
"""Every workflow that was declared in this process, in order."""


@overload
def workflow(function: _Function, /) -> _Function: ...
@overload
def workflow(
    *, name: str | None = None, parameters: Any = None, defaults: dict[str, Any] | None = None
) -> Callable[[_Function], _Function]: ...
def workflow(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    parameters: Any = None,
    defaults: dict[str, Any] | None = None,
) -> Any:
    """Declare a function to be a workflow: ``@workflow``, or ``@workflow(name="resize-image")``.

    A plain function runs in a thread, a coroutine function on the server's event loop. Its signature says which
    parameters a request may give and of what types; its result is a JSON object. See ``docs/workflows.md``.

    Args:
        function: what to declare; it is returned as it is.
        name: what a request calls it; the function's name with - for _ unless given.
        parameters: where parameters depend on one another, a type for all of them together, such as a union of
            tagged Structs; the function takes the converted value as its only argument.
        defaults: parameters that are added where a request leaves them out, before they are converted.

    Raises:
        TypeError: if it isn't a function.
    """

    def register(function: _Function) -> _Function:
        given = getattr(function, "__name__", None)
        if not callable(function) or given is None:
            raise TypeError(f"@workflow is for functions, and {function!r} is none")
        REGISTERED.append(Registered(name or given.replace("_", "-"), function, parameters, defaults or {}))
        return function

    return register if function is None else register(function)


class Stoppable(Protocol):
    """Work in a thread that can be told to stop."""

    asked: bool
    stopped: bool


class _Here(threading.local):
    work: Stoppable | None = None


here: Final = _Here()
"""What this thread executes."""


def cancelled() -> bool:
    """Whether the result is wanted no more: the client hung up, the time limit has passed, or the server stops.

    For plain functions, which can end early and tidily by asking now and then; whoever has asked is given a second
    before it is stopped by an exception. Anywhere else, coroutine functions included, it is False.
    """
    work = here.work
    if work is None:
        return False
    work.asked = True
    return work.stopped
