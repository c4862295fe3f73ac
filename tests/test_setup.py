"""What make sets up: what a run needs for a run, the rest for tests; again only where a lock is newer."""

import os
import re
import runpy
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pins(lock: str) -> set[str]:
    return set(re.findall(r"^(\S+==\S+)", (ROOT / lock).read_text(), re.MULTILINE))


def installed(target: str, venv: Path) -> list[str]:
    """The locks that `make TARGET` would install."""
    command = ["make", "--dry-run", f"VENV={venv}", target]
    said = subprocess.check_output(command, cwd=ROOT, text=True, env={**os.environ, "MAKEFLAGS": ""})
    return re.findall(r"install\.py \S+ (\S+)", said)


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch(mode=0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("ready", "run", "test"),
    [
        ((), ["requirements-run.lock"], ["requirements.lock"]),
        (("run",), [], ["requirements.lock"]),
        (("run", "all"), [], []),
    ],
)
def test_only_what_is_missing_is_installed(venv: Path, ready: tuple[str, ...], run: list[str], test: list[str]) -> None:
    """`make test` adds to what `make run` installed, and has all that `make run` needs."""
    here = subprocess.check_output(["cksum"], input=f"{ROOT}\n", text=True).split()[0]
    for each in ready:
        (venv / f".ready-{each}-{here}").touch()
    assert installed("run", venv) == run
    assert installed("setup", venv) == run
    assert installed("test", venv) == test
    for each in ready:
        os.utime(venv / f".ready-{each}-{here}", (0, 0))
    assert installed("run", venv) == ["requirements-run.lock"]
    assert installed("lint", venv) == ["requirements.lock"]


def test_a_run_has_the_versions_that_are_tested() -> None:
    """The lock of a run is a part of the other one, with no tool in it; neither names an index."""
    assert pins("requirements-run.lock") < pins("requirements.lock")
    assert not {"mypy", "ruff", "playwright"} & {pin.partition("==")[0] for pin in pins("requirements-run.lock")}
    assert not any("://" in (ROOT / lock).read_text() for lock in ("requirements-run.lock", "requirements.lock"))


def test_each_requirement_is_installed_by_one_pip() -> None:
    """The parts of a lock are the whole lock with all hashes, and none of them is much more work than another."""
    lock = (ROOT / "requirements-run.lock").read_text()
    script = runpy.run_path(str(ROOT / "tools" / "install.py"))
    parts = script["divided"](script["requirements_of"](lock), 3)
    together = [requirement for part in parts for requirement in part]
    assert {each.split()[0] for each in together} == pins("requirements-run.lock")
    assert sum(each.count("--hash") for each in together) == lock.count("--hash")
    sizes = [sum(map(len, part)) for part in parts]
    assert max(sizes) < 1.5 * min(sizes)
