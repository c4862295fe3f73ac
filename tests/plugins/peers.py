"""Servers that follow a script, byte by byte."""

import contextlib
import re
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

Script = Callable[["Talk"], None]


class Talk:
    """An accepted connection. A peer's script uses its methods."""

    def __init__(self, connection: socket.socket, peer: "Peer") -> None:
        self.connection = connection
        self.peer = peer

    def read(self) -> bytes:
        """Read a request with its head and body. If the client hangs up, return the bytes that came."""
        data, whole = bytearray(), sys.maxsize
        while len(data) < whole and (more := self.connection.recv(65536)):
            data += more
            if whole == sys.maxsize and (end := data.find(b"\r\n\r\n")) >= 0:
                length = re.search(rb"content-length: (\d+)", data[:end])
                whole = end + 4 + (int(length[1]) if length else 0)
        if data:
            self.peer.requests.append(bytes(data))
        return bytes(data)

    def send(self, *parts: bytes) -> None:
        """Send bytes. Each part is in a packet of its own."""
        for part in parts:
            self.connection.sendall(part)
            if len(parts) > 1:
                time.sleep(0.005)

    def pause(self, seconds: float) -> None:
        """Send nothing for some seconds, or until the client sends or hangs up."""
        select.select([self.connection], [], [], seconds)

    def reset(self) -> None:
        """Close the connection with RST instead of FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def wait(self) -> None:
        """Keep the connection open until the client hangs up or the test is over."""
        with contextlib.suppress(OSError):
            while self.connection.recv(65536):
                pass


def resets(talk: Talk) -> None:
    """Read a request, and reset the connection instead of an answer. This is a script."""
    talk.read()
    talk.reset()


class Peer:
    """A server that follows a script for each connection. The last script serves all further connections."""

    def __init__(self, *scripts: Script) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._scripts = scripts
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(script, connection), daemon=True).start()

    def _serve(self, script: Script, connection: socket.socket) -> None:
        # In some tests, the client hangs up early.
        with contextlib.suppress(OSError), connection:
            script(Talk(connection, self))

    def close(self) -> None:
        """Close all connections and stop listening."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._accepting.join(5)


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    """Make peers from scripts. The end of the test closes them."""
    made: list[Peer] = []

    def make(*scripts: Script) -> Peer:
        made.append(Peer(*scripts))
        return made[-1]

    yield make
    for each in made:
        each.close()
