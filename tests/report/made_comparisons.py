"""Comparisons for tests of their pages, made of runs that are drawn from a seeded generator."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import msgspec
import numpy as np

from loadtest.regression.measurements import (
    NATURES,
    PROBABILITIES,
    Control,
    GeneratorIdentity,
    Measurement,
    Metric,
    RunMeasurements,
    Sketch,
    TargetIdentity,
)
from loadtest.regression.results import Comparison, ControlComparison, Finding, MetricComparison

STAGE = "within"
_T = 2.2
"""About the 97.5 % quantile of Student's t for the few runs of these."""


@dataclass(frozen=True)
class Service:
    """How a version of a service behaves.

    Attributes:
        execution_ms: median executionTime by traffic entry.
        overhead_ms: median of the rest.
        sigma: of the logarithm of a single executionTime.
        noise: standard deviation from run to run of the logarithm.
        throttled: 429 rate beyond the expected.
    """

    execution_ms: dict[str, float] = field(default_factory=lambda: {"greetings": 96.0, "jobs": 240.0, "noop": 0.2})
    overhead_ms: float = 6.0
    sigma: float = 0.25
    noise: float = 0.02
    throttled: float = 0.0


def a_run(service: Service, number: int, *, side: str = "", **changes: Any) -> RunMeasurements:
    """One run of a service."""
    random = np.random.default_rng([number, *side.encode()])
    measurements: list[Measurement] = []
    sketches: list[Sketch] = []
    for name, median in service.execution_ms.items():
        moved = median * math.exp(random.normal(0, service.noise))
        rest = service.overhead_ms * math.exp(random.normal(0, service.noise))
        quantiles = [moved * math.exp(service.sigma * NormalDist().inv_cdf(p)) for p in PROBABILITIES]
        p50, p95 = quantiles[19], quantiles[37]
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
            measurements.append(_measurement(name, metric, share, math.log((share * 80 + 0.5) / (80.5 - share * 80))))
        sketches += [
            Sketch(traffic=name, stage=STAGE, time="execution_time", n=80, quantiles_ms=tuple(quantiles)),
            Sketch(
                traffic=name, stage=STAGE, time="response_time", n=80, quantiles_ms=tuple(q + rest for q in quantiles)
            ),
        ]
    known: dict[str, Any] = {
        "run": f"20261{number // 28 + 1:03d}T020000Z-regression-{number:04x}{side[:1] or 'a'}0"[:38],
        "scenario": "regression", "scenario_hash": "d1f0c2a4", "embedded": True,
        "started": f"2026-{number // 28 + 1:02d}-{number % 28 + 1:02d}T02:00:00.000Z",
        "commit": f"{number:07x}c", "target_version": f"1.{number}",
        "target": TargetIdentity(
            host="embedded", endpoint="5f1c", limits="sync_run 100/60 fixed_window", faults=(), keys=1
        ),
        "generator": GeneratorIdentity(os="Linux", cpu="A CPU", cores="2", workers=0), "valid": True, "verdict": "pass",
        "sentence": "Pass.", "controls": (Control(name="CPU loop", value_ms=0.31),),
        "measurements": tuple(measurements), "sketches": tuple(sketches), "idle_entries": ("noop",),
    }  # fmt: skip
    return RunMeasurements(**{**known, **changes})


def _measurement(traffic: str, metric: Metric, value: float, score: float) -> Measurement:
    return Measurement(traffic=traffic, stage=STAGE, metric=metric, value=value, score=score, n=80, se=0.01)


def a_metric(before: Sequence[float], head: Sequence[float], of: Measurement, **changes: Any) -> MetricComparison:
    """A metric compared by its values; ``changes`` are what the values do not give."""
    nature = NATURES[of.metric]
    centre, new = float(np.mean(before)), float(np.mean(head))
    known: dict[str, Any] = {
        "traffic": of.traffic, "stage": of.stage, "metric": of.metric, "base": centre, "head": new,
        "difference": new - centre, "p": 0.3, "p_adjusted": 1.0, "n": len(before), "suspect": False, "gated": True,
        "verdict": "unchanged", "earlier": tuple(before), "later": tuple(head), "difference_interval": None,
        "ratio": None, "ratio_interval": None, "detectable": None, "sd": None,
    }  # fmt: skip
    if nature.unit == "share":
        width = 0.012
        known |= {"difference_interval": (new - centre - width, new - centre + width)}
        known |= {"ratio": 1.0, "ratio_interval": (0.4, 2.5), "detectable": 3.1, "sd": 0.3}
    else:
        sd = max(float(np.std(np.log(before), ddof=1)) if len(before) > 1 else 0.03, 0.01)
        ratio, width = new / centre, _T * sd * math.sqrt(1 / len(before) + 1 / len(head))
        low, high = ratio * math.exp(-width), ratio * math.exp(width)
        known |= {"ratio": ratio, "ratio_interval": (low, high), "sd": sd}
        known |= {"detectable": math.exp(nature.worse * (width + 0.05))}
        known |= {"difference_interval": (centre * (low - 1), centre * (high - 1))}
        worse = (low > 1.05) if nature.worse == 1 else (high < 1 / 1.05)
        better = (high < 1 / 1.05) if nature.worse == 1 else (low > 1.05)
        if abs(new - centre) > 1 and worse:
            known |= {"verdict": "regressed", "p": 0.00002, "p_adjusted": 0.0004, "suspect": True}
        elif abs(new - centre) > 1 and better:
            known |= {"verdict": "improved", "p": 0.9999, "p_adjusted": 1.0}
        elif high > 1.1:
            known |= {"verdict": "inconclusive", "why": "the interval reaches beyond +10 %"}
    return MetricComparison(**{**known, **changes})


