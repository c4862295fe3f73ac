"""Student's t, and differences between two sets of values of one run (the sides), with intervals.

Values are in order of time, because neighbouring values are correlated. Each side's interval is computed for its
*effective* number of values: the number of independent values that would give an equally uncertain statistic
(``correlated_bins``). MOVER, the square-and-add method, combines both intervals (Zou & Donner, "Construction of
confidence limits about effect measures", Statistics in Medicine 2008; for shares it is Newcombe's hybrid score
interval, 1998). MOVER accepts asymmetric intervals and infinite bounds.

If value k of both sides (row k) has the same input, differences between inputs cancel. Intervals of means and shares
then use the correlation between the sides, and intervals of percentiles use resampled blocks of rows (circular block
bootstrap: Politis & Romano, 1992).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from loadtest.arrays import Floats
from loadtest.stats.correlated_bins import circular_blocks, effective_n
from loadtest.stats.order_statistics import QUANTILES, interval_ranks, rank
from loadtest.stats.shares import wilson

_DRAWS: Final = 1000
_SEED: Final = 1
"""The seed is fixed, so that the same values always have the same interval."""
_LEAST_BLOCK: Final = 4
_MOST_BLOCKS: Final = 20
"""Rows are divided into at most ``_MOST_BLOCKS`` blocks of at least ``_LEAST_BLOCK`` rows."""
_CHUNK: Final = 1_000_000
"""At most this many values are drawn at a time, to limit memory."""
_Side = Sequence[float] | Floats


@lru_cache(maxsize=1024)
def student(quantile: float, df: float) -> float:
    """Return a quantile of Student's t with ``df`` degrees of freedom."""
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import, and most commands do not need it

    return float(stdtrit(df, quantile))


def student_tail(deviate: float, df: float) -> float:
    """Return the probability that Student's t with ``df`` degrees of freedom exceeds ``deviate``."""
    from scipy.special import stdtr  # noqa: PLC0415 - slow to import

    return float(stdtr(df, -deviate))


