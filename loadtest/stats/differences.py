"""Differences of percentiles, means and shares between two sets of values of one run, each with an interval.

Values come in order of time, because neighbouring values are correlated. Each side's interval is computed for its
*effective* number of values (``loadtest.stats.correlated_bins``), which is at most n. MOVER, the square-and-add method,
combines both intervals (Zou & Donner, "Construction of confidence limits about effect measures", Statistics in Medicine
2008; for shares it is Newcombe's hybrid score interval, 1998). It needs no symmetry and accepts infinite bounds.

If row k of both sides is the same input, differences between inputs cancel: for means and shares by the correlation of
the rows, for percentiles by resampling blocks of rows (circular block bootstrap: Politis & Romano, 1992).
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from loadtest.arrays import Floats
from loadtest.stats.correlated_bins import effective_n
from loadtest.stats.means import circular_blocks, student
from loadtest.stats.order_statistics import interval_ranks, rank
from loadtest.stats.shares import wilson

_DRAWS: Final = 1000
_SEED: Final = 1
"""Fixed, so that the same values always have the same interval."""
_LEAST_BLOCK: Final = 4
"""Minimum number of rows in a block."""
_MOST_BLOCKS: Final = 20
"""Maximum number of blocks."""
_CHUNK: Final = 1_000_000
"""Maximum number of values drawn at a time: bounds the memory."""
_Side = Sequence[float] | Floats


class Difference(NamedTuple):
    """Head − factor × base.

    Attributes:
        base: value of the base side; infinite if a time-out determines it, None without values.
        head: likewise.
        difference: None if both are infinite or one is missing.
        interval: at the requested confidence; None for the reason in ``why``.
        paired: whether row k of both sides was one input.
        n: number of values of base and head.
        why: the reason for a missing interval.
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
    """One side's estimate and interval, with the influence of each value on its error (for the correlation)."""

    value: float
    low: float
    high: float
    influence: Floats


def estimate_percentile(values: Floats, quantile: float, confidence: float = 0.95) -> Estimate | None:
    """Estimate a percentile (nearest rank) of values in order of time, with an interval from order statistics.

    The interval uses the effective n. None if there are too few values for an interval.
    """
    ordered, n = np.sort(values), values.size
    figure = float(ordered[rank(n, quantile) - 1])
    below = (values <= figure).astype(np.float64)
    independent = max(1, math.floor(effective_n(below)))
    ranks = interval_ranks(independent, quantile, _tail(confidence))
    if ranks is None:
        return None
    # Scale the ranks to all values: rank l of 40 effective values is rank l·n ÷ 40 of n.
    low, high = (min(n, max(1, round(each * n / independent))) for each in ranks)
    return Estimate(figure, float(ordered[low - 1]), float(ordered[high - 1]), below)


def estimate_share(values: Floats, confidence: float = 0.95) -> Estimate | None:
    """Estimate the share of ones among zeros and ones in order of time, by Wilson's interval at the effective n.

    None without values.
    """
    if not values.size:
        return None
    share, z = float(values.mean()), student(1 - _tail(confidence), math.inf)
    return Estimate(share, *wilson(share, effective_n(values), z), values)


def estimate_mean(values: Floats, confidence: float = 0.95) -> Estimate | None:
    """Estimate the mean of values in order of time, by Student's t at the effective n.

    None for fewer than two values, or if one is infinite.
    """
    if values.size < 2 or not np.isfinite(values).all():
        return None
    mean, n = float(values.mean()), effective_n(values)
    half = student(1 - _tail(confidence), max(1.0, n - 1)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, values)


