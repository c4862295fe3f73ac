"""Made runs of a history."""

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
    """Noon of a day of 2025, counted from the first of January."""
    return (datetime(2025, 1, 1, 12, tzinfo=UTC) + timedelta(days=day)).isoformat()


def made_run(
    day: int = 0,
    factors: Mapping[str, float] | None = None,
    *,
    sd: float = 0.0,
    host: str = "https://staging.example.com:443",
    valid: bool = True,
) -> RunMeasurements:
    """A run of that day: p50, p95 and goodput of two traffic entries.

    Args:
        day: also the seed of its noise.
        factors: of the times of an entry.
        sd: of its noise from run to run, on the log scale.
        host: of its target.
        valid: whether it is.
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
    """The line of such a run, recorded five minutes after its start."""
    made = made_run(day, **run)  # type: ignore[arg-type]
    recorded = (datetime.fromisoformat(made.started) + timedelta(minutes=5)).isoformat()
    return run_line(made, verdict, sentence=f"day {day}", confirms=confirms, recorded=recorded)


def recorded(place: Path) -> History:
    """The history of a folder's one file."""
    (path,) = place.glob("*.jsonl")
    return history_file.read(path).history


def decision(run: str, day: int, status: str = "accepted", *, new_segment: bool = False) -> DecisionLine:
    """A decision at noon of a day."""
    line = history.decision_line(run, status, f"decided on day {day}", new_segment=new_segment)  # type: ignore[arg-type]
    return msgspec.structs.replace(line, recorded=moment(day))


def days(runs: list[RunMeasurements]) -> list[int]:
    """Return the days of runs."""
    return [int(run.run[-6:], 16) for run in runs]
