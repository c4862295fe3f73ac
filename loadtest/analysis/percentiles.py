"""The one percentile function: nearest rank, with n, an interval, and the honesty to say nothing.

Every output takes its percentiles from here, so that the same record shows the same number everywhere.
"""

import math
from dataclasses import dataclass

from loadtest.analysis.distribution import Distribution
from loadtest.analysis.results import STATISTICS, Statistic, Summary
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

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both bounds; None where n carries no upper one."""
        return None if self.low is None or self.high is None else (self.low, self.high)


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


def summarize(values: Distribution) -> Summary:
    """n, mean, percentiles with intervals, max; ``at_least`` names those of which only a lower bound is known."""
    p50, p90, p95, p99 = (percentile(values, quantile) for quantile in QUANTILES.values())
    most = values.most if values.n else None
    reached = {"p50": p50.value, "p90": p90.value, "p95": p95.value, "p99": p99.value, "max": most}
    at_least: list[Statistic] = ["mean"] if values.open_from < math.inf else []
    at_least += [name for name in STATISTICS if (value := reached.get(name)) is not None and value >= values.open_from]
    return Summary(
        n=values.n,
        mean=values.mean,
        p50=p50.value,
        p50_interval=p50.interval,
        p90=p90.value,
        p90_interval=p90.interval,
        p95=p95.value,
        p95_interval=p95.interval,
        p99=p99.value,
        p99_interval=p99.interval,
        max=most,
        at_least=tuple(at_least),
    )
