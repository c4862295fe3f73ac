"""``loadtest init``: starter files that work as they stand, and a pasted curl command whose key goes nowhere."""

import contextlib
import io
import json
import shlex
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loadtest.cli._curl import parse_curl
from loadtest.cli.init import scenario_text, targets_text
from loadtest.errors import InputError
from loadtest.program import program
from loadtest.scenario import load_scenario
from loadtest.targets import load_targets

Verb = Callable[..., Any]
KEY = "s3cr3t-key-0451"
RUN = "https://api.example.com/v1/workflows/run"


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def curl(url: str = RUN, body: Any = None, *more: str) -> str:
    data = [] if body is None else ["-d", f"'{json.dumps(body)}'"]
    return " ".join(["curl", f"'{url}'", f"-H 'x-api-key: {KEY}'", *data, *more])


def test_the_starter_is_right_as_it_stands(loadtest: Verb, tmp_path: Path) -> None:
    """Scenario, targets and schema; both validate, and the plan has nothing to warn of."""
    assert loadtest("init").code == 0
    assert set(files(tmp_path)) == {"scenarios/first.toml", "scenarios/scenario.schema.json", "targets.toml"}
    said = loadtest("validate", "first", "targets.toml")
    assert said.out == "scenarios/first.toml: ok, 0 warnings\ntargets.toml: ok, 0 targets\n"


def test_the_example_of_a_target_is_one_when_its_marks_are_removed(tmp_path: Path) -> None:
    """Every key that the comments show exists and has the right form."""
    text = targets_text(None)
    body = text.split("\n\n", 1)[1]
    uncommented = "\n".join(line.removeprefix("# ") for line in body.splitlines())
    path = tmp_path / "targets.toml"
    path.write_text(uncommented)
    (entry,) = load_targets(path).values()
    assert entry.max_share == 0.1
    assert entry.allowed_hours is not None


@pytest.mark.parametrize("there", ["scenarios/first.toml", "targets.toml"])
def test_nothing_is_overwritten(loadtest: Verb, tmp_path: Path, there: str) -> None:
    """One file that exists: exit code 2 with its name, and no other file is written."""
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text("mine")
    said = loadtest("init")
    assert said.code == 2
    assert there in said.err
    assert files(tmp_path) == {there: "mine"}


def test_a_pasted_command_becomes_scenario_and_target(loadtest: Verb, tmp_path: Path) -> None:
    """Operation, workflow, parameters, URL and endpoint are taken over; the key is in no file and no output."""
    body = {"name": "order", "parameters": {"a b": 1, "deep": [1.5, {"é": "x\ny\x7f\"'"}], "on": True}}
    command = curl(
        "https://api.example.com:8443/base/v1/workflows/jobs", None, "-H 'X-WF-Endpoint: ep-1' -H 'x-tea: m'"
    )
    said = loadtest("init", "made", "--from-curl", f"{command} --data-raw {json.dumps(json.dumps(body))}")
    assert said.code == 0, said.err
    made = files(tmp_path / "made")
    assert not [name for name, text in made.items() if KEY in text]
    assert KEY not in said.out + said.err
    assert "export WORKFLOW_API_KEYS" in said.out
    assert "these headers will not be sent: x-tea" in said.out
    (traffic,) = load_scenario(tmp_path / "made/scenarios/first.toml").scenario.traffic.values()
    assert (traffic.operation, traffic.workflow, traffic.parameters) == ("async_run", "order", body["parameters"])
    (entry,) = load_targets(tmp_path / "made/targets.toml").values()
    assert (entry.url, entry.endpoint) == ("https://api.example.com:8443/base", "ep-1")
    assert entry.environment == "production", "by default, each run needs a confirmation"
    assert loadtest("validate", "made/scenarios/first.toml", "made/targets.toml").code == 0


