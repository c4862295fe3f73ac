"""Percentiles by nearest rank, their 95 % intervals from order statistics, and the sample sizes that they need.

``LogHistogram`` has approximate percentiles, for live figures.
"""

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from typing import Final, Self

import numpy as np

QUANTILES: Final = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
_TAIL: Final = 0.025
"""Probability beyond each end of a 95 % interval."""
GROWTH: Final = 1.04
"""The ratio of the widths of neighbouring buckets of a ``LogHistogram``."""
_LOG_GROWTH: Final = math.log(GROWTH)
_ZERO: Final = -(10**6)
"""The bucket of zero, which is below the bucket of any positive float."""


def rank(n: int, quantile: float) -> int:
    """Return the 1-based nearest rank ⌈q·n⌉. Because 0.07 · 100 gives 7.000…01, q·n is rounded to 1e-9 first."""
    return max(1, math.ceil(round(quantile * n, 9)))


@lru_cache(maxsize=4096)
def interval_ranks(n: int, quantile: float, tail: float = _TAIL) -> tuple[int, int] | None:
    """Return 1-based ranks l < u. The percentile is between the values of these ranks with at least 95 % probability.

    The number B of values below the percentile is binomial (n, q). The rank l is the greatest with P(B ≤ l − 1) ≤
    2.5 %, and u is the least with P(B ≥ u) ≤ 2.5 % (David & Nagaraja, Order Statistics, §7.1). ``tail`` replaces 2.5 %.

    Returns:
        None if there is no such l or u. A u needs q^n ≤ 2.5 %: n ≥ 6 for p50, 36 for p90, 72 for p95, 368 for p99.
    """
    if not _has_ranks(n, quantile, tail):
        return None
    from scipy.special import bdtr, bdtrc  # noqa: PLC0415 - slow to import, and most commands do not need it

    low = bisect_right(range(n), tail, key=lambda k: bdtr(k, n, quantile))
    high = bisect_left(range(n), -tail, key=lambda k: -bdtrc(k, n, quantile)) + 1
    return low, high


def needed(quantile: float) -> int:
    """Return the sample size that a percentile needs: the least n for which ``interval_ranks`` has a result."""
    n = math.ceil(math.log(_TAIL) / math.log(max(quantile, 1 - quantile)))
    # The logarithms are rounded, so n may be off by one.
    return next(each for each in count(max(1, n - 1)) if _has_ranks(each, quantile))


def _has_ranks(n: int, quantile: float, tail: float = _TAIL) -> bool:
    """Whether n values are enough to bound the percentile on both sides."""
    return n >= 1 and max(quantile, 1 - quantile) ** n <= tail


class LogHistogram:
    """Counts of non-negative values (for example ms) in logarithmic buckets. A quantile is off by at most 2 %.

    Histograms add up without loss, as in HdrHistogram and DDSketch (Masson et al., "DDSketch", VLDB 2019).
    """

    __slots__ = ("buckets", "longest", "total")

    def __init__(self) -> None:
        self.buckets: Counter[int] = Counter()
        """Number of values by bucket."""
        self.total = self.longest = 0.0
        """Sum (``total``) and maximum (``longest``) of the values."""

    def extend(self, new: Sequence[float]) -> None:
        """Count several values; a negative value counts as zero."""
        if not new:
            return
        values = np.maximum(new, 0.0)
        self.total += float(values.sum())
        self.longest = max(self.longest, float(values.max()))
        with np.errstate(divide="ignore"):
            buckets = np.maximum(np.ceil(np.log(values) / _LOG_GROWTH), _ZERO).astype(int)
        self.buckets.update(buckets.tolist())

    @property
    def count(self) -> int:
        return self.buckets.total()

    def quantile(self, share: float) -> float | None:
        """Return the quantile for a share from 0 to 1; None without values."""
        rank, seen = max(1, math.ceil(share * self.count)), 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                # The geometric mean of the bucket's bounds.
                return 0.0 if bucket == _ZERO else math.exp((bucket - 0.5) * _LOG_GROWTH)
        return None

    def __iadd__(self, other: "LogHistogram") -> Self:
        self.buckets.update(other.buckets)
        self.total += other.total
        self.longest = max(self.longest, other.longest)
        return self

    def __isub__(self, other: "LogHistogram") -> Self:
        """Subtract a histogram that was added before. The maximum does not change."""
        self.buckets -= other.buckets
        self.total -= other.total
        return self
