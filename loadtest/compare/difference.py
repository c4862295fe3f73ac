"""How far two sets of values of one run are apart: percentiles, means and shares, with an interval each.

Values come in the order of time, since neighbours in a run are alike: each side's interval is made for its *effective*
number of values, n ÷ (variance of batch means ÷ variance of independent values), and never for more than n. Both sides'
intervals are joined by MOVER, the square-and-add method (Zou & Donner, "Construction of confidence limits about effect
measures", Statistics in Medicine 2008; of shares it is Newcombe's hybrid score interval, 1998), which needs no symmetry
and takes infinite bounds.

Row k of both sides may be the same input. Then what inputs differ by cancels: of means and shares by the correlation of
the rows, of percentiles by drawing blocks of rows again and again (circular block bootstrap: Politis & Romano, 1992).
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from loadtest.arrays import Floats
from loadtest.compare.change import student
from loadtest.stats import rank, wilson

_LEAST_BATCH: Final = 4
"""Values without which a batch has no mean worth the name."""
_MOST_BATCHES: Final = 20
_DRAWS: Final = 1000
_SEED: Final = 1
"""The same values always have the same interval."""
_CHUNK: Final = 1_000_000


class Difference(NamedTuple):
    """Head − factor × base.

    Attributes:
        base: figure of the base side; infinite where a time-out decides it, None without values.
        head: likewise.
        difference: None where both are infinite, or one is missing.
        interval: at the confidence that was asked for; None where ``why`` says so.
        paired: whether row k of both sides was one input.
        n: values of base and head.
        why: why there is no interval.
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
        """Whether the interval leaves zero out."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


class Estimate(NamedTuple):
    """One side: its figure, its interval, and what each value adds to the figure's error (for the correlation)."""

    value: float
    low: float
    high: float
    influence: Floats


def percentile_difference(
    base: Sequence[float] | Floats,
    head: Sequence[float] | Floats,
    quantile: float,
    *,
    paired: bool = False,
    factor: float = 1.0,
    confidence: float = 0.95,
) -> Difference:
    """Compare a percentile (nearest rank) of two sides.

    Args:
        base: values in the order of time; a time-out is ``math.inf``, as long as it may be.
        head: likewise.
        quantile: 0.5 for p50.
        paired: whether row k of both sides is one input.
        factor: ``head − 1.2 × base`` tells whether head is within 1.2 times base.
        confidence: of the interval; with several comparisons in one table, 1 − 0.05 ÷ their number.

    Raises:
        ValueError: if paired sides differ in length.
    """
    one, other = _arrays(base, head, paired=paired)
    if not (one.size and other.size):
        return _none(one, other, "no values", paired=paired)
    tail = (1 - confidence) / 2
    sides = [_percentile(each, quantile, tail) for each in (one, other)]
    n = (one.size, other.size)
    if sides[0] is None or sides[1] is None:
        low, high = (float(np.sort(each)[rank(each.size, quantile) - 1]) for each in (one, other))
        few = f"too few values for an interval of p{100 * quantile:g}"
        return Difference(low, high, _minus(low, high, factor), None, paired, n, few)
    found = _joined(sides[0], sides[1], n, paired=False, factor=factor)
    if not paired or found.interval is None:
        return found._replace(paired=paired)
    return found._replace(paired=True, interval=_drawn(one, other, quantile, factor, tail))


def share_difference(
    base: Sequence[float] | Floats,
    head: Sequence[float] | Floats,
    *,
    paired: bool = False,
    factor: float = 1.0,
    confidence: float = 0.95,
) -> Difference:
    """Compare the share of ones among zeros and ones; arguments and errors as for ``percentile_difference``."""
    one, other = _arrays(base, head, paired=paired)
    if not (one.size and other.size):
        return _none(one, other, "no values", paired=paired)
    tail = (1 - confidence) / 2
    return _joined(_share(one, tail), _share(other, tail), (one.size, other.size), paired=paired, factor=factor)


def mean_difference(
    base: Sequence[float] | Floats,
    head: Sequence[float] | Floats,
    *,
    paired: bool = False,
    factor: float = 1.0,
    confidence: float = 0.95,
) -> Difference:
    """Compare means (requests per operation, say); arguments and errors as for ``percentile_difference``."""
    one, other = _arrays(base, head, paired=paired)
    if min(one.size, other.size) < 2:
        return _none(one, other, "fewer than two values", paired=paired)
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return _none(one, other, "a time-out has no mean", paired=paired)
    tail = (1 - confidence) / 2
    return _joined(_mean(one, tail), _mean(other, tail), (one.size, other.size), paired=paired, factor=factor)


def estimate_percentile(values: Floats, quantile: float, confidence: float = 0.95) -> Estimate | None:
    """A percentile (nearest rank) of values in the order of time; None where they carry no interval."""
    return _percentile(values, quantile, (1 - confidence) / 2)


def estimate_share(values: Floats, confidence: float = 0.95) -> Estimate | None:
    """The share of ones among zeros and ones in the order of time; None without any."""
    return _share(values, (1 - confidence) / 2) if values.size else None


def estimate_mean(values: Floats, confidence: float = 0.95) -> Estimate | None:
    """The mean of values in the order of time; None of fewer than two, and where one is infinite."""
    if values.size < 2 or not np.isfinite(values).all():
        return None
    return _mean(values, (1 - confidence) / 2)


