"""The one percentile function: nearest rank, with n, an interval, and the honesty to say nothing.

Every output takes its percentiles from here, so that the same record shows the same number everywhere.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

QUANTILES: Final = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
_TAIL: Final = 0.025
"""Each side of a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Percentile:
    """A percentile by nearest rank and its 95 % interval from order statistics.

    The interval knows of sampling only: requests of a run are correlated, so the truth is wider. ``value`` and the
    bounds are None where n carries no upper bound.
    """

    n: int
    value: float | None
    low: float | None
    high: float | None


def percentile(ordered: NDArray[np.float64], quantile: float) -> Percentile:
    """The smallest value that at least a share ``quantile`` of the values does not exceed (inverted CDF).

    Args:
        ordered: the values, ascending, without NaN.
        quantile: from 0.5 to below 1.
    """
    n = len(ordered)
    ranks = interval_ranks(n, quantile)
    if ranks is None:
        return Percentile(n, None, None, None)
    low, high = ranks
    return Percentile(n, float(ordered[rank(n, quantile) - 1]), float(ordered[low - 1]), float(ordered[high - 1]))


def rank(n: int, quantile: float) -> int:
    """The 1-based nearest rank ⌈q·n⌉ of n values; q·n is rounded to 1e-9 first, as 0.95 · 20 is 19.000…02 or so."""
    return max(1, math.ceil(round(quantile * n, 9)))


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


def summarize(values: NDArray[np.float64], at_least: NDArray[np.bool_] | None = None) -> dict[str, object]:
    """The block that ``metrics.json`` holds for a latency: n, mean, percentiles with intervals, max.

    Args:
        values: in any order; NaN is left out.
        at_least: True for values of which only a lower bound is known (time-outs).

    Returns:
        ``{n, mean, p50, p50_interval, …, max, at_least}``; ``at_least`` names the statistics that reach such a value.
    """
    known = ~np.isnan(values)
    censored = np.zeros(len(values), bool) if at_least is None else at_least
    open_from = values[known & censored].min() if (known & censored).any() else math.inf
    ordered = np.sort(values[known])
    block: dict[str, object] = {"n": len(ordered), "mean": float(ordered.mean()) if len(ordered) else None}
    for name, quantile in QUANTILES.items():
        found = percentile(ordered, quantile)
        block[name] = found.value
        block[f"{name}_interval"] = None if found.value is None else [found.low, found.high]
    block["max"] = float(ordered[-1]) if len(ordered) else None
    reaching = [name for name in (*QUANTILES, "max") if (value := block[name]) is not None and value >= open_from]  # type: ignore[operator]  # a float, as it is not None
    block["at_least"] = (["mean"] if open_from < math.inf else []) + reaching
    return block
