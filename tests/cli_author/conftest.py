"""The verbs of whoever writes scenarios, called in this process and in a folder of their own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from loadtest.cli import main


@dataclass(frozen=True)
class Said:
    """What a verb printed, and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def loadtest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Said]:
    """Run a verb in an empty folder, with nothing of ours in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("WORKFLOW_API_KEYS", "WORKFLOW_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Said:
        code = main(list(arguments))
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run
