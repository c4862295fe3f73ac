"""CPU per retrieval of the reference API beside a bare uvicorn "hello", measured in their own processes.

Both servers get the same request bytes over the same kind of connections (keep-alive, one request in flight on each),
in rounds that take turns, so that a change of the machine's speed meets both. Run: ``python bench/target_cpu.py``.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

ROUNDS = 5
CONNECTIONS = 8
HEADERS = b"host: 127.0.0.1\r\nx-api-key: local-dev-key\r\nx-wf-endpoint: bench\r\naccept: application/json\r\n"
NO_LIMITS = [part for name in ("sync_run", "async_submit", "retrieval") for part in ("--limit", f"{name}=1000000000/s")]


async def hello(_scope: Any, _receive: Any, send: Any) -> None:
    """The least that an ASGI application can do."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


def serve_bare() -> None:
    """Serve ``hello`` with the same event loop and parser as the reference API, on a free port."""
    import uvicorn  # noqa: PLC0415 -- only the bare server's process needs it

    listener = socket.create_server(("127.0.0.1", 0))
    print(f"bare hello on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    options: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "ws": "none", "lifespan": "off"}
    config = uvicorn.Config(hello, **options, access_log=False, log_config=None, proxy_headers=False)
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def started(*arguments: str) -> Iterator[tuple[psutil.Process, int]]:
    """Start a server process; give it and the port that its first line names."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WORKFLOW_")}
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            match = re.search(r":(\d+)$", line.strip())
            if match is None:
                raise SystemExit(f"the server did not start: {line!r}")
            yield psutil.Process(process.pid), int(match[1])
        finally:
            process.terminate()


def read(connection: socket.socket) -> bytes:
    """Read one answer with a Content-Length, in however many pieces it comes."""
    answer = b""
    while True:
        piece = connection.recv(4096)
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


def submit(port: int) -> str:
    """Submit a job and give its id."""
    body = b'{"name":"say-hello"}'
    head = b"POST /v1/workflows/jobs HTTP/1.1\r\n" + HEADERS + b"content-length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        answer = ask(connection, head + body)
    job: str = json.loads(answer.partition(b"\r\n\r\n")[2])["jobId"]
    return job


def measure(server: psutil.Process, port: int, request: bytes, count: int) -> float:
    """CPU time of ``server`` per request, in µs, over ``count`` requests."""
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        for connection in connections * 25:  # warm up
            ask(connection, request)
        before = server.cpu_times()
        for _ in range(count // CONNECTIONS):
            for connection in connections:
                connection.sendall(request)
            for connection in connections:
                if not read(connection).startswith(b"HTTP/1.1 2"):
                    raise SystemExit("an answer was not 2xx: this measures the wrong thing")
        after = server.cpu_times()
    finally:
        for connection in connections:
            connection.close()
    used = (after.user - before.user) + (after.system - before.system)
    return used / (count // CONNECTIONS * CONNECTIONS) * 1e6


def main() -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="requests to each server in each round")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        serve_bare()
        return
    reference = ("-m", "loadtest.cli", "serve", "--port", "0", *NO_LIMITS)
    figures: dict[str, list[float]] = {"bare uvicorn hello": [], "reference retrieval": []}
    with started(__file__, "--bare") as bare, started(*reference) as api:
        path = f"/v1/workflows/jobs/{submit(api[1])}".encode()
        request = b"GET " + path + b" HTTP/1.1\r\n" + HEADERS + b"\r\n"
        for _ in range(ROUNDS):
            for name, (server, port) in zip(figures, (bare, api), strict=True):
                figures[name].append(measure(server, port, request, arguments.requests))
    print(f"{'CPU µs per request':22}{'median':>8}{'least':>8}{'most':>8}   {ROUNDS} rounds")
    for name, values in figures.items():
        print(f"{name:22}{statistics.median(values):8.1f}{min(values):8.1f}{max(values):8.1f}")
    least, most = (statistics.median(values) for values in figures.values())
    print(f"ratio {most / least:.2f} (at most 2.00 wanted)")


if __name__ == "__main__":
    main()
