"""Answers that break on the wire: reset, cut short, or no HTTP at all."""

import os
import socket
import struct
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from loadtest.reference_api.answers import Header, Receive, Scope
from loadtest.reference_api.protocol import TRANSPORT

_LINGER_NOT: Final = struct.pack("ii", 1, 0)
NO_HTTP: Final = b"\x16\x03\x01\x00\x02\xfe this is no answer to anybody \xff\r\n\r\n"


def raw(status: int, headers: Sequence[Header], body: bytes) -> tuple[bytes, bytes]:
    """Head and body of an answer, as they go over the wire."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %s\r\n%s\r\n" % (status, phrase.encode(), lines), body


async def close(scope: Scope, receive: Receive, data: bytes) -> None:
    """Send ``data`` as it is, close the connection, and wait until it is gone."""
    transport = scope["state"][TRANSPORT]
    transport.write(data)
    transport.close()
    await _gone(receive)


async def reset(scope: Scope, receive: Receive) -> None:
    """Reset the connection (RST), and wait until it is gone."""
    transport = scope["state"][TRANSPORT]
    # The event loop's own view of the socket can't set options; this one is of the same connection.
    with _socket(transport) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()
    await _gone(receive)


def no_json(length: int) -> bytes:
    """So many bytes that are neither JSON nor text."""
    return (b"\xfe\xff{garbage:" * (length // 11 + 1))[:length]


def send_now(scope: Scope, data: bytes) -> None:
    """Hand ``data`` to the kernel at once, as much as it takes: the event loop would drop it at a reset."""
    with _socket(scope["state"][TRANSPORT]) as ours:
        ours.setblocking(False)
        try:
            ours.send(data)
        except OSError:
            return


def _socket(transport: Any) -> socket.socket:
    return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
