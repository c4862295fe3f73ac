"""A run that is about to be made: what its run.json says, and what is refused before there is one."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from loadtest.contract import DOCUMENTED
from loadtest.errors import InputError
from loadtest.limits import LimiterSpec
from loadtest.plan import AssumedLimits
from loadtest.prepare import COMMIT_VARIABLES, differing_limits, prepare_run
from loadtest.record import run_directory
from loadtest.scenario import load_scenario, scenario_hash
from loadtest.targets import NamedEntry, TargetEntry
from loadtest.units import Limit

MINE = """
title = "Mine"
seed = 5
[traffic.a]
operation = "sync_run"
workflow = "w"
stages = [{ name = "s", rate = "50% of limit", duration = "9s" }]
[target]
enforce = { sync_run = "20/1s" }
keys = 3
"""


@pytest.fixture
def prepare(tmp_path: Path) -> Any:
    """Prepare a run of a scenario, given as text and overrides."""

    def make(*overrides: str, keys: int = 1, embedded: bool = True, text: str = MINE, target_version: str = "") -> Any:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        loaded = load_scenario(path, overrides)
        return prepare_run(
            loaded,
            url="http://127.0.0.1:1",
            chosen=None if embedded else NamedEntry(),
            keys=keys,
            command=["loadtest", "run", "mine"],
            output_dir=tmp_path / "runs",
            target_version=target_version,
        )

    return make


def test_run_json_says_what_will_be_done(prepare: Any, tmp_path: Path) -> None:
    """Scenario and its hash, seed, limits, rates, versions and machine; it can be read again, and `latest` is it."""
    directory, info = prepare("warmup=1s", keys=3)
    scenario = load_scenario(tmp_path / "mine.toml", ["warmup=1s"]).scenario
    assert run_directory.load(directory) == info
    assert (tmp_path / "runs" / "latest").resolve() == directory.resolve()
    assert (info.id, info.scenario.name, info.scenario.title) == (directory.name, "mine", "Mine")
    assert (info.scenario.hash, info.seed, info.keys) == (scenario_hash(scenario), 5, 3)
    assert info.scenario.effective["warmup"] == "1s"
    assert info.target.limiter == "fixed-window"
    assert (info.target.limits["sync_run"].count, info.target.limits["sync_run"].window) == (20, 1.0)
    assert [(stage.name, stage.rate) for stage in info.traffic["a"].stages] == [("warmup", 30.0), ("s", 30.0)]
    assert {"python", "locust", "workflow-loadtest"} <= set(info.versions)
    assert {"os", "cpu", "cores"} <= set(info.machine)
    assert (info.end, info.complete, info.epoch_unix_ns) == ("running", False, None)


def test_run_json_says_how_limits_are_counted(prepare: Any) -> None:
    """All that the embedded target is told of them can be assumed again; of another target nothing of it is."""
    told = ("algorithm='gcra'", "burst=4", "count_rejected=true", "limit_scope='key'", "enforce.all='30/2s'")
    overrides = [f"target.{each}" for each in (*told, "draws='valid'")]
    directory, _ = prepare(*overrides, keys=3)
    target = run_directory.load(directory).target
    assumed = AssumedLimits.recorded(target)
    assert assumed.spec == LimiterSpec("gcra", 4, True, "key")
    assert (assumed.limit_all, assumed.limits["sync_run"], assumed.draws) == (Limit(30, 2.0), Limit(20, 1.0), "valid")
    other = prepare(*overrides, keys=3, embedded=False)[1].target
    assert AssumedLimits.recorded(other) == AssumedLimits(DOCUMENTED)


def test_another_target_has_the_documented_limits(prepare: Any) -> None:
    """[target] does not hold for it."""
    _, info = prepare(embedded=False)
    assert info.target.limits["sync_run"].count == 100
    assert info.traffic["a"].stages[0].rate == pytest.approx(50 / 60)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["traffic.a.stages.s.rate=0/s"], "every rate is zero"),
        (["traffic.a.stages.s.rate=0% of limit", "warmup=5s"], "every rate is zero"),
        (["traffic.a.stages.s.rate=1000x limit", "target.enforce.sync_run=1000/1s"], "amounts to 1,000,000/s"),
        (["rate_multiplier=1000", "traffic.a.stages.s.rate=101/s"], "traffic.a.stages.s amounts to 101,000/s"),
        (["key_groups.left=2"], "key_groups need 2 keys, but there are 1"),
    ],
)
def test_what_cannot_be_offered_is_refused(prepare: Any, tmp_path: Path, overrides: list[str], words: str) -> None:
    """Before there is a directory of the run: exit code 2, and the file is named."""
    with pytest.raises(InputError, match=words) as caught:
        prepare(*overrides)
    assert "mine.toml" in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_target_of_others_needs_keys_for_the_groups_only(prepare: Any) -> None:
    """How many keys the embedded target would make says nothing about them."""
    _, info = prepare("key_groups.left=1", embedded=False, keys=1)
    assert info.keys == 1


def test_the_machine_is_described_by_what_does_not_change(prepare: Any) -> None:
    """Two runs on one machine agree in every fact about it."""
    assert prepare()[1].machine == prepare()[1].machine


def test_a_run_says_which_commit_and_version_it_is_of(prepare, tmp_path, monkeypatch):
    """The CI system's word counts first, then the checked-out commit of the working directory; else it is unknown."""
    for name in COMMIT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert prepare()[1].commit == ""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    said = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert prepare()[1].commit == said
    monkeypatch.setenv("CI_COMMIT_SHA", "c0ffee")
    _, info = prepare(target_version="2.31.0")
    assert (info.commit, info.target_version) == ("c0ffee", "2.31.0")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI_COMMIT_SHA")
    assert prepare()[1].commit == ""


def test_endpoints_are_told_apart_and_not_given_away(prepare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight hex digits of each; the embedded target's is no choice of anyone's."""
    found = []
    for endpoint in ("team-a-production", "team-b-production"):
        monkeypatch.setenv("WORKFLOW_ENDPOINT", endpoint)
        directory, info = prepare(embedded=False)
        found.append(info.target.endpoint_digest)
        assert endpoint not in (directory / "run.json").read_text()
        assert prepare()[1].target.endpoint_digest == ""
    assert [len(digest) for digest in found] == [8, 8]
    assert found[0] != found[1]


def test_a_running_target_may_have_other_limits_than_the_scenarios(tmp_path: Path) -> None:
    """The question names both; it is not asked where the entry states the limit, or where nothing differs."""
    (path := tmp_path / "mine.toml").write_text(MINE)
    loaded = load_scenario(path)
    asked = differing_limits(loaded, NamedEntry())
    assert all(word in asked for word in ("sync_run 100/60s", "target.enforce (20/1s)", "`loadtest probe`"))
    assert "`loadtest probe --target here`" in differing_limits(loaded, NamedEntry("here"))
    entry = {"url": "http://127.0.0.1:1", "environment": "test", "owner": "me", "limits": {"sync_run": "9/1s"}}
    assert differing_limits(loaded, NamedEntry("here", TargetEntry.model_validate(entry))) == ""
    assert differing_limits(load_scenario(path, ['target.enforce.sync_run="100/60s"']), NamedEntry()) == ""
