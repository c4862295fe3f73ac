"""What the server says: the error body, answer headers, and the types of the raw ASGI interface."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from email.utils import formatdate
from typing import Any, Final, NamedTuple

import msgspec

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

encode: Final = msgspec.json.Encoder().encode

_CONTENT_TYPE: Final = (b"content-type", b"application/json")
_LENGTHS: Final = [(b"content-length", b"%d" % length) for length in range(1024)]


class Reply(NamedTuple):
    """A finished answer: status, JSON body, and headers besides the usual ones."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()


class ApiError(Exception):
    """An answer with the documented error body ``{"error", "code", "details"}``.

    Args:
        status: HTTP status.
        code: stable snake_case string that programs may compare. Assumption: the documentation lists no codes.
        message: one sentence for people.
        details: facts about the error, JSON-serialisable.
        headers: headers that the status asks for, such as ``Allow``.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: dict[str, Any] | None = None,
        headers: tuple[Header, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details or {}
        self.headers = headers

    def reply(self) -> Reply:
        """The error as an answer."""
        body = {"error": self.message, "code": self.code, "details": self.details}
        return Reply(self.status, encode(body), self.headers)


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

    def build(self, reply: Reply) -> list[Header]:
        """All headers of ``reply``."""
        length = len(reply.body)
        known = length < len(_LENGTHS)
        content_length = _LENGTHS[length] if known else (b"content-length", b"%d" % length)
        return [self.date(), _CONTENT_TYPE, content_length, *reply.headers]
