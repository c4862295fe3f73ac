"""Differences of a metric between stages or traffic entries of a run, and relative thresholds.

``response_time.p50 < 1.2x stage alone`` is judged by both values, and by the interval of value − 1.2 × base, which is
computed from all values of both sides (``loadtest.stats.differences``). If both sides sent the same rows of the same
inputs, arrivals are compared in pairs.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from loadtest.analysis.arrival_values import ArrivalValues
from loadtest.analysis.intervals import MetricInterval
from loadtest.analysis.metrics import RunFigures
from loadtest.analysis.run_record import Record
from loadtest.analysis.verdict import Judged, Measured, find_figures, judge_one, judged_by, measure
from loadtest.metrics import METRICS
from loadtest.record.effective_scenario import written_entry
from loadtest.record.run_info import RunInfo
from loadtest.stats.differences import Difference, mean_difference, percentile_difference, share_difference
from loadtest.stats.order_statistics import QUANTILES
from loadtest.threshold import Reference, Threshold, judge, scope_of
from loadtest.words import quantity


class ComparedStages(NamedTuple):
    """One side of a comparison within a run: indices of stages of a traffic entry."""

    entry: str
    stages: Sequence[int]


def difference(
    metric: str,
    info: RunInfo,
    values: ArrivalValues,
    sides: tuple[ComparedStages, ComparedStages],
    *,
    whole: bool,
    factor: float = 1.0,
    confidence: float = 0.95,
) -> Difference | None:
    """Return head − factor × base; None for a metric without values of single arrivals.

    ``metric`` includes its statistic, and ``whole`` is as for ``ArrivalValues.get``.
    """
    base, head = (values.get(metric, side.stages, whole=whole) for side in sides)
    if base is None or head is None or metric.endswith(".max"):
        return None
    one, other, paired = base.numbers, head.numbers, False
    shift = _shift_of_pairs(info, values, *sides)
    if shift is not None and base.arrivals is not None and head.arrivals is not None:
        _, left, right = np.intersect1d(base.arrivals, head.arrivals - shift, return_indices=True)
        order = np.argsort(left)
        one, other, paired = one[left[order]], other[right[order]], True
    statistic = metric.rpartition(".")[2]
    if statistic in QUANTILES:
        return percentile_difference(
            one, other, QUANTILES[statistic], paired=paired, factor=factor, confidence=confidence
        )
    made = share_difference if METRICS[metric].unit == "share" else mean_difference
    return made(one, other, paired=paired, factor=factor, confidence=confidence)


def _shift_of_pairs(info: RunInfo, values: ArrivalValues, base: ComparedStages, head: ComparedStages) -> int | None:
    """Return the offset in arrivals between sides that send the same rows of inputs in the same order; None if not.

    Two entries do so from their first arrival on. Two stages of an entry do so if their offset is a multiple of the
    number of rows.
    """
    first, second = written_entry(info, base.entry), written_entry(info, head.entry)
    if first.inputs_order != "sequential":
        return None
    if base.entry != head.entry:
        return 0 if first.inputs is not None and first.sends == second.sends else None
    rows = info.traffic[base.entry].input_rows
    begin, other = (values.first_arrival(side.stages) for side in (base, head))
    if rows is None or begin is None or other is None or (other - begin) % rows:
        return None
    return other - begin


def referred_entries(thresholds: Sequence[Threshold]) -> set[str]:
    """Return the traffic entries whose values relative thresholds need."""
    found = set()
    for each in thresholds:
        if each.reference is not None and each.traffic is not None:
            found |= {each.traffic, _base(each, each.reference).traffic or each.traffic}
    return found


def judge_any(
    threshold: Threshold,
    record: Record,
    metrics: RunFigures,
    values: ArrivalValues,
    intervals: Sequence[MetricInterval],
) -> Judged:
    """Judge any threshold; it is inconclusive, with a reason, if the record has no answer."""
    if threshold.reference is None:
        return judge_one(threshold, metrics, intervals)
    base = _base(threshold, threshold.reference)
    judged = judged_by(threshold)
    sides = [find_figures(each, metrics) for each in (threshold, base)]
    if sides[0] is None or sides[1] is None:
        missing = threshold if sides[0] is None else base
        return judged(judgement="inconclusive", why=f"the run has no figures for {missing.scope}")
    here, there = (measure(threshold.metric, side) for side in sides if side is not None)
    against_zero = replace(threshold, value=0.0)
    judgement = judge(against_zero, _bounds(here, there, threshold.value))
    stages = _stages(base, record), _stages(threshold, record)
    found = difference(threshold.metric, record.info, values, stages, whole=False, factor=threshold.value)
    interval = None if found is None else found.interval
    finite = interval if interval is not None and all(map(math.isfinite, interval)) else None
    marginal = judgement != "inconclusive" and interval is not None and judge(against_zero, interval) != judgement
    if marginal and threshold.confident:
        judgement = "inconclusive"
    apart = None if here.value is None or there.value is None else here.value - threshold.value * there.value
    return judged(
        judgement=judgement,
        value=here.value,
        base=there.value,
        interval=finite,
        margin=apart if apart is None or threshold.operator in (">", ">=") else -apart,
        marginal=marginal,
        n=here.n,
        why=_why(threshold, base, (here, there), finite) if judgement == "inconclusive" else "",
    )


def _base(threshold: Threshold, reference: Reference) -> Threshold:
    if reference.kind == "stage":
        return replace(threshold, stage=reference.name)
    return replace(threshold, traffic=reference.name)


def _bounds(here: Measured, there: Measured, factor: float) -> tuple[float, float] | None:
    """Return the bounds of value − factor × base; None if a value is unknown."""
    if here.value is None or there.value is None:
        return None
    low, high = here.bounds or (here.value, here.value)
    least, most = there.bounds or (there.value, there.value)
    return low - factor * most, high - factor * least


def _stages(threshold: Threshold, record: Record) -> ComparedStages:
    stages = [key for key in record.stages(traffic=threshold.traffic) if threshold.stage in (None, key.stage.name)]
    return ComparedStages(threshold.traffic or "", record.stage_indices(stages))


def _why(
    threshold: Threshold, base: Threshold, measured: tuple[Measured, Measured], interval: tuple[float, float] | None
) -> str:
    """Return the reason why a threshold is inconclusive."""
    for each, one in zip((threshold, base), measured, strict=True):
        if one.value is None:
            few = f"too few samples: {one.n}" if one.n else "no data"
            return f"{few} of {scope_of(each.traffic, each.operation, each.stage)}"
    here, there = measured
    if here.bounds is not None or there.bounds is not None:
        return "one side is known only within bounds, and the threshold lies between them"
    ratio = (here.value or 0.0) / there.value if there.value else math.inf
    ends = "" if interval is None else ": " + " to ".join(quantity(each, threshold.unit) for each in interval)
    interval_of = f"the 95\u00a0% interval of its distance from {threshold.value:g}x"
    return f"it was {ratio:.3g}x, and {interval_of} includes zero{ends}"
