"""Relative thresholds: one metric against the same metric of another stage, or of another traffic entry.

``response_time.p50 < 1.2x stage alone`` is judged by the two values, and by the interval of value − 1.2 × base, which a
single number of each side cannot give: it comes from the values of both (``loadtest.stats``).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from loadtest.analysis.arrival_values import ArrivalValues, Values
from loadtest.analysis.metrics import RunFigures
from loadtest.analysis.pairs import compare, same_inputs, shift_of_inputs
from loadtest.analysis.record import Record
from loadtest.analysis.verdict import Judged, Measured, find_figures, judge_one, judged_by, measure
from loadtest.threshold import Judgement, Reference, Threshold, judge, scope_of
from loadtest.words import quantity


def referred_entries(thresholds: Sequence[Threshold]) -> set[str]:
    """The traffic entries whose values relative thresholds need."""
    found = set()
    for each in thresholds:
        if each.reference is not None and each.traffic is not None:
            found |= {each.traffic, _base(each, each.reference).traffic or each.traffic}
    return found


def judge_any(threshold: Threshold, record: Record, metrics: RunFigures, values: ArrivalValues) -> Judged:
    """Judge a threshold, relative or not; what the record can't answer is inconclusive, and says why."""
    if threshold.reference is None:
        return judge_one(threshold, metrics)
    base = _base(threshold, threshold.reference)
    judged = judged_by(threshold)
    sides = [find_figures(each, metrics) for each in (threshold, base)]
    if sides[0] is None or sides[1] is None:
        missing = threshold if sides[0] is None else base
        return judged(judgement="inconclusive", why=f"the run has no figures for {missing.scope}")
    here, there = (measure(threshold.metric, side) for side in sides if side is not None)
    against_zero = replace(threshold, value=0.0)
    judgement = judge(against_zero, _bounds(here, there, threshold.value))
    interval = _interval(threshold, base, record, values)
    marginal = judgement != "inconclusive" and interval is not None and judge(against_zero, interval) != judgement
    if marginal and threshold.confident:
        judgement = "inconclusive"
    apart = None if here.value is None or there.value is None else here.value - threshold.value * there.value
    return judged(
        judgement=judgement,
        value=here.value,
        base=there.value,
        interval=None if interval is None or not all(map(math.isfinite, interval)) else interval,
        margin=apart if apart is None or threshold.operator in (">", ">=") else -apart,
        marginal=marginal,
        n=here.n,
        why=_why(threshold, base, (here, there), judgement, interval),
    )


def _base(threshold: Threshold, reference: Reference) -> Threshold:
    """What it is relative to, as a threshold of that scope."""
    if reference.kind == "stage":
        return replace(threshold, stage=reference.name)
    return replace(threshold, traffic=reference.name)


def _bounds(here: Measured, there: Measured, factor: float) -> tuple[float, float] | None:
    """Between which value − factor × base lies; None where one is not known."""
    if here.value is None or there.value is None:
        return None
    low, high = here.bounds or (here.value, here.value)
    least, most = there.bounds or (there.value, there.value)
    return low - factor * most, high - factor * least


def _interval(
    threshold: Threshold, base: Threshold, record: Record, values: ArrivalValues
) -> tuple[float, float] | None:
    sides = [_values(each, record, values) for each in (threshold, base)]
    shift = _shift(threshold, base, record, values)
    found = compare(threshold.metric, sides[1], sides[0], shift=shift, factor=threshold.value)
    return None if found is None else found.interval


def _shift(threshold: Threshold, base: Threshold, record: Record, values: ArrivalValues) -> int | None:
    """Which arrivals are pairs, as ``compare`` takes it."""
    here, there = threshold.traffic or "", base.traffic or ""
    if here != there:
        return 0 if same_inputs(record.info, here, there) else None
    first = [values.first_arrival(_stages(each, record)) for each in (base, threshold)]
    return None if first[0] is None or first[1] is None else shift_of_inputs(record.info, here, first[0], first[1])


def _stages(threshold: Threshold, record: Record) -> list[int]:
    stages = record.stages(traffic=threshold.traffic)
    return record.stage_indices([key for key in stages if threshold.stage in (None, key.stage.name)])


def _values(threshold: Threshold, record: Record, values: ArrivalValues) -> Values | None:
    return values.get(threshold.metric, _stages(threshold, record), whole=False)


def _why(
    threshold: Threshold,
    base: Threshold,
    measured: tuple[Measured, Measured],
    judgement: Judgement,
    interval: tuple[float, float] | None,
) -> str:
    """Why it is inconclusive; empty where it is not."""
    if judgement != "inconclusive":
        return ""
    for each, one in zip((threshold, base), measured, strict=True):
        if one.value is None:
            few = f"too few samples: {one.n}" if one.n else "no data"
            return f"{few} of {scope_of(each.traffic, each.operation, each.stage)}"
    here, there = measured
    if here.bounds is not None or there.bounds is not None:
        return "of at least one side only bounds are known, and the threshold lies between them"
    ratio = (here.value or 0.0) / there.value if there.value else math.inf
    known = interval is not None and all(map(math.isfinite, interval))
    ends = (
        "" if interval is None or not known else ": " + " to ".join(quantity(each, threshold.unit) for each in interval)
    )
    interval_of = f"the 95\u00a0% interval of its distance from {threshold.value:g}x"
    return f"it was {ratio:.3g}x, and {interval_of} has both signs{ends}"
