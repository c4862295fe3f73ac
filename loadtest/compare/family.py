"""From the changes of many metrics to a verdict on each: Holm's procedure over the family, and the minimum effect."""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from loadtest.compare.change import Change
from loadtest.compare.measurements import Key, Metric
from loadtest.compare.results import Comparison, MetricComparison, MetricVerdict
from loadtest.compare.shares import ShareChange

AnyChange = Change | ShareChange

IMPROVED_LEVEL: Final = 0.05
_ORDER: Final = {metric: place for place, metric in enumerate(Metric)}


class Levels(NamedTuple):
    """At which p a metric is suspected, and at which its rerun confirms that.

    Attributes:
        suspect: by Holm over all gated metrics.
        confirm: of a suspected metric, in the rerun.
        holm_when_confirming: whether the rerun's p are adjusted over the suspected metrics.
    """

    suspect: float
    confirm: float
    holm_when_confirming: bool


class Untested(NamedTuple):
    """A metric that is shown, and not tested.

    Attributes:
        earlier: values of the base side.
        value: of the head; None if it has none.
        why: why it is shown only.
        learning: whether nothing is missing but earlier runs.
    """

    key: Key
    earlier: tuple[float, ...]
    value: float | None
    why: str
    learning: bool


def holm(ps: Mapping[Key, float]) -> dict[Key, float]:
    """Adjust p over a family, so that p ≤ α holds the chance of any false rejection at α (Holm, 1979).

    The i-th smallest of m is multiplied by m − i + 1, and none becomes smaller than the one before it.
    """
    adjusted, worst = {}, 0.0
    for place, (key, p) in enumerate(sorted(ps.items(), key=lambda item: (item[1], item[0]))):
        worst = max(worst, min(1.0, p * (len(ps) - place)))
        adjusted[key] = worst
    return adjusted


def suspects(comparison: Comparison) -> tuple[Key, ...]:
    """The metrics that a rerun has to confirm."""
    return tuple(one.key for one in comparison.metrics if one.suspect)


def judge_family(
    compared: Sequence[AnyChange | Untested],
    levels: Levels,
    confirming: Collection[Key] | None,
    *,
    missing: Sequence[Untested] = (),
) -> tuple[MetricComparison, ...]:
    """A verdict on each metric, ordered by traffic entry, stage and metric.

    First run: a metric is *suspected* (inconclusive until it is rerun) if p by Holm ≤ ``levels.suspect`` and its effect
    matters. Rerun: a metric of ``confirming`` *regressed* if p ≤ ``levels.confirm`` and its effect matters again.
    Otherwise it improved (p by Holm ≤ 5 %, and it matters), is unchanged (its interval excludes + 10 %), or is
    inconclusive.

    Holm counts the tests that could reject: a share without a single event on either side is no test (Tarone, "A
    modified Bonferroni method for discrete data", Biometrics 1990). Most error rates are such.
    """
    changes, first = [one for one in compared if isinstance(one, Change | ShareChange)], confirming is None
    raw = {one.key: one.p() for one in changes}
    tests = [one for one in changes if not (isinstance(one, ShareChange) and one.decided())]
    if confirming is None:
        adjusted, alpha = holm({one.key: raw[one.key] for one in tests}), levels.suspect
    else:
        asked = {key: p for key, p in raw.items() if key in confirming}
        adjusted, alpha = holm(asked) if levels.holm_when_confirming else asked, levels.confirm
    better = holm({one.key: one.p(better=True) for one in tests})
    judged = []
    for one in changes:
        p = adjusted.get(one.key)
        found = p is not None and p <= alpha and one.matters()
        improved = better.get(one.key, 1.0) <= IMPROVED_LEVEL and one.matters(better=True)
        # With an event it would be one test more.
        detectable = one.detectable(levels.suspect / (len(tests) + (one.key not in better)))
        judged.append(_judged(one, (raw[one.key], p), detectable, found=found, improved=improved, first=first))
    shown = [_shown(one, confirming) for one in (*compared, *missing) if isinstance(one, Untested)]
    return tuple(sorted((*judged, *shown), key=lambda one: (one.traffic, one.stage, _ORDER[one.metric])))


def _judged(
    change: AnyChange,
    ps: tuple[float, float | None],
    detectable: float | None,
    *,
    found: bool,
    improved: bool,
    first: bool,
) -> MetricComparison:
    """The verdict on a tested metric, with its figures."""
    verdict, why = _verdict(change, found=found, improved=improved, first=first)
    low, high = change.interval()
    return MetricComparison(
        **change.key._asdict(),
        verdict=verdict,
        base=change.base,
        head=change.head,
        difference=change.difference(),
        difference_interval=change.difference_interval(),
        ratio=math.exp(change.delta),
        ratio_interval=(math.exp(low), math.exp(high)),
        p=ps[0],
        p_adjusted=ps[1],
        detectable=detectable,
        sd=change.sd,
        n=change.n,
        suspect=found and first,
        gated=True,
        why=why,
        drift=change.anchored,
        earlier=change.earlier,
        later=change.later,
        resolution_ms=change.resolution_ms if isinstance(change, Change) else 0.0,
    )


def _verdict(change: AnyChange, *, found: bool, improved: bool, first: bool) -> tuple[MetricVerdict, str]:
    """The verdict on a tested metric, and why, where it is none."""
    if found:
        return ("inconclusive", "suspected: a rerun has to confirm it") if first else ("regressed", "")
    if improved:
        return "improved", ""
    if change.unchanged():
        return "unchanged", ""
    return "inconclusive", "it varies too much to exclude a change that matters"


def _shown(one: Untested, confirming: Collection[Key] | None) -> MetricComparison:
    """A metric that is not tested, with the values that are there."""
    base = statistics.fmean(one.earlier) if one.earlier else None
    unsettled = confirming is not None and one.key in confirming
    runs = "1 earlier run has" if len(one.earlier) == 1 else f"{len(one.earlier)} earlier runs have"
    return MetricComparison(
        **one.key._asdict(),
        verdict="learning" if one.learning else "inconclusive",
        base=base,
        head=one.value,
        difference=None if base is None or one.value is None else one.value - base,
        n=len(one.earlier),
        suspect=unsettled,
        gated=False,
        why=f"only {runs} it" if one.learning else one.why,
        earlier=one.earlier,
        later=() if one.value is None else (one.value,),
    )
