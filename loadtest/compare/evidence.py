"""The data for the estimates of changes: the measurements of both sides, and the noise of all metrics together."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from loadtest.compare.changes import AnyChange, ShareChange, TimeChange
from loadtest.compare.measurements import NATURES, Measurement, Metric
from loadtest.compare.noise import MetricSpread, pooled
from loadtest.stats.shares import EventCount, share_score

_MOST_SCORE: Final = 50.0
"""e⁵⁰ ms exceed the age of the universe."""


class ChangeEvidence(NamedTuple):
    """The data for the estimate of one metric's change.

    Attributes:
        bases: measurements of the base side.
        heads: measurements of the head side.
        earlier: measurements of the base side to show.
        centre: of the base side on the log scale (not used for shares).
        delta: head − base, likewise.
        parts: factors of the variance between runs for the mean of the base side and of the head.
        spread: that variance, observed and assumed.
        resolution_ms: resolution given by the poll interval.
        weight: as in ``MetricChange``.
        penalty: as in ``MetricChange``.
    """

    bases: Sequence[Measurement]
    heads: Sequence[Measurement]
    earlier: Sequence[Measurement]
    centre: float
    delta: float
    parts: tuple[float, float]
    spread: MetricSpread
    resolution_ms: float
    weight: float
    penalty: float = 1.0


def estimate(family: Sequence[ChangeEvidence], *, anchored: bool = False, rise: float | None = None) -> list[AnyChange]:
    """Estimate the change of each metric; its noise is that of the history, shrunk towards the family's prior.

    ``rise`` is as in ``ShareChange``.
    """
    changes: list[AnyChange] = []
    for one, (squared_sd, df) in zip(family, pooled([each.spread for each in family]), strict=True):
        bases, heads = ([each.value for each in side] for side in (one.bases, one.heads))
        common: dict[str, Any] = {
            "key": one.heads[0].key,
            "df": df,
            "sd": math.sqrt(squared_sd),
            "n": len(bases),
            "penalty": one.penalty,
            "weight": one.weight,
            "anchored": anchored,
            "earlier": tuple(each.value for each in one.earlier),
            "later": tuple(heads),
        }
        if NATURES[one.spread.metric].scale == "logit":
            share = ShareChange(
                **common,
                base_counts=tuple(map(count, one.bases)),
                head_counts=tuple(map(count, one.heads)),
                varies=(squared_sd * one.parts[0], squared_sd * one.parts[1]),
                rise=rise,
                base=statistics.fmean(bases),
                head=statistics.fmean(heads),
            )
            changes.append(share)
            continue
        time = TimeChange(
            **common,
            centre=one.centre,
            delta=one.delta,
            se=math.sqrt(squared_sd * sum(one.parts)),
            base=math.exp(one.centre),
            head=heads[0] if len(heads) == 1 else math.exp(one.centre + one.delta),
            resolution_ms=one.resolution_ms,
        )
        changes.append(time)
    return changes


def count(one: Measurement) -> EventCount:
    """Return the events that a measured share consists of."""
    expected = one.expected or 0.0
    events = min(max(one.value + expected, 0.0), 1.0) * one.n
    of_429s = one.metric == Metric.THROTTLED_RATE
    return EventCount(events, one.n, share_score(expected * one.n, one.n) if of_429s else 0.0)


def known_se(one: Measurement) -> float:
    """Return a run's own standard error of a score; 0 if it has none."""
    return one.se if one.se is not None and math.isfinite(one.se) else 0.0


def unfit(one: Measurement) -> str:
    """Return why a measurement cannot be compared; empty if it can."""
    if not (abs(one.score) < _MOST_SCORE and math.isfinite(one.value)):
        return "its value is out of range, or zero"
    return one.why_not or ("" if one.gated else "it is only shown")
