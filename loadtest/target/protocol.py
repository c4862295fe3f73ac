"""How answers go onto the wire: whole, in one write; and what is said to bytes that aren't HTTP."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from loadtest.target.answers import Header
from loadtest.target.hangup import LINE, Line
from loadtest.target.upgrades import UpgradesIgnored

_STATUSES: Final = frozenset(HTTPStatus)


class OneWriteTransport:
    """A transport that keeps what it is given until it is told to flush.

    uvicorn writes head and body of an answer separately, and the event loop makes a system call and a packet of each.
    A client would then see its first byte before the server has written its last, and pay for two wake-ups.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._kept: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Keep ``data``; an interim answer, which the client waits for in the middle of its request, goes at once."""
        self._kept.append(data)
        if data.startswith(b"HTTP/1.1 100 "):
            self.flush()

    def flush(self) -> None:
        """Write everything that was kept."""
        if self._kept:
            self._transport.write(b"".join(self._kept))
            self._kept.clear()

    def close(self) -> None:
        """Flush, then close."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def make_protocol(bad_request: Callable[[], tuple[int, list[Header], bytes]]) -> type[UpgradesIgnored]:
    """Make the connection class of a server.

    Args:
        bad_request: gives status, headers and body of the answer to bytes that never become a request.
    """

    class Protocol(UpgradesIgnored):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(OneWriteTransport(transport))  # type: ignore[arg-type] # it has all that is used
            self.line = Line()
            self.app_state = {LINE: self.line}  # each request's `state` is a copy of it

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self.line.lost is not None:
                self.line.lost()

        def on_response_complete(self) -> None:
            self.transport.flush()  # type: ignore[attr-defined] # it is the one made above
            super().on_response_complete()

        def send_400_response(self, msg: str) -> None:
            status, headers, body = bad_request()
            phrase = HTTPStatus(status).phrase if status in _STATUSES else ""
            lines = b"".join(b"%s: %s\r\n" % header for header in headers)
            start = f"HTTP/1.1 {status} {phrase}\r\n".encode()
            self.transport.write(start + lines + b"connection: close\r\n\r\n" + body)
            self.transport.close()

    return Protocol
