"""What the tests of deploy/ share: where it is, and its tools, run as they are by hand."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DEPLOY = Path(__file__).parents[1] / "deploy"
SECRET = "a-key-that-nobody-else-has"

Manifests = list[dict[str, Any]]


def wanted(*commands: list[str]) -> list[str]:
    """The first of these command lines that works; skips where none does, but fails in CI, which installs them."""
    for command in commands:
        asked = [*command, "version"]
        if shutil.which(command[0]) and subprocess.run(asked, capture_output=True, check=False).returncode == 0:
            return command
    names = " or ".join(" ".join(command) for command in commands)
    if os.environ.get("CI"):
        pytest.fail(f"{names} is missing")
    pytest.skip(f"{names} is missing; .ci/run installs it")


def linted(name: str, *arguments: str) -> None:
    """Run a linter that came with the development tools; it must find nothing."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / name), *arguments], cwd=DEPLOY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
