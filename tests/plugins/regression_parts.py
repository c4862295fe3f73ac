"""Runs with chosen values, for tests of comparisons."""

import math
from collections.abc import Iterable, Mapping

import msgspec

from loadtest.compare.measurements import (
    NATURES,
    ControlMeasurement,
    GeneratorIdentity,
    Key,
    Measurement,
    Metric,
    RunMeasurements,
    TargetIdentity,
)
from loadtest.stats.shares import share_score

TARGET = TargetIdentity(host="https://flow.example", endpoint="1f2e3d4c", limits="fixed window", faults=(), keys=1)
GENERATOR = GeneratorIdentity(os="Linux", cpu="some processor", cores="4", workers=1)
N = 400


def key(metric: Metric, traffic: str = "greetings", stage: str = "steady") -> Key:
    return Key(traffic, stage, metric)


def measurement(of: Key, value: float, **fields: object) -> Measurement:
    """Return a value with its score. For a 429 rate, ``expected`` (0) is the expected rate."""
    n = int(fields.pop("n", N))  # type: ignore[call-overload]
    if of.metric == Metric.THROTTLED_RATE:
        expected = float(fields.setdefault("expected", 0.0))  # type: ignore[arg-type]
        score = share_score((value + expected) * n, n) - share_score(expected * n, n)
    elif NATURES[of.metric].scale == "logit":
        score = share_score(value * n, n)
    else:
        score = math.log(value)
    return Measurement(
        traffic=of.traffic,
        stage=of.stage,
        metric=of.metric,
        value=value,
        score=score,
        n=n,
        **fields,  # type: ignore[arg-type]
    )


def run(values: Mapping[Key, float] | Iterable[Measurement], number: int = 0, **fields: object) -> RunMeasurements:
    """Return a valid run with these values. ``fields`` replace other fields."""
    made = (
        tuple(measurement(of, value) for of, value in values.items()) if isinstance(values, Mapping) else tuple(values)
    )
    plain = RunMeasurements(
        run=f"run-{number:03}",
        scenario="nightly",
        scenario_hash="abc",
        started=f"2026-{1 + number // 28:02}-{1 + number % 28:02}T02:00:00Z",
        commit="",
        target_version="",
        embedded=False,
        target=TARGET,
        generator=GENERATOR,
        valid=True,
        verdict="pass",
        sentence="Pass.",
        controls=(),
        measurements=made,
    )
    return msgspec.structs.replace(plain, **fields)


def controls(cpu: float = 10.0, lag: float = 0.4) -> tuple[ControlMeasurement, ...]:
    return ControlMeasurement(name="CPU loop", value_ms=cpu), ControlMeasurement(name="dispatch lag p99", value_ms=lag)


# Differences between 7 runs of a stable service in per cent. They are fixed, so that no test depends on a draw.
JITTER = (0.4, -0.9, 0.2, 1.1, -0.6, 0.7, -0.8)


def jittered(values: Mapping[Key, float], count: int = 7, percent: float = 1.0) -> list[RunMeasurements]:
    """Return runs whose times and rates differ a little, in another order for each metric. Shares stay as given."""
    runs = []
    for number in range(count):
        moved = {}
        for place, (of, value) in enumerate(values.items()):
            by = percent * JITTER[(number + 3 * place) % len(JITTER)] / 100
            moved[of] = value * math.exp(by) if NATURES[of.metric].scale == "log" else value
        runs.append(run(moved, number))
    return runs


def plain(text: str) -> str:
    """Return the text with non-breaking spaces replaced."""
    return text.replace("\u00a0", " ")
