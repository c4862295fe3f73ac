"""Artificial runs for tests of histories."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import log
from pathlib import Path

import msgspec
from plugins import regression_parts

from loadtest.compare import history, history_file
from loadtest.compare.history import DecisionLine, History, RecordedVerdict, RunLine, run_line
from loadtest.compare.measurements import (
    ControlMeasurement,
    Measurement,
    Metric,
    RunMeasurements,
    TargetIdentity,
)

BASE_MS = {"greetings": 223.456789, "jobs": 512.3456789}


def moment(day: int) -> str:
    """Return noon of a day in 2025. Day 0 is the first of January."""
    return (datetime(2025, 1, 1, 12, tzinfo=UTC) + timedelta(days=day)).isoformat()


def made_run(
    day: int = 0,
    factors: Mapping[str, float] | None = None,
    *,
    sd: float = 0.0,
    host: str = "https://staging.example.com:443",
    valid: bool = True,
) -> RunMeasurements:
    """Return a run of a day, with p50, p95 and goodput of two traffic entries.

    Args:
        day: the day, which is also the seed of the run's noise.
        factors: factors for the times of entries.
        sd: standard deviation of the noise between runs, on the log scale.
        host: the target's host.
        valid: whether the run is valid.
    """
    draws = random.Random(day)
    measurements = []
    for entry, base in BASE_MS.items():
        for metric, value in (
            (Metric.RESPONSE_TIME_P50, base),
            (Metric.RESPONSE_TIME_P95, 2 * base),
            (Metric.GOODPUT, 100 / base),
        ):
            slower = (factors or {}).get(entry, 1.0) if metric != Metric.GOODPUT else 1.0
            noisy = value * slower * 2.718281828 ** draws.gauss(0, sd)
            one = Measurement(
                traffic=entry, stage="steady", metric=metric, value=noisy, score=log(noisy), n=200, se=0.01234567891
            )
            measurements.append(one)
    return regression_parts.run(
        measurements,
        run=f"{moment(day)[:10].replace('-', '')}T120000Z-regression-{day:06x}",
        scenario="regression",
        scenario_hash="0123456789ab",
        started=moment(day),
        commit="c0ffee" * 6,
        target_version=f"1.{day}",
        target=TargetIdentity(host=host, endpoint="0a1b2c3d", limits="fixed-window", faults=(), keys=1),
        valid=valid,
        verdict="pass" if valid else "invalid",
        sentence="Pass: the run is valid." if valid else "Invalid: dispatch lag.",
        controls=(
            ControlMeasurement(name="dispatch lag p99", value_ms=0.5),
            ControlMeasurement(name="CPU loop", value_ms=0.3, se=0.01),
        ),
    )


def made_line(day: int = 0, verdict: RecordedVerdict = "pass", *, confirms: str = "", **run: object) -> RunLine:
    """Return the history's line for a run of ``made_run``. It is recorded five minutes after the run's start."""
    made = made_run(day, **run)  # type: ignore[arg-type]
    recorded = (datetime.fromisoformat(made.started) + timedelta(minutes=5)).isoformat()
    return run_line(made, verdict, sentence=f"day {day}", confirms=confirms, recorded=recorded)


def recorded(place: Path) -> History:
    """Return the history in a folder's only file."""
    (path,) = place.glob("*.jsonl")
    return history_file.read(path).history


def decision(run: str, day: int, status: str = "accepted", *, new_segment: bool = False) -> DecisionLine:
    """Return a decision that was made at noon of a day."""
    line = history.decision_line(run, status, f"decided on day {day}", new_segment=new_segment)  # type: ignore[arg-type]
    return msgspec.structs.replace(line, recorded=moment(day))


def days(runs: list[RunMeasurements]) -> list[int]:
    """Return the days on which runs started."""
    return [int(run.run[-6:], 16) for run in runs]
