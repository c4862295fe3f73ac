"""Commands and the web UI in processes of their own, which tests observe from outside."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from plugins import warm
from plugins.processes import PATIENCE, clean_environment, until
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
AS_SHOWN = ("greetings", "jobs", "lookups", "--csv")
"""Options of plain Locust that the documents show."""


@dataclass
class Started:
    """A process that a test started. Its output goes to files, so that it never waits for a reader."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def said(self) -> str:
        """Standard output so far."""
        return self.out.read_text()

    @property
    def complained(self) -> str:
        """Standard error so far."""
        return self.err.read_text()

    def wait(self, seconds: float = 2 * PATIENCE) -> int:
        """Wait for the process to end, and return its exit code."""
        return self.process.wait(seconds)

    @property
    def code(self) -> int:
        """The exit code. Reading it waits for the process to end."""
        return self.wait()

    def find(self, word: str) -> psutil.Process | None:
        """Return the first process of the family that has ``word`` among its arguments."""
        for process in self.family():
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                if word in process.cmdline():
                    return process
        return None

    def family(self) -> list[psutil.Process]:
        """Return the process and all its descendants that still exist."""
        try:
            me = psutil.Process(self.process.pid)
            return [me, *me.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def in_session(leader: int) -> list[psutil.Process]:
    """Return the processes of a session that still run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):  # it ended meanwhile
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.fixture
def start_module(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start Python modules in the checkout, as forks if they are ours. The test's end also ends their descendants."""
    started: list[Started] = []
    seen: list[psutil.Process] = []

    def start(*arguments: str, **environment: str) -> Started:
        out, err = (tmp_path / f"{name}{len(started)}" for name in ("stdout", "stderr"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = warm.start(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=clean_environment(**environment),
                start_new_session=True,
            )
        started.append(Started(process, out, err))
        return started[-1]

    yield start
    for each in started:
        seen += each.family()
    for process in seen:
        if process.is_running():
            process.kill()
    for each in started:
        each.process.wait()


def page_at(url: str, **headers: str) -> str:
    """Return the text of a page. It is empty if nothing listens, or if the status is not 200."""
    try:
        answer = httpx.get(url, headers=headers, trust_env=False, verify=False, timeout=30)
    except httpx.TransportError:
        return ""
    return answer.text if answer.status_code == 200 else ""


def metrics_at(port: int, path: str = "/metrics", **headers: str) -> dict[str, float]:
    """Return the metrics of a port, as Prometheus's client parses them. Empty if there is no such page."""
    families = text_string_to_metric_families(page_at(f"http://127.0.0.1:{port}{path}", **headers))
    return {sample.name: sample.value for family in families for sample in family.samples}


@dataclass
class WebUi:
    """A running web UI of `loadtest ui`."""

    started: Started
    url: str
    reports: Path
    more: dict[str, Any] = field(default_factory=lambda: {"trust_env": False, "verify": False, "timeout": 30})

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request with the web UI's headers."""
        return httpx.request(method, self.url + path, **self.more, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Request a page."""
        return self.ask("GET", path, **options)

    def start(self, **fields: str) -> dict[str, Any]:
        """Press Start with the host that the form shows, and return the answer."""
        found = re.search(r"Load goes to (\S+),", self.started.said)
        assert found is not None
        answer: dict[str, Any] = self.ask("POST", "/swarm", data={**fields, "host": found[1]}).json()
        return answer

    def state(self) -> str:
        """The state that Locust reports."""
        return str(self.get("/stats/requests").json()["state"])

    @contextlib.contextmanager
    def watched(self) -> Iterator[Iterator[dict[str, Any]]]:
        """Iterate over the messages to the live page."""
        with httpx.stream("GET", f"{self.url}/workflow/events", **self.more) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            yield (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))

    def end(self) -> None:
        """Press Ctrl-C, and check that no process is left."""
        family = self.started.family()
        self.started.process.send_signal(signal.SIGINT)
        assert self.started.wait() == 0, self.started.complained
        assert "Traceback" not in self.started.said + self.started.complained
        until(lambda: not [process for process in family if process.is_running()])


@pytest.fixture
def web_ui(start_module: Callable[..., Started], free_port: int, tmp_path: Path) -> Iterator[Callable[..., WebUi]]:
    """Start `loadtest ui` with a scenario's text. The end of the test ends it with Ctrl-C."""
    up: list[WebUi] = []

    def start(text: str, *arguments: str, **environment: str) -> WebUi:
        path = tmp_path / "live.toml"
        path.write_text(text, encoding="utf-8")
        options = ("--port", str(free_port), "--output-dir", str(tmp_path / "out"))
        started = start_module("loadtest.cli", "ui", str(path), *options, *arguments, **environment)
        up.append(WebUi(started, f"http://127.0.0.1:{free_port}", tmp_path / "out"))

        def answers() -> bool:
            assert started.process.poll() is None, started.complained
            return bool(page_at(up[-1].url))

        until(answers)
        return up[-1]

    yield start
    for each in up:
        if each.started.process.poll() is None:
            each.end()
