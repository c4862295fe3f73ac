"""Answers to a scenario's comparisons: the figures of each side, their differences, and the recommended side.

An arrival that never became ok has an infinite response time, so a policy that gives up early does not look fast. If
both sides send the same inputs in the same order, arrivals are compared in pairs.

With a probability of 95 %, all intervals of a family contain the true differences (Bonferroni). For alternatives, a
family consists of all pairs for one metric. For an effect, a family consists of all metrics and stages.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Final, Literal

import msgspec

from loadtest.analysis.columns import Stages
from loadtest.analysis.metrics import RunFigures
from loadtest.analysis.relative import ArrivalValues, Values, difference, statistic_of
from loadtest.analysis.results import Count, CountedFigures, Result, result_of
from loadtest.analysis.run_record import Record
from loadtest.analysis.verdict import measure
from loadtest.errors import RecordError
from loadtest.metrics import METRICS
from loadtest.record.effective_scenario import WrittenComparison, written
from loadtest.record.run_info import RunInfo
from loadtest.stats.differences import Difference, estimate, figure_of
from loadtest.units import Unit

_ERROR: Final = 0.05
Bounds = tuple[float | None, float | None]
"""Bounds of an interval; None means infinite on that side."""


class SideFigure(Result, frozen=True, kw_only=True):
    """The value of one metric on one side.

    Attributes:
        value: null if it is missing, or ``infinite`` because arrivals never became ok.
        interval: 95 % confidence interval, which accounts for correlated values.
        why: reason for a missing value or interval; empty otherwise, and for the missing interval of a maximum.
    """

    metric: str
    unit: Unit
    value: float | None
    infinite: bool = False
    interval: Bounds | None = None
    n: Count
    why: str = ""

    @property
    def size(self) -> float:
        """The value as a float; NaN if it is missing."""
        return math.inf if self.infinite else math.nan if self.value is None else self.value

    @property
    def cost(self) -> float:
        """A number that is lower for a better side; infinite if the value is missing."""
        cost = -self.size if METRICS[self.metric].more_is_better else self.size
        return math.inf if math.isnan(cost) else cost


class ComparedSide(Result, frozen=True, kw_only=True):
    """A traffic entry, or a stage of an entry. ``figures`` has the order of the comparison's metrics."""

    name: str
    sent: Count
    ok: Count
    figures: list[SideFigure]


class SideDifference(Result, frozen=True, kw_only=True):
    """The difference of one metric between two sides: head minus base.

    Attributes:
        difference: null if it is infinite or unknown.
        interval: interval at the comparison's ``confidence``.
        paired: whether arrivals with the same inputs were compared in pairs.
        better: whether head is better; null if the difference is not significant.
        why: reason for a missing interval; empty otherwise.
    """

    base: str
    head: str
    metric: str
    difference: float | None
    interval: Bounds | None
    paired: bool
    n: tuple[int, int]
    told_apart: bool
    better: bool | None
    why: str = ""


class ComparisonAnswer(Result, frozen=True, kw_only=True):
    """The answer to one comparison of the scenario.

    Attributes:
        kind: ``alternatives`` compares traffic entries, ``effect`` compares stages of one entry.
        entry: the entry whose stages are compared; null for alternatives.
        by: metrics. For alternatives, the first metric decides, and later metrics decide ties.
        confidence: level of each difference's interval. With a probability of 95 %, all intervals (for alternatives:
            all of one metric) contain the true differences.
        sides: the compared sides. For an effect, the first side is the baseline.
        differences: for each metric, the differences of all pairs of alternatives, or of each stage from the baseline.
        best: the best alternative by the first metric; null if there is none.
        chosen: ``best``, or a tied alternative that is significantly better by a later metric.
        tied: ``best``, and alternatives that do not differ significantly from ``best`` by the first metric.
        thinned: whether arrivals were left out, because a stage had more than ``relative.MOST``.
        bursts: whether a compared stage is a burst. Its arrivals met the limiter at a single moment of a window.
    """

    kind: Literal["alternatives", "effect"]
    entry: str | None
    by: list[str]
    confidence: float
    sides: list[ComparedSide]
    differences: list[SideDifference]
    best: str | None = None
    chosen: str | None = None
    tied: tuple[str, ...] = ()
    worse: tuple[str, ...] = ()
    thinned: bool = False
    bursts: bool = False

    def side(self, name: str) -> ComparedSide:
        return next(side for side in self.sides if side.name == name)

    def between(self, one: str, other: str, metric: str) -> SideDifference | None:
        """Return the difference between two sides, in either order; None if they were not compared."""
        return next(
            (each for each in self.differences if each.metric == metric and {each.base, each.head} == {one, other}),
            None,
        )


def comparisons_of(info: RunInfo) -> list[WrittenComparison]:
    """Return the comparisons of the effective scenario.

    Raises:
        RecordError: if the list of comparisons is invalid, or names an unknown entry, stage or metric.
    """
    found = written(info, WrittenComparison)
    for each in found:
        names = each.entries or [each.entry or ""]
        unknown = [name for name in names if name not in info.traffic]
        unknown += [metric for metric in each.by if metric not in METRICS]
        if each.entries is None and not unknown:
            known = {stage.name for stage in info.traffic[names[0]].stages}
            unknown += [stage for stage in each.stages or [] if stage not in known]
        sides = each.entries or each.stages or []
        if unknown or not each.by or len({*sides}) < max(2, len(sides)):
            wrong = ", ".join(unknown) or "fewer than two different sides, or by no metric"
            raise RecordError(f"run.json is damaged: a comparison of {wrong}")
    return found


