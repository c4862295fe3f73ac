"""Requests and responses on the raw ASGI interface.

The size of a request's body is bounded. If a field of the body is invalid, the error names it.

A run executes in the task of its own request. If the client hangs up or the time limit passes, that task is cancelled,
as by ``asyncio.timeout``. Watching a run therefore needs no additional task.
"""

import asyncio
import json
import math
import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from email.utils import formatdate
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, Self, TypeVar

import msgspec

from loadtest.contract import ErrorCode
from loadtest.reference_settings import MAX_BODY, Recode

_T = TypeVar("_T")
AsgiScope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

DRAWN: Final = "loadtest.limit"
"""Key of an ASGI scope. Its value names the limit that accepted or rejected the request."""

encode: Final = msgspec.json.Encoder().encode

JSON: Final[Header] = (b"content-type", b"application/json")
_LENGTHS: Final = [(b"content-length", b"%d" % length) for length in range(1024)]


class ServerReply(NamedTuple):
    """A complete response. ``headers`` are the headers besides date, type and length."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()
    content_type: Header = JSON


class ApiError(Exception):
    """An error response with the documented body ``{"error", "code", "details"}``.

    The message is one sentence for users, and the details are facts as JSON. ``headers`` are further
    headers, such as ``Allow`` for a 405.
    """

    def __init__(
        self, code: ErrorCode, message: str, details: dict[str, Any] | None = None, headers: tuple[Header, ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = code.status
        self.code = code
        self.message = message
        self.details = details or {}
        self.headers = headers

    def reply(self, recodes: Mapping[str, Recode]) -> ServerReply:
        """Return the response. ``recodes`` may replace the status and code of this error."""
        recode = recodes.get(self.code)
        body = {"error": self.message, "code": (recode and recode.code) or self.code, "details": self.details}
        return ServerReply((recode and recode.status) or self.status, encode(body), self.headers)


def answer_headers(reply: ServerReply) -> list[Header]:
    """Return the headers of a response. Its ``Date`` is exact to the second.

    The harness derives the server's clock from ``Date``. uvicorn's own ``Date`` is up to a second late, because a timer
    refreshes it. This function reads the clock for every response, and caches only the text of the current second.
    """
    length = len(reply.body)
    content_length = _LENGTHS[length] if length < len(_LENGTHS) else (b"content-length", b"%d" % length)
    return [_date(int(time.time())), reply.content_type, content_length, *reply.headers]


async def respond(send: Send, reply: ServerReply) -> None:
    """Send a whole response."""
    await send({"type": "http.response.start", "status": reply.status, "headers": answer_headers(reply)})
    await send({"type": "http.response.body", "body": reply.body})


@lru_cache(1)
def _date(unix_s: int) -> Header:
    return (b"date", formatdate(unix_s, usegmt=True).encode())


_AT: Final = re.compile(r"^(?P<problem>.*) - at `\$\.?(?P<path>.*)`$", re.DOTALL)
_FIELD: Final = re.compile(r"^Object (contains unknown|missing required) field `(?P<name>.*)`$", re.DOTALL)


class DisconnectedError(Exception):
    """The client hung up before the response."""


class RunRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a synchronous run or a submit."""

    name: str
    parameters: dict[str, Any] = {}


class LenientRequest(RunRequest, forbid_unknown_fields=False):
    """A request that may have additional fields."""


async def read_body(scope: AsgiScope, receive: Receive, max_body: int) -> bytes:
    """Read a request's body. Raise ``ApiError`` 413 (too large), or ``DisconnectedError`` if the client hangs up."""
    # A client that still writes when the connection closes may never see the response. A body up to MAX_BODY is
    # therefore read to its end. The server hangs up early only if a body is larger.
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > MAX_BODY:
            raise _too_large(max_body, close=True)
    body = b""
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size <= max_body:
            body += chunk
        elif size > MAX_BODY:
            raise _too_large(max_body, close=True)
    if size > max_body:
        raise _too_large(max_body, close=False)
    return body


