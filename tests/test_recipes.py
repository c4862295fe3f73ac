"""The recipes of CONTRIBUTING.md, followed to the letter on a copy of the repository."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

ROOT = Path(__file__).parent.parent
RECIPES = dict(
    re.findall(
        r"^### (.+?)\n(.*?)(?=^##|\Z)",
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Recipes\n")[2],
        re.MULTILINE | re.DOTALL,
    )
)
COPIED = ("loadtest", "tests", "docs", "scenarios")


class Copy:
    """A copy of the repository in which a recipe is followed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
        (folder / ".venv").symlink_to(Path(sys.prefix))

    def follow(self, name: str) -> tuple[set[str], str]:
        """Follow a recipe from its first block to its last; gives the files that it touched and what was printed."""
        touched, printed = set(), ""
        for language, block in re.findall(r"^```(\w+)\n(.*?)^```", RECIPES[name], re.MULTILINE | re.DOTALL):
            if language == "sh":
                printed += "".join(self.run(line) for line in block.splitlines())
            elif language == "diff":
                touched |= self.change(block)
            else:
                path = block.partition("\n")[0].removeprefix("# ")
                (self.folder / path).write_text(block.partition("\n")[2], encoding="utf-8")
                touched.add(path)
        return touched, printed

    def change(self, diff: str) -> set[str]:
        """Make the changes of a diff, whose lines that stay or go stand in a file exactly once."""
        path, touched = "", set()
        for named, hunk in re.findall(r"^@@ ?(.*)\n((?:(?!@@).*\n)*)", diff, re.MULTILINE):
            path = named or path
            touched.add(path)
            lines = [(line[:1], line[1:]) for line in hunk.splitlines()]
            before, after = ("\n".join(text for sign, text in lines if sign != other) for other in "+-")
            text = (self.folder / path).read_text(encoding="utf-8")
            assert text.count(f"\n{before}\n") == 1, f"{path} has not once: {before}"
            (self.folder / path).write_text(text.replace(f"\n{before}\n", f"\n{after}\n"), encoding="utf-8")
        return touched

    def run(self, line: str) -> str:
        """Run a command of a recipe; it must succeed."""
        own = {name: value for name, value in os.environ.items() if name != "CI"}  # properties by few examples
        own |= {"PYTHONPATH": str(self.folder), "PYTEST_ADDOPTS": "--hypothesis-seed=1 -p no:cacheprovider"}
        done = subprocess.run(
            shlex.split(line, comments=True),
            cwd=self.folder,
            env={**own, "LOADTEST_PLOTS": "0" if " run " in line else "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout

    def lint(self, touched: set[str]) -> None:
        """Check that what was touched is as tidy as the rest."""
        code = [path for path in touched if path.endswith(".py")]
        self.run(shlex.join([".venv/bin/ruff", "check", "--no-cache", *code]))
        self.run(shlex.join([".venv/bin/ruff", "format", "--check", "--no-cache", *code]))


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "copy")


def test_a_plot(copy: Copy, maker: ModuleType) -> None:
    """It is in its section of the page, and its picture and numbers are beside the others."""
    traffic = {"t": maker.plan("sync_run", [maker.stage("within", 0, 5, 2)])}
    run = maker.save(copy.folder / "reports" / "latest", maker.info(traffic), maker.Simulation(traffic).run())
    touched, _ = copy.follow("A plot")
    assert touched == {"loadtest/report/plots/amplification.py", "loadtest/report/plots/__init__.py"}
    assert {path.suffix for path in run.glob("plots/amplification.*")} == {".png", ".csv"}
    section = re.search(
        r'<div id="outcomes" class="unfolded">.*?</details>', (run / "report.html").read_text(), re.DOTALL
    )
    assert section
    assert "An operation took at most 1.00 requests on average" in section[0]
    copy.lint(touched)


def test_an_outcome_reason(copy: Copy) -> None:
    """Code, sentence and docs agree; a client that gets no body says so."""
    touched, _ = copy.follow("An outcome reason")
    assert touched == {"loadtest/contract.py", "loadtest/load/client.py", "docs/client.md"}
    copy.lint(touched)


@pytest.mark.judged
def test_an_operation(copy: Copy) -> None:
    """It is planned, run, recorded, judged and reported like the others."""
    touched, printed = copy.follow("An operation")
    own = {"loadtest/contract.py", "loadtest/load/users.py", "docs/scenarios.md"}
    assert touched == {*own, "scenarios/submissions.toml"}
    assert "Pass: its one threshold holds" in printed
    metrics = msgspec.json.decode((copy.folder / "reports" / "latest" / "metrics.json").read_bytes())
    assert metrics["operations"]["submission"]["operations"]["throttled"] > 0
    copy.lint(touched)


def test_a_limiter(copy: Copy) -> None:
    """It is planned with, has every property of a limiter, and is named where it was the one that refused."""
    touched, printed = copy.follow("A limiter")
    rooms = ("limiters/windows", "limiters/algorithms", "inference/occupancy", "inference/candidates")
    assert touched == {*(f"loadtest/{each}.py" for each in rooms), "docs/limiters.md"}
    assert "a sliding window of ten buckets" in " ".join(printed.split())
    inferred = """
import sys; sys.path.insert(0, "tests/inference")
from test_inference import found_in, is_named
from loadtest.limiters import LimiterSpec
truth = LimiterSpec("sliding-buckets")
found = found_in(truth, "steps")
print(found.word, is_named(truth, found), [fit.spec.algorithm for fit in found.named])
"""
    assert "True" in copy.run(shlex.join([".venv/bin/python", "-c", inferred]))
    copy.lint(touched)


def test_every_recipe_is_followed() -> None:
    """Each has a test here, named after it."""
    assert {f"test_{name.lower().replace(' ', '_')}" for name in RECIPES} <= set(globals())
