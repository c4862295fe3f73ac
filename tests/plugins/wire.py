"""Requests as bytes, for requests that no client library sends."""

import json
import socket
from typing import Any

RUN = "/v1/workflows/run"
HEAD = "host: localhost\r\nx-api-key: alpha\r\nx-wf-endpoint: tests\r\n"
"""Headers that every request needs."""


def connect(server: Any) -> socket.socket:
    """Return a connection to a server."""
    return socket.create_connection(server.address, timeout=20)


def post(body: Any, *lines: str, path: str = RUN, version: str = "1.1") -> bytes:
    """Return a POST request. A body that is not bytes becomes JSON, and ``lines`` are more headers."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = "".join(f"{line}\r\n" for line in (f"content-length: {len(content)}", *lines))
    return f"POST {path} HTTP/{version}\r\n{HEAD}{head}\r\n".encode() + content


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data
