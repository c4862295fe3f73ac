"""Changes inside a history: steps, trends and odd runs (outliers) of a metric.

For steps and trends, the noise is estimated from the differences between successive runs, which a few steps hardly
affect. The estimate is shrunk towards the metric's assumed noise. A stretch of runs is split where two means fit best
(binary segmentation, Scott & Knott, 1974). If a straight line fits better, the stretch is a trend. Significance levels
are adjusted for the number of tested places and metrics (Bonferroni).
"""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np

from loadtest.arrays import Floats
from loadtest.compare.changes import ALIKE, CONFIDENCE, PRIOR_DF, least_rise, reaches_effect, shrunk, winsorised
from loadtest.compare.measurements import NATURES, Key, Metric, RunMeasurements
from loadtest.compare.verdict import weights
from loadtest.stats.differences import student, student_tail

ALL: Final = "all entries"
"""Traffic entry's name for the geometric mean of all entries' response times p50."""
_LEVEL: Final = 0.0025
"""The maximum p of a change, adjusted for the tested places and metrics of a stretch."""
_SHORTEST: Final = 3
"""A step has at least this many runs on each side. Fewer deviating runs can only be odd runs."""
_ODD: Final = 3, 8
"""At most 3 in 8 runs, and at most 8, can be odd in one direction. More deviating runs are not outliers."""
_MOST_DF: Final = 12
"""To find odd runs, the noise of other entries counts with at most this many degrees of freedom."""
_TREND: Final = 10
"""A trend has at least this many runs."""
_NEAR: Final = 2
"""Steps of several metrics are one step if they are at most this many runs apart."""

_Kind = Literal["step", "trend", "odd run"]


class HistoryChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a metric within a stretch of accepted runs.

    Attributes:
        run: the first run with the change, or the first run of the trend.
        started: start time of ``run`` in UTC, ISO 8601.
        until: start time of a trend's last run; otherwise equal to ``started``.
        runs: number of runs in a trend, or after a step; 1 for an odd run.
        change: value after ÷ value before for times, after − before for shares.
        interval: 95 % interval of ``change``.
        also: number of other metrics with the same change.
    """

    kind: _Kind
    traffic: str
    stage: str
    metric: Metric
    run: str
    started: str
    until: str
    runs: int
    change: float
    interval: tuple[float, float]
    also: int = 0


class _Series(NamedTuple):
    """A metric over a stretch. Tests use ``scores``; a change's size comes from ``sizes`` (logarithms or shares)."""

    key: Key
    places: list[int]
    scores: Floats
    sizes: Floats
    prior: float
    resolution_ms: float

    @property
    def of_share(self) -> bool:
        return NATURES[self.key.metric].scale == "logit"


_Noise = tuple[float, float, float]
"""The variance of a metric's scores, its degrees of freedom, and the maximum p of a change."""


class _Found(NamedTuple):
    kind: _Kind
    begin: int
    end: int
    effect: tuple[float, float, float]
    strength: float
    key: Key


def find_changes(runs: Sequence[RunMeasurements]) -> tuple[list[HistoryChange], list[list[RunMeasurements]]]:
    """Return the changes in a stretch of comparable runs, in order of time, and the parts without a change.

    The parts lie between steps and trends, and lack odd runs.
    """
    every = _series(runs)
    level = _LEVEL / len(every) if every else 0.0
    found: list[_Found] = []
    rests = [one.scores.copy() for one in every]
    for one, rest in zip(every, rests, strict=True):
        found += _shifts(one, level, rest)
    for one, rest in zip(every, rests, strict=True):
        others = [left for other, left in zip(every, rests, strict=True) if other is not one and _alike(one, other)]
        found += _odd_runs(one, np.array([rest, *others]), level)
    found.sort(key=lambda each: -each.strength)
    kept: list[tuple[_Found, int]] = []
    while found:
        first = found[0]
        same = [each for each in found if _same(each, first)]
        kept.append((first, len({each.key for each in same}) - 1))
        found = [each for each in found if each not in same]
    kept.sort(key=lambda each: each[0].begin)
    odd = {each.begin for each, _ in kept if each.kind == "odd run"}
    trends = [each for each, _ in kept if each.kind == "trend"]
    edges = {each.begin for each, _ in kept if each.kind != "odd run"} | {each.end for each in trends}
    cuts = sorted({0, len(runs)} | edges)
    calm = [
        [runs[place] for place in range(begin, end) if place not in odd]
        for begin, end in pairwise(cuts)
        if not any(each.begin < end and begin < each.end for each in trends)
    ]
    return [_described(each, also, runs) for each, also in kept], calm


def _alike(one: _Series, other: _Series) -> bool:
    return (
        one.key.metric == other.key.metric
        and one.places == other.places
        and ALL not in {one.key.traffic, other.key.traffic}
        and (one.of_share or abs(float(np.median(one.scores) - np.median(other.scores))) < ALIKE)
    )


