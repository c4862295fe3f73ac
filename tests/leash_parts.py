"""A server that is like the Workflow API where a test wants it to be, and the command line from outside."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Answer = tuple[int, object]
"""Status and body; bytes are sent as they are, anything else as JSON."""
UNKNOWN = (404, {"error": "There is no such job", "code": "unknown_job", "details": {}})


def pending_forever(method: str, path: str, number: int) -> Answer:
    """The API with jobs that never end."""
    if method == "POST":
        return (200, {"result": {}, "executionTime": 1.0}) if path.endswith("/run") else submitted(number)
    return UNKNOWN if "0000-0000" in path else (200, {"jobId": path.rsplit("/", 1)[1], "status": "pending"})


def submitted(number: int) -> Answer:
    """A job accepted."""
    return 202, {"jobId": f"job-{number}", "status": "pending"}


class Stub:
    """A server that answers as ``answer`` says, and remembers what it was asked."""

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

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{address}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def served(*arguments: str, **environment: str) -> Iterator[str]:
    """The reference API, in a process of its own; gives its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtest.cli", "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(**environment),
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.kill()
            process.wait()


def clean_environment(**extra: str) -> dict[str, str]:
    """Our environment without what would steer the harness."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WORKFLOW_", "LOADTEST_", "LOCUST_"))}
    return {**kept, **extra}


def loadtest(*arguments: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run ``loadtest`` without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "loadtest.cli", *arguments],
        cwd=cwd,
        env=clean_environment(**environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def write_scenario(
    folder: Path, *, operation: str = "async_run", rate: str = "5/s", seconds: int = 2, more: str = "", top: str = ""
) -> None:
    """Write ``s.toml``: one entry, one stage."""  # fmt: skip
    polling = 'polling = { interval = "100ms", give_up = "20s" }\n' if operation == "async_run" else ""
    (folder / "s.toml").write_text(
        f'title = "T"\ndrain = "500ms"\n{top}\n[traffic.t]\noperation = "{operation}"\n'
        f'workflow = "say-hello"\n{polling}'
        f'{more}\nstages = [{{ name = "only", rate = "{rate}", duration = "{seconds}s" }}]\n'
    )


def write_entry(folder: Path, url: str, more: str = "max_share = 1", environment: str = "test") -> None:
    """Write ``targets.toml`` with the entry ``here``."""
    (folder / "targets.toml").write_text(
        f'[here]\nurl = "{url}"\nenvironment = "{environment}"\nowner = "team-x"\n{more}\n'
    )
