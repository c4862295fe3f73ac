"""``loadtest validate``, the JSON schema that it prints, and ``loadtest scenarios``."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from loadtest.program import typed
from loadtest.scenario import load_scenario
from loadtest.scenario.parse import scenario_schema, schema_text

Verb = Callable[..., Any]
ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "scenarios").glob("*.toml"))
STAGES = """
title = "Stages"
warmup = "5s"
[traffic.a]
operation = "sync_run"
workflow = "echo"
stages = [
  { name = "ramp", rate = "1/s", ramp_to = "2/s", duration = "10s" },
  { name = "climb", from = "1/s", to = "3/s", step = "1/s", duration = "20s" },
  { name = "burst", burst = 5, duration = "30s" },
]
"""


def test_all_mistakes_of_all_files_are_said(loadtest: Verb, tmp_path: Path) -> None:
    """Two broken files and a valid file: each mistake with its file and key, the valid file ok, exit code 2."""
    good, bad, worse = (tmp_path / f"{name}.toml" for name in ("good", "bad", "worse"))
    good.write_text(STAGES)
    bad.write_text(STAGES.replace("workflow", "workflo").replace('rate = "1/s"', 'rate = "fast"'))
    worse.write_text("title = ")
    said = loadtest("validate", str(good), str(bad), str(worse))
    assert said.code == 2
    assert said.out == f"{good}: ok, 0 warnings\n"
    assert f"{bad}: traffic.a.workflo: unknown key; did you mean 'workflow'?" in said.err
    assert "'fast' is not a rate" in said.err
    assert f"{worse} is not TOML" in said.err


def test_warnings_are_counted(loadtest: Verb, tmp_path: Path) -> None:
    """A scenario that contradicts itself is ok, with a pointer to its plan."""
    good, odd = tmp_path / "good.toml", tmp_path / "odd.toml"
    good.write_text(STAGES)
    odd.write_text(STAGES.replace('"echo"', '"echo"\nretry = { policy = "exponential", initial = "1s", max = "2s" }'))
    said = loadtest("validate", str(good), str(odd))
    assert said.code == 0, said.err
    assert said.out == f"{good}: ok, 0 warnings\n{odd}: ok, 1 warning (see `{typed(f'loadtest plan {odd}')}`)\n"


def test_targets_are_checked_too(loadtest: Verb, tmp_path: Path) -> None:
    """A file by the name of targets.toml is read as one."""
    path = tmp_path / "targets.toml"
    path.write_text('[a]\nurl = "https://a.example"\nenvironment = "staging"\nowner = "me"\n')
    assert loadtest("validate", "targets.toml").out == "targets.toml: ok, 1 target\n"
    path.write_text('[a]\nurl = "https://a.example"\nenvironment = "stagin"\nowner = "me"\n')
    said = loadtest("validate", "targets.toml")
    assert said.code == 2
    assert "did you mean 'staging'" in said.err


def test_no_file_is_a_mistake(loadtest: Verb) -> None:
    """Without anything to check it fails."""
    assert loadtest("validate").code == 2


def test_the_schema_that_is_checked_in_is_the_one_of_the_code(loadtest: Verb) -> None:
    """`loadtest validate --schema` prints what scenarios/scenario.schema.json holds; write it anew where it differs."""
    assert loadtest("validate", "--schema").out == schema_text()
    assert (ROOT / "scenarios" / "scenario.schema.json").read_text(encoding="utf-8") == schema_text()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_scenarios_name_the_schema_and_meet_it(path: Path) -> None:
    """The first line is what editors look for, and the schema has nothing against any scenario that is right."""
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[0] == "#:schema scenario.schema.json"
    jsonschema_rs.validator_for(scenario_schema()).validate(tomllib.loads(text))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("titel", "t"),
        ("warmup", 5),
        ("drain", "5"),
        ("seed", -1),
        ("traffic", {}),
        ("traffic", {"a": {"operation": "sync", "stages": [{"name": "s", "duration": "5s"}]}}),
        ("traffic", {"a": {"operation": "sync_run", "stages": []}}),
        ("traffic", {"a": {"operation": "sync_run", "stages": [{"name": "s", "duration": "5s", "rate": "fast"}]}}),
        ("target", {"enforce": {"sync": "5/s"}}),
        ("threshold", [{"traffic": "a"}]),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(key: str, value: Any) -> None:
    """An editor underlines unknown keys, words and values of the wrong form."""
    schema = jsonschema_rs.validator_for(scenario_schema())
    right = tomllib.loads(STAGES)
    assert schema.is_valid(right)
    assert not schema.is_valid({**right, key: value})


def test_the_schema_speaks_toml_to_people() -> None:
    """No null, which TOML lacks; no generated titles; defaults as they would be written; meanings as descriptions."""
    schema = scenario_schema()
    text = json.dumps(schema)
    assert "null" not in text
    assert '"title": "Max Users"' not in text
    traffic = schema["$defs"]["Traffic"]["properties"]
    assert traffic["timeout"]["default"] == "30s"
    assert traffic["timeout"]["description"] == "Time-out of each request, from its start to its complete answer."
    assert "``" not in text
    assert set(schema["properties"]) >= {"title", "traffic", "threshold", "target", "warmup", "drain"}


def test_scenarios_are_listed_with_their_whole_time(loadtest: Verb, tmp_path: Path) -> None:
    """Warm-up, every step and every wait after a burst count; a broken file is named, exit code 2."""
    (tmp_path / "scenarios").mkdir()
    path = tmp_path / "scenarios" / "forms.toml"
    path.write_text(STAGES)
    said = loadtest("scenarios", "--folder", "scenarios")
    assert (said.code, said.out) == (0, "forms   105 s  Stages\n")
    beside = {line.split()[0] for line in loadtest("scenarios").out.splitlines()}
    assert beside == {"forms", *(path.stem for path in SHIPPED)}
    assert load_scenario(path).scenario.traffic["a"].duration == 100
    (tmp_path / "scenarios" / "broken.toml").write_text("title = 5")
    said = loadtest("scenarios")
    assert said.code == 2
    assert "broken.toml: title" in said.err
    assert "forms" in said.out


NAMES = """
title = "Names"
[traffic.runs]
operation = "sync_run"
workflow = "echo"
inputs = "rows.jsonl"
expect = { result_schema = "result.json" }
user = "mine:Mine"
stages = [{ name = "steady", rate = "1/s", duration = "10s" }]
[traffic.lookups]
operation = "retrieval"
workflow = "echo"
job_ids = "jobs.txt"
stages = [{ name = "steady", rate = "1/s", duration = "10s" }]
"""
MINE = """
import locust
from loadtest.load.users import SyncRunUser
print("imported")
class Mine(SyncRunUser):
    abstract = True
