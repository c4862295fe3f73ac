"""A parser of the successive answers on a connection, which decodes their bodies and bounds their sizes."""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import httptools

from loadtest.contract import Reason

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Maximum bytes of an answer on the wire, and of its decoded body."""
MAX_HEAD: Final = 256 * 1024
"""Maximum bytes before the body, including interim answers."""
MAX_BODIES: Final = 512 * 1024 * 1024
"""Maximum bytes of all decoded bodies that a process is reading."""
_UNCOUNTED: Final = 64 * 1024
"""Bodies up to this size do not count towards ``MAX_BODIES``; most bodies are smaller."""
PLAIN: Final = frozenset({"", "identity"})
_KEPT: Final = frozenset(
    {b"date", b"content-length", b"transfer-encoding", b"retry-after", b"content-encoding", b"keep-alive"}
)
_HEADER_KEPT: Final = 500
_RATE_LIMITS_KEPT: Final = 20
_TIMEOUT: Final = re.compile(rb"timeout=(\d{1,6})")
_ZLIB, _RAW = zlib.MAX_WBITS, -zlib.MAX_WBITS
_WINDOWS: Final = {"gzip": 16 + _ZLIB, "x-gzip": 16 + _ZLIB, "deflate": _ZLIB}


def inflated(data: bytes, window: int) -> "bytes | Reason":
    """Decode a ``gzip`` or ``deflate`` body (RFC 9110, section 8.4.1), up to ``MAX_ANSWER``, or return what failed."""
    parts: list[bytes] = []
    left = MAX_ANSWER
    while data:
        stream = zlib.decompressobj(window)
        try:
            part = stream.decompress(data, left + 1)
        except zlib.error:
            if window != _ZLIB or parts:
                return Reason.UNDECODABLE_BODY
            # Some servers omit deflate's zlib wrapper.
            window = _RAW
            continue
        left -= len(part)
        if left < 0:
            return Reason.ANSWER_TOO_LARGE
        if not stream.eof:
            return Reason.UNDECODABLE_BODY
        parts.append(part)
        # A gzip file may have several members (RFC 1952, section 2.2).
        data = stream.unused_data
    return b"".join(parts)


@dataclass(slots=True)
class BodyRoom:
    """Bytes of the bodies that a process is reading on all its connections."""

    most: int = MAX_BODIES
    taken: int = 0


_ROOM: Final = BodyRoom()


class ResponseParser:
    """Parses the answers on a connection from the events of httptools.

    Interim answers (1xx), trailers, and data after a complete answer are ignored.

    Args:
        codings: accepted content codings, in lower case; answers in other codings fail.
        room: shared by all parsers of the process by default.
    """

    def __init__(self, codings: frozenset[str] = frozenset(), room: BodyRoom = _ROOM) -> None:
        self._codings = codings
        self._room = room
        self._counted = 0
        self._parser = httptools.HttpResponseParser(self)
        self.feed: Callable[[bytes], None] = self._parser.feed_data
        """Parses the next piece; raises ``httptools.HttpParserError`` if it violates HTTP."""
        self.idle_s: int | None = None
        """Seconds until the server closes an idle connection, from its ``Keep-Alive`` header."""
        self.expect()

    def expect(self) -> None:
        self.body = bytearray()
        self.status: int | None = None
        self.complete = False
        self.keep_alive = False
        self.excess = False
        self.framed = False
        """Whether the answer's end is independent of the stream's."""
        self.failure: Reason | None = None
        """The error in the body."""
        self.date: bytes | None = None
        self.retry_after: str | None = None
        self.rate_limit: list[str] = []
        self._headers: dict[bytes, bytes] = {}
        self._window: int | None = None
        """``zlib``'s name of the body's coding; None for plain bodies."""

    def on_message_begin(self) -> None:
        """Handle an event of the parser, like the following methods."""
        self.excess = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.excess or self.status is not None:
            return
        name = name.lower()
        if name in _KEPT:
            # Repeated fields combine (RFC 9110, section 5.3).
            known = self._headers.get(name)
            self._headers[name] = value if known is None else known + b", " + value
        elif (b"ratelimit" in name or b"rate-limit" in name) and len(self.rate_limit) < _RATE_LIMITS_KEPT:
            self.rate_limit.append(f"{name.decode('latin-1')}: {value.decode('latin-1')}"[:_HEADER_KEPT])

    def on_headers_complete(self) -> None:
        if self.excess:
            return
        self.status = self._parser.get_status_code()
        headers = self._headers
        self.date = headers.get(b"date")
        self.framed = b"content-length" in headers or b"transfer-encoding" in headers
        if b"retry-after" in headers:
            self.retry_after = headers[b"retry-after"][:_HEADER_KEPT].decode("latin-1")
        if (found := _TIMEOUT.search(headers.get(b"keep-alive", b""))) is not None:
            self.idle_s = int(found[1])
        if b"content-encoding" in headers:
            self._choose_decoder(headers[b"content-encoding"].decode("latin-1").lower())

    def _choose_decoder(self, encoding: str) -> None:
        codings = [coding for each in encoding.split(",") if (coding := each.strip()) not in PLAIN]
        if len(codings) == 1 and codings[0] in self._codings and codings[0] in _WINDOWS:
            self._window = _WINDOWS[codings[0]]
        elif codings:
            self.failure = Reason.UNKNOWN_ENCODING

    def on_body(self, data: bytes) -> None:
        if self.excess or self.failure is not None:
            return
        self.body += data
        if len(self.body) > _UNCOUNTED:
            self._count()

    def drop_body(self) -> None:
        """Free the body's memory."""
        if self.body:
            self.body = bytearray()
        if self._counted:
            self._room.taken -= self._counted
            self._counted = 0

    def _count(self) -> None:
        more = len(self.body) - self._counted
        if self._room.taken + more > self._room.most:
            self.failure = Reason.ANSWER_TOO_LARGE
        else:
            self._room.taken += more
            self._counted += more

    def on_message_complete(self) -> None:
        if self.excess:
            return
        if self.status is not None and self.status < 200:
            self.expect()
            return
        self.complete = True
        # After this event, the parser's answer refers to the next message.
        self.keep_alive = self._parser.should_keep_alive()
        if self._window is not None:
            self.end_body()

    def end_body(self) -> None:
        """Handle the end of the body, by its length or with the stream."""
        if self._window is None or self.failure is not None:
            return
        found = inflated(bytes(self.body), self._window)
        if isinstance(found, Reason):
            self.failure, self.body = found, bytearray()
        else:
            self.body = bytearray(found)
            self._count()
