"""The command line in the tests' own process, which saves the start of a process. Its children are real processes."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

import pytest
from plugins import warm, workers
from plugins.processes import clean_environment

from loadtest.cli import main
from loadtest.errors import ExitCode

CARRIED_OUT: Final = (ExitCode.PASS, ExitCode.INVALID)
"""Exit codes of a run that was made and reported. Whether the load generator was punctual depends on the machine."""


class Ended(Protocol):
    """An ended command with its exit code."""

    @property
    def code(self) -> int: ...


Done = TypeVar("Done", bound=Ended)


def until_valid(run: Callable[[], Done]) -> Done:
    """Make a run until it is valid, at most four times. The last two runs are made while no other test runs.

    Other tests may have taken the cores. Most second runs are valid, so they need not wait for other tests to end.
    """
    for _ in range(2):
        if (done := run()).code != ExitCode.INVALID:
            return done
    with workers.alone():
        done = run()
        return done if done.code != ExitCode.INVALID else run()


@dataclass(frozen=True)
class Said:
    """The output of a verb and its children, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def loadtest(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Said]]:
    """Run a verb in an empty folder without a terminal. It sees only variables of the harness that are given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", warm.start)  # processes that the verb starts begin warm
    clean = clean_environment()
    for name in os.environ.keys() - clean.keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("LOADTEST_PLOTS", clean["LOADTEST_PLOTS"])

    def run(*arguments: str, **environment: str) -> Said:
        with monkeypatch.context() as given:
            for name, value in environment.items():
                given.setenv(name, value)
            code = main(list(arguments))
        said = capfd.readouterr()
        return Said(code, said.out, said.err)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
