"""``loadtest plan``: its table, its JSON, its refusals, and that what it counts is what is then offered."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugins.records import read_table

from loadtest.cli.plan import show_plan
from loadtest.plan.summary import Plan
from loadtest.record import run_directory

Verb = Callable[..., Any]
ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "scenarios").glob("*.toml"))
ALL_FORMS = """
title = "Every form of stage, and every operation"
seed = 5
warmup = "300ms"
drain = "2s"
[traffic.steps]
operation = "sync_run"
workflow = "say-hello"
stages = [
  { name = "climb", from = "10/s", to = "30/s", step = "10/s", duration = "300ms" },
  { name = "burst", burst = 17, duration = "500ms" },
]
[traffic.random]
operation = "async_run"
workflow = "echo"
arrivals = "poisson"
polling = { interval = "100ms", give_up = "1s" }
stages = [{ name = "ramp", rate = "20/s", ramp_to = "60/s", duration = "1500ms" }]
[traffic.asked]
operation = "retrieval"
workflow = "echo"
retry = { policy = "exponential", initial = "100ms", max = "1s" }
stages = [{ name = "over", rate = "2x limit", duration = "1s" }]
[target]
keys = 2
enforce = { sync_run = "1000/1s", async_submit = "1000/1s", retrieval = "20/1s" }
"""


def test_what_is_planned_is_what_is_offered(loadtest: Verb, tmp_path: Path) -> None:
    """Operations by entry and stage in a plan are exactly those of the record, for every form of stage."""
    path = tmp_path / "all.toml"
    path.write_text(ALL_FORMS)
    planned = json.loads(loadtest("plan", str(path), "--json").out)
    loadtest("run", str(path), "--output-dir", str(tmp_path / "out"))
    run = run_directory.find_run(str(tmp_path / "out" / "latest"))
    rows = read_table(run).select(["row", "traffic", "stage"]).to_pylist()
    offered = Counter((row["traffic"], row["stage"]) for row in rows if row["row"] == "operation")
    assert {(row["traffic"], row["stage"]): row["operations"] for row in planned["stages"]} == offered
    assert planned["hash"] == run_directory.load(run).scenario.hash
    assert planned["operations"] == sum(offered.values())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_scenario_has_a_plan_that_fits(
    loadtest: Verb, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No line is wider than 100 columns, every entry and every used limit has a row, exit code 0."""
    # One phase of the windows instead of all saves time.
    said = loadtest("plan", str(path), "--start", "12:00:00", "--json")
    assert said.code == 0, said.err
    planned = msgspec.json.decode(said.out, type=Plan)
    show_plan(planned, str)
    shown = capfd.readouterr().out
    assert max(map(len, shown.splitlines())) <= 100
    assert "\x1b" not in shown
    for row in planned.stages:
        assert row.traffic in shown
        assert f"{row.operations:,}" in shown
    assert {row.limit for row in planned.limit_use} <= set(shown.split())


def test_a_warning_does_not_fail_a_plan(loadtest: Verb) -> None:
    """A plan that contradicts itself is a plan: the warning names the key, and the exit code is 0."""
    said = loadtest("plan", str(ROOT / "scenarios" / "tour.toml"), "--start", "12:00:00")
    assert said.code == 0
    assert "2 warnings:\n- traffic.jobs.stages.above: " in said.out
    assert "- traffic.jobs.polling.interval: jobs are polled every 2.00\u00a0s" in said.out


