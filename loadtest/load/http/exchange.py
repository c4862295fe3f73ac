"""Exchanges on a keep-alive HTTP/1.1 connection, with the times of their phases.

A failed exchange is a value with a reason, not an exception, because failures of a loaded service are results. A
request is never repeated here: only the caller knows whether it is idempotent.
"""

import ssl
import time

import httptools
import msgspec

from loadtest.contract import Reason
from loadtest.load.http.connection import Address, ConnectError, DeadlineError, TcpStream, connect, tls_reason
from loadtest.load.http.response import MAX_ANSWER, MAX_HEAD, ResponseParser


class Timeouts:
    """Time-outs of an exchange, given in seconds.

    ``total`` is from the start to the complete answer, ``read`` the longest wait for data of the answer; ``total``
    applies where another is None.
    """

    __slots__ = ("connect_ns", "read_ns", "total_ns")

    def __init__(self, total: float, connect: float | None = None, read: float | None = None) -> None:
        self.total_ns = int(total * 1e9)
        self.connect_ns = self.total_ns if connect is None else int(connect * 1e9)
        self.read_ns = None if read is None else int(read * 1e9)


class HttpExchange(msgspec.Struct, kw_only=True, gc=False):
    """One HTTP exchange. Times are monotonic ns (``time.monotonic_ns``)."""

    start: int
    """First byte sent, or connecting began."""
    first_byte: int | None = None
    end: int = 0
    connect_ms: float | None = None
    reused: bool = True
    bytes_sent: int = 0
    bytes_received: int = 0
    status: int | None = None
    body: bytes = b""
    """Decoded. The client drops it after interpreting it, to save the memory of idle users."""
    date: bytes | None = None
    retry_after: str | None = None
    rate_limit: str | None = None
    failure: Reason | None = None
    """Why there is no complete answer; None if there is."""
    timed_out: bool = False

    @property
    def hung_up(self) -> bool:
        """Whether a reused connection was closed before the first byte of the answer.

        Most likely the server closed the idle connection while the request was on its way, or it received the request
        first. A reset does not count: a server that closes an idle connection sends its end first.
        """
        return self.reused and self.first_byte is None and self.failure == Reason.CONNECTION_CLOSED


class HttpConnection:
    """A connection that opens on demand and reopens after a loss. One greenlet uses it."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._stream: TcpStream | None = None
        self._parser = ResponseParser(address.codings)
        self._idle_until = 0
        self.sending: HttpExchange | None = None
        """The exchange under way, for a caller that interrupts it."""

    def exchange(self, request: bytes, timeouts: Timeouts, since: int | None = None) -> HttpExchange:
        """Send a request and read its answer within the time-outs; a repeated request began at ``since``."""
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
            # The user is being stopped, and the next request must not receive the rest of this answer.
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
            # Slightly less than announced, so that the server does not close the connection during a request.
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
        parser.expect()
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
            # Garbage after a complete answer leaves it valid, but the connection is not reused.
            if parser.complete:
                parser.excess = True
            else:
                result.failure = Reason.MALFORMED_HTTP
        if refused is not None:
            self.close()
            if result.failure == Reason.CONNECTION_CLOSED and isinstance(refused, ConnectionResetError):
                result.failure = Reason.CONNECTION_RESET
        result.failure = result.failure or parser.failure
        result.status = parser.status
        result.date = parser.date
        result.retry_after = parser.retry_after
        result.rate_limit = "\n".join(parser.rate_limit) or None
        result.body = bytes(parser.body)
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
                if parser.status is None or parser.framed:
                    result.failure = Reason.TRUNCATED if result.first_byte is not None else Reason.CONNECTION_CLOSED
                else:
                    parser.end_body()
                return
            if result.first_byte is None:
                result.first_byte = now
            elif now >= deadline:
                # A peer that never pauses does not let the timer run.
                raise DeadlineError
            result.bytes_received += len(data)
            parser.feed(data)
            if parser.failure is not None:
                return
            if parser.status is None and result.bytes_received > MAX_HEAD:
                result.failure = Reason.HEAD_TOO_LARGE
                return
            if result.bytes_received > MAX_ANSWER:
                result.failure = Reason.ANSWER_TOO_LARGE
                return
