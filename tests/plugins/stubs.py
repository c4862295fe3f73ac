"""A server that imitates parts of the Workflow API."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

Answer = tuple[int, object]
"""Status and body. Bytes are sent unchanged, other values as JSON."""
UNKNOWN = (404, {"error": "There is no such job", "code": "unknown_job", "details": {}})


def pending_forever(method: str, path: str, number: int) -> Answer:
    """Answer like an API whose jobs never end."""
    if method == "POST":
        return (200, {"result": {}, "executionTime": 1.0}) if path.endswith("/run") else submitted(number)
    return UNKNOWN if "0000-0000" in path else (200, {"jobId": path.rsplit("/", 1)[1], "status": "pending"})


def submitted(number: int) -> Answer:
    """Return the answer to an accepted submit."""
    return 202, {"jobId": f"job-{number}", "status": "pending"}


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    """With socketserver's 5, a burst overflows the queue. The kernel then connects the rest a second later."""


class Stub:
    """A server that calls ``answer`` for each request, and remembers the requests."""

    def __init__(self, answer: Callable[[str, str, int], Answer], address: str = "127.0.0.1") -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536  # head and body in one packet

            def handle_any(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                stub.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
                status, body = answer(self.command, self.path, len(stub.asked))
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", "http://192.0.2.1/")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = handle_any  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server((address, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{address}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def stub() -> Iterator[Callable[..., Stub]]:
    """Start servers whose answers a function returns. The end of the test closes them."""
    started: list[Stub] = []

    def start(answer: Callable[[str, str, int], Answer], address: str = "127.0.0.1") -> Stub:
        started.append(Stub(answer, address))
        return started[-1]

    yield start
    for each in started:
        each.close()
