"""The one percentile function: nearest rank, with n, an interval, and the honesty to say nothing.

Every output takes its percentiles from here, so that the same record shows the same number everywhere.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.ranks import QUANTILES, interval_ranks, rank


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