def _same(each: _Found, other: _Found) -> bool:
    """Whether changes of two metrics are the same change. A step of one metric may look like a trend in another."""
    kinds = {each.kind, other.kind}
    if kinds == {"trend"}:
        return each.begin < other.end and other.begin < each.end
    if kinds == {"step", "trend"}:
        step, trend = (each, other) if each.kind == "step" else (other, each)
        return trend.begin < step.begin < trend.end
    return len(kinds) == 1 and abs(each.begin - other.begin) <= (_NEAR if each.kind == "step" else 0)


def _series(runs: Sequence[RunMeasurements]) -> list[_Series]:
    columns: dict[Key, dict[int, int]] = {}
    for place, run in enumerate(runs):
        for at, one in enumerate(run.measurements):
            if not one.unfit:
                columns.setdefault(one.key, {})[place] = at
    found = {key: [runs[place].measurements[at] for place, at in column.items()] for key, column in columns.items()}
    tested = weights(found)
    made = []
    for key, column in found.items():
        if not tested[key]:
            continue
        nature, scores = NATURES[key.metric], np.array([one.score for one in column])
        of_share = nature.scale == "logit"
        sizes = np.array([one.value for one in column]) if of_share else scores
        counting = float(np.mean([one.count.variance for one in column])) if of_share else 0.0
        interval = max(one.resolution_ms for one in column)
        if np.ptp(sizes) == 0:
            continue  # Testing a constant, such as a share without events, would only make the other tests stricter.
        made.append(_Series(key, list(columns[key]), scores, sizes, nature.prior_sd**2 + counting, interval))
    whole = [one for one in made if one.key.metric == Metric.RESPONSE_TIME_P50 and len(one.places) == len(runs)]
    if len(whole) > 1:
        # The mean is the time of a typical entry, so the minimum effect in ms applies to it.
        mean = np.mean([one.scores for one in whole], axis=0)
        key, interval = Key(ALL, "", Metric.RESPONSE_TIME_P50), max(one.resolution_ms for one in whole)
        # Half of the variance may be common to all entries, so their mean keeps this half.
        made.append(_Series(key, list(range(len(runs))), mean, mean, whole[0].prior / 2, interval))
    return made


def _shifts(one: _Series, level: float, rest: Floats) -> list[_Found]:
    """Return the steps and trends of a metric. Subtract the fitted values from ``rest``, a copy of its scores."""
    if len(one.places) < 2 * _SHORTEST:
        return []
    moves = winsorised(np.diff(one.scores).tolist(), math.sqrt(one.prior))
    noise = *shrunk(one.prior, float(np.mean(np.square(moves))) / 2, len(moves)), level
    fitted = np.empty_like(rest)
    found, _ = _split(one, 0, len(rest), noise, fitted)
    rest -= fitted
    return found


def _odd_runs(one: _Series, rests: Floats, level: float) -> Iterator[_Found]:
    """Yield the runs with higher, or lower, values than all other runs, by more than chance (p ≤ ``level``) explains.

    ``rests`` has residuals by series and run: first those of ``one``, then those of series like it (``_alike``). The
    noise is the variance within the odd runs and within all other runs. Runs may be few, so the other series add their
    variance within the same two groups. Odd runs that several entries share therefore do not inflate the noise.
    """
    others, n = len(rests) - 1, rests.shape[1]
    if n < 2 * _SHORTEST or one.key.metric == Metric.RESPONSE_TIME_P95:
        return
    k = np.arange(1, _most_odd(n) + 1)
    weight = PRIOR_DF + min(_MOST_DF, PRIOR_DF * others)
    limits, rest = _limits(n, level, df := weight + n - 2), rests[0]
    for order in (np.argsort(rest), np.argsort(-rest)):
        inside = np.cumsum(rests[:, order], axis=1)[:, : len(k)]
        outside = rests.sum(axis=1, keepdims=True) - inside
        within = np.square(rests).sum(axis=1, keepdims=True) - inside**2 / k - outside**2 / (n - k)
        assumed = np.maximum(one.prior, np.median(within[1:], axis=0) / (n - 2) if others else 0.0)
        sd = np.sqrt((weight * assumed + within[0]) / df)
        deviates = np.abs(inside[0] / k - outside[0] / (n - k)) / sd / np.sqrt(1 / k + 1 / (n - k))
        best = int(np.argmax(deviates / limits))
        if deviates[best] < limits[best]:
            continue
        odd, usual = np.split(order, [best + 1])
        sizes = one.sizes if one.of_share else rest
        half = student(CONFIDENCE, df) * float(np.std(sizes[usual]) if one.of_share else sd[best])
        for at in odd.tolist():
            size = float(sizes[at] - np.mean(sizes[usual]))
            yield from _found(one, "odd run", (at, at, at), (size, half), float(deviates[best]))