def effective_n(values: Floats) -> tuple[float, int]:
    """To how many independent values a series amounts, by batch means; and the degrees of freedom of that.

    Args:
        values: in the order of time.
    """
    n = values.size
    batches = min(_MOST_BATCHES, n // _LEAST_BATCH)
    plain = float(values.var())
    if batches < 2 or plain == 0:
        return float(n), max(1, n - 1)
    means = np.array([part.mean() for part in np.array_split(values, batches)])
    inflation = float(means.var(ddof=1)) * n / batches / plain
    return n / max(1.0, inflation), batches - 1


def _percentile(values: Floats, quantile: float, tail: float) -> Estimate | None:
    """A percentile with its interval from order statistics, at the effective n; None where n carries none."""
    ordered, n = np.sort(values), values.size
    figure = float(ordered[rank(n, quantile) - 1])
    below = (values <= figure).astype(np.float64)
    independent = max(1, math.floor(effective_n(below)[0]))
    ranks = _interval_ranks(independent, quantile, tail)
    if ranks is None:
        return None
    # The same shares of the whole: rank l of 40 effective values is rank l·n ÷ 40 of n.
    low, high = (min(n, max(1, round(each * n / independent))) for each in ranks)
    return Estimate(figure, float(ordered[low - 1]), float(ordered[high - 1]), below)


def _drawn(base: Floats, head: Floats, quantile: float, factor: float, tail: float) -> tuple[float, float]:
    """The interval of a difference of percentiles over the same rows, from blocks of rows drawn with replacement."""
    n, place = base.size, rank(base.size, quantile) - 1
    block = max(_LEAST_BATCH, math.ceil(n / _MOST_BATCHES))
    random, blocks = np.random.default_rng(_SEED), math.ceil(n / block)
    found = []
    for _ in range(0, _DRAWS, step := max(1, min(_DRAWS, _CHUNK // n))):
        starts = random.integers(0, n, (step, blocks, 1))
        rows = ((starts + np.arange(block)) % n).reshape(step, -1)[:, :n]
        sides = [np.partition(side[rows], place, axis=1)[:, place] for side in (base, head)]
        with np.errstate(invalid="ignore"):
            found.append(sides[1] - factor * sides[0])
    differences = np.concatenate(found)
    # Two time-outs may be apart by anything.
    lowest = np.sort(np.where(np.isnan(differences), -np.inf, differences))
    highest = np.sort(np.where(np.isnan(differences), np.inf, differences))
    beyond = math.floor(tail * differences.size)
    return float(lowest[beyond]), float(highest[-1 - beyond])


def _share(values: Floats, tail: float) -> Estimate:
    """A share with its Wilson interval, at the effective n; Student's t for z, since the batches are few."""
    share, (n, df) = float(values.mean()), effective_n(values)
    return Estimate(share, *wilson(share, n, student(1 - tail, df)), values)


def _mean(values: Floats, tail: float) -> Estimate:
    """A mean with its interval by Student's t, at the effective n."""
    mean, (n, df) = float(values.mean()), effective_n(values)
    half = student(1 - tail, df) * float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, values)


def _joined(base: Estimate, head: Estimate, n: tuple[int, int], *, paired: bool, factor: float) -> Difference:
    """Head − factor × base, by MOVER."""
    correlation = _correlation(base.influence, head.influence) if paired else 0.0
    low = _reach(head.value - head.low, factor * (base.high - base.value), correlation)
    high = _reach(head.high - head.value, factor * (base.value - base.low), correlation)
    difference = _minus(base.value, head.value, factor)
    if difference is None:
        return Difference(base.value, head.value, None, None, paired, n, "half or more of both sides timed out")
    if math.isfinite(difference):
        interval = (difference - low, difference + high)
    else:
        # One figure is a time-out, so that nothing can be added to it: the bounds themselves say how far apart.
        interval = (_bound(head.low, factor * base.high, -math.inf), _bound(head.high, factor * base.low, math.inf))
    return Difference(base.value, head.value, difference, interval, paired, n)


def _reach(one: float, other: float, correlation: float) -> float:
    """How far the interval of a difference goes to one side: √(a² − 2ρab + b²)."""
    if math.isinf(one) or math.isinf(other):
        return math.inf
    return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))


def _bound(head: float, base: float, unknown: float) -> float:
    """A bound of head less one of base; ``unknown`` if both are infinite."""
    return unknown if math.isinf(head) and math.isinf(base) else head - base


def _minus(base: float, head: float, factor: float) -> float | None:
    """Head − factor × base; None if both are infinite."""
    return None if math.isinf(base) and math.isinf(head) else head - factor * base


def _correlation(one: Floats, other: Floats) -> float:
    """Pearson's, 0 where a side does not vary."""
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


@lru_cache(maxsize=4096)
def _interval_ranks(n: int, quantile: float, tail: float) -> tuple[int, int] | None:
    """1-based ranks of n ordered values between which a percentile lies, missing it in ``tail`` of cases on each side.

    As ``stats.interval_ranks``, for any tail: the least and the greatest rank with at most ``tail`` beyond
    (David & Nagaraja, Order Statistics, §7.1).
    """
    from scipy.special import bdtr, bdtrc  # noqa: PLC0415 - slow to import, and most commands need none of it

    if quantile**n > tail or (1 - quantile) ** n > tail:
        return None
    low = bisect_right(range(n), tail, key=lambda k: float(bdtr(k, n, quantile)))
    high = bisect_left(range(n), -tail, key=lambda k: -float(bdtrc(k, n, quantile))) + 1
    return (low, high) if low >= 1 and high <= n else None


def _arrays(base: Sequence[float] | Floats, head: Sequence[float] | Floats, *, paired: bool) -> tuple[Floats, Floats]:
    one, other = np.asarray(base, dtype=np.float64), np.asarray(head, dtype=np.float64)
    if paired and one.size != other.size:
        raise ValueError(f"paired sides must have equally many values, not {one.size} and {other.size}")
    return one, other


def _none(base: Floats, head: Floats, why: str, *, paired: bool) -> Difference:
    return Difference(None, None, None, None, paired, (base.size, head.size), why)
