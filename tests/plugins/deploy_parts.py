"""Helpers for the tests of deploy/: its folder, and the tools that people also run by hand."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
SECRET = "a-key-that-nobody-else-has"

Manifests = list[dict[str, Any]]


def wanted(*commands: list[str], version: str = "version") -> list[str]:
    """Return the first of these command lines that works. If none works, skip the test; in CI, fail it.

    Args:
        commands: the command lines, which are tried in this order.
        version: the argument that prints a command's version. If empty, the command only has to exist.
    """
    for command in commands:
        asked = [*command, *([version] if version else [])]
        there = shutil.which(command[0]) is not None
        if there and (not version or subprocess.run(asked, capture_output=True, check=False).returncode == 0):
            return command
    names = " or ".join(" ".join(command) for command in commands)
    if os.environ.get("CI"):
        pytest.fail(f"{names} is missing")
    pytest.skip(f"{names} is missing; .ci/run installs it")


def linted(name: str, *arguments: str, cwd: Path = DEPLOY) -> None:
    """Run a linter from the development tools. It must find nothing."""
    tools = Path(sys.executable).parent
    done = subprocess.run(
        [str(tools / name), *arguments],
        cwd=cwd,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
