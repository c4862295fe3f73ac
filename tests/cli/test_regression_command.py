"""``loadtest regression``: checks against a history, decisions about runs, and the audit; one chain of real runs."""

import json
import math
import shlex
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugins.history_parts import made_line, made_run, recorded
from plugins.processes import Fixture
from plugins.served import NO_LIMITS
from plugins.verbs import until_valid

from loadtest.analysis.measurements import generator_identity, target_identity
from loadtest.cli import main
from loadtest.compare import history, history_file
from loadtest.compare.measurements import Measurement, Metric, RunMeasurements
from loadtest.compare.results import RunComparison
from loadtest.errors import ExitCode
from loadtest.prepare import prepare_run
from loadtest.record.run_directory import LATEST
from loadtest.report.regression import build
from loadtest.runs import regression as checks
from loadtest.runs.run import MadeRun
from loadtest.scenario import load_scenario, scenario_hash
from loadtest.targets import NamedEntry

SLEEPY = '''
"""A workflow that is as fast as a file says."""
import time
from pathlib import Path

def nap() -> dict[str, object]:
    """Sleep."""
    time.sleep(float(Path(__file__).with_name("seconds").read_text()))
    return {}
'''
SCENARIO = """
title = "Is it as fast as it was?"
seed = 1
drain = "3s"
[traffic.naps]
operation = "sync_run"
workflow = "nap"
stages = [{ name = "steady", rate = "40/s", duration = "1s" }]
"""


def earlier_nights(scenario: Path, url: str, folder: Path) -> list[history.RunLine]:
    """Six nights with naps of about 50 ms, by the same generator against the same target."""
    directory, info = prepare_run(
        load_scenario(scenario), url=url, chosen=NamedEntry(), keys=1, command=[], output_dir=folder
    )
    shutil.rmtree(directory)
    lines = []
    for number, value in enumerate((48.0, 50.0, 52.0, 49.0, 51.0, 50.0)):
        line = made_line(number)
        one = Measurement(
            traffic="naps", stage="steady", metric=Metric.EXECUTION_TIME_P50, value=value, score=math.log(value), n=40
        )
        run = msgspec.structs.replace(
            line.run,
            scenario="naps",
            scenario_hash=info.scenario.hash,
            target=target_identity(info),
            generator=generator_identity(info),
            measurements=(one,),
            controls=(),
        )
        lines.append(msgspec.structs.replace(line, run=run))
    return lines


@pytest.mark.heavy
@pytest.mark.timeout(600)  # several runs, each again where the cores were taken
@pytest.mark.judged
def test_a_slower_service_is_found_and_may_be_accepted(loadtest, serve, tmp_path, monkeypatch):
    """Beside six nights a service that takes four times as long is suspected, run again, and confirmed: exit 4.

    Both runs are in the history and wait, and once accepted they are what later runs are compared with.
    """
    (tmp_path / "sleepy.py").write_text(SLEEPY)
    (tmp_path / "seconds").write_text("0.2")
    (scenario := tmp_path / "naps.toml").write_text(SCENARIO)
    secrets = {"WORKFLOW_API_KEYS": "k3y-0451", "WORKFLOW_ENDPOINT": "naps"}
    url = serve("--workflows", str(tmp_path / "sleepy.py"), *NO_LIMITS, **secrets).url
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    place = tmp_path / "baselines"
    history_file.append(place / "naps.jsonl", *earlier_nights(scenario, url, tmp_path / "reports"))

    check = ("regression", "check", "naps.toml", "--host", url, "--no-preflight", "--no-plots", "--history", str(place))
    slower = until_valid(lambda: loadtest(*check, "--target-version", "2.0"))
    assert slower.code == ExitCode.REGRESSED, slower.out + slower.err
    assert "naps: executionTime p50 +" in slower.out
    *_, suspect, rerun = recorded(place).runs
    assert (suspect.line.verdict, suspect.status) == ("inconclusive", "waiting")
    assert (rerun.line.verdict, rerun.status, rerun.line.confirms) == ("regressed", "waiting", suspect.id)
    assert suspect.measurements.target_version == rerun.measurements.target_version == "2.0"
    latest = (tmp_path / "reports" / LATEST).resolve()
    assert latest.name == rerun.id
    comparison = msgspec.json.decode((latest / "comparison.json").read_bytes(), type=RunComparison)
    assert (comparison.word, comparison.confirmed) == ("regressed", True)
    assert comparison.runs[-2:] == (suspect.id, rerun.id)
    found = checks.load_suspects(latest.parent / suspect.id)
    assert {each.key.metric for each in found.suspects} == {Metric.EXECUTION_TIME_P50}
    assert not [path for path in tmp_path.rglob("*.json*") if b"k3y-0451" in path.read_bytes()]

    accepted = loadtest("regression", "accept", LATEST, "--reason", "it naps longer now", "--history", str(place))
    assert accepted.code == 0, accepted.err
    later = msgspec.structs.replace(rerun.measurements, run="a later one", started="2030-01-01T12:00:00+00:00")
    assert [run.run for run in recorded(place).evidence(later)[0]] == [suspect.id, rerun.id]
    (line,) = (line for line in loadtest("runs").out.splitlines() if rerun.id in line)
    assert line.split()[1:3] == ["pass", "regressed"]


