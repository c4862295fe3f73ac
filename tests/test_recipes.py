"""The recipes of CONTRIBUTING.md, followed to the letter on a copy of the repository."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from plugins import record_maker as maker

from loadtest.scenario import load_scenario, scenario_hash

pytestmark = pytest.mark.judged  # a run of a recipe must be valid
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
    """A copy of the repository in which recipes are followed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
        (folder / ".venv").symlink_to(Path(sys.prefix))

    def follow(self, name: str) -> tuple[set[str], list[str]]:
        """Follow a recipe but for its commands; gives the files that it touched, and the commands."""
        touched: set[str] = set()
        commands: list[str] = []
        for language, block in re.findall(r"^```(\w+)\n(.*?)^```", RECIPES[name], re.MULTILINE | re.DOTALL):
            if language == "sh":
                commands += block.splitlines()
            elif language == "diff":
                touched |= self.change(block)
            else:
                path = block.partition("\n")[0].removeprefix("# ")
                (self.folder / path).write_text(block.partition("\n")[2], encoding="utf-8")
                touched.add(path)
        return touched, commands

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


class Followed(NamedTuple):
    """What became of the recipes: their copy, the files that each touched, and what each command printed."""

    copy: Copy
    touched: dict[str, set[str]]
    printed: dict[str, str]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Followed:
    """All recipes, one after the other on one copy; a command of two is run once."""
    copy = Copy(tmp_path_factory.mktemp("recipes"))
    steps = {name: copy.follow(name) for name in RECIPES}
    traffic = {"t": maker.plan("sync_run", [maker.stage("within", 0, 5, 2)])}
    maker.save(copy.folder / "reports" / "latest", maker.info(traffic), maker.Simulation(traffic).run())
    printed: dict[str, str] = {}
    for line in [line for _, lines in steps.values() for line in lines]:
        if line not in printed:
            printed[line] = copy.run(line)
    return Followed(copy, {name: touched for name, (touched, _) in steps.items()}, printed)


def check_a_verb(followed: Followed) -> None:
    """Help lists it, and it takes an option of the shared table."""
    assert followed.touched["A verb"] == {"loadtest/cli/hash.py", "loadtest/cli/__init__.py"}
    printed = followed.printed
    assert "  hash        Print the hash of a scenario.\n" in printed[".venv/bin/loadtest --help"]
    plain, warm = (printed[f".venv/bin/loadtest hash smoke{more}"] for more in ("", " --set warmup=9s"))
    assert plain == f"{scenario_hash(load_scenario(ROOT / 'scenarios' / 'smoke.toml').scenario)}\n"
    assert plain != warm


def check_a_metric(followed: Followed) -> None:
    """It is shown, judged, watched during the run, compared within it, and measured for comparisons with others."""
    files = {"loadtest/metrics.py", "loadtest/analysis/results.py", "loadtest/compare/measurements.py"}
    assert followed.touched["A metric"] == {*files, "docs/metrics.md", "scenarios/polled.toml"}
    assert "requests.polled_rate" in followed.printed[".venv/bin/loadtest metrics"]
    (directory,) = followed.copy.folder.glob("reports/*-polled-*")
    metrics = msgspec.json.decode((directory / "metrics.json").read_bytes())
    often, seldom = (metrics["traffic"][name]["requests"]["polled_rate"] for name in ("often", "seldom"))
    assert often > seldom >= 0.5
    (judged,) = (one for one in metrics["thresholds"] if not one["implicit"])
    assert (judged["value"], judged["judgement"]) == (seldom, "pass")
    assert metrics["answers"][0]["chosen"] == "seldom"
    measured = msgspec.json.decode((directory / "measurements.json").read_bytes())["measurements"]
    assert {one["traffic"] for one in measured if one["metric"] == "requests.polled_rate"} == {"often", "seldom"}
    page = (directory / "report.html").read_text(encoding="utf-8")
    assert "polls</th>" in page


def check_a_plot(followed: Followed) -> None:
    """It is in its section of the page, and its picture and numbers are beside the others."""
    assert followed.touched["A plot"] == {"loadtest/report/plots/amplification.py", "loadtest/report/plots/__init__.py"}
    run = followed.copy.folder / "reports" / "latest"
    assert {path.suffix for path in run.glob("plots/amplification.*")} == {".svg", ".csv"}
    page = (run / "report.html").read_text(encoding="utf-8")
    section = re.search(r'<div id="outcomes" class="unfolded">.*?</details>', page, re.DOTALL)
    assert section
    assert "An operation took at most 1.00 requests on average" in section[0]


