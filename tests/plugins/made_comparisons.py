"""Comparisons for tests of their pages. The real rule compares runs that are drawn from a seeded generator."""

import math
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from loadtest.compare.measurements import (
    ControlMeasurement,
    GeneratorIdentity,
    Measurement,
    Metric,
    RunMeasurements,
    TargetIdentity,
)
from loadtest.compare.paired import compare_pairs
from loadtest.compare.results import RunComparison
from loadtest.compare.rule import judge_history
from loadtest.compare.verdict import suspects
from loadtest.stats.shares import share_score

STAGE = "within"
_REQUESTS = 400
TITLE = "Did the service get slower?"
TARGET = TargetIdentity(host="embedded", endpoint="5f1c", limits="sync_run 100/60 fixed_window", faults=(), keys=1)
OTHER_LIMITS = msgspec.structs.replace(TARGET, limits="sync_run 50/60 fixed_window")


@dataclass(frozen=True)
class Service:
    """The behaviour of one version of a service.

    Attributes:
        execution_ms: median executionTime by traffic entry.
        overhead_ms: median overhead.
        sigma: standard deviation of the logarithm of a single executionTime.
        noise: standard deviation of the logarithm between runs.
        throttled: 429 rate in excess of the expected rate.
    """

    execution_ms: dict[str, float] = field(default_factory=lambda: {"greetings": 96.0, "jobs": 240.0, "noop": 0.2})
    overhead_ms: float = 6.0
    sigma: float = 0.25
    noise: float = 0.02
    throttled: float = 0.0


def a_run(service: Service, number: int, *, side: str = "", **changes: Any) -> RunMeasurements:
    """Return a run of a service."""
    random = np.random.default_rng([number, *side.encode()])
    measurements: list[Measurement] = []
    for name, median in service.execution_ms.items():
        moved = median * math.exp(random.normal(0, service.noise))
        rest = service.overhead_ms * math.exp(random.normal(0, service.noise))
        p50, p95 = moved, moved * math.exp(1.645 * service.sigma)
        times = {
            Metric.RESPONSE_TIME_P50: p50 + rest, Metric.RESPONSE_TIME_P95: p95 + rest,
            Metric.EXECUTION_TIME_P50: p50, Metric.EXECUTION_TIME_P95: p95, Metric.OVERHEAD_P50: rest,
        }  # fmt: skip
        for metric, value in times.items():
            measurements.append(_measurement(name, metric, value, math.log(value)))
        goodput = 1.3 * math.exp(random.normal(0, 0.003))
        measurements.append(_measurement(name, Metric.GOODPUT, goodput, math.log(goodput)))
        throttled = max(0.0, service.throttled + random.normal(0, 0.004)) if service.throttled else 0.0
        for metric, share in ((Metric.THROTTLED_RATE, throttled), (Metric.ERROR_RATE, 0.0)):
            measurements.append(_measurement(name, metric, share, _share_score(metric, share)))
    known: dict[str, Any] = {
        "run": f"20261{number // 28 + 1:03d}T020000Z-regression-{number:04x}{side[:1] or 'a'}0"[:38],
        "scenario": "regression", "scenario_hash": "d1f0c2a4", "embedded": True,
        "started": f"2026-{number // 28 + 1:02d}-{number % 28 + 1:02d}T02:00:00.000Z",
        "commit": f"{number:07x}c", "target_version": f"1.{number}",
        "target": TARGET,
        "generator": GeneratorIdentity(os="Linux", cpu="A CPU", cores="2", workers=0), "valid": True, "verdict": "pass",
        "sentence": "Pass.", "controls": (ControlMeasurement(name="CPU loop", value_ms=0.31),),
        "measurements": tuple(measurements), "idle_entries": ("noop",),
    }  # fmt: skip
    return RunMeasurements(**{**known, **changes})


def _measurement(traffic: str, metric: Metric, value: float, score: float) -> Measurement:
    share = metric in {Metric.THROTTLED_RATE, Metric.ERROR_RATE}
    expected = 0.0 if metric is Metric.THROTTLED_RATE else None
    n, se = (_REQUESTS, None) if share else (80, 0.01)
    return Measurement(
        traffic=traffic, stage=STAGE, metric=metric, value=value, score=score, n=n, se=se, expected=expected
    )


def _share_score(metric: Metric, share: float) -> float:
    expected = share_score(0, _REQUESTS) if metric is Metric.THROTTLED_RATE else 0.0
    return share_score(share * _REQUESTS, _REQUESTS) - expected


SLOWER = Service(execution_ms={"greetings": 162.0, "jobs": 240.0, "noop": 0.2})
PLAIN = Service()
REFUSING = Service(throttled=0.2)
RARELY_REFUSING = Service(throttled=0.05)


def history(count: int, new: Service = PLAIN, old: Service = PLAIN, **changes: Any) -> RunComparison:
    """Compare a run of ``new`` with ``count`` runs of ``old``. ``changes`` apply to the new run."""
    return judge_history([a_run(old, k) for k in range(count)], a_run(new, 100, **changes), title=TITLE)


def confirmed(count: int, new: Service, old: Service = PLAIN, **changes: Any) -> RunComparison:
    """Return the comparison after a suspected run and its rerun, as a check makes it."""
    earlier = [a_run(old, k) for k in range(count)]
    suspected, rerun = a_run(new, 100, **changes), a_run(new, 101, **changes)
    keys = suspects(judge_history(earlier, suspected))
    made = judge_history(earlier, rerun, confirming=keys, title=TITLE)
    return msgspec.structs.replace(made, head_runs=(suspected, rerun))


def paired(count: int, new: Service = PLAIN, old: Service = PLAIN) -> RunComparison:
    """Compare ``count`` pairs of blocks. The first pair does not count."""
    pairs = [(a_run(old, k, side="base"), a_run(new, k, side="head")) for k in range(count)]
    return compare_pairs(pairs, title=TITLE)


def crowded() -> RunComparison:
    """Return a comparison of forty metrics. The names of their entries are long and contain markup."""
    names = [f"<b>entry</b> | no. {k} with `a name` that_is_long_and_has_no_space_to_break_it" for k in range(5)]
    old = Service(execution_ms=dict.fromkeys(names, 80.0), throttled=0.05)
    new = Service(execution_ms={**dict.fromkeys(names, 80.0), names[1]: 130.0}, throttled=0.05)
    made = confirmed(9, new, old)
    return msgspec.structs.replace(made, title="Is <script>alert(1)</script> & “this” slower?")


SLOW_LOOP = (ControlMeasurement(name="CPU loop", value_ms=0.55),)
CASES = {
    "slower": lambda: confirmed(7, SLOWER),
    "suspected": lambda: history(7, SLOWER),
    "paired-slower": lambda: paired(8, SLOWER),
    "pass": lambda: history(30),
    "faster": lambda: paired(7, PLAIN, SLOWER),
    "throttled": lambda: confirmed(12, REFUSING, RARELY_REFUSING),
    "learning": lambda: history(2),
    "first": lambda: history(0),
    "not-comparable": lambda: history(6, target=OTHER_LIMITS),
    "invalid": lambda: history(6, valid=False, sentence="dispatch lag p99 is 80 ms, more than 50 ms"),
    "one-pair": lambda: paired(2, SLOWER),
    "moved-surroundings": lambda: confirmed(7, SLOWER, controls=SLOW_LOOP),
    "crowded": crowded,
    "nothing": lambda: history(6, measurements=()),
}
"""All kinds of comparisons that a page must show, by name."""
