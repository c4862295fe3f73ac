"""The command line as processes of their own that are watched from outside."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from plugins.processes import clean_environment

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

    @property
    def code(self) -> int:
        """Its exit code, waited for."""
        return self.wait()

    def find(self, word: str) -> psutil.Process | None:
        """The first process of the family that has a word among its arguments."""
        for process in self.family():
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                if word in process.cmdline():
                    return process
        return None

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
def tiny(tmp_path: Path) -> Callable[..., str]:
    """Write a scenario of so many seconds at 40/s, and give its path."""

    def write(duration: str = "1s", text: str = TINY) -> str:
        path = tmp_path / f"tiny{duration}.toml"
        path.write_text(text % duration)
        return str(path)

    return write
