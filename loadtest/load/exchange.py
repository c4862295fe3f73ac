"""Exchanges on a keep-alive HTTP/1.1 connection, with the times of their phases.

Failures of a loaded service are results, so a failed exchange is a value with a reason, not an exception. Only the
caller knows whether a request is idempotent, so this module never repeats a request.
"""

import re
import ssl
import time
import zlib
from dataclasses import dataclass
from typing import Final

import httptools
import msgspec

from loadtest.contract import Reason
from loadtest.load.connection import Address, ConnectError, DeadlineError, TcpStream, connect, tls_reason

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Maximum bytes of an answer on the wire, and of its decoded body."""
MAX_HEAD: Final = 256 * 1024
"""Maximum bytes before the body, including interim answers."""
MAX_BODIES: Final = 512 * 1024 * 1024
"""Maximum total bytes, before decoding, of the bodies that a process is reading."""
_UNCOUNTED: Final = 64 * 1024
"""Bodies up to this size do not count towards ``MAX_BODIES``. Most bodies are smaller."""
_KEPT: Final = frozenset(
    {b"date", b"content-length", b"transfer-encoding", b"retry-after", b"content-encoding", b"keep-alive"}
)
_HEADER_KEPT: Final = 500
_RATE_LIMITS_KEPT: Final = 20
_TIMEOUT: Final = re.compile(rb"timeout=(\d{1,6})")
_ZLIB, _RAW = zlib.MAX_WBITS, -zlib.MAX_WBITS
_WINDOWS: Final = {"gzip": 16 + _ZLIB, "x-gzip": 16 + _ZLIB, "deflate": _ZLIB}


class Timeouts:
    """Time-outs of an exchange, given in seconds. ``connect`` limits the time to connect, including TLS.

    ``total`` limits the time from the start to the complete answer. ``read`` limits each wait for data of the answer.
    If ``connect`` or ``read`` is None, only ``total`` limits that phase.
    """

    __slots__ = ("connect_ns", "read_ns", "total_ns")

    def __init__(self, total: float, connect: float | None = None, read: float | None = None) -> None:
        self.total_ns = int(total * 1e9)
        self.connect_ns = self.total_ns if connect is None else int(connect * 1e9)
        self.read_ns = None if read is None else int(read * 1e9)


class HttpExchange(msgspec.Struct, kw_only=True, gc=False):
    """One HTTP exchange. Times are monotonic ns (``time.monotonic_ns``)."""

    start: int
    """Time when connecting or sending began."""
    first_byte: int | None = None
    end: int = 0
    connect_ms: float | None = None
    reused: bool = True
    bytes_sent: int = 0
    bytes_received: int = 0
    status: int | None = None
    body: bytes = b""
    """The client drops the decoded body after use, so that idle users hold no memory."""
    date: bytes | None = None
    retry_after: str | None = None
    rate_limit: str | None = None
    failure: Reason | None = None
    """Reason why the answer is missing, incomplete or unusable."""
    timed_out: bool = False

    @property
    def hung_up(self) -> bool:
        """Whether a reused connection was closed before the first byte of the answer.

        Most likely, the server closed the idle connection while the request was on its way, but it may have received
        the request. After a reset, the value is false, because idle connections are usually closed without a reset.
        """
        return self.reused and self.first_byte is None and self.failure == Reason.CONNECTION_CLOSED


def inflated(data: bytes, window: int) -> bytes | Reason:
    """Return a decoded ``gzip`` or ``deflate`` body (RFC 9110, section 8.4.1), or the reason for failure."""
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
    """Memory for bodies that a process is reading, in bytes over all its connections."""

    most: int = MAX_BODIES
    taken: int = 0


_ROOM: Final = BodyRoom()


class ResponseParser:
    """Parses the answers on a connection by handling events of httptools.

    Interim answers (1xx), trailers, and data after a complete answer are ignored. An answer fails if its content coding
    is not in ``codings`` (in lower case). By default, all parsers of the process share the ``room`` for bodies.
    """

    def __init__(self, codings: frozenset[str] = frozenset(), room: BodyRoom = _ROOM) -> None:
        self._codings = codings
        self._room = room
        self._counted = 0
        self._parser = httptools.HttpResponseParser(self)
        self.idle_s: int | None = None
        """Seconds until the server closes an idle connection, from its ``Keep-Alive`` header."""
        self.body = bytearray()
        # Head, total length and values of an earlier answer. An answer with this head and length has these values.
        self._head, self._length = b"", 0
        self._values: tuple[int | None, bytes | None, str | None, str | None] = None, None, None, None
        self.expect(HttpExchange(start=0))

    def expect(self, answer: HttpExchange) -> None:
        """Prepare to parse the next answer into ``answer``."""
        self.answer = answer
        self.complete = self.keep_alive = self.excess = self._begun = False
        self.framed = False
        """Whether the answer marks its own end. Otherwise it ends with the stream."""

    def feed(self, data: bytes) -> None:
        """Parse the next piece of data. Raise ``httptools.HttpParserError`` if it violates HTTP.

        Most servers repeat a head until ``Date`` changes. Not parsing a repeated head saves a tenth of the CPU time.
        """
        answer, whole = self.answer, not self._begun
        if whole and len(data) == self._length and data.startswith(self._head):
            answer.status, answer.date, answer.retry_after, answer.rate_limit = self._values
            answer.body = data[len(self._head) :]
            self.complete = self.keep_alive = self.framed = self._begun = True
            return
        self._length = 0
        self._parser.feed_data(data)
        if whole and self.keep_alive and not self.excess and answer.failure is None:
            self._remember(data)

    def _remember(self, data: bytes) -> None:
        """Remember the head of a complete answer if it states the length of a plain body."""
        answer, head = self.answer, data[: len(data) - len(self.body)]
        if b"content-length" in self._headers and self._window is None and head.endswith(b"\r\n\r\n"):
            self._head, self._length = head, len(data)
            self._values = answer.status, answer.date, answer.retry_after, answer.rate_limit

    def on_message_begin(self) -> None:
        if self.complete:
            self.excess = True
            return
        self._begun = True
        self.body = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._rate_limits: list[str] = []
        self._window: int | None = None  # the ``wbits`` argument of ``zlib``, or None for plain bodies

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.excess or self.answer.status is not None:
            return
        name = name.lower()
        if name in _KEPT:
            # Repeated fields are combined (RFC 9110, section 5.3).
            known = self._headers.get(name)
            self._headers[name] = value if known is None else known + b", " + value
        elif (b"ratelimit" in name or b"rate-limit" in name) and len(self._rate_limits) < _RATE_LIMITS_KEPT:
            self._rate_limits.append(f"{name.decode('latin-1')}: {value.decode('latin-1')}"[:_HEADER_KEPT])

    def on_headers_complete(self) -> None:
        if self.excess:
            return
        answer, headers = self.answer, self._headers
        answer.status = self._parser.get_status_code()
        answer.date = headers.get(b"date")
        answer.rate_limit = "\n".join(self._rate_limits) or None
        self.framed = b"content-length" in headers or b"transfer-encoding" in headers
        if b"retry-after" in headers:
            answer.retry_after = headers[b"retry-after"][:_HEADER_KEPT].decode("latin-1")
        if (found := _TIMEOUT.search(headers.get(b"keep-alive", b""))) is not None:
            self.idle_s = int(found[1])
        if b"content-encoding" not in headers:
            return
        encodings = headers[b"content-encoding"].decode("latin-1").lower().split(",")
        codings = [coding for each in encodings if (coding := each.strip()) not in {"", "identity"}]
        if len(codings) == 1 and codings[0] in self._codings and codings[0] in _WINDOWS:
            self._window = _WINDOWS[codings[0]]
        elif codings:
            answer.failure = Reason.UNKNOWN_ENCODING

    def on_body(self, data: bytes) -> None:
        if self.excess or self.answer.failure is not None:
            return
        self.body += data
        if (size := len(self.body)) <= _UNCOUNTED:
            return
        if self._room.taken + size - self._counted > self._room.most:
            self.answer.failure = Reason.ANSWER_TOO_LARGE
        else:
            self._room.taken += size - self._counted
            self._counted = size

    def drop_body(self) -> None:
        if self.body:
            self.body = bytearray()
        if self._counted:
            self._room.taken -= self._counted
            self._counted = 0

    def on_message_complete(self) -> None:
        if self.excess:
            return
        answer = self.answer
        if answer.status is not None and answer.status < 200:
            answer.status = answer.date = answer.retry_after = answer.rate_limit = answer.failure = None
            self.expect(answer)
            return
        self.complete = True
        # After this event, ``should_keep_alive`` refers to the next message.
        self.keep_alive = self._parser.should_keep_alive()
        self.end_body()

    def end_body(self) -> None:
        """Give the exchange the whole body, decoded."""
        answer = self.answer
        answer.body = bytes(self.body)
        if self._window is None or answer.failure is not None:
            return
        found = inflated(answer.body, self._window)
        if isinstance(found, Reason):
            answer.failure = found
        else:
            answer.body = found


class HttpConnection:
    """A connection that opens on demand and reopens after a loss. Only one greenlet may use it."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._stream: TcpStream | None = None
        self._parser = ResponseParser(address.codings)
        self._idle_until = 0
        self.sending: HttpExchange | None = None
        """The current exchange. If it is interrupted, the caller can record it."""

    def exchange(self, request: bytes, timeouts: Timeouts, since: int | None = None) -> HttpExchange:
        """Send a request and read its answer within the time-outs.

        If the request repeats an earlier attempt, the total time-out counts from ``since``, the start of that attempt.
        """
        start = since or time.monotonic_ns()
        deadline = start + timeouts.total_ns
        result = self.sending = HttpExchange(start=start)
        stream = self._stream
        try:
            if stream is None or (self._idle_until and start > self._idle_until) or not stream.alive():
                stream = self._connect(result, deadline, timeouts.connect_ns)
            if stream is not None:
                result.bytes_sent = len(request)
                self._converse(stream, request, result, deadline, timeouts.read_ns)
        except BaseException:
            # A later request on this connection must not receive the rest of this answer.
            self.close()
            raise
        finally:
            self._parser.drop_body()
        result.end = time.monotonic_ns()
        if since is not None:
            result.start = since
        if self._stream is not None:
            self._stream.rest(result.end)
        if result.failure is not None:
            self.close()
        elif (idle_s := self._parser.idle_s) is not None:
            # Reuse ends before the announced time. Otherwise the server could close the connection during a request.
            self._idle_until = result.end + int(max(idle_s - 1, idle_s / 2) * 1e9)
        self.sending = None
        return result

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _connect(self, result: HttpExchange, deadline: int, longest: int) -> TcpStream | None:
        self.close()
        result.reused = False
        result.start = began = time.monotonic_ns()
        try:
            self._stream = connect(self._address, min(deadline, began + longest))
        except ConnectError as error:
            result.failure, result.timed_out = error.reason, error.timed_out
        else:
            result.connect_ms = (time.monotonic_ns() - began) / 1e6
            self._parser = ResponseParser(self._address.codings)
            self._idle_until = 0
        return self._stream

    def _converse(
        self, stream: TcpStream, request: bytes, result: HttpExchange, deadline: int, silence: int | None
    ) -> None:
        parser = self._parser
        parser.expect(result)
        refused = None
        try:
            try:
                stream.send(request, deadline)
            except (ConnectionError, ssl.SSLError) as error:
                # A server that rejects a request before reading all of it may have sent an answer.
                refused = error
            self._listen(stream, result, deadline, silence)
        except DeadlineError:
            result.failure = (
                Reason.TIMEOUT if silence is None or time.monotonic_ns() >= deadline else Reason.READ_TIMEOUT
            )
            result.timed_out = True
        except ssl.SSLError as error:
            result.failure = tls_reason(error)
        except ConnectionError:
            result.failure = Reason.CONNECTION_RESET
        except OSError:
            result.failure = Reason.CONNECTION_FAILED
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # If garbage follows a complete answer, the answer is valid, but the connection is not reused.
            if parser.complete:
                parser.excess = True
            else:
                result.failure = Reason.MALFORMED_HTTP
        if refused is not None:
            self.close()
            if result.failure == Reason.CONNECTION_CLOSED and isinstance(refused, ConnectionResetError):
                result.failure = Reason.CONNECTION_RESET
        if parser.excess or not parser.keep_alive:
            self.close()

    def _listen(self, stream: TcpStream, result: HttpExchange, deadline: int, silence: int | None) -> None:
        parser = self._parser
        while not parser.complete:
            until = deadline if silence is None else min(deadline, time.monotonic_ns() + silence)
            data = stream.receive(until)
            now = time.monotonic_ns()
            if not data:
                # The end of the stream ends an answer without a length (RFC 9112, section 6.3).
                if result.status is None or parser.framed:
                    result.failure = Reason.TRUNCATED if result.first_byte is not None else Reason.CONNECTION_CLOSED
                else:
                    parser.end_body()
                return
            if result.first_byte is None:
                result.first_byte = now
            elif now >= deadline:
                # If a peer sends without a pause, the deadline's timer never runs.
                raise DeadlineError
            result.bytes_received += len(data)
            parser.feed(data)
            if result.failure is not None:
                return
            if result.status is None and result.bytes_received > MAX_HEAD:
                result.failure = Reason.HEAD_TOO_LARGE
                return
            if result.bytes_received > MAX_ANSWER:
                result.failure = Reason.ANSWER_TOO_LARGE
                return