@cache
def _limits(n: int, level: float, df: float) -> Floats:
    """Return, for k = 1, 2, …, the smallest significant difference between k odd runs and the n − k other runs.

    Its unit is the standard error. By chance, some group of odd runs reaches its difference with p ≤ ``level``.
    """
    most = _most_odd(n)
    return np.array([-student(level / 2 / most / math.comb(n, k), df) for k in range(1, most + 1)])


def _most_odd(n: int) -> int:
    return min(_ODD[0] * n // 8, _ODD[1])


def _split(one: _Series, begin: int, end: int, noise: _Noise, fitted: Floats) -> tuple[list[_Found], list[int]]:
    """Return the changes between runs ``begin`` and ``end``, and the places of all significant steps.

    Write the fitted values to ``fitted``.
    """
    scores, n, (variance, df, level) = one.scores[begin:end], end - begin, noise
    fitted[begin:end] = np.median(scores)
    found: list[_Found] = []
    if n < 2 * _SHORTEST:
        return found, []
    places: list[int] = []
    gain, place = _best_step(scores)
    if _p(gain / variance, df) * (n + 1 - 2 * _SHORTEST) <= level:
        middle = begin + place
        (left, before), (right, after) = (
            _split(one, *ends, noise, fitted) for ends in ((begin, middle), (middle, end))
        )
        size = float(np.mean(one.sizes[middle:end]) - np.mean(one.sizes[begin:middle]))
        half = student(CONFIDENCE, df) * math.sqrt(1 / place + 1 / (n - place)) * _scale(one, variance)
        step = _found(one, "step", (middle, end - 1, middle), (size, half), math.sqrt(gain / variance))
        found, places = [*step, *left, *right], [*before, middle, *after]
    days = np.arange(n) - (n - 1) / 2
    spread = float(days @ days)
    slope = float(days @ scores) / spread
    line, total = slope**2 * spread, float(np.var(scores)) * n
    within = sum(float(np.var(part)) * len(part) for part in np.split(scores, np.array(places, int) - begin))
    # A slope costs one parameter, a step two (Schwarz, "Estimating the dimension of a model", 1978).
    straight = total - line + variance * math.log(n) <= within + 2 * len(places) * variance * math.log(n)
    if straight and n >= _TREND and _p(line / variance, df) <= level:
        size = float(days @ one.sizes[begin:end]) / spread * (n - 1)
        half = student(CONFIDENCE, df) * (n - 1) / math.sqrt(spread) * _scale(one, variance)
        if trend := _found(one, "trend", (begin, end - 1, end - 1), (size, half), math.sqrt(line / variance)):
            fitted[begin:end] = np.mean(scores) + slope * days
            return trend, places
    return found, places


def _best_step(scores: Floats) -> tuple[float, int]:
    """Return the largest reduction of the sum of squares by a step, and the step's place."""
    n, totals = len(scores), np.cumsum(scores)
    at = np.arange(_SHORTEST, n - _SHORTEST + 1)
    gains = (totals[-1] * at / n - totals[at - 1]) ** 2 * n / (at * (n - at))
    return float(gains.max()), int(at[gains.argmax()])


def _p(square: float, df: float) -> float:
    return 2 * student_tail(math.sqrt(square), df)


def _scale(one: _Series, variance: float) -> float:
    """Return the noise of the sizes (standard deviation). For shares, estimate it from successive differences."""
    return math.sqrt(variance) if one.sizes is one.scores else float(np.std(np.diff(one.sizes))) / math.sqrt(2)


def _found(
    one: _Series, kind: _Kind, at: tuple[int, int, int], effect: tuple[float, float], strength: float
) -> list[_Found]:
    """Return a list with the change, or an empty list if the change is below the minimum effect.

    Args:
        one: the metric.
        kind: the change's kind.
        at: indexes of the first and last run of the change, and of a run whose value is the value after the change.
        effect: the size of the change, and half the width of its interval.
        strength: the change ÷ its standard error. If several metrics show the same change, the strongest is kept.
    """
    nature, (size, half), value = NATURES[one.key.metric], effect, float(one.sizes[at[2]])
    if one.of_share:
        matters = abs(size) >= least_rise(min(value, value - size))
    else:
        difference = abs(math.exp(value) - math.exp(value - size))
        matters = reaches_effect(nature, nature.worse * abs(size), difference, one.resolution_ms)
    ends = one.places[at[0]], one.places[at[1]] + 1
    return [_Found(kind, *ends, (size, size - half, size + half), strength, one.key)] if matters else []


def _described(each: _Found, also: int, runs: Sequence[RunMeasurements]) -> HistoryChange:
    ratio = NATURES[each.key.metric].scale == "log"
    change, low, high = (math.exp(end) if ratio else end for end in each.effect)
    return HistoryChange(
        kind=each.kind,
        **each.key._asdict(),
        run=runs[each.begin].run,
        started=runs[each.begin].started,
        until=runs[each.end - 1 if each.kind == "trend" else each.begin].started,
        runs=each.end - each.begin,
        change=change,
        interval=(low, high),
        also=also,
    )
