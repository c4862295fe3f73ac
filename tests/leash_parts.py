"""The command line from outside, and the files that a run on a leash takes."""

import subprocess
import sys
from pathlib import Path

from plugins.processes import clean_environment

ABORTED = {7, 3}
"""Exit codes of a run that was aborted: on a machine that is busy it may be invalid, too, and says both."""


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