def variance(values: Sequence[float]) -> float:
    """Return the sample variance of two or more values. ``statistics.variance`` is exact, but thirty times slower."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


class Difference(NamedTuple):
    """The difference of two sides: head − factor × base.

    A side's value is infinite if it reaches time-outs, and None if it is unknown. The difference is None if both
    values are infinite, or if one is None. If the interval is None, ``why`` states the reason.
    """

    base: float | None
    head: float | None
    difference: float | None
    interval: tuple[float, float] | None
    paired: bool
    n: tuple[int, int]
    why: str = ""

    @property
    def told_apart(self) -> bool:
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


class Estimate(NamedTuple):
    """One side's estimate and interval. ``influence`` is each value's contribution to the estimate."""

    value: float
    low: float
    high: float
    influence: Floats


def figure_of(values: Floats, statistic: str) -> float:
    """Return a percentile (nearest rank) or the maximum. Any other statistic is the mean."""
    if statistic in QUANTILES:
        return float(np.sort(values)[rank(values.size, QUANTILES[statistic]) - 1])
    return float(values.max() if statistic == "max" else values.mean())


def estimate(values: Floats, statistic: str, confidence: float = 0.95) -> Estimate | None:
    """Estimate a statistic of time-ordered values. Its interval uses the effective number of values.

    The statistic is a percentile such as ``p95`` (order statistics), ``share`` of zeros and ones (Wilson's interval),
    ``mean`` (Student's t) or ``max``. The result is None without an interval. A maximum has no interval. A percentile
    needs enough values, and a mean needs two or more values, all finite.
    """
    if not values.size or statistic == "max":
        return None
    figure, tail = figure_of(values, statistic), (1 - confidence) / 2
    if statistic in QUANTILES:
        below = (values <= figure).astype(np.float64)
        n = values.size
        independent = max(1, math.floor(effective_n(below)))
        ranks = interval_ranks(independent, QUANTILES[statistic], tail)
        if ranks is None:
            return None
        # Scale the ranks to all values: rank l of 40 effective values is rank l·n ÷ 40 of n values.
        low, high = np.sort(values)[[min(n, max(1, round(each * n / independent))) - 1 for each in ranks]].tolist()
        return Estimate(figure, low, high, below)
    if statistic == "share":
        return Estimate(figure, *wilson(figure, effective_n(values), student(1 - tail, math.inf)), values)
    if values.size < 2 or not np.isfinite(values).all():
        return None
    independent_n = effective_n(values)
    half = student(1 - tail, max(1.0, independent_n - 1)) * float(values.std(ddof=1)) / math.sqrt(independent_n)
    return Estimate(figure, figure - half, figure + half, values)


def difference(
    base: _Side, head: _Side, statistic: str, *, paired: bool = False, factor: float = 1.0, confidence: float = 0.95
) -> Difference:
    """Compare a statistic (see ``estimate``) of two sides. Values are in order of time; a time-out is ``math.inf``.

    ``paired``: whether row k of both sides has the same input. With a ``factor`` of 1.2, the difference is negative if
    head is less than 1.2 times base. For m comparisons in one table, use a ``confidence`` of 1 − 0.05 ÷ m (Bonferroni).

    Raises:
        ValueError: if paired sides differ in length.
    """
    one, other = np.asarray(base, dtype=np.float64), np.asarray(head, dtype=np.float64)
    if paired and one.size != other.size:
        raise ValueError(f"paired sides must have equally many values, not {one.size} and {other.size}")
    n, is_percentile = (one.size, other.size), statistic in QUANTILES
    sides = [estimate(each, statistic, confidence) for each in (one, other)]
    if sides[0] is not None and sides[1] is not None:
        found = _joined(sides[0], sides[1], n, paired=paired and not is_percentile, factor=factor)
        if is_percentile and paired and found.interval is not None:
            drawn = _drawn(one, other, QUANTILES[statistic], factor, (1 - confidence) / 2)
            found = found._replace(interval=drawn)
        return found._replace(paired=paired)
    if is_percentile and all(n):
        low, high = (figure_of(each, statistic) for each in (one, other))
        few = f"too few values for an interval of {statistic}"
        return Difference(low, high, _minus(low, high, factor), None, paired, n, few)
    few = "fewer than two values" if statistic == "mean" else "no values"
    return Difference(None, None, None, None, paired, n, "a time-out has no mean" if min(n) > 1 else few)


def _drawn(base: Floats, head: Floats, quantile: float, factor: float, tail: float) -> tuple[float, float]:
    """Return the interval of a difference of percentiles of paired sides, from resampled blocks of rows."""
    n, place = base.size, rank(base.size, quantile) - 1
    block = max(_LEAST_BLOCK, math.ceil(n / _MOST_BLOCKS))
    random = np.random.default_rng(_SEED)
    found = []
    for _ in range(0, _DRAWS, step := max(1, min(_DRAWS, _CHUNK // n))):
        rows = circular_blocks(random, step, n, block)
        sides = [np.partition(side[rows], place, axis=1)[:, place] for side in (base, head)]
        with np.errstate(invalid="ignore"):
            found.append(sides[1] - factor * sides[0])
    differences = np.concatenate(found)
    # The difference of two time-outs is unknown.
    lowest = np.sort(np.where(np.isnan(differences), -np.inf, differences))
    highest = np.sort(np.where(np.isnan(differences), np.inf, differences))
    beyond = math.floor(tail * differences.size)
    return float(lowest[beyond]), float(highest[-1 - beyond])


def _joined(base: Estimate, head: Estimate, n: tuple[int, int], *, paired: bool, factor: float) -> Difference:
    correlation = 0.0
    if paired and base.influence.std() and head.influence.std():  # constant values have no correlation
        correlation = float(np.corrcoef(base.influence, head.influence)[0, 1])
    low = _reach(head.value - head.low, factor * (base.high - base.value), correlation)
    high = _reach(head.high - head.value, factor * (base.value - base.low), correlation)
    difference = _minus(base.value, head.value, factor)
    if difference is None:
        return Difference(base.value, head.value, None, None, paired, n, "both values reach time-outs")
    if math.isfinite(difference):
        interval = (difference - low, difference + high)
    else:
        # One value is infinite (a time-out), so the interval follows from the bounds of both sides.
        interval = (_bound(head.low, factor * base.high, -math.inf), _bound(head.high, factor * base.low, math.inf))
    return Difference(base.value, head.value, difference, interval, paired, n)


def _reach(one: float, other: float, correlation: float) -> float:
    """Return the distance from a difference to one end of its interval, given the same distances of both sides."""
    if math.isinf(one) or math.isinf(other):
        return math.inf
    return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))


def _bound(head: float, base: float, unknown: float) -> float:
    return unknown if math.isinf(head) and math.isinf(base) else head - base


def _minus(base: float, head: float, factor: float) -> float | None:
    return None if math.isinf(base) and math.isinf(head) else head - factor * base
