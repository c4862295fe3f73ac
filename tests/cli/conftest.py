"""The command line and plain Locust as processes, watched from outside."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from loadtest import runfile, samples

ROOT = Path(__file__).parents[2]
TINY = """
title = "Tiny"
seed = 1
drain = "3s"
[traffic.greetings]
operation = "sync_run"
workflow = "say-hello"
stages = [{ name = "only", rate = "40/s", duration = "%s" }]
[target]
enforce = { sync_run = "100000/1s", async_submit = "100000/1s", retrieval = "100000/1s" }
"""


def clean_environment(**extra: str) -> dict[str, str]:
    """Our environment without what would steer the harness."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WORKFLOW_", "LOADTEST_", "LOCUST_"))}
    return {**kept, **extra}


@dataclass
class Started:
    """A process of ours, with its output in files so that nobody has to read them meanwhile."""

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

    def wait(self, seconds: float = 60.0) -> int:
        """Wait for its exit code."""
        return self.process.wait(seconds)

    def family(self) -> list[psutil.Process]:
        """The process and all its descendants, as far as they are there."""
        try:
            me = psutil.Process(self.process.pid)
            return [me, *me.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start Python modules in the checkout; they and their descendants are ended at the end."""
    started: list[Started] = []
    seen: list[psutil.Process] = []

    def start(*arguments: str, **environment: str) -> Started:
        out, err = (tmp_path / f"{name}{len(started)}" for name in ("stdout", "stderr"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=clean_environment(**environment),
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


@pytest.fixture
def until() -> Callable[..., Any]:
    """Poll a condition until it gives something true, for at most 30 s."""

    def poll(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, "the condition did not come true in time"
            time.sleep(0.01)
        return value

    return poll


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., str]:
    """Write a scenario of so many seconds at 40/s, and give its path."""

    def write(duration: str = "1s", text: str = TINY) -> str:
        path = tmp_path / f"tiny{duration}.toml"
        path.write_text(text % duration)
        return str(path)

    return write


@pytest.fixture
def serve(launch: Callable[..., Started], until: Callable[..., Any]) -> Callable[..., str]:
    """Start a reference API without limits that matter, and give its URL."""

    def start(*arguments: str, **environment: str) -> str:
        limits = [f"--limit={name}=1000000/s" for name in ("sync_run", "async_submit", "retrieval")]
        served = launch("loadtest.cli", "serve", "--port", "0", *limits, *arguments, **environment)
        url: str = until(lambda: re.search(r" on (http://\S+)\n", served.said))[1]
        return url

    return start


@dataclass
class RunDirectory:
    """A run directory as a test looks at it."""

    path: Path

    @property
    def info(self) -> runfile.RunInfo:
        """What run.json says."""
        return runfile.load(self.path)

    @property
    def operations(self) -> list[dict[str, Any]]:
        """The operation rows."""
        return [row for row in samples.read_table(self.path).to_pylist() if row["row"] == "operation"]

    def check_whole(self) -> None:
        """The record is complete, and every arrival is in it once."""
        info = self.info
        assert info.complete
        assert info.samples == samples.read_table(self.path).num_rows
        for name, plan in info.traffic.items():
            mine = sorted(row["arrival"] for row in self.operations if row["traffic"] == name)
            assert mine == list(range(plan.offered or 0))


@pytest.fixture
def runs_in() -> Callable[[Path], list[RunDirectory]]:
    """The runs below a directory, oldest first."""

    def find(reports: Path) -> list[RunDirectory]:
        found = [path for path in reports.glob("*/run.json") if not path.parent.is_symlink()]
        return [RunDirectory(path.parent) for path in sorted(found, key=lambda path: runfile.load(path.parent).started)]

    return find
