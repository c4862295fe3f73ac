"""Connections: answers leave in one write, and offers and garbage are not answered as requests."""

import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from loadtest.contract import ErrorCode
from loadtest.reference_api.http.messages import LINE, ApiError, AsgiScope, Header, Line, Message, Receive, Send

TRANSPORT: Final = "transport"
"""Where a request's ``state`` has the transport of its connection."""

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request line and its headers at most, and of what is neither body nor end: trailers, chunk extensions."""

_STATUSES: Final = frozenset(HTTPStatus)


class WholeAnswer:
    """The application as it is called for one request: an answer that is complete at once leaves in one write.

    uvicorn writes head and body separately, and the event loop makes a system call and a packet of each: a client would
    see its first byte before the server has written its last, and pay for two wake-ups. Whatever is not the usual case
    is left to uvicorn.
    """

    __slots__ = ("_app", "_cycle", "_start")

    def __init__(self, app: Any, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle
        self._start: Message | None = None

    def __call__(self, scope: AsgiScope, receive: Receive, _send: Send) -> Awaitable[None]:
        answering: Awaitable[None] = self._app(scope, receive, self.send)
        return answering

    async def send(self, message: Message) -> None:
        """Take a part of the answer; its head waits for the first part of its body."""
        start = self._start
        if start is None:
            if message["type"] == "http.response.start":
                self._start = message
                return
        else:
            self._start = None
            if self._write(start, message):
                return
            await self._cycle.send(start)  # type: ignore[arg-type] # ours are not its TypedDicts
        await self._cycle.send(message)  # type: ignore[arg-type]

    def _write(self, start: Message, message: Message) -> bool:
        """Write a whole answer, as uvicorn would; False, and nothing is done, where it is not the usual case."""
        cycle, body = self._cycle, message.get("body", b"")
        if cycle.disconnected or cycle.flow.write_paused or message.get("more_body") or cycle.scope["method"] == "HEAD":
            return False
        content, keep_alive, whole = [STATUS_LINE[start["status"]]], cycle.keep_alive, False
        for name, value in start["headers"]:
            content += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                whole = int(value) == len(body)
            elif name == b"connection":
                return False
        if not whole:
            return False
        content += (b"\r\n", body) if keep_alive else (b"connection: close\r\n\r\n", body)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(b"".join(content))
        cycle.message_event.set()
        if not keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True


class _Unread(list[Any]):
    """Where trailers go: a sender could set any header by them, behind what looked at the head (RFC 9110, 6.5.1)."""

    def append(self, _: Any, /) -> None:
        """Keep nothing."""


class Connection(HttpToolsProtocol):
    """A connection that goes on in HTTP/1.1 whatever is offered, and whose requests have heads of a bounded size.

    An offer to go on in another protocol may be ignored (RFC 9110). The parser takes what follows such a request's head
    for the other protocol, and its body would be lost: the request is parsed again without the offer.

    A request has one ``Host``, and its trailers count for nothing. The parser keeps a header until it is whole, and
    would take time that grows with the square of its size.
    """

    _fed = b""
    _again: bytes | None = None
    _unread = _Unread()
    _between = 0
    """Bytes since the parser last came to the end of a head, a piece of a body, or an end."""
    _moved = False
    _objection: ApiError | None = None
    """What is wrong with the request, unless it is no HTTP."""

    bad_request: Callable[[ApiError], tuple[int, list[Header], bytes]]
    """Gives status, headers and body of the answer to bytes that never become a request."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._line = Line()
        # Each request's `state` is a copy of it.
        self.app_state = {LINE: self._line, TRANSPORT: self.transport}

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._line.lost is not None:
            self._line.lost()

    def data_received(self, data: bytes) -> None:
        """Parse what has come, unless it is too much to be a head; again, as long as there are offers in it."""
        self._moved = False
        self._again = data
        while (fed := self._again) is not None:  # a loop, since a client may send any number of them at once
            self._fed, self._again = fed, None
            super().data_received(fed)
        if self._moved:
            self._between = 0
            return
        self._between += len(data)
        if self._between > MAX_HEAD and not self.transport.is_closing():
            self._objection = _too_large()
            self.send_400_response("")

    def on_headers_complete(self) -> None:
        """The head is whole: start the request.

        Raises:
            ApiError: if it is too large, or does not say which host is meant; the parser stops at it.
        """
        self._moved = True
        headers = self.headers
        if self._between + len(self._fed) > MAX_HEAD:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in headers)
            self._objection = _too_large() if size > MAX_HEAD else None
        if [name for name, _ in headers].count(b"host") != 1 and self.parser.get_http_version() != "1.0":
            self._objection = ApiError(ErrorCode.MALFORMED_HTTP, "The request has no single Host header")
        if self._objection is not None:
            raise self._objection
        super().on_headers_complete()
        if not self.parser.should_upgrade():  # else the head is parsed again
            self.headers = self._unread

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._moved = True
        super().on_message_complete()

    def _should_upgrade(self) -> bool:
        # Only asked where the parser saw an offer. "Yes" keeps the request from being answered before its body.
        return True

    def handle_websocket_upgrade(self) -> None:
        error = sys.exc_info()[1]  # the parser says by it where it stopped
        method = self.scope["method"]
        if method == "CONNECT" or error is None:
            self.send_400_response("This is no proxy")
            return
        start = f" HTTP/{self.parser.get_http_version()}\r\n".encode()
        head = [method.encode(), b" ", self.url, start]
        for name, value in self.headers:
            if name != b"upgrade":
                head += [name, b": ", value, b"\r\n"]
        self._again = b"".join([*head, b"\r\n", self._fed[error.args[0] :]])

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        whole: Any = WholeAnswer(app, cycle)
        super()._start_asgi_task(cycle, whole)

    def send_400_response(self, msg: str) -> None:
        wrong = self._objection or ApiError(ErrorCode.MALFORMED_HTTP, "The request is not valid HTTP")
        status, headers, body = self.bad_request(wrong)
        self.transport.write(head(status, headers) + b"connection: close\r\n\r\n" + body)
        self.transport.close()


def head(status: int, headers: Iterable[Header]) -> bytes:
    """Return an answer's first lines as they go over the wire, without the empty line that ends them."""
    phrase = HTTPStatus(status).phrase if status in _STATUSES else ""
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %s\r\n%s" % (status, phrase.encode(), lines)


def _too_large() -> ApiError:
    return ApiError(ErrorCode.HEADERS_TOO_LARGE, "The headers are too large", {"maxBytes": MAX_HEAD})


def make_protocol(bad_request: Callable[[ApiError], tuple[int, list[Header], bytes]]) -> type[Connection]:
    """Make the connection class of a server, which answers what never becomes a request by ``bad_request``."""
    return type("ServerConnection", (Connection,), {"bad_request": staticmethod(bad_request)})


def uvicorn_config(app: Any, **settings: Any) -> uvicorn.Config:
    """Settings of every server of ours: applications report their own errors and make their own headers."""
    return uvicorn.Config(
        app,
        interface="asgi3",
        ws="none",
        lifespan="off",
        access_log=False,
        # What is left to be logged is noise about clients that misbehave.
        log_config=None,
        log_level="critical",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        **settings,
    )


class SilentServer(uvicorn.Server):
    """A uvicorn server that leaves signals to others.

    uvicorn's own handling raises the signal again after a clean stop, so that the process would not exit with 0.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
