"""95 % intervals of shares and percentiles from blocks of time, which survive that requests are correlated.

A stage is cut into bins of time. How the events of neighbouring bins vary together tells to how many independent
requests those of the stage amount: the effective n (Kish, *Survey Sampling*, 1965). A share has Wilson's score
interval at that n, with Student's t for z, since blocks are few (Brown, Cai & DasGupta, Statistical Science 2001). A
percentile's interval is every value of which that score does not say that more or fewer lie below than should: the
inverted test (Francisco & Fuller, "Quantile estimation with a complex survey design", Annals of Statistics 1991).

The variance is the greater of two estimates: that of overlapping batch means, an eighth of the stage long (Meketon &
Schmeiser, 1984), and that of an autoregression of first order over the bins, with Kendall's correction (Biometrika
1954), which sees what batches hide of correlation that lasts as long as they do. Where all times of a moment move
together, no percentile above the median is known better than that movement: in a stage that met few slow moments, too
little lies in the tail to show how it varies. ``docs/intervals.md`` has what the intervals cover.
"""

import math
from typing import Final, NamedTuple

import numpy as np

from loadtest.analysis.blocks import LEAST_MS, Grid, Times
from loadtest.analysis.distribution import Distribution
from loadtest.arrays import Floats, Ints
from loadtest.compare.change import student
from loadtest.stats import wilson

_MEDIAN: Final = 0.5
_BATCHES: Final = 8
_MOST_REGRESSION: Final = 0.95
"""Beyond it an autoregression's variance is without bounds."""
_SIGNIFICANT: Final = 2
"""Standard errors, of 1/√bins each, from which a correlation of neighbouring bins is no chance."""
_ADDED: Final = 2.5
"""Standard errors of a regression that are added to it then."""
_DRIFT: Final = 1 / 5
"""Correlation that falls to 1/e in more of the stage than that is drift: there is nothing in it that repeats."""

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


class _Series(NamedTuple):
    """What bins say of shares, one for each column.

    Attributes:
        share: of each column.
        n: effective one.
        regression: from one bin to the next, corrected: the greatest.
        t: of Student, two-sided 95 %.
    """

    share: Floats
    n: Floats
    regression: float
    t: float


def share_interval(events: Ints, whole: Ints, pace: Times | None = None) -> BlockInterval:
    """The interval of a share.

    Args:
        events: in each bin.
        whole: of how many.
        pace: times of the stage: what their median shows of correlation holds for a share, too.
    """
    if not _carries(whole):
        return BlockInterval(why_not=TOO_FEW)
    share = float(events.sum() / whole.sum())
    if share in (0.0, 1.0):
        return BlockInterval(why_not=CONSTANT)
    steady = _median_regression(pace) if pace is not None and _carries(pace.counts.sum(axis=1)) else -1.0
    # What moves all times has no part in a share, so that more of what few bins do not know is added to it.
    found = _series(events[:, None], whole, steady, long=_DRIFT / 2)
    n = float(found.n[0])
    if _drifting(found.regression, len(whole)):
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
    if not _carries(whole):
        return BlockInterval(why_not=TOO_FEW)
    steady = _median_regression(times)
    below = np.cumsum(times.counts, axis=1)
    found = _series(below, whole, steady)
    level = _level(found.share, quantile)
    n = float(found.n[level]) if 0 < found.share[level] < 1 else None
    if _drifting(steady, len(whole)):
        return BlockInterval(effective_n=n, why_not=DRIFTS)
    near = np.abs(found.share - quantile) <= found.t * np.sqrt(quantile * (1 - quantile) / found.n)
    # Levels that no value or every value lies below tell of nothing, and are no bounds.
    known = (found.share > 0) & (found.share < 1)
    inside = np.flatnonzero(near & known)
    if not len(inside) or not known[inside[0] - 1] or not known[inside[-1] + 1]:
        return BlockInterval(effective_n=n, why_not=NO_BOUND)
    low, high = float(times.cuts[inside[0]]), float(times.cuts[inside[-1] + 1])
    if quantile > _MEDIAN:
        value, factor = float(times.cuts[level]), _movement(times, steady)
        low, high = min(low, value / factor), max(high, value * factor)
    if values.late is not None:
        # The low end is that with each time-out at the time it took, the high one that with each at infinity.
        high = max(high, values.greatest_at(min(int(below[:, inside[-1] + 1].sum()), values.n)))
    if high == math.inf:
        return BlockInterval(effective_n=n, why_not=TIME_OUTS)
    return BlockInterval(low, high, n)


def batch_s(grid: Grid) -> float:
    """How many seconds a batch lasts: what repeats less often is not seen."""
    return grid.seconds / grid.bins * _batch(grid.bins)


