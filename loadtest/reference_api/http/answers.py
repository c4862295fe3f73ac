"""What the server says: the error body, answer headers, and the types of the raw ASGI interface."""

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from email.utils import formatdate
from typing import Any, Final, NamedTuple

import msgspec

from loadtest.contract import ErrorCode
from loadtest.reference_settings import Recode

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

encode: Final = msgspec.json.Encoder().encode

JSON: Final[Header] = (b"content-type", b"application/json")
_LENGTHS: Final = [(b"content-length", b"%d" % length) for length in range(1024)]


class ServerReply(NamedTuple):
    """A finished answer: status, body, headers besides the usual ones, and what kind of text the body is."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()
    content_type: Header = JSON


class ApiError(Exception):
    """An answer with the documented error body ``{"error", "code", "details"}``.

    Args:
        code: stable snake_case string that programs may compare; it has a usual HTTP status.
        message: one sentence for people.
        details: facts about the error, JSON-serialisable.
        headers: headers that the status asks for, such as ``Allow``.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        details: dict[str, Any] | None = None,
        headers: tuple[Header, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = code.status
        self.code = code
        self.message = message
        self.details = details or {}
        self.headers = headers

    def reply(self, recodes: Mapping[str, Recode]) -> ServerReply:
        """The error as an answer, with the status and code that ``recodes`` has for it instead of the usual ones."""
        status, code = self.status, self.code
        recode = recodes.get(code)
        body = {"error": self.message, "code": (recode and recode.code) or code, "details": self.details}
        return ServerReply((recode and recode.status) or status, encode(body), self.headers)


class AnswerHeaders:
    """Builds the headers that every answer has, with a ``Date`` that is exact to the second.

    The harness anchors the server's clock by ``Date``; the server library's own is refreshed by a timer and may lag
    a full second, so this one is computed from the clock and kept only within its second.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._second = -1
        self._date: Header = (b"date", b"")

    def date(self) -> Header:
        """The ``Date`` header of this second."""
        now = self._clock()
        if int(now) != self._second:
            self._second = int(now)
            self._date = (b"date", formatdate(self._second, usegmt=True).encode())
        return self._date

    def build(self, reply: ServerReply) -> list[Header]:
        """All headers of ``reply``."""
        length = len(reply.body)
        known = length < len(_LENGTHS)
        content_length = _LENGTHS[length] if known else (b"content-length", b"%d" % length)
        return [self.date(), reply.content_type, content_length, *reply.headers]
