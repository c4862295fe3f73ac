"""Bytes on a socket: one keep-alive HTTP/1.1 connection, and an exchange on it with its phases.

A failed exchange is a value with a reason, never an exception: the service under load may do anything.
"""

import select
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Final

import httptools
import msgspec
from gevent import monkey

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes, head included, that an answer may have."""
_RECEIVE: Final = 65_536
_HEADER_KEPT: Final = 500
_EARLY_NS: Final = 5_000_000
# The real one: gevent takes it away, and only the state at this moment is asked for. (Sockets are gevent's wherever
# locust has been imported, and block like any other elsewhere.)
_poll = monkey.get_original("select", "poll")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect to: a numeric address, so that nothing is resolved during a run."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one exchange may take, in seconds.

    Attributes:
        total: from its start to its complete answer.
        connect: for making the connection; None for no more than ``total``.
        read: longest silence while an answer is awaited or read; None likewise.
    """

    total: float
    connect: float | None = None
    read: float | None = None


class Exchange(msgspec.Struct, kw_only=True, gc=False):
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
    date: bytes | None = None
    retry_after: str | None = None
    rate_limit: str | None = None
    failure: str | None = None
    """Why there is no whole answer, as a stable word; None if there is one."""
    timed_out: bool = False


class _Answers:
    """What httptools reports of the answers on one connection, one after the other.

    Interim answers (1xx) are passed over. What comes behind an answer that is complete belongs to nobody.
    """

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.expect()

    def expect(self) -> None:
        """Get ready for an answer."""
        self.body: list[bytes] = []
        self.status: int | None = None
        self.complete = False
        self.keep_alive = False
        self.excess = False
        self.framed = False
        self.date: bytes | None = None
        self.retry_after: str | None = None
        self.rate_limit: list[str] = []

    def on_message_begin(self) -> None:
        self.excess = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.excess:
            return
        name = name.lower()
        if name == b"date":
            self.date = value
        elif name in {b"content-length", b"transfer-encoding"}:
            self.framed = True
        elif name == b"retry-after":
            self.retry_after = value[:_HEADER_KEPT].decode("latin-1")
        elif b"ratelimit" in name or b"rate-limit" in name:
            self.rate_limit.append(f"{name.decode('latin-1')}: {value.decode('latin-1')}"[:_HEADER_KEPT])

    def on_headers_complete(self) -> None:
        if not self.excess:
            self.status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if not self.excess:
            self.body.append(data)

    def on_message_complete(self) -> None:
        if self.excess:
            return
        if self.status is not None and self.status < 200:
            self.expect()
        else:
            self.complete = True
            # To be asked here: afterwards, the parser is at the next message and says no.
            self.keep_alive = self.parser.should_keep_alive()


class Wire:
    """One connection, made when it is first needed and again when it was lost. Not shared between greenlets."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._poll = _poll()
        self._answers = _Answers()
        self.sending: Exchange | None = None
        """The exchange under way, for whoever has to end it."""

    def exchange(self, request: bytes, timeouts: Timeouts) -> Exchange:
        """Send a request and read its answer, all within the time-outs."""
        deadline = time.monotonic_ns() + int(timeouts.total * 1e9)
        result = self.sending = Exchange(start=time.monotonic_ns())
        try:
            connection = self._connection(result, deadline, timeouts.connect)
            if connection is not None:
                result.bytes_sent = len(request)
                self._converse(connection, request, result, deadline, timeouts.read)
        except BaseException:
            # The user is being stopped: what is left of the answer must not be read as that of the next request.
            self.close()
            raise
        result.end = time.monotonic_ns()
        if result.failure is not None:
            self.close()
        self.sending = None
        return result

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connection(self, result: Exchange, deadline: int, longest: float | None) -> socket.socket | None:
        if self._socket is not None and self._alive():
            return self._socket
        self.close()
        result.reused = False
        began = result.start = time.monotonic_ns()
        try:
            # Not create_connection: it resolves even a numeric address, in gevent by way of a thread.
            plain = socket.socket(socket.AF_INET6 if ":" in self._address.host else socket.AF_INET)
            plain.settimeout(_left(deadline, longest))
            plain.connect((self._address.host, self._address.port))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = self._address.tls
            self._socket = plain if tls is None else tls.wrap_socket(plain, server_hostname=self._address.server_name)
        except TimeoutError:
            result.failure, result.timed_out = "connect_timeout", True
        except ConnectionRefusedError:
            result.failure = "connection_refused"
        except ssl.SSLError:
            result.failure = "tls_failed"
        except OSError:
            result.failure = "connect_failed"
        else:
            result.connect_ms = (time.monotonic_ns() - began) / 1e6
            self._poll = _poll()
            self._poll.register(self._socket.fileno(), select.POLLIN)
            self._answers = _Answers()
        return self._socket

    def _alive(self) -> bool:
        """Whether an idle connection is still usable: an answer that nobody asked for, or its end, can be read."""
        return not self._poll.poll(0)

    def _converse(
        self, connection: socket.socket, request: bytes, result: Exchange, deadline: int, longest: float | None
    ) -> None:
        answers = self._answers
        answers.expect()
        try:
            connection.settimeout(_left(deadline))
            # Not sendall at once: gevent asks the kernel for the size of its buffer first, each time.
            if (sent := connection.send(request)) < len(request):
                connection.sendall(request[sent:])
            while not answers.complete:
                connection.settimeout(_left(deadline, longest))
                data = connection.recv(_RECEIVE)
                if not data:
                    self._at_end_of_stream(answers, result)
                    break
                if result.first_byte is None:
                    result.first_byte = time.monotonic_ns()
                result.bytes_received += len(data)
                answers.parser.feed_data(data)
                if result.bytes_received > MAX_ANSWER:
                    result.failure = "answer_too_large"
                    break
        except TimeoutError:
            # An event loop's timers may be a little early.
            whole = longest is None or time.monotonic_ns() >= deadline - _EARLY_NS
            result.failure = "timeout" if whole else "read_timeout"
            result.timed_out = True
        except (ConnectionError, ssl.SSLError):
            result.failure = "connection_reset"
        except OSError:
            result.failure = "connection_failed"
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # Rubbish behind a whole answer does not unmake it (it is not read as the next one either).
            if answers.complete:
                answers.excess = True
            else:
                result.failure = "malformed_http"
        result.status = answers.status
        result.date, result.retry_after = answers.date, answers.retry_after
        result.rate_limit = "\n".join(answers.rate_limit) or None
        result.body = b"".join(answers.body)
        if result.failure is None and (answers.excess or not answers.keep_alive):
            self.close()

    def _at_end_of_stream(self, answers: _Answers, result: Exchange) -> None:
        # Without a length, the end of the stream is the end of the answer (RFC 9112, section 6.3).
        if answers.status is None or answers.framed:
            result.failure = "truncated" if result.first_byte is not None else "connection_closed"


def _left(deadline: int, longest: float | None = None) -> float:
    """Seconds to the deadline, and no more than ``longest``, for a socket.

    Raises:
        TimeoutError: if it has passed, since a peer that never pauses would not let the socket notice.
    """
    left = deadline - time.monotonic_ns()
    if left <= 0:
        raise TimeoutError
    return left / 1e9 if longest is None else min(left / 1e9, longest)
