"""The command line in the tests' own process, which saves the start of another one; what it starts are processes."""

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
"""Of a run that was made and reported: whether the generator was punctual is up to the machine, and not asked."""


class Ended(Protocol):
    """What ran, with its exit code."""

    @property
    def code(self) -> int: ...


Done = TypeVar("Done", bound=Ended)


def until_valid(run: Callable[[], Done]) -> Done:
    """Make a run; where it was invalid, once more, and up to twice without other tests, which may have taken the cores.

    It is for tests that ask what a valid run comes to. Most second runs are valid, and nobody has to wait for them.
    """
    for _ in range(2):
        if (done := run()).code != ExitCode.INVALID:
            return done
    with workers.alone():
        done = run()
        return done if done.code != ExitCode.INVALID else run()


@dataclass(frozen=True)
class Said:
    """What a verb and its children printed, and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def loadtest(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Said]]:
    """Run a verb in an empty folder, without a terminal, with nothing of ours in the environment but what is given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", warm.start)  # of the processes that the verb starts
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
