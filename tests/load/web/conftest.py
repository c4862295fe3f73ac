"""A web UI of a scenario that gets 429s, to be watched."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from plugins.browser import chromium
from plugins.processes import clean_environment, until

ROOT = Path(__file__).parents[3]
TITLE = "Is <b>this</b> & that “text”?"
SCENARIO = """
title = "TITLE"
seed = 1
drain = "4s"
[traffic.greetings]
operation = "sync_run"
workflow = "say-hello"
stages = [{ name = "calm", rate = "10/s", duration = "1s" }, { name = "above", rate = "40/s", duration = "%s" }]
[traffic.jobs]
operation = "async_run"
workflow = "sleep"
parameters = { ms = 2200 }
polling = { interval = "500ms" }
stages = [{ name = "only", rate = "10/s", duration = "2s" }]
[[threshold]]
traffic = "greetings"
require = "throttled_rate < 10%%"
[[threshold]]
traffic = "greetings"
require = "requests.sent < 100000"
[target]
enforce = { sync_run = "20/1s", async_submit = "1000/1s", retrieval = "1000/1s" }
"""


@dataclass
class LiveUi:
    """A web UI that is up."""

    process: "subprocess.Popen[bytes]"
    url: str
    reports: Path
    log: Path
    base: str = ""
    title: str = TITLE
    more: dict[str, Any] = field(default_factory=lambda: {"trust_env": False, "verify": False, "timeout": 30})

    def get(self, path: str, **options: Any) -> httpx.Response:
        """One request to a page beneath the base path."""
        return httpx.get(f"{self.url}{self.base}{path}", **self.more, **options)

    def start(self) -> None:
        """Press Start, with the form's own host."""
        found = re.search(r"Load goes to (\S+):", self.log.read_text())
        form = {"user_count": "1", "spawn_rate": "1", "host": found[1]}
        answer = httpx.post(f"{self.url}{self.base}/swarm", data=form, **self.more).json()
        assert answer["success"] is True, answer

    @contextmanager
    def watched(self) -> Iterator[Iterator[dict[str, Any]]]:
        """The live page's messages as they come."""
        with httpx.stream("GET", f"{self.url}{self.base}/workflow/events", **self.more) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            yield (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))


@pytest.fixture
def live_ui(tmp_path: Path, free_port: int) -> Iterator[Callable[..., LiveUi]]:
    """Start `loadtest ui` with a scenario of so many seconds above its limit; Ctrl-C ends it, without a traceback."""
    started: list[LiveUi] = []

    def start(above: str, *arguments: str) -> LiveUi:
        path, log = tmp_path / "live.toml", tmp_path / "ui.log"
        path.write_text(SCENARIO.replace("TITLE", TITLE) % above, encoding="utf-8")
        command = [
            "-m",
            "loadtest.cli",
            "ui",
            str(path),
            "--port",
            str(free_port),
            "--output-dir",
            str(tmp_path / "out"),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *command, "--no-plots", *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=clean_environment(),
            )
        up = LiveUi(process, f"http://127.0.0.1:{free_port}", tmp_path / "out", log)
        started.append(up)

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return up.get("/").status_code == 200
            except httpx.TransportError:
                return False

        until(answers)
        return up

    yield start
    for up in started:
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(60) == 0, up.log.read_text()
        assert "Traceback" not in up.log.read_text()


@pytest.fixture
def browser() -> Iterator[Any]:
    """Chromium."""
    with chromium() as started:
        yield started
