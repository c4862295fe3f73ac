"""The one percentile function: nearest rank, with n, an interval, and the honesty to say nothing.

Every output takes its percentiles from here, so that the same record shows the same number everywhere.
"""

import math
from dataclasses import dataclass

from loadtest.analysis.distribution import Distribution
from loadtest.stats import QUANTILES, interval_ranks, rank


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


def percentile(values: Distribution, quantile: float) -> Percentile:
    """The smallest value that at least a share ``quantile`` of the values does not exceed (inverted CDF).

    Args:
        values: exact, or a histogram whose values are off by at most 0.4 %.
        quantile: from 0.5 to below 1.
    """
    ranks = interval_ranks(values.n, quantile)
    if ranks is None:
        return Percentile(values.n, None, None, None)
    low, value, high = values.at([ranks[0], rank(values.n, quantile), ranks[1]]).tolist()
    return Percentile(values.n, value, low, high)


def summarize(values: Distribution) -> dict[str, object]:
    """The block that ``metrics.json`` holds for a latency: n, mean, percentiles with intervals, max.

    Returns:
        ``{n, mean, p50, p50_interval, …, max, at_least}``; ``at_least`` names the statistics that reach a value of
        which only a lower bound is known (a time-out).
    """
    block: dict[str, object] = {"n": values.n, "mean": values.mean}
    reaching = ["mean"] if values.open_from < math.inf else []
    for name, quantile in QUANTILES.items():
        found = percentile(values, quantile)
        block[name] = found.value
        block[f"{name}_interval"] = None if found.value is None else [found.low, found.high]
        reaching += [name] if found.value is not None and found.value >= values.open_from else []
    block["max"] = values.most if values.n else None
    reaching += ["max"] if values.n and values.most >= values.open_from else []
    block["at_least"] = reaching
    return block
