"""Connections to clients. Most responses are sent in one write. Upgrade offers are ignored."""

import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator, Sized
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from loadtest.contract import ErrorCode
from loadtest.reference_api.messages import (
    LINE,
    ApiError,
    AsgiScope,
    Line,
    Message,
    Receive,
    Send,
    ServerReply,
    answer_headers,
)

TRANSPORT: Final = "transport"
"""Key in a request's ``state``. Its value is the connection's transport."""

MAX_HEAD: Final = 64 * 1024
"""Maximum size in bytes of a request line with its headers. Trailers and chunk extensions have the same maximum."""


class WholeAnswer:
    """Calls the application for one request, and sends a complete response in one write.

    uvicorn writes head and body separately, each with a system call and a packet. The client would be woken twice, and
    see the first byte before the server has written the last. uvicorn still writes unusual responses.
    """

    __slots__ = ("_app", "_cycle", "_start")

    def __init__(self, app: Callable[..., Awaitable[None]], cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle
        self._start: Message | None = None

    def __call__(self, scope: AsgiScope, receive: Receive, _send: Send) -> Awaitable[None]:
        return self._app(scope, receive, self.send)

    async def send(self, message: Message) -> None:
        """Keep the head (first call), and send it with the whole body (second call)."""
        start = self._start
        if start is None:
            self._start = message
        elif not self._write(start, message["body"]):
            await self._cycle.send(start)  # type: ignore[arg-type] # our messages are not its TypedDicts
            await self._cycle.send(message)  # type: ignore[arg-type]

    def _write(self, start: Message, body: bytes) -> bool:
        """Write a whole response as uvicorn would. In unusual cases, do nothing and return False."""
        cycle = self._cycle
        if cycle.disconnected or cycle.flow.write_paused or cycle.scope["method"] == "HEAD":
            return False
        content = [STATUS_LINE[start["status"]]]
        keep_alive = cycle.keep_alive
        for name, value in start["headers"]:
            if name == b"connection":
                return False
            content += (name, b": ", value, b"\r\n")
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
    """A list that discards trailers, which could set any header after the head was checked (RFC 9110, 6.5.1)."""

    def append(self, _: Any, /) -> None: ...


class _Flow(FlowControl):
    """Flow control that does not read while requests wait for their turn.

    uvicorn resumes reading after each response, so a client that reads no responses could fill the memory.
    """

    def __init__(self, transport: Any, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """A connection that ignores offers to upgrade from HTTP/1.1, and bounds the size of request heads.

    A server may ignore an upgrade offer (RFC 9110). But the parser treats the bytes after such a request's head as
    another protocol, so the request's body would be lost. The request is therefore parsed again without the offer.

    An HTTP/1.1 request must have exactly one ``Host``. Trailers are ignored. The time that the parser spends on a
    header grows with the square of the header's size, so the size is bounded. The application's ``bad_request`` answers
    bytes that are not a valid request.
    """

    _fed = b""
    _again: bytes | None = None
    _unread = _Unread()
    _between = 0
    """Bytes received since the parser last completed a head, a piece of a body, or a message."""
    _moved = False
    _objection: ApiError | None = None
    """The error in the request. None if there is no error, or if the bytes are not HTTP."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._line = Line()
        # Each request's `state` is a copy of this dictionary.
        self.app_state = {LINE: self._line, TRANSPORT: self.transport}

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._line.lost is not None:
            self._line.lost()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, and parse them again after an upgrade offer. Reject a head above ``MAX_HEAD``."""
        self._moved = False
        self._again = data
        while (fed := self._again) is not None:  # a loop, because a client may send several requests at once
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
        """Start the request when its head is complete.

        Raises:
            ApiError: if the head is too large or names an unsupported coding, or an HTTP/1.1 request does not have
                exactly one Host. Parsing then stops.
        """
        self._moved = True
        headers = self.headers
        if self._between + len(self._fed) > MAX_HEAD:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in headers)
            self._objection = _too_large() if size > MAX_HEAD else None
        if [name for name, _ in headers].count(b"host") != 1 and self.parser.get_http_version() != "1.0":
            self._objection = ApiError(ErrorCode.MALFORMED_HTTP, "The request must have exactly one Host header")
        # RFC 9112, section 6.1. The parser would accept any list that ends with `chunked`.
        if any(name == b"transfer-encoding" and value.strip().lower() != b"chunked" for name, value in headers):
            self._objection = ApiError(ErrorCode.UNSUPPORTED_CODING, "The only supported transfer coding is chunked")
        if self._objection is not None:
            raise self._objection
        super().on_headers_complete()
        if not self.parser.should_upgrade():  # otherwise the head is parsed again
            self.headers = self._unread

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._moved = True
        super().on_message_complete()

    def _should_upgrade(self) -> bool:
        # uvicorn calls this only after an upgrade offer, and does not start the request if it returns True.
        return True

    def handle_websocket_upgrade(self) -> None:
        error = sys.exc_info()[1]  # contains the parser's position
        method = self.scope["method"]
        if method == "CONNECT" or error is None:
            self.send_400_response("This is not a proxy")
            return
        start = f" HTTP/{self.parser.get_http_version()}\r\n".encode()
        head = [method.encode(), b" ", self.url, start]
        for name, value in self.headers:
            if name != b"upgrade":
                head += [name, b": ", value, b"\r\n"]
        self._again = b"".join([*head, b"\r\n", self._fed[error.args[0] :]])

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        super()._start_asgi_task(cycle, WholeAnswer(app, cycle))  # type: ignore[arg-type] # our messages, see above

    def send_400_response(self, msg: str) -> None:
        wrong = self._objection or ApiError(ErrorCode.MALFORMED_HTTP, "The request is not valid HTTP")
        reply = self.app.bad_request(wrong)
        self.transport.write(head(reply) + b"connection: close\r\n\r\n" + reply.body)
        self.transport.close()


def head(reply: ServerReply) -> bytes:
    """Return a response's status line and headers as bytes, without the empty line that ends them."""
    headers = (b"%s: %s\r\n" % header for header in answer_headers(reply))
    return STATUS_LINE[reply.status] + b"".join(headers)


def _too_large() -> ApiError:
    return ApiError(ErrorCode.HEADERS_TOO_LARGE, "The headers are too large", {"maxBytes": MAX_HEAD})


def uvicorn_config(app: Any, **settings: Any) -> uvicorn.Config:
    """Return uvicorn's settings. The applications log their own errors and set all headers."""
    return uvicorn.Config(
        app,
        interface="asgi3",
        ws="none",
        lifespan="off",
        access_log=False,
        # The remaining log messages are noise about misbehaving clients.
        log_config=None,
        log_level="critical",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        **settings,
    )


class SilentServer(uvicorn.Server):
    """A uvicorn server that does not handle signals.

    uvicorn's own handling raises the signal again after a clean stop, so the process would not exit with 0.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