def _too_large(max_body: int, *, close: bool) -> ApiError:
    headers = ((b"connection", b"close"),) if close else ()
    return ApiError(ErrorCode.BODY_TOO_LARGE, "The request body is too large", {"maxBytes": max_body}, headers)


def explain(error: msgspec.ValidationError, within: str = "") -> dict[str, str]:
    """Convert a validation error into ``{"field", "problem"}``. The field is a path that begins with ``within``."""
    problem, path = str(error), within
    if match := _AT.match(problem):
        problem = match["problem"]
        path = ".".join(part for part in (within, match["path"]) if part)
    if match := _FIELD.match(problem):
        path = ".".join(part for part in (path, match["name"]) if part)
    return {"field": path, "problem": problem}


def infinite_number(body: bytes) -> str:
    """Return the path of the first number in a request's parameters that is too large to decode."""
    try:
        return locate(json.loads(body, parse_int=_whole)["parameters"], "parameters")
    except RecursionError:
        return "parameters"


def _whole(digits: str) -> float:
    return math.inf if len(digits) > sys.int_info.default_max_str_digits else 0.0


def locate(value: Any, path: str) -> str:
    """Return the path of the first infinite number. It begins with ``path``, and is empty if all numbers are finite."""
    children: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = (locate(child, f"{path}.{key}" if isinstance(key, str) else f"{path}[{key}]") for key, child in children)
    return next(filter(None, below), path if value in (math.inf, -math.inf) else "")


LINE: Final = "line"
"""Key in a request's ``state``. Its value is the ``Line`` of the client."""


class Line:
    """The connection of a client, with a callback for its end."""

    __slots__ = ("lost",)

    def __init__(self) -> None:
        self.lost: Callable[[], None] | None = None


class RunTimeoutError(Exception):
    """A synchronous run exceeded its time limit."""


class _Watch:
    """Cancels a request's task if its client hangs up or ``stop`` is called. Leaving the context raises the reason."""

    __slots__ = ("_line", "_reason", "_task")

    def __init__(self, scope: AsgiScope) -> None:
        state: dict[str, Any] | None = scope.get("state")
        self._line: Line = state[LINE] if state else Line()
        self._task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment] # a request has a task
        self._reason: type[Exception] | None = None

    def stop(self, reason: type[Exception]) -> None:
        if self._reason is None:
            self._reason = reason
            self._task.cancel()

    def __enter__(self) -> Self:
        self._line.lost = partial(self.stop, DisconnectedError)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._line.lost = None
        # A task may swallow its cancellation, so that no exception arrives. A second cancellation, by the stopping
        # server, is not undone.
        reason = self._reason if kind in (None, asyncio.CancelledError) else None
        if reason is not None and self._task.uncancel() == 0:
            raise reason from None


class Attendance:
    """Watches the synchronous runs that a server executes. Each run has ``limit`` seconds."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        # All runs have the same limit, so they are in the order of their deadlines and one timer suffices.
        self._deadlines: dict[_Watch, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def attend(self, work: Awaitable[_T], scope: AsgiScope) -> _T:
        """Await ``work``, and cancel it if the client hangs up or the time limit passes.

        Raise ``DisconnectedError`` or ``RunTimeoutError`` in these cases.
        """
        with _Watch(scope) as watch:
            self._deadlines[watch] = time.monotonic() + self._limit
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._limit, self._expire)
            try:
                return await work
            finally:
                del self._deadlines[watch]

    def _expire(self) -> None:
        now = time.monotonic()
        self._timer = None
        for watch, deadline in self._deadlines.items():
            if deadline > now:
                self._timer = asyncio.get_running_loop().call_later(max(deadline - now, 0.001), self._expire)
                return
            watch.stop(RunTimeoutError)


async def wait(seconds: float, scope: AsgiScope) -> None:
    """Hold a request for ``seconds``. Raise ``DisconnectedError`` as soon as its client hangs up."""
    with _Watch(scope):
        await asyncio.sleep(seconds)