def _series(events: Ints, whole: Ints, steady: float, *, long: float = _DRIFT) -> _Series:
    """Shares of columns of events by bin, and how they vary.

    Args:
        events: ``[bin, column]``.
        whole: by bin; of how many.
        steady: regression from bin to bin that is known of something else; the greater one counts.
        long: as in ``_variance``.
    """
    bins, total = len(whole), float(whole.sum())
    share = events.sum(axis=0) / total
    rest = np.asarray(events - whole[:, None] * share, float)
    alone = share * (1 - share) * total
    regression = np.maximum(_regression(rest), steady)
    # Never more than there are: that they vary less than independent ones may be luck.
    n = np.minimum(alone * total / np.maximum(_variance(rest, alone, regression, long), 1e-12), total)
    return _Series(share, np.maximum(n, 1e-3), float(regression.max()), _t(bins))


def _movement(times: Times, steady: float) -> float:
    """By what factor all times together may be off: the bound of their geometric mean, less what each does alone."""
    logs = np.log(np.maximum(times.cuts, LEAST_MS))
    of_each = times.counts.sum(axis=0)
    total = int(of_each.sum())
    logs -= of_each @ logs / total
    rest, alone = np.asarray(times.counts @ logs, float)[:, None], np.array([of_each @ logs**2])
    variance = _variance(rest, alone, np.maximum(_regression(rest), steady))
    return math.exp(_t(len(rest)) * math.sqrt(max(float((variance - alone)[0]), 0.0)) / total)


def _variance(rest: Floats, alone: Floats, regression: Floats, long: float = _DRIFT) -> Floats:
    """The variance of the sum over all bins, by column.

    Args:
        rest: ``[bin, column]``; what each bin is off the mean by.
        alone: the variance that independent requests would have.
        regression: from one bin to the next.
        long: correlation that lasts so much of the stage has all added to it that few bins do not know.
    """
    bins, square = len(rest), (rest**2).sum(axis=0)
    # Where it is beyond doubt, something is added for what few bins do not know: too little is worse than too much.
    unsure = _ADDED * np.sqrt(np.maximum(1 - regression**2, 0) / bins)
    beyond_doubt = regression > _SIGNIFICANT / math.sqrt(bins)
    capped = np.clip(regression + np.where(beyond_doubt, unsure, 0), 0, _MOST_REGRESSION)
    # What independent requests would vary by is in no correlation with the bin before. How much that is, few bins do
    # not know either: the longer correlation lasts, the more is left for it.
    lasting = np.clip(_lasting(regression) / (bins * long), 0, 1)
    unknown = np.where(beyond_doubt, lasting * math.sqrt(2 / bins), 0)
    excess = np.maximum(square * (1 + unknown) - alone, 0)
    regressed = square + excess * 2 * capped / (1 - capped)
    found: Floats = np.maximum(_batch_means(rest, _batch(bins)), regressed)
    return found


def _regression(rest: Floats) -> Floats:
    """From one bin to the next, by column; what few bins hide of it is added."""
    bins = len(rest)
    found = (rest[1:] * rest[:-1]).sum(axis=0) / np.maximum((rest**2).sum(axis=0), 1e-12) * bins / (bins - 1)
    corrected: Floats = found + (1 + 3 * found) / bins
    return corrected


def _batch(bins: int) -> int:
    """Bins of a batch."""
    return math.ceil(bins / _BATCHES)


def _batch_means(rest: Floats, batch: int) -> Floats:
    """The variance of the sum over all bins, from sums of all runs of ``batch`` neighbours."""
    bins = len(rest)
    ahead = np.concatenate((np.zeros((1, rest.shape[1])), np.cumsum(rest, axis=0)))
    found: Floats = ((ahead[batch:] - ahead[:-batch]) ** 2).mean(axis=0) * bins / batch / (1 - batch / bins)
    return found


def _t(bins: int) -> float:
    # Overlapping batches are worth up to 1.5 times as many. The greater of two estimates is too small less often still.
    return student(0.975, 2 * bins / _batch(bins))


def _carries(whole: Ints) -> bool:
    """Whether all blocks but one hold something, of those that lie side by side."""
    batch = _batch(len(whole))
    blocks = len(whole) // batch
    sums = whole[: blocks * batch].reshape(blocks, batch).sum(axis=1)
    return int(np.count_nonzero(sums)) >= blocks - 1


def _level(share: Floats, quantile: float) -> int:
    return min(int(np.searchsorted(share, quantile - 1e-9)), len(share) - 1)


def _lasting(regression: Floats) -> Floats:
    """Bins in which correlation falls to 1/e."""
    lasting: Floats = -1 / np.log(np.clip(regression, 1e-9, _MOST_REGRESSION))
    return lasting


def _drifting(regression: float, bins: int) -> bool:
    return regression > math.exp(-1 / (_DRIFT * bins))


def _median_regression(times: Times) -> float:
    """From one bin to the next, of the share of values below their median."""
    whole, below = times.counts.sum(axis=1), np.cumsum(times.counts, axis=1)
    total = whole.sum()
    column = _level(below.sum(axis=0) / total, _MEDIAN)
    events = below[:, column : column + 1]
    return float(_regression(np.asarray(events - whole[:, None] * (events.sum(axis=0) / total), float))[0])
