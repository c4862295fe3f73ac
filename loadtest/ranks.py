"""Which ranks of n ordered values stand for a percentile, and how many values a percentile needs. Pure."""

import math
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

QUANTILES: Final = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
_TAIL: Final = 0.025
"""Each side of a 95 % interval."""


def rank(n: int, quantile: float) -> int:
    """The 1-based nearest rank ⌈q·n⌉ of n values; q·n is rounded to 1e-9 first, as 0.95 · 20 is 19.000…02 or so."""
    return max(1, math.ceil(round(quantile * n, 9)))


def ranks_to_draw(n: int, most: int) -> NDArray[np.int64]:
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
    if n < 1 or quantile**n > _TAIL or (1 - quantile) ** n > _TAIL:
        return None
    first, cdf = _binomial_cdf(n, quantile)
    low = first + int(np.searchsorted(cdf, _TAIL, side="right"))  # entries ≤ tail are k = 0 … l − 1
    high = first + int(np.searchsorted(cdf, 1 - _TAIL, side="left")) + 1  # 1 − CDF(u − 1) ≤ tail
    return (low, high) if low >= 1 and high <= n else None


def needed(quantile: float) -> int:
    """How many values a percentile needs: the least n from which ``interval_ranks`` finds both ranks.

    Args:
        quantile: above 0, below 1.
    """
    n = math.ceil(math.log(_TAIL) / math.log(max(quantile, 1 - quantile)))
    # The logarithms may be off by one where n is close to a whole number.
    while n > 1 and interval_ranks(n - 1, quantile) is not None:
        n -= 1
    while interval_ranks(n, quantile) is None:
        n += 1
    return n


def carried(n: float) -> list[str]:
    """Names of the percentiles of ``QUANTILES`` that n values can carry."""
    return [name for name, quantile in QUANTILES.items() if n >= needed(quantile)]


def _binomial_cdf(n: int, q: float) -> tuple[int, NDArray[np.float64]]:
    """P(B ≤ k) for k = first, first + 1, …, n or 12 sd above the mean; what lies below ``first`` is below 1e-30."""
    spread = 12 * math.sqrt(n * q * (1 - q)) + 2
    first, last = max(0, math.floor(n * q - spread)), min(n, math.ceil(n * q + spread))
    k = np.arange(first, last)
    steps = np.log(n - k) - np.log(k + 1) + math.log(q) - math.log1p(-q)
    log_first = math.lgamma(n + 1) - math.lgamma(first + 1) - math.lgamma(n - first + 1)
    log_first += first * math.log(q) + (n - first) * math.log1p(-q)
    log_pmf = log_first + np.concatenate(([0.0], np.cumsum(steps)))
    return first, np.cumsum(np.exp(log_pmf))