def test_options_change_the_plan(loadtest: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    """--set, --seed, --keys, --start, --job-duration and the price are heeded; a host has the documented limits."""
    smoke = str(ROOT / "scenarios" / "smoke.toml")

    def planned(*options: str, start: tuple[str, ...] = ("--start", "12:00:00")) -> Any:
        return json.loads(loadtest("plan", smoke, "--json", *start, *options).out)

    plain = planned()
    assert planned(start=())["phases"] > 1
    assert plain["limits"]["sync_run"] == "20/1s"
    assert planned("--seed", "9")["seed"] == 9
    assert planned("--set", "traffic.greetings.stages.within.rate=1/s")["operations"] == plain["operations"] - 60
    more = planned("--keys", "3")
    assert more["keys"] == 3
    assert more["operations"] == plain["operations"] * 3
    at = planned(start=("--start", "23:59:59.5"))
    assert (at["phases"], at["start"]) == (1, 86399.5)
    assert planned("--job-duration", "1s")["requests"]["mean"] > plain["requests"]["mean"]
    priced = planned("--price-per-execution", "2")
    assert priced["cost"]["mean"] == 2 * priced["executions"]["mean"]
    monkeypatch.setenv("WORKFLOW_API_KEYS", "a-key,another")
    hosted = planned("--host", "http://192.0.2.1")
    assert (hosted["limits"]["sync_run"], hosted["keys"]) == ("100/60s", 2)
    assert "a-key" not in json.dumps(hosted)


def test_a_target_brings_its_limits_and_its_price(loadtest: Verb, tmp_path: Path) -> None:
    """--target takes limits and price from targets.toml, and looks nothing up; so does --host of its server."""
    (tmp_path / "targets.toml").write_text(
        '[far]\nurl = "https://no-such-host.invalid"\nenvironment = "test"\nowner = "me"\n'
        'limits = { sync_run = "7/1s" }\nprice_per_execution = 0.25\n'
    )
    smoke = str(ROOT / "scenarios" / "smoke.toml")
    planned = json.loads(loadtest("plan", smoke, "--target", "far", "--json").out)
    assert planned["limits"] == {"sync_run": "7/1s", "async_submit": "1000/60s", "retrieval": "500/60s"}
    assert planned["price_per_execution"] == 0.25
    assert json.loads(loadtest("plan", smoke, "--host", "https://no-such-host.invalid/", "--json").out) == planned
    # A burst needs the entry's window of 1 s after it, and not the documented minute.
    burst, short = str(ROOT / "scenarios" / "burst.toml"), ("--duration", "15s")
    assert loadtest("plan", burst, "--host", "https://no-such-host.invalid", *short).code == 0
    assert loadtest("plan", burst, "--host", "https://another-host.invalid", *short).code == 2
    said = loadtest("plan", smoke, "--target", "near")
    assert said.code == 2
    assert "there is no target 'near'; known here: far" in said.err


def test_a_plan_finds_the_rates_that_a_request_budget_allows(loadtest: Verb, tmp_path: Path) -> None:
    """The multiplier that the warning names fits, and a tenth more does not; the host is not resolved."""
    (file := tmp_path / "targets.toml").write_text(
        '[mine]\nurl = "http://mine.invalid"\nenvironment = "test"\nowner = "me"\nmax_share = "20%"\n'
    )
    entry = ("--target", "mine", "--targets", str(file), "--keys", "1", "--start", "12:00:00", "--json")

    def warned(*options: str) -> list[Any]:
        warnings = json.loads(loadtest("plan", "smoke", *entry, *options).out)["warnings"]
        return [each for each in warnings if each["kind"] == "budget"]

    (warning,) = warned()
    assert "max_share allows 20 %" in warning["message"]
    multiplier = float(re.search(r"--rate-multiplier ([\d.]+)", warning["remedy"])[1])
    assert warned("--rate-multiplier", str(multiplier)) == []
    assert warned("--rate-multiplier", str(multiplier * 1.1))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("no-such",), "there is no scenario"),
        ((str(ROOT / "scenarios" / "smoke.toml"), "--start", "25:00:00"), "is not a time of day"),
        ((str(ROOT / "scenarios" / "smoke.toml"), "--job-duration", "5"), "is not a duration"),
        ((str(ROOT / "scenarios" / "smoke.toml"), "--set", "traffic.greetings.timeot=5s"), "did you mean 'timeout'"),
        ((str(ROOT / "scenarios" / "smoke.toml"), "--host", "http://h", "--target", "t"), "exclude each other"),
    ],
)
def test_bad_input_is_refused(loadtest: Verb, arguments: tuple[str, ...], sentence: str) -> None:
    """Exit code 2 and a sentence."""
    said = loadtest("plan", *arguments)
    assert said.code == 2
    assert sentence in said.err


def test_too_few_keys_for_the_groups_are_refused(loadtest: Verb, tmp_path: Path) -> None:
    """Groups need their keys: a plan with fewer would be of another run."""
    path = tmp_path / "groups.toml"
    path.write_text(
        'title = "t"\nkey_groups = { a = 2, b = 1 }\n[traffic.t]\noperation = "sync_run"\nworkflow = "echo"\n'
        'keys = "b"\nstages = [{ name = "s", rate = "1/s", duration = "2s" }]\n'
    )
    assert loadtest("plan", str(path)).code == 0
    said = loadtest("plan", str(path), "--keys", "2")
    assert said.code == 2
    assert "key_groups need 3 keys" in said.err