def test_a_command_is_read_from_standard_input(loadtest: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """'-' keeps the key out of arguments; lines that are continued are joined; loopback needs no target."""
    command = f"curl -sS -XPOST http://localhost:8000/v1/workflows/run \\\n  -H'x-api-key: {KEY}' \\\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(command + '  --json \'{"name": "say-hello"}\'\n'))
    said = loadtest("init", "--from-curl", "-")
    assert said.code == 0, said.err
    assert "--host http://localhost:8000" in said.out
    assert load_targets(tmp_path / "targets.toml") == {}
    assert 'workflow = "say-hello"' in files(tmp_path)["scenarios/first.toml"]


def test_a_retrieval_asks_for_the_job_of_the_command(loadtest: Verb, tmp_path: Path) -> None:
    """The job's id goes into a file of ids."""
    said = loadtest("init", "--from-curl", "curl 127.0.0.1:8000/v1/workflows/jobs/job-7")
    assert said.code == 0, said.err
    assert files(tmp_path)["scenarios/first.jobs.txt"] == "job-7\n"
    (traffic,) = load_scenario(tmp_path / "scenarios/first.toml").scenario.traffic.values()
    assert (traffic.operation, traffic.job_ids) == ("retrieval", "first.jobs.txt")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (f"wget {RUN}", "does not begin with curl"),
        ("", "does not begin with curl"),
        (f"curl '{RUN}", "an unclosed quote"),
        ("curl", "no URL"),
        ("curl -H KEY http://127.0.0.1:1/v1/workflows/run", "a -H without a colon"),
        ("curl https://api.example.com/v2/things", "not a request of the API"),
        (curl(RUN, None, "-X DELETE"), "not a request of the API"),
        (curl(RUN, None, "-X POST"), "is not JSON"),
        (curl(RUN, {"parameters": {}}), "does not run a workflow"),
        (curl(RUN, ["name"]), "does not run a workflow"),
        (curl(RUN, {"name": "a", "parameters": {"x": None}}), "null"),
        (curl(RUN, None, '-d \'{"name": "a", "parameters": {"x": NaN}}\''), "is not JSON"),
        (curl(RUN, {"name": "a", "parameters": {"x": 2**70}}), "a scenario cannot contain"),
        (curl(RUN, {"name": "a", "parameters": {"x": "\ud800"}}), "an invalid character"),
        (curl(RUN, {"name": "a", "parameters": {"token": KEY}}), "key is also in"),
        (curl(RUN, {"name": "a"}, "-d '{}'"), "data more than once"),
        (curl(RUN, None, "-d @body.json"), "data from a file"),
        (curl(RUN, {"name": "a"}, "-H 'x-wf-endpoint: a b'"), "cannot be sent in a header"),
        (curl(RUN + "?key=" + KEY, {"name": "a"}), "has a query"),
        (curl(f"https://user:{KEY}@api.example.com/v1/workflows/run"), "contains a password"),
        (f"curl -H x-api-key: {KEY} {RUN}", "more than one URL"),
        (curl(RUN, {"name": "a"}, f"-u me:{KEY}"), "-u, which loadtest does not support"),
        (curl(RUN, {"name": "a"}, f"--oauth2-bearer={KEY}"), "--oauth2-bearer, which loadtest does not support"),
        (curl(RUN, {"name": "a"}, f"--{KEY.upper()}"), "an option, which loadtest does not support"),
        (curl(RUN, {"name": "a"}, "-H"), "ends after -H"),
    ],
)
def test_what_cannot_be_taken_over_is_said_without_the_key(loadtest, tmp_path, command, sentence):
    """Exit code 2, a sentence and a remedy; no file; nothing that could be the key."""
    said = loadtest("init", "--from-curl", command)
    assert said.code == 2
    assert sentence in said.err
    assert KEY.lower() not in (said.out + said.err).lower()
    assert files(tmp_path) == {}


@settings(max_examples=settings.default.max_examples // 4)
@given(
    st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
            max_leaves=12,
        ),
        max_size=4,
    )
)
@example({"": " $'"})
def test_parameters_are_the_same_in_the_scenario_or_refused(parameters: dict[str, Any]) -> None:
    """Whatever JSON can hold is written as TOML that reads back equal, or is refused with a sentence."""
    try:
        asked = parse_curl(f"curl {RUN} -d {shlex.quote(json.dumps({'name': 'a', 'parameters': parameters}))}")
        written = scenario_text(asked)
    except InputError:
        return
    assert tomllib.loads(written)["traffic"]["runs"].get("parameters", {}) == parameters


@settings(max_examples=settings.default.max_examples // 4)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No command ends in anything but a reading or a sentence."""
    with contextlib.suppress(InputError):
        parse_curl(f"curl {text}")


def test_quotes_of_bash_as_browsers_copy_them() -> None:
    """`$'…'` with its escapes is read as bash reads it."""
    body = '$\'{"name": "a", "parameters": {"x": "it\\\'s \\u0021 \\\\n"}}\''
    asked = parse_curl(f"curl {RUN} -d {body}")
    assert asked.parameters == {"x": "it's ! \n"}


def test_a_shipped_scenario_is_copied_with_its_inputs(loadtest: Verb, tmp_path: Path) -> None:
    """As it is shipped, and right as it stands; what follows works in the folder that it was copied into."""
    said = loadtest("init", "mine", "--copy", "backoff")
    assert said.code == 0
    shipped = Path(__file__).parents[2] / "scenarios"
    copied = files(tmp_path / "mine")
    assert set(copied) == {f"scenarios/{name}" for name in ("backoff.toml", "backoff.jsonl", "scenario.schema.json")}
    assert copied["scenarios/backoff.toml"] == (shipped / "backoff.toml").read_text()
    assert [line.split()[1] for line in said.out.splitlines() if line.startswith("next")] == [
        "cd", program(elsewhere=True), program(elsewhere=True),
    ]  # fmt: skip
    assert loadtest("validate", "mine/scenarios/backoff.toml").code == 0
    assert "Did you mean 'backoff'?" in loadtest("init", "--copy", "backof").err
