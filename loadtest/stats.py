"""Statistics that plans, live figures and reports share: ranks of percentiles, the binomial tail, a log histogram.

Only the functions are shared here; ``analysis`` holds the values of a record.
"""

import math
from bisect import bisect_left, bisect_right
from functools import lru_cache
from typing import Final, Self

import numpy as np

from loadtest.arrays import Ints

QUANTILES: Final = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
_TAIL: Final = 0.025
"""Each side of a 95 % interval."""
_SMALL: Final = 1e-290
_UNLIKELY: Final = -3.0

GROWTH: Final = 1.04
"""By which each bucket of a ``LogHistogram`` is wider than the one below it."""
_LOG_GROWTH: Final = math.log(GROWTH)


def rank(n: int, quantile: float) -> int:
    """The 1-based nearest rank ⌈q·n⌉ of n values; q·n is rounded to 1e-9 first, as 0.95 · 20 is 19.000…02 or so."""
    return max(1, math.ceil(round(quantile * n, 9)))


def ranks_to_draw(n: int, most: int) -> Ints:
    """At most so many of the ranks 1 … n, evenly and with both ends: where a distribution of n values is drawn."""
    return np.unique(np.linspace(1, n, min(n, most)).astype(np.int64))


@lru_cache(maxsize=4096)
def interval_ranks(n: int, quantile: float) -> tuple[int, int] | None:
    """1-based ranks l < u of n ordered values with P(X₍ₗ₎ ≤ percentile ≤ X₍ᵤ₎) ≥ 95 %, 2.5 % at most on each side.

    With B ~ Binomial(n, q) values below the percentile, l is the greatest rank with P(B ≤ l − 1) ≤ 2.5 % and u the
    least with P(B ≥ u) ≤ 2.5 % (David & Nagaraja, Order Statistics, §7.1).

    Returns:
        None where there is no such u, q^n > 2.5 %: p50 needs n ≥ 6, p90 36, p95 72, p99 368 (or no such l).
    """
    if not _has_ranks(n, quantile):
        return None
    from scipy.special import bdtr, bdtrc  # noqa: PLC0415 - slow to import, and most commands need none of it

    low = bisect_right(range(n), _TAIL, key=lambda k: bdtr(k, n, quantile))
    high = bisect_left(range(n), -_TAIL, key=lambda k: -bdtrc(k, n, quantile)) + 1
    return low, high


def needed(quantile: float) -> int:
    """How many values a percentile needs: the least n from which ``interval_ranks`` finds both ranks.

    Args:
        quantile: above 0, below 1.
    """
    n = math.ceil(math.log(_TAIL) / math.log(max(quantile, 1 - quantile)))
    # The logarithms may be off by one where n is close to a whole number.
    while n > 1 and _has_ranks(n - 1, quantile):
        n -= 1
    while not _has_ranks(n, quantile):
        n += 1
    return n


def _has_ranks(n: int, quantile: float) -> bool:
    """Whether the least and the greatest of n values bound the percentile: P(B = 0) and P(B = n) are 2.5 % at most."""
    return n >= 1 and max(quantile, 1 - quantile) ** n <= _TAIL


def carried(n: float) -> list[str]:
    """Names of the percentiles of ``QUANTILES`` that n values can carry."""
    return [name for name, quantile in QUANTILES.items() if n >= needed(quantile)]


def log10_at_most(k: int, n: int, p: float) -> float:
    """log10 of the probability of at most k of n, each with probability p (binomial, 0 < p < 1)."""
    from scipy.special import bdtr, gammaln, logsumexp  # noqa: PLC0415 - as above

    if k >= n:
        return 0.0
    probability = float(bdtr(k, n, p))
    if probability > _SMALL:
        return math.log10(probability)
    # What a float cannot hold is the sum of the last terms, in logarithms.
    j = np.arange(k + 1)
    terms = gammaln(n + 1) - gammaln(j + 1) - gammaln(n - j + 1) + j * math.log(p) + (n - j) * math.log1p(-p)
    return float(logsumexp(terms)) / math.log(10)


def wilson(share: float, n: float, z: float) -> tuple[float, float]:
    """The score interval of a share of n (Wilson, 1927), for a normal or Student deviate z."""
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Exactly, where nothing or everything was seen: by rounding, a bound would leave the share itself outside.
    low = 0.0 if share <= 0 else max(0.0, (middle - half) / (1 + z * z / n))
    return low, 1.0 if share >= 1 else min(1.0, (middle + half) / (1 + z * z / n))


def more_often(during: tuple[int, int], apart: tuple[int, int]) -> bool:
    """Whether events are more frequent in one time than in another, so that chance does it once in 1,000 times at most.

    Each time is (n, events of these). Fisher's question, asked of a binomial: of all events, are so many in the first?
    """
    total, share = during[1] + apart[1], during[0] / (during[0] + apart[0])
    # At least that many in the first time: at most that few in the other.
    return total > 0 and during[1] > total * share and log10_at_most(apart[1], total, 1 - share) <= _UNLIKELY


class LogHistogram:
    """Counts of non-negative values (ms, say) in logarithmic buckets, for live figures; two of them add up.

    Buckets grow by a fixed factor, so a quantile is off by at most half a bucket (about 2 %) wherever it lies, and two
    histograms add up without loss: the idea of HdrHistogram and DDSketch (Masson et al., "DDSketch", VLDB 2019).
    Final figures never come from here: they are computed from every sample.
    """

    __slots__ = ("buckets", "count", "zeros")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.zeros = 0

    def add(self, value: float) -> None:
        """Count one value; what is not above zero counts as zero."""
        self.count += 1
        if value <= 0:
            self.zeros += 1
            return
        bucket = math.ceil(math.log(value) / _LOG_GROWTH)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def quantile(self, share: float) -> float | None:
        """The value below which ``share`` (0-1) of the values lie, to about 2 %; None without values."""
        if self.count == 0:
            return None
        rank = max(1, math.ceil(share * self.count))
        seen = self.zeros
        if rank <= seen:
            return 0.0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                # The geometric middle of the bucket.
                return math.exp((bucket - 0.5) * _LOG_GROWTH)
        return None

    def __iadd__(self, other: "LogHistogram") -> Self:
        """Add another histogram's counts to this one."""
        self.count += other.count
        self.zeros += other.zeros
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        return self

    def __isub__(self, other: "LogHistogram") -> Self:
        """Take away another histogram's counts, which were added before."""
        self.count -= other.count
        self.zeros -= other.zeros
        for bucket, count in other.buckets.items():
            left = self.buckets[bucket] - count
            if left:
                self.buckets[bucket] = left
            else:
                del self.buckets[bucket]
        return self
