"""Recorded arrivals: a stage's times and keys come from a file, in every part of a plan and a run."""

from pathlib import Path

import pytest

from loadtest.assumed_limits import AssumedLimits
from loadtest.contract import DOCUMENTED
from loadtest.errors import InputError
from loadtest.plan.stages import schedules, traffic_plans
from loadtest.scenario import LoadedScenario, at_rate, load_scenario, scaled

TEXT = """\
title = "Yesterday's peak"
{more}
[traffic.peak]
operation = "sync_run"
workflow = "echo"
stages = [{{ name = "recorded", recorded = "peak.txt", duration = "{duration}"{stage} }}]
[target]
keys = 3
"""
LINES = "0.5 2\n0.25 0\n7 2\n"


def loaded(
    folder: Path,
    lines: str = LINES,
    *,
    more: str = "",
    stage: str = "",
    duration: str = "8s",
    overrides: tuple[str, ...] = (),
) -> LoadedScenario:
    """The scenario with a file of recorded arrivals."""
    (folder / "peak.txt").write_text(lines)
    (folder / "again.toml").write_text(TEXT.format(more=more, stage=stage, duration=duration))
    return load_scenario(folder / "again.toml", overrides)


def test_arrivals_come_at_the_recorded_times_with_the_recorded_keys(tmp_path: Path) -> None:
    """In order of time, twice as fast with speed = 2.0, and shared by workers without a gap."""
    scenario = loaded(tmp_path, stage=", speed = 2.0").scenario
    plans = traffic_plans(scenario, AssumedLimits(DOCUMENTED), 3)
    (schedule,) = schedules(plans, 1, scenario.traffic)
    arrivals = sorted(arrival for worker in (0, 1) for arrival in schedule.share(worker, 2))
    assert [arrival.intended_ns for arrival in arrivals] == [125_000_000, 250_000_000, 3_500_000_000]
    assert [scenario.traffic["peak"].key_number(arrival.number) for arrival in arrivals] == [0, 2, 2]
    assert schedule.duration == 8.0
    assert scenario.traffic["peak"].files == ["peak.txt"]  # its content is in the run's identity


def test_demand_and_pools_come_from_the_offsets(tmp_path: Path) -> None:
    """A peak above the limit is seen though the mean is below it, and the pool is as large as the peak."""
    peak = "".join(f"{100 + at / 100} 0\n" for at in range(101))
    scenario = loaded(tmp_path, peak, duration="3600s").scenario
    plan = traffic_plans(scenario, AssumedLimits(DOCUMENTED), 3)["peak"]
    assert plan.stages[0].over == ["sync_run"]
    assert plan.stages[0].rate == pytest.approx(101 / 3600)
    assert plan.users == 101
    apart = loaded(tmp_path, peak.replace(" 0\n", " 0\n", 1).replace("100.0 0", "100.0 1"), duration="3600s").scenario
    assert traffic_plans(apart, AssumedLimits(DOCUMENTED), 3)["peak"].stages[0].over == []


@pytest.mark.parametrize(
    ("lines", "options", "named"),
    [
        ("1 0\n-1 0\n", {}, "peak.txt:2"),
        ("1\n", {}, "peak.txt:1"),
        ("1 x\n", {}, "peak.txt:1"),
        ("nan 0\n", {}, "peak.txt:1"),
        ("", {}, "0 arrivals"),
        ("8 0\n", {}, "duration above 8s"),
        (LINES, {"more": 'warmup = "1s"'}, "warmup"),
        (LINES, {"overrides": ("rate_multiplier=2.0",)}, "rate_multiplier"),
        (LINES, {"stage": ', rate = "1/s"'}, "give one of"),
    ],
)
def test_what_has_no_meaning_is_refused(tmp_path: Path, lines: str, options: dict[str, str], named: str) -> None:
    """A wrong line is named with its number; recorded times have neither a warm-up nor a rate."""
    with pytest.raises(InputError) as error:
        loaded(tmp_path, lines, **options)  # type: ignore[arg-type] # as parametrised
    assert named in str(error.value)


def test_recorded_times_are_not_scaled(tmp_path: Path) -> None:
    """--duration, capacity and a worker without the file are answered clearly."""
    made = loaded(tmp_path)
    for change in (lambda: scaled(made, 4.0), lambda: at_rate(made, 2.0, 1)):
        with pytest.raises(InputError, match="fixed"):
            change()
    (tmp_path / "peak.txt").unlink()
    with pytest.raises(InputError, match="Every worker needs"):
        load_scenario(tmp_path / "again.toml")