@pytest.fixture(name="checked")
def made_checks(loadtest: Fixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fixture:
    """Check runs that were made before: no traffic, no report, no page. Ten nights are known.

    Called with what the runs of a check are, one after the other, each as (factor of greetings' times, exit code of the
    run); and more arguments.
    """
    scenario = tmp_path / "regression.toml"
    scenario.write_text(SCENARIO)
    hashed = scenario_hash(load_scenario(scenario).scenario)
    days = iter(range(100, 200))

    def run(day: int, factor: float = 1.0, *, jobs: float = 1.0, **options: Any) -> RunMeasurements:
        made = made_run(day, {"greetings": factor, "jobs": jobs}, sd=0.01, **options)
        return msgspec.structs.replace(made, scenario_hash=hashed)

    place = tmp_path / "baselines" / "regression.jsonl"
    history_file.append(place, *(history.run_line(run(day), "pass") for day in range(10)))
    confirmed: list[bool] = []

    def check(*arguments: str, runs: list[tuple[float, int]], **options: Any) -> Any:
        queue = list(runs)

        def make(_: Any, given: Any) -> MadeRun:
            factor, code = queue.pop(0)
            made = run(next(days), factor, **options)
            (directory := given.output_dir / made.run).mkdir(parents=True)
            (directory / "measurements.json").write_bytes(msgspec.json.encode(made))
            confirmed.append(given.yes)
            return MadeRun(directory, code)

        monkeypatch.setattr(checks, "make_run", make)
        monkeypatch.setattr(checks, "show_comparison", lambda _, comparison, **__: print(comparison.sentence))
        said = loadtest("regression", *arguments, "--history", str(place.parent))
        assert not queue, "every prepared run was used"
        return said, recorded(place.parent).runs[10:], list(confirmed)

    return check


CHECK = ("check", "regression.toml")


def test_a_run_that_passes_joins_the_history(checked: Fixture) -> None:
    """By itself, and without a rerun."""
    said, (run,), _ = checked(*CHECK, runs=[(1.0, 0)])
    assert said.code == 0, said.err
    assert (run.line.verdict, run.status, run.line.confirms) == ("pass", "accepted", "")


def test_a_gain_that_shows_again_begins_a_baseline_period(checked: Fixture) -> None:
    """The run that showed it first begins the period, and two runs suffice to find that the gain is lost."""
    checked(*CHECK, runs=[(0.7, 0)])
    _, (first, second), _ = checked(*CHECK, runs=[(0.7, 0)])
    assert (first.new_segment, second.new_segment) == (True, False)
    assert first.reason.startswith(f"improved, and again in {second.id}: greetings: response time p50")
    said, runs, _ = checked(*CHECK, runs=[(1.0, 0), (1.0, 0)])
    assert said.code == ExitCode.REGRESSED
    assert runs[-1].line.verdict == "regressed"


@pytest.mark.parametrize(
    ("options", "verdict"),
    [({"host": "https://other.example.com:443"}, "not comparable"), ({"jobs": 1.5}, "inconclusive")],
)
def test_a_gain_of_a_run_that_does_not_pass_begins_no_period(checked: Fixture, options: Any, verdict: str) -> None:
    """Another target proves nothing about the accepted runs, nor does a gain with a suspected loss."""
    checked(*CHECK, runs=[(0.7, 0)])
    _, (first, second), _ = checked(*CHECK, "--no-rerun", runs=[(0.7, 0)], **options)
    assert second.line.verdict == verdict
    assert not first.new_segment


def test_printed_commands_work_as_they_stand(checked: Fixture, loadtest: Fixture) -> None:
    """With the options that the user gave: confirm, accept after its placeholder was edited, and the check again."""
    folder = Path("else where")

    def steps() -> list[list[str]]:
        directory = max(folder.iterdir(), key=lambda each: each.name)
        made = msgspec.json.decode((directory / "comparison.json").read_bytes(), type=RunComparison)
        commands = [made.command, *(step.command for step in build(made, directory).steps)]
        return [shlex.split(command)[1:] for command in commands if command]

    given = ("--set", 'title="Is it?"', "--seed", "0", "--must-find", "30%", "--output-dir", str(folder))
    said, _, _ = checked(*CHECK, "--no-rerun", *given, runs=[(1.5, 0)])
    assert said.code == ExitCode.INCONCLUSIVE
    again, (_, *confirm) = steps()
    assert tuple(again[again.index("--seed") :][:2]) == ("--seed", "0")
    said, _, _ = checked(*confirm, runs=[(1.5, 0)])
    assert said.code == ExitCode.REGRESSED
    confirmed, slow, compare, accept = steps()
    assert compare[:2] == ["compare", again[2]]
    assert confirmed[confirmed.index("--must-find") + 1] == "30%"
    assert (slow[0], slow[2:]) == ("slow", ["--traffic", "greetings"])
    assert loadtest(*accept).code == ExitCode.USAGE, "its placeholder is no reason"
    assert loadtest(*("a new parser" if word == "…" else word for word in accept)).code == 0
    said, runs, _ = checked(*again[1:], runs=[(1.5, 0)])
    assert (said.code, runs[-1].line.verdict) == (0, "pass")


def test_a_blind_check_ends_with_6_and_its_run_is_evidence(checked: Fixture) -> None:
    said, (run,), _ = checked(*CHECK, "--must-find", "1%", runs=[(1.0, 0)])
    assert (said.code, run.line.verdict, run.status) == (ExitCode.INCONCLUSIVE, "pass", "accepted")
    assert "could not have found +1 %" in said.out
    said, _, _ = checked(*CHECK, "--must-find", "30%", runs=[(1.0, 0)])
    assert said.code == 0
    for wrong in ("much", "0"):
        said, _, _ = checked(*CHECK, "--must-find", wrong, runs=[])
        assert (said.code, "--must-find" in said.err) == (ExitCode.USAGE, True)


def test_a_suspicion_that_is_not_confirmed_is_noise(checked: Fixture) -> None:
    """Both runs join the history: without them it would know less noise than there is. The exit code is 0.

    A production target was confirmed for the first run; the rerun does not ask again.
    """
    said, (suspect, rerun), asked = checked(*CHECK, runs=[(1.5, 0), (1.0, 0)])
    assert said.code == 0, said.err
    assert (suspect.line.verdict, suspect.status) == ("inconclusive", "accepted")
    assert suspect.reason == f"not confirmed by {rerun.id}"
    assert (rerun.line.verdict, rerun.status) == ("pass", "accepted")
    assert asked == [False, True]


def test_two_steps_on_two_machines(checked: Fixture, tmp_path: Path) -> None:
    """Exit 6 with suspects.json; the second job needs that file alone, and records both runs in its own history."""
    said, (suspect,), _ = checked(*CHECK, "--no-rerun", "--set", "drain=3s", runs=[(1.5, 0)])
    assert said.code == ExitCode.INCONCLUSIVE
    file = tmp_path / "reports" / suspect.id / checks.SUSPECTS
    assert f"loadtest regression confirm {file.relative_to(tmp_path)}" in said.out
    path = tmp_path / "baselines" / "regression.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:10]))  # the second job's checkout
    said, (again, rerun), asked = checked("confirm", str(file), runs=[(1.5, 0)])
    assert said.code == ExitCode.REGRESSED, said.err
    assert again == suspect
    assert (rerun.line.verdict, rerun.status, rerun.line.confirms) == ("regressed", "waiting", suspect.id)
    assert asked == [False, False], "the confirming machine needs a confirmation of its own"


def test_only_what_was_suspected_can_be_confirmed(checked: Fixture, tmp_path: Path) -> None:
    """Another scenario, a newer or damaged file, an unknown key in it: one sentence, exit 2, and no run."""
    _, (suspect,), _ = checked(*CHECK, "--no-rerun", runs=[(1.5, 0)])
    file = tmp_path / "reports" / suspect.id / checks.SUSPECTS
    good = json.loads(file.read_text())
    for content, words in (
        ({**good, "schema": 2}, "has schema version 2"),
        ({**good, "more": 1}, "unknown field `more`"),
        ({**good, "history": [{}]}, "is damaged"),
    ):
        file.write_text(json.dumps(content))
        said, _, _ = checked("confirm", str(file), runs=[])
        assert (said.code, words in said.err) == (ExitCode.USAGE, True), said.err
    file.write_text(json.dumps(good))
    (tmp_path / "regression.toml").write_text(SCENARIO.replace("40/s", "50/s"))
    said, runs, _ = checked("confirm", str(file), runs=[])
    assert said.code == ExitCode.USAGE
    assert "is not the suspected scenario" in said.err
    assert [run.id for run in runs] == [suspect.id]


@pytest.mark.parametrize("code", [ExitCode.INTERRUPTED, ExitCode.ABORTED, ExitCode.BUG])
def test_a_run_that_was_cut_short_is_not_recorded(checked: Fixture, code: ExitCode) -> None:
    """Nor compared. A rerun that is cut short leaves the suspicion recorded as what it is."""
    said, runs, _ = checked(*CHECK, runs=[(1.0, code)])
    assert (said.code, runs) == (code, ())
    said, (suspect,), _ = checked(*CHECK, runs=[(1.5, 0), (1.0, code)])
    assert said.code == code
    assert (suspect.line.verdict, suspect.status) == ("inconclusive", "waiting")


@pytest.mark.parametrize(
    ("runs", "options", "code", "own"),
    [
        ([(1.0, ExitCode.FAIL)], [], ExitCode.FAIL, True),
        ([(1.0, ExitCode.INCONCLUSIVE)], [], ExitCode.INCONCLUSIVE, True),
        ([(1.0, ExitCode.INCONCLUSIVE)], ["--fail-on-inconclusive"], ExitCode.FAIL, True),
        ([(1.5, ExitCode.FAIL)], ["--no-rerun"], ExitCode.FAIL, True),
        ([(1.5, 0)], ["--no-rerun", "--fail-on-inconclusive"], ExitCode.FAIL, False),
        ([(1.5, ExitCode.FAIL), (1.5, ExitCode.FAIL)], [], ExitCode.REGRESSED, False),
        ([(1.5, ExitCode.FAIL), (1.0, 0)], [], ExitCode.FAIL, True),
    ],
)
def test_the_exit_code_is_that_of_the_weightier_verdict(checked, runs, options, code, own):
    """It follows the thresholds of the run and its rerun, and the comparison; a run that decides alone is named."""
    said, _, _ = checked(*CHECK, *options, runs=runs)
    assert said.code == code
    assert (f"the exit code is {int(code)} because of the run itself" in said.err) is own


def test_what_cannot_be_compared_is_recorded_as_that(checked: Fixture) -> None:
    """Another target: exit 3, naming the field, until a user accepts the run. An invalid run is never evidence."""
    other = {"host": "https://elsewhere.example.com:443"}
    said, (run,), _ = checked(*CHECK, runs=[(1.0, 0)], **other)
    assert said.code == ExitCode.INVALID
    assert "elsewhere.example.com" in said.out
    assert (run.line.verdict, run.status) == ("not comparable", "waiting")
    assert main(["regression", "accept", run.id, "--reason", "it moved", "--history", "baselines"]) == 0
    said, (_, second), _ = checked(*CHECK, runs=[(1.0, 0)], **other)
    assert (said.code, second.line.verdict) == (0, "learning")
    said, (*_, third), _ = checked(*CHECK, runs=[(1.0, ExitCode.INVALID)], valid=False)
    assert said.code == ExitCode.INVALID
    assert (third.line.verdict, third.status) == ("invalid", "invalid")
    assert main(["regression", "accept", third.id, "--reason", "please", "--history", "baselines"]) == ExitCode.USAGE


def test_a_damaged_history_stops_a_check_before_any_traffic(checked: Fixture, tmp_path: Path) -> None:
    """One sentence with file and line, exit 2. A last line that was cut off is repaired and said."""
    path = tmp_path / "baselines" / "regression.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"verdict"', b'"verdikt"', 1))
    assert main(["regression", *CHECK, "--history", "baselines"]) == ExitCode.USAGE
    path.write_bytes(whole[:-100])
    said, _, _ = checked(*CHECK, runs=[(1.0, 0)])
    assert said.code == 0
    assert "the last line was truncated" in said.err
    assert len(recorded(path.parent).runs) == 10
