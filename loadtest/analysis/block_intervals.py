"""95 % intervals of shares and percentiles from blocks of time, which survive that requests are correlated.

A stage is cut into bins of time. How the events of neighbouring bins vary together tells to how many independent
requests those of the stage amount (``loadtest.stats.means``). A share has Wilson's score interval at that n, with
Student's t for z, since blocks are few (Brown, Cai & DasGupta, Statistical Science 2001). A percentile's interval is
every value of which that score does not say that more or fewer lie below than should: the inverted test (Francisco &
Fuller, "Quantile estimation with a complex survey design", Annals of Statistics 1991).

Where all times of a moment move together, no percentile above the median is known better than that movement: in a
stage that met few slow moments, too little lies in the tail to show how it varies. ``docs/intervals.md`` has what the
intervals cover.
"""

import math
from typing import Final, NamedTuple

import numpy as np

from loadtest.analysis.blocks import LEAST_MS, Grid, Times
from loadtest.analysis.distribution import Distribution
from loadtest.arrays import Ints
from loadtest.stats import (
    DRIFT,
    binned_shares,
    bins_of_batch,
    common_movement,
    drifts,
    fill_batches,
    level_of,
    median_regression,
    wilson,
)

_MEDIAN: Final = 0.5

TOO_FEW: Final = "too few blocks of the stage hold anything"
CONSTANT: Final = "it was the same all along, so that nothing shows how it varies"
DRIFTS: Final = "it drifts through the stage, longer than blocks can tell"
NO_BOUND: Final = "too few independent values for a bound on both sides"
TIME_OUTS: Final = "its upper bound reaches time-outs"


class BlockInterval(NamedTuple):
    """An interval, or why there is none.

    Attributes:
        low: None without an interval.
        high: likewise.
        effective_n: to how many independent values those of the stage amount; None where that is unknown.
        why_not: empty with an interval.
    """

    low: float | None = None
    high: float | None = None
    effective_n: float | None = None
    why_not: str = ""


def share_interval(events: Ints, whole: Ints, pace: Times | None = None) -> BlockInterval:
    """The interval of a share.

    Args:
        events: in each bin.
        whole: of how many.
        pace: times of the stage: what their median shows of correlation holds for a share, too.
    """
    if not fill_batches(whole):
        return BlockInterval(why_not=TOO_FEW)
    share = float(events.sum() / whole.sum())
    if share in (0.0, 1.0):
        return BlockInterval(why_not=CONSTANT)
    steady = median_regression(pace.counts) if pace is not None and fill_batches(pace.counts.sum(axis=1)) else -1.0
    # What moves all times has no part in a share, so that more of what few bins do not know is added to it.
    found = binned_shares(events[:, None], whole, steady, long=DRIFT / 2)
    n = float(found.n[0])
    if drifts(found.regression, len(whole)):
        return BlockInterval(effective_n=n, why_not=DRIFTS)
    return BlockInterval(*wilson(share, n, found.t), n)


def percentile_interval(times: Times, values: Distribution, quantile: float) -> BlockInterval:
    """The interval of a percentile, in ms.

    Args:
        times: by bin and level.
        values: the same ones, of which time-outs are known.
        quantile: 0.5 for p50.
    """
    whole = times.counts.sum(axis=1)
    if not fill_batches(whole):
        return BlockInterval(why_not=TOO_FEW)
    steady = median_regression(times.counts)
    below = np.cumsum(times.counts, axis=1)
    found = binned_shares(below, whole, steady)
    level = level_of(found.share, quantile)
    n = float(found.n[level]) if 0 < found.share[level] < 1 else None
    if drifts(steady, len(whole)):
        return BlockInterval(effective_n=n, why_not=DRIFTS)
    near = np.abs(found.share - quantile) <= found.t * np.sqrt(quantile * (1 - quantile) / found.n)
    # Levels that no value or every value lies below tell of nothing, and are no bounds.
    known = (found.share > 0) & (found.share < 1)
    inside = np.flatnonzero(near & known)
    if not len(inside) or not known[inside[0] - 1] or not known[inside[-1] + 1]:
        return BlockInterval(effective_n=n, why_not=NO_BOUND)
    low, high = float(times.cuts[inside[0]]), float(times.cuts[inside[-1] + 1])
    if quantile > _MEDIAN:
        value, factor = (
            float(times.cuts[level]),
            common_movement(times.counts, np.log(np.maximum(times.cuts, LEAST_MS)), steady),
        )
        low, high = min(low, value / factor), max(high, value * factor)
    if values.late is not None:
        # The low end is that with each time-out at the time it took, the high one that with each at infinity.
        high = max(high, values.greatest_at(min(int(below[:, inside[-1] + 1].sum()), values.n)))
    if high == math.inf:
        return BlockInterval(effective_n=n, why_not=TIME_OUTS)
    return BlockInterval(low, high, n)


def batch_s(grid: Grid) -> float:
    """How many seconds a batch lasts: what repeats less often is not seen."""
    return grid.seconds / grid.bins * bins_of_batch(grid.bins)
