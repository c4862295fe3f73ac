"""Every refusal of the leash comes before the first request: exit code 2, file, key, both numbers, and what to do."""

import os
import pty
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from plugins import warm
from plugins.leash_parts import write_entry, write_scenario
from plugins.processes import PATIENCE, clean_environment
from plugins.stubs import Stub, pending_forever

from loadtest.cli import main
from loadtest.contract import DOCUMENTED
from loadtest.plan import AssumedLimits, traffic_plans
from loadtest.scenario import find_scenario, load_scenario
from loadtest.targets import minimum_load
from loadtest.units import Limit

NOW = datetime.now(UTC)
HOUR_FROM_NOW = (NOW + timedelta(hours=1)).strftime("%H:%M")
TWO_HOURS_FROM_NOW = (NOW + timedelta(hours=2)).strftime("%H:%M")
MINUTE = 60


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Stub":
    """A server that must not be asked anything, and a working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("WORKFLOW_API_KEYS", "WORKFLOW_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    before = signal.getsignal(signal.SIGTERM)
    stub = Stub(pending_forever)
    yield stub
    stub.close()
    signal.signal(signal.SIGTERM, before)


REFUSED = [
    ("", 60,
     "here.max_share allows 10 % of the async_submit limit, 100 requests per 60 s with 1 key, but up to 301 are"),
    ("limits = { async_submit = '100000/60s' }\nmax_share = '50%'", 60,
     "here.max_share allows 50 % of the retrieval limit, 250 requests per 60 s with 1 key, but up to 302 are"),
    ("max_share = 1\nmax_operations = 9", 2, "targets.toml: here.max_operations is 9, but 10 are planned"),
    ("max_share = 1\nmax_requests = 22", 2, "targets.toml: here.max_requests is 22, but at least 23 are planned"),
    ("max_share = 1\nprice_per_execution = 0.5\nmax_cost = 5", 2,
     "targets.toml: here.max_cost is 5, but the 11 planned executions cost 5.5 at 0.5 each"),
    (f"max_share = 1\nallowed_hours = '{HOUR_FROM_NOW}-{TWO_HOURS_FROM_NOW}'", 2,
     f"targets.toml: here.allowed_hours are {HOUR_FROM_NOW}-{TWO_HOURS_FROM_NOW}, and it is "),
    (f"max_share = 1\nallowed_hours = '{TWO_HOURS_FROM_NOW}-{HOUR_FROM_NOW}'", 2 * 60 * MINUTE,
     "s, but the load may take 7200 s, drain included"),
    ("max_share = 1\nexpires = 2026-01-31", 2, "targets.toml: here.expires was 2026-01-31, and today is "),
]  # fmt: skip
"""Entry, seconds of the scenario, and what is said."""


@pytest.mark.parametrize(("entry", "seconds", "says"), REFUSED, ids=range(len(REFUSED)))  # no time of day in a name
def test_a_run_that_would_leave_the_leash_is_not_begun(watched, capsys, entry, seconds, says):
    """Nothing is sent, and no run directory is left."""
    write_entry(Path(), watched.url, entry)
    write_scenario(Path(), rate="1/s" if seconds > 60 else "5/s", seconds=seconds)
    assert main(["run", "s.toml", "--target", "here", "--yes"]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.strip().splitlines()) == 2, "a sentence, and below it what to do"
    assert watched.asked == []
    assert not Path("reports").exists()


def test_keys_that_share_a_limit_share_its_part(
    watched: Stub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each key has its own part of a limit of its own, but a part of a common limit is there only once."""
    monkeypatch.setenv("WORKFLOW_API_KEYS", "k1,k2")
    write_scenario(Path(), seconds=60)
    for scope, allowed in (
        ("key-and-name", "200 requests per 60 s with 2 keys"),
        ("name", "100 requests per 60 s for all keys together"),
    ):
        write_entry(Path(), watched.url, f'limit_scope = "{scope}"')
        assert main(["run", "s.toml", "--target", "here", "--yes"]) == 2
        assert f"here.max_share allows 10 % of the async_submit limit, {allowed}, but up to" in capsys.readouterr().err
    assert watched.asked == []


def test_production_is_not_loaded_without_a_terminal_or_yes(watched: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither by run, nor by ui, nor by preflight."""
    write_entry(Path(), watched.url, environment="production")
    write_scenario(Path())
    for verb in ("run", "ui", "preflight"):
        assert main([verb, "s.toml", "--target", "here", *(["--port", "18089"] if verb == "ui" else [])]) == 2
        assert (
            "targets.toml: here.environment is production, but there is no terminal to confirm '127.0.0.1'"
            in capsys.readouterr().err
        )
    assert watched.asked == []
    assert main(["preflight", "s.toml", "--target", "here", "--yes"]) == 0
    assert len(watched.asked) == 3


@pytest.mark.parametrize(("typed", "code"), [("127.0.0.1", 0), ("127.0.0.2", 2), ("", 2)])
def test_production_is_loaded_once_its_host_was_typed(watched: Stub, typed: str, code: int) -> None:
    """At a terminal."""
    write_entry(Path(), watched.url, environment="production")
    write_scenario(Path())
    ours, theirs = pty.openpty()
    process = warm.start(
        [sys.executable, "-m", "loadtest.cli", "preflight", "s.toml", "--target", "here"],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=clean_environment(),
    )
    os.close(theirs)
    said = b""
    while b"Type its host name to load it: " not in said:
        said += os.read(ours, 1000)
    os.write(ours, typed.encode() + b"\n")
    assert process.wait(PATIENCE) == code
    os.close(ours)
    assert bool(watched.asked) == (code == 0)


def test_planned_sends_are_counted_from_the_exact_schedule(tmp_path: Path) -> None:
    """A burst counts at once, an even schedule at exactly the share passes, and one operation more does not."""
    limits = {"sync_run": Limit(100, 60.0)}

    def peak(stages: str) -> int:
        path = tmp_path / "s.toml"
        path.write_text(f'title = "T"\n[traffic.t]\noperation = "sync_run"\nworkflow = "w"\nstages = [{stages}]\n')
        scenario = load_scenario(find_scenario(str(path))).scenario
        plans = traffic_plans(scenario, AssumedLimits(DOCUMENTED), 1)
        return minimum_load(scenario, plans).peak("sync_run", limits["sync_run"])

    assert peak('{ name = "a", rate = "10/min", duration = "10m" }') == 10
    assert peak('{ name = "a", rate = "11/min", duration = "10m" }') == 11
    assert peak('{ name = "a", burst = 25, duration = "10s" }') == 25
    assert peak('{ name = "a", burst = 25, duration = "61s" }, { name = "b", burst = 20, duration = "61s" }') == 25
    assert peak('{ name = "a", burst = 25, duration = "30s" }, { name = "b", burst = 20, duration = "30s" }') == 45