def compared(base: Sequence[RunMeasurements], head: Sequence[RunMeasurements], **changes: Any) -> Comparison:
    """Runs of two sides compared, with what was found."""
    kind = changes.pop("kind", "history")
    metrics = []
    for place, of in enumerate(head[0].measurements if head else ()):
        before = [run.measurements[place].value for run in base]
        if before:
            metrics.append(a_metric(before, [run.measurements[place].value for run in head], of))
    worse = [one for one in metrics if one.verdict == "regressed"]
    findings = []
    for name in dict.fromkeys(one.traffic for one in worse):
        causes = [one for one in worse if one.traffic == name and one.metric.startswith("execution")]
        cause = (causes or [one for one in worse if one.traffic == name])[0]
        symptoms = tuple(one for one in worse if one.traffic == name and one is not cause)
        findings.append(
            Finding(kind="grown", traffic=name, stage=STAGE, sentence=words(cause), cause=cause, symptoms=symptoms)
        )
    known: dict[str, Any] = {
        "kind": kind, "scenario": "regression", "title": "Did the service get slower?",
        "word": "regressed" if findings else "pass", "exit_code": 4 if findings else 0,
        "sentence": findings[0].sentence if findings else "No regression was found.",
        "reasons": (), "base": "embedded, default settings", "head": "embedded, default settings",
        "runs": tuple(run.run for run in (*base, *head)), "confirmed": bool(findings), "findings": tuple(findings),
        "metrics": tuple(metrics),
        "controls": (ControlComparison(name="CPU loop", base_ms=0.31, head_ms=0.312, ratio=1.006, moved=False),),
        "base_runs": tuple(base), "head_runs": tuple(head),
    }  # fmt: skip
    return Comparison(**{**known, **changes})


def words(one: MetricComparison) -> str:
    """A finding's sentence."""
    assert one.ratio
    assert one.ratio_interval
    low, high = ((bound - 1) * 100 for bound in one.ratio_interval)
    change = (one.ratio - 1) * 100
    return (
        f"{one.traffic}: {NATURES[one.metric].name} {one.difference:+.0f} ms ({change:+.0f} %, "
        f"95 %: {low:+.0f} to {high:+.0f})"
    )


SLOWER = Service(execution_ms={"greetings": 162.0, "jobs": 240.0, "noop": 0.2})
PLAIN = Service()


def history(count: int, new: Service = PLAIN, old: Service = PLAIN, **changes: Any) -> Comparison:
    """A run of ``new`` against so many of ``old``."""
    return compared([a_run(old, k) for k in range(count)], [a_run(new, 100)], **changes)


def paired(count: int, new: Service = PLAIN, old: Service = PLAIN, **changes: Any) -> Comparison:
    """So many pairs of blocks."""
    base = [a_run(old, k, side="base") for k in range(count)]
    head = [a_run(new, k, side="head") for k in range(count)]
    return compared(base, head, kind="paired", **changes)


def crowded() -> Comparison:
    """Forty gated metrics, of entries with long names and markup in them."""
    names = [f"<b>entry</b> | no. {k} with `a name` that_is_long_and_has_no_space_to_break_it" for k in range(5)]
    old = Service(execution_ms=dict.fromkeys(names, 80.0), throttled=0.05)
    new = Service(execution_ms={**dict.fromkeys(names, 80.0), names[1]: 130.0}, throttled=0.05)
    return history(9, new, old, title="Is <script>alert(1)</script> & “this” slower?")


CASES = {
    "slower": lambda: history(7, SLOWER),
    "paired-slower": lambda: paired(7, SLOWER),
    "pass": lambda: history(30),
    "faster": lambda: paired(6, PLAIN, SLOWER),
    "learning": lambda: learning(2),
    "first": lambda: learning(0),
    "not-comparable": lambda: history(
        6,
        word="not comparable",
        exit_code=3,
        sentence="Not comparable: limits differ.",
        metrics=(),
        findings=(),
        reasons=("limits: sync_run 100 per minute before, 50 per minute now",),
    ),
    "invalid": lambda: compared(
        [],
        [a_run(PLAIN, 100, valid=False)],
        word="invalid",
        exit_code=3,
        sentence="Invalid: the generator was late (dispatch lag p99 80 ms).",
        controls=(),
    ),
    "one-pair": lambda: paired(1, SLOWER, word="inconclusive", exit_code=6, sentence="One pair tells nothing."),
    "moved-surroundings": lambda: history(
        7,
        SLOWER,
        word="inconclusive",
        exit_code=6,
        sentence="Inconclusive: the surroundings moved.",
        reasons=("CPU loop 0.31 ms before, 0.55 ms now (+77 %)",),
        controls=(ControlComparison(name="CPU loop", base_ms=0.31, head_ms=0.55, ratio=1.77, moved=True),),
    ),
    "crowded": crowded,
}


def learning(count: int) -> Comparison:
    """A run with fewer earlier ones than it takes."""
    made = history(count) if count else compared([], [a_run(PLAIN, 100)])
    head = made.head_runs[0]
    metrics = made.metrics or tuple(
        a_metric([one.value], [one.value], one, base=None, difference=None, ratio=None, earlier=(), n=0)
        for one in head.measurements
    )
    bare = {
        "verdict": "learning", "difference_interval": None, "ratio_interval": None, "p": None, "p_adjusted": None,
        "detectable": None, "sd": None, "suspect": False, "why": f"{count} of 5 runs",
    }  # fmt: skip
    return msgspec.structs.replace(
        made, word="learning", exit_code=0, sentence=f"Learning: {count} of 5 runs are known.", findings=(),
        metrics=tuple(msgspec.structs.replace(one, **bare) for one in metrics),
    )  # fmt: skip
