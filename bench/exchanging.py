"""Shared parts of the target's benches: server processes on a core of their own, and exchanges with them.

The client writes prepared bytes on keep-alive connections and reads whole answers. Each connection has one request in
flight.
"""

import functools
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psutil

HEADERS: Final = b"host: 127.0.0.1\r\nx-api-key: local-dev-key\r\nx-wf-endpoint: bench\r\naccept: application/json\r\n"
UNLIMITED: Final = ("--limit", "sync_run=1000000000/s", "--limit", "async_submit=1000000000/s")
NO_LIMITS: Final = (*UNLIMITED, "--limit", "retrieval=1000000000/s")
SERVE: Final = ("-m", "loadtest.cli", "serve", "--port", "0")
CPUCLOCK_SCHED: Final = 2
"""The clock of a process's CPU time in ns, as its scheduler counts it (``clock_getcpuclockid(3)``)."""


@dataclass(frozen=True)
class Server:
    """A server process on loopback."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}"

    def cpu_ns(self) -> int:
        """Return the CPU time of the process in ns. It includes all threads."""
        if sys.platform == "linux":
            return time.clock_gettime_ns(~self.pid << 3 | CPUCLOCK_SCHED)
        times = psutil.Process(self.pid).cpu_times()
        return int((times.user + times.system) * 1e9)

    def resident(self) -> int:
        """Return the bytes of its own and shared memory that are in RAM."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def connect(self) -> socket.socket:
        """Open a connection."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


@functools.cache  # a pinned client would see only its own core
def cores() -> tuple[int | None, int | None]:
    """Return a core for the servers and another for the client; None if there is only one or no pinning."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[-1]) if len(allowed) > 1 else (None, None)


def pin(pid: int, core: int | None) -> None:
    """Let a process run on one core only; pid 0 is this process."""
    if core is not None:
        os.sched_setaffinity(pid, {core})


@contextmanager
def started(*arguments: str, pinned: bool = True) -> Iterator[Server]:
    """Start a server process, pinned to the servers' core. Its first line must end with its port."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WORKFLOW_")}
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            match = re.search(r":(\d+)$", line.strip())
            if match is None:
                raise SystemExit(f"the server did not start: {line!r}")
            pin(process.pid, cores()[0] if pinned else None)
            yield Server(process.pid, int(match[1]))
        finally:
            process.terminate()


def get(path: str) -> bytes:
    """Return the bytes of a GET."""
    return b"GET %s HTTP/1.1\r\n%s\r\n" % (path.encode(), HEADERS)


def post(path: str, body: bytes) -> bytes:
    """Return the bytes of a POST of JSON."""
    head = b"POST %s HTTP/1.1\r\n%scontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (path.encode(), HEADERS, len(body)) + body


def read(connection: socket.socket) -> bytes:
    """Read one answer with a Content-Length. It may come in several pieces."""
    answer = b""
    while True:
        piece = connection.recv(65536)
        if not piece:
            raise SystemExit("the server closed a connection: this measures the wrong thing")
        answer += piece
        head, separator, body = answer.partition(b"\r\n\r\n")
        if separator and len(body) >= int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]):
            return answer


def ask(connection: socket.socket, request: bytes) -> bytes:
    """Send one request and read its answer."""
    connection.sendall(request)
    return read(connection)


def exchange(
    connections: list[socket.socket], request: bytes, rounds: int, status: bytes, between: Callable[[], None]
) -> None:
    """Send ``request`` on every connection and then read every answer. Repeat this ``rounds`` times.

    Raises:
        SystemExit: if an answer has another status.
    """
    start = b"HTTP/1.1 " + status
    for _ in range(rounds):
        for connection in connections:
            connection.sendall(request)
        for connection in connections:
            answer = read(connection)
            if not answer.startswith(start):
                raise SystemExit(f"this measures the wrong thing: {answer!r}")
        between()