"""


def test_what_a_scenario_names_is_opened_and_imported(loadtest: Verb, tmp_path: Path) -> None:
    """Inputs, schemas, job ids and classes: each mistake, with file and line; another scenario's do not hide them."""
    good, broken = tmp_path / "good.toml", tmp_path / "broken" / "broken.toml"
    broken.parent.mkdir()
    for path in (good, broken):
        path.write_text(NAMES)
        (path.parent / "rows.jsonl").write_text('{"a": 1}\n')
        (path.parent / "result.json").write_text('{"type": "object"}')
        (path.parent / "jobs.txt").write_text("a-job\n")
        (path.parent / "mine.py").write_text(MINE)
    (broken.parent / "rows.jsonl").write_text('{"a": 1}\n[]\n')
    (broken.parent / "result.json").write_text('{"type": "objekt"}')
    (broken.parent / "jobs.txt").unlink()
    (broken.parent / "mine.py").write_text("import locust\n\nclass Mine(locust.User):\n    tasks = [1 / 0]\n")
    said = loadtest("validate", str(broken), str(good))
    assert said.code == 2
    assert said.out.startswith(f"{good}: ok, ")
    assert f"{broken}: traffic.runs.inputs: {broken.parent}/rows.jsonl:2: not an object" in said.err
    assert f"{broken.parent}/result.json is not a JSON schema" in said.err
    assert "cannot read job_ids" in said.err
    assert "ZeroDivisionError: division by zero" in said.err
    assert "Traceback" not in said.err


def test_a_class_that_ends_python_is_no_reason_to_be_silent(loadtest: Verb, tmp_path: Path) -> None:
    """The scenario has a mistake, in a sentence."""
    (tmp_path / "s.toml").write_text(NAMES.replace("inputs =", "# inputs =").replace("expect =", "# expect ="))
    (tmp_path / "jobs.txt").write_text("a-job\n")
    (tmp_path / "mine.py").write_text("raise SystemExit('no licence')")
    said = loadtest("validate", "s.toml")
    assert said.code == 2
    assert said.err == "s.toml: Python ended while it loaded a class or file named there: no licence\n"