def percentile_difference(
    base: _Side, head: _Side, quantile: float, *, paired: bool = False, factor: float = 1.0, confidence: float = 0.95
) -> Difference:
    """Compare a percentile (nearest rank) of two sides.

    Args:
        base: values in order of time; a time-out is ``math.inf``.
        head: likewise.
        quantile: 0.5 for p50.
        paired: whether row k of both sides is one input.
        factor: multiplies base: ``head − 1.2 × base`` shows whether head is within 1.2 times base.
        confidence: of the interval; for several comparisons in one table, 1 − 0.05 ÷ their number.

    Raises:
        ValueError: if paired sides differ in length.
    """
    one, other = _arrays(base, head, paired=paired)
    n = (one.size, other.size)
    if not all(n):
        return Difference(None, None, None, None, paired, n, "no values")
    sides = [estimate_percentile(each, quantile, confidence) for each in (one, other)]
    if sides[0] is None or sides[1] is None:
        low, high = (float(np.sort(each)[rank(each.size, quantile) - 1]) for each in (one, other))
        few = f"too few values for an interval of p{100 * quantile:g}"
        return Difference(low, high, _minus(low, high, factor), None, paired, n, few)
    found = _joined(sides[0], sides[1], n, paired=False, factor=factor)
    if not paired or found.interval is None:
        return found._replace(paired=paired)
    return found._replace(paired=True, interval=_drawn(one, other, quantile, factor, _tail(confidence)))


def share_difference(
    base: _Side, head: _Side, *, paired: bool = False, factor: float = 1.0, confidence: float = 0.95
) -> Difference:
    """Compare the share of ones among zeros and ones; arguments and errors as for ``percentile_difference``."""
    return _difference(estimate_share, _arrays(base, head, paired=paired), paired, factor, confidence)


def mean_difference(
    base: _Side, head: _Side, *, paired: bool = False, factor: float = 1.0, confidence: float = 0.95
) -> Difference:
    """Compare means, for example of requests per operation; arguments and errors as for ``percentile_difference``."""
    return _difference(estimate_mean, _arrays(base, head, paired=paired), paired, factor, confidence)


def _difference(
    estimate: Callable[[Floats, float], Estimate | None],
    sides: tuple[Floats, Floats],
    paired: bool,
    factor: float,
    confidence: float,
) -> Difference:
    n = (sides[0].size, sides[1].size)
    one, other = (estimate(each, confidence) for each in sides)
    if one is None or other is None:
        few = "no values" if estimate is estimate_share else "fewer than two values"
        why = "a time-out has no mean" if min(n) > 1 else few
        return Difference(None, None, None, None, paired, n, why)
    return _joined(one, other, n, paired=paired, factor=factor)


def _tail(confidence: float) -> float:
    return (1 - confidence) / 2


def _drawn(base: Floats, head: Floats, quantile: float, factor: float, tail: float) -> tuple[float, float]:
    """The interval of a difference of percentiles over the same rows, from resampled blocks of rows."""
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
    correlation = _correlation(base.influence, head.influence) if paired else 0.0
    low = _reach(head.value - head.low, factor * (base.high - base.value), correlation)
    high = _reach(head.high - head.value, factor * (base.value - base.low), correlation)
    difference = _minus(base.value, head.value, factor)
    if difference is None:
        return Difference(base.value, head.value, None, None, paired, n, "half or more of both sides timed out")
    if math.isfinite(difference):
        interval = (difference - low, difference + high)
    else:
        # A time-out is infinite, so the bounds themselves give the interval.
        interval = (_bound(head.low, factor * base.high, -math.inf), _bound(head.high, factor * base.low, math.inf))
    return Difference(base.value, head.value, difference, interval, paired, n)


def _reach(one: float, other: float, correlation: float) -> float:
    """The distance from a difference to one end of its interval: √(a² − 2ρab + b²)."""
    if math.isinf(one) or math.isinf(other):
        return math.inf
    return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))


def _bound(head: float, base: float, unknown: float) -> float:
    return unknown if math.isinf(head) and math.isinf(base) else head - base


def _minus(base: float, head: float, factor: float) -> float | None:
    return None if math.isinf(base) and math.isinf(head) else head - factor * base


def _correlation(one: Floats, other: Floats) -> float:
    """Pearson's correlation; 0 if a side does not vary."""
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _arrays(base: _Side, head: _Side, *, paired: bool) -> tuple[Floats, Floats]:
    one, other = np.asarray(base, dtype=np.float64), np.asarray(head, dtype=np.float64)
    if paired and one.size != other.size:
        raise ValueError(f"paired sides must have equally many values, not {one.size} and {other.size}")
    return one, other
