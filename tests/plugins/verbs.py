"""The command line in the tests' own process, which saves the start of another one; what it starts are processes."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from plugins.processes import clean_environment

from loadtest.cli import main


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
