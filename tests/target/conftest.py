"""The reference API as it is used: a process of its own, spoken to over sockets."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for openapi_answers: test folders are no packages
from openapi_answers import problems

KEYS = ("alpha", "beta")
HUGE = "1000000000/s"
UNDOCUMENTED = {"--answer", "--fault", "--pending-execution-time"}
"""Options that make a server answer otherwise than its document says."""


@dataclass
class Served:
    """A running server, and clients for it."""

    process: subprocess.Popen[str]
    url: str
    errors: IO[str]
    clients: list[httpx.Client] = field(default_factory=list)
    documented: bool = True

    def client(self, key: str | None = KEYS[0], endpoint: str | None = "tests") -> httpx.Client:
        """A keep-alive client that sends these headers, and holds each answer against ``openapi.yaml``."""
        headers = {name: value for name, value in (("x-api-key", key), ("x-wf-endpoint", endpoint)) if value}
        client = httpx.Client(base_url=self.url, headers=headers, verify=False, trust_env=False, timeout=30)
        client.event_hooks = {"response": [_documented] if self.documented else []}
        self.clients.append(client)
        return client

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Signal the process and wait; gives its exit code, what else it printed, and its standard error."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=20)
        assert self.process.stdout is not None
        rest = self.process.stdout.read()
        self.errors.seek(0)
        return code, rest, self.errors.read()


def _documented(response: httpx.Response) -> None:
    request = response.request
    wrong = problems(request.method, request.url.path, response.status_code, dict(response.headers), response.read())
    assert not wrong, f"openapi.yaml and the server disagree: {wrong}\n{response.text[:1000]}"


Launch = Callable[..., Served]


@pytest.fixture(scope="session")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Start servers; each is stopped at the end, must exit with 0, and must have printed no traceback."""
    started: list[Served] = []

    def start(*arguments: str, env: dict[str, str] | None = None, stdin: Any = subprocess.DEVNULL) -> Served:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("WORKFLOW_")}
        errors = (tmp_path_factory.mktemp("served") / "stderr").open("w+")
        process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.cli", "serve", "--port", "0", *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**clean, "WORKFLOW_API_KEYS": ",".join(KEYS), **(env or {})},
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.fullmatch(r"Workflow API \(reference\) on (http://127\.0\.0\.1:\d+)\n", line)
        if match is None:
            process.kill()
            raise AssertionError(f"first line {line!r}, exit {process.wait()}, see {errors.name}")
        served = Served(process, match[1], errors, documented=not UNDOCUMENTED & set(arguments))
        started.append(served)
        return served

    yield start
    for served in started:
        for client in served.clients:
            client.close()
        code, _, errors = served.stop()
        served.errors.close()
        assert served.process.stdout is not None
        served.process.stdout.close()
        assert code == 0, errors
        assert "Traceback" not in errors


@pytest.fixture(scope="session")
def server(launch: Launch) -> Served:
    """A server without limits that matter, for what doesn't need one of its own."""
    limits = [part for name in ("sync_run", "async_submit", "retrieval") for part in ("--limit", f"{name}={HUGE}")]
    return launch(*limits)


@pytest.fixture(scope="session")
def expect_error() -> Callable[[httpx.Response, int, str], dict[str, Any]]:
    """Check that an answer is the documented error with this status and code; gives its details."""

    def check(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
        assert (response.status_code, response.json().get("code")) == (status, code), response.text
        body = response.json()
        assert set(body) == {"error", "code", "details"}
        assert isinstance(body["error"], str)
        assert isinstance(body["details"], dict)
        assert "Traceback" not in response.text
        assert ".py" not in response.text
        assert response.headers["content-type"] == "application/json"
        assert "date" in response.headers
        details: dict[str, Any] = body["details"]
        return details

    return check


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """Poll a condition until it gives something true, for at most 20 s."""

    def poll(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, "the condition did not come true in time"
            time.sleep(0.01)
        return value

    return poll