def compared_entries(info: RunInfo) -> set[str]:
    """Return the traffic entries that comparisons name."""
    return {name for each in comparisons_of(info) for name in each.entries or [each.entry or ""]}


def answer_all(record: Record, metrics: RunFigures, values: ArrivalValues) -> list[ComparisonAnswer]:
    """Answer every comparison of the scenario."""
    return [_answer(record, metrics, values, each) for each in comparisons_of(record.info)]


_Scope = tuple[CountedFigures, Stages]
"""The figures of a side, and their stages."""


def _answer(record: Record, metrics: RunFigures, values: ArrivalValues, asked: WrittenComparison) -> ComparisonAnswer:
    entry = asked.entry
    effect = asked.entries is None
    names = (asked.stages if effect else asked.entries) or []
    figures: Mapping[str, CountedFigures] = metrics.traffic if entry is None else metrics.traffic[entry].stages
    scopes: dict[str, _Scope] = {
        name: (figures[name], record.stages(traffic=entry or name, stage=name if entry else None)) for name in names
    }
    pairs = [(names[0], name) for name in names[1:]] if effect else list(combinations(names, 2))
    confidence = 1 - _ERROR / (len(pairs) * (len(asked.by) if effect else 1))
    both = [{name: scopes[name] for name in pair} for pair in pairs]
    found = ComparisonAnswer(
        kind="effect" if effect else "alternatives",
        entry=entry,
        by=asked.by,
        confidence=confidence,
        sides=[_side(name, values, *scopes[name], asked.by) for name in names],
        differences=[
            _difference(record.info, values, each, metric, confidence) for metric in asked.by for each in both
        ],
        thinned=values.cut,
        bursts=any(key.stage.burst for _, stages in scopes.values() for key in stages),
    )
    return found if effect else _chosen(found)


def _side(name: str, values: ArrivalValues, figures: CountedFigures, stages: Stages, by: list[str]) -> ComparedSide:
    made = [_figure(metric, values.get(metric, stages, whole=True), figures) for metric in by]
    return ComparedSide(name=name, sent=figures.operations.sent, ok=figures.operations.ok, figures=made)


def _difference(
    info: RunInfo, values: ArrivalValues, sides: dict[str, _Scope], metric: str, confidence: float
) -> SideDifference:
    base, head = sides
    stages = [each for _, each in sides.values()]
    found = difference(metric, info, values, stages, whole=True, confidence=confidence)
    if found is None:
        first, second = (measure(metric, figures) for figures, _ in sides.values())
        known = first.value is not None and second.value is not None
        apart = (second.value or 0.0) - (first.value or 0.0) if known else None
        why = "a maximum, a count and a rate per second have no interval" if known else "no values"
        found = Difference(first.value, second.value, apart, None, False, (first.n or 0, second.n or 0), why)
    sign = -1.0 if METRICS[metric].more_is_better else 1.0
    better = sign * found.interval[1] < 0 if found.told_apart and found.interval is not None else None
    ends, apart = _bounds(found.interval), _finite(found.difference)
    names = {"base": base, "head": head, "metric": metric}
    return result_of(SideDifference, found, **names, difference=apart, interval=ends, better=better)


def _figure(metric: str, values: Values | None, figures: CountedFigures) -> SideFigure:
    """Return a metric of a side, from the values of its arrivals or, without such values, from the run's figures."""
    unit = METRICS[metric].unit
    if values is None:
        measured = measure(metric, figures)
        why = "a count or a rate per second has no interval" if measured.value is not None else "nothing to measure"
        return SideFigure(metric=metric, unit=unit, value=measured.value, n=measured.n or 0, why=why)
    numbers, statistic = values.numbers, statistic_of(metric)
    if not numbers.size:
        return SideFigure(metric=metric, unit=unit, value=None, n=0, why="nothing to measure")
    found, value = estimate(numbers, statistic), figure_of(numbers, statistic)
    return SideFigure(
        metric=metric,
        unit=unit,
        value=_finite(value),
        infinite=math.isinf(value),
        interval=None if found is None else _bounds((found.low, found.high)),
        n=numbers.size,
        why="too few values for an interval" if found is None and statistic != "max" else "",
    )


def _chosen(found: ComparisonAnswer) -> ComparisonAnswer:
    """Choose the best alternative by the first metric, or a tied alternative by a later metric."""
    known = [side for side in found.sides if not math.isnan(side.figures[0].size)]
    if all(side.figures[0].infinite for side in known):
        return found
    # If sides are equal in a metric, a later metric decides.
    best = min(known, key=lambda side: [figure.cost for figure in side.figures]).name
    apart = {side.name: found.between(best, side.name, found.by[0]) for side in known}
    worse = [name for name, one in apart.items() if one is not None and one.told_apart]
    tied = [name for name in apart if name not in worse]
    chosen = _cheapest(found, best, tied)
    return msgspec.structs.replace(found, best=best, chosen=chosen, tied=tuple(tied), worse=tuple(worse))


def _cheapest(found: ComparisonAnswer, best: str, tied: Sequence[str]) -> str:
    """Return a tied alternative if it is significantly better than ``best`` by a later metric; else ``best``."""
    reached = [name for name in tied if not found.side(name).figures[0].infinite]
    for place, metric in enumerate(found.by[1:], 1):
        least = min(reached, key=lambda name: (found.side(name).figures[place].cost, name != best))
        one = found.between(best, least, metric)
        if one is not None and one.told_apart:
            return least
    return best


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _bounds(interval: tuple[float, float] | None) -> Bounds | None:
    return None if interval is None else (_finite(interval[0]), _finite(interval[1]))