def check_an_outcome_reason(followed: Followed) -> None:
    """Code, sentence and docs agree."""
    assert followed.touched["An outcome reason"] == {
        "loadtest/contract.py",
        "loadtest/load/client.py",
        "docs/record.md",
    }


def check_an_operation(followed: Followed) -> None:
    """It is planned, run, recorded, judged and reported like the others, and its capacity is searched for."""
    own = {"loadtest/contract.py", "loadtest/load/users.py", "docs/scenarios.md"}
    assert followed.touched["An operation"] == {*own, "scenarios/submissions.toml"}
    (directory,) = followed.copy.folder.glob("reports/*-submissions-*")
    metrics = msgspec.json.decode((directory / "metrics.json").read_bytes())
    stages = metrics["operations"]["submission"]["stages"]
    assert stages["within"]["operations"]["ok"] == 20
    assert stages["above"]["operations"]["throttled"] > 0
    expected = followed.printed[".venv/bin/loadtest capacity submissions --plan"]
    assert re.match(r"Expected limits: async_submit at 1,\d{3} submissions a minute\.\n", expected)


def check_a_scenario_key(followed: Followed) -> None:
    """It is read, is in the schema, and changes what is planned and what is sent."""
    assert followed.touched["A scenario key"] == {
        "loadtest/scenario/traffic.py",
        "docs/scenarios.md",
        "scenarios/patient.toml",
    }
    schema = msgspec.json.decode((followed.copy.folder / "scenarios" / "scenario.schema.json").read_bytes())
    assert schema["$defs"]["Retry"]["properties"]["margin"]["default"] == "0s"
    (directory,) = followed.copy.folder.glob("reports/*-patient-*")
    metrics = msgspec.json.decode((directory / "metrics.json").read_bytes())
    (judged,) = (one for one in metrics["thresholds"] if not one["implicit"])
    assert judged["judgement"] == "pass"


def check_a_limiter(followed: Followed) -> None:
    """It is planned with, has every property of a limiter, and where it is in force 429s and a probe tell its name."""
    rooms = ("limiters", "algorithms", "loads", "replays")
    assert followed.touched["A limiter"] == {*(f"loadtest/limits/{each}.py" for each in rooms), "docs/rate-limits.md"}
    assert any("a sliding window of ten buckets" in " ".join(text.split()) for text in followed.printed.values())
    named = """
import sys; sys.path[:0] = ["tests/limits", "."]
from test_inference import LimiterSpec, found_in, is_named
from tests.limits.probing.simulation import one_limiter, probed
from loadtest.units import Limit
truth, limit = LimiterSpec("sliding-buckets"), Limit(100, 60.0)
print(is_named(truth, found_in(truth, "steps")))
for seed in range(3):
    found = probed(one_limiter(truth, limit), limit, seed)
    print(found.why or "named", *(model.algorithm for model in found.standing))
"""
    printed = followed.copy.run(shlex.join([".venv/bin/python", "-c", named])).splitlines()
    assert printed == ["True", *["named sliding-buckets"] * 3]


def check_code(followed: Followed) -> None:
    """It passes the linter and the formatter."""
    code = {path for touched in followed.touched.values() for path in touched if path.endswith(".py")}
    followed.copy.run(shlex.join([".venv/bin/ruff", "check", "--no-cache", *code]))
    followed.copy.run(shlex.join([".venv/bin/ruff", "format", "--check", "--no-cache", *code]))


CHECKS = (
    check_a_verb,
    check_a_metric,
    check_a_plot,
    check_an_outcome_reason,
    check_an_operation,
    check_a_scenario_key,
    check_a_limiter,
    check_code,
)


@pytest.mark.heavy
@pytest.mark.timeout(1800)  # some forty commands
def test_what_recipes_promise_is_so(followed: Followed) -> None:
    """One copy, and one test: following them all takes a quarter of a minute."""
    for check in CHECKS:
        check(followed)


def test_every_recipe_is_followed() -> None:
    """Each has a check here, named after it."""
    assert {f"check_{name.lower().replace(' ', '_')}" for name in RECIPES} <= {check.__name__ for check in CHECKS}
