"""Means of correlated values: their effective number and the variance of their mean.

There are two estimates, for two kinds of data. Values in order of time: n ÷ (variance of batch means ÷ variance of
independent values). Counts in time bins: the greater of two variances of a sum over all bins. The first is that of
overlapping batch means, each an eighth of the stage long (Meketon & Schmeiser, 1984). The second is that of a
first-order autoregression over the bins with Kendall's correction (Biometrika 1954); it includes correlation that lasts
as long as a batch, which batches hide. Both give the effective n (Kish, *Survey Sampling*, 1965).

The constants for bins were tuned with ``bench/interval_coverage.py`` on seeds other than its default. The coverage
table of ``docs/intervals.md`` fixes them: another value must leave each of its cells between 90 and 99 %.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from loadtest.arrays import Floats, Ints

LEAST_BATCH: Final = 4
"""Minimum number of values in a batch."""
MOST_BATCHES: Final = 20
"""Maximum number of batches of values in order of time."""
_BATCHES: Final = 8
"""Batches in a stage (docs/intervals.md)."""
_MOST_REGRESSION: Final = 0.95
"""Maximum correlation of neighbouring bins: above it, an autoregression's variance is unbounded."""
_SIGNIFICANT: Final = 2
"""Standard errors of 1 ÷ √bins each (Bartlett, 1946) above which a correlation of neighbouring bins is significant."""
_ADDED: Final = 2.5
"""Standard errors of √((1 − r²) ÷ bins) each that are added to a significant correlation (docs/intervals.md)."""
DRIFT: Final = 1 / 5
"""Share of the stage. If correlation takes longer than this to fall to 1/e, it is drift: the stage does not repeat it.
"""


@lru_cache(maxsize=1024)
def student(quantile: float, df: float) -> float:
    """Return a quantile of Student's t with ``df`` degrees of freedom."""
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import, and most commands need none of it

    return float(stdtrit(df, quantile))


def student_tail(deviate: float, df: float) -> float:
    """Return the probability that Student's t with ``df`` degrees of freedom exceeds a deviate."""
    from scipy.special import stdtr  # noqa: PLC0415 - as above

    return float(stdtr(df, -deviate))


def variance(values: Sequence[float]) -> float:
    """Return the sample variance of at least two values; ``statistics.variance`` is exact and thirty times slower."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def circular_blocks(random: np.random.Generator, draws: int, n: int, block: int) -> Ints:
    """Draw blocks of neighbouring indices from 0 to n − 1, with the last index next to the first: ``[draw, n]``.

    The circular moving-block bootstrap (Politis & Romano, "A circular block-resampling procedure for stationary data",
    1992).
    """
    starts = random.integers(0, n, (draws, math.ceil(n / block), 1))
    return ((starts + np.arange(block)) % n).reshape(draws, -1)[:, :n]


def effective_n(values: Floats) -> tuple[float, int]:
    """Return the effective number of independent values by batch means, and its degrees of freedom.

    Args:
        values: in order of time.
    """
    n = values.size
    batches = min(MOST_BATCHES, n // LEAST_BATCH)
    plain = float(values.var())
    if batches < 2 or plain == 0:
        return float(n), max(1, n - 1)
    means = np.array([part.mean() for part in np.array_split(values, batches)])
    inflation = float(means.var(ddof=1)) * n / batches / plain
    return n / max(1.0, inflation), batches - 1


class BinnedShares(NamedTuple):
    """Shares of several columns of events, with the precision that time bins give.

    Attributes:
        share: share of each column.
        n: effective n of each column.
        regression: the greatest corrected correlation of neighbouring bins.
        t: two-sided 95 % quantile of Student's t.
    """

    share: Floats
    n: Floats
    regression: float
    t: float


def binned_shares(events: Ints, whole: Ints, steady: float = -1.0, *, long: float = DRIFT) -> BinnedShares:
    """Return the shares of columns of events, with the precision that their variation over bins gives.

    Args:
        events: ``[bin, column]``.
        whole: number of trials in each bin.
        steady: regression of neighbouring bins known from another metric; the greater one is used.
        long: share of the stage from which correlation gets the full allowance for having few bins.
    """
    bins, total = len(whole), float(whole.sum())
    share = events.sum(axis=0) / total
    rest = np.asarray(events - whole[:, None] * share, float)
    alone = share * (1 - share) * total
    regression = np.maximum(_regression(rest), steady)
    # Never more than the actual number: a smaller variance than that of independent values may be chance.
    n = np.minimum(alone * total / np.maximum(_variance(rest, alone, regression, long), 1e-12), total)
    return BinnedShares(share, np.maximum(n, 1e-3), float(regression.max()), _student_of_batches(bins))


def common_movement(counts: Ints, logs: Floats, steady: float) -> float:
    """Return the common relative error of all values: that of their geometric mean without independent errors.

    Args:
        counts: ``[bin, level]`` values.
        logs: the logarithm of each level.
        steady: as for ``binned_shares``.
    """
    of_each = counts.sum(axis=0)
    total = int(of_each.sum())
    logs = logs - of_each @ logs / total
    rest, alone = np.asarray(counts @ logs, float)[:, None], np.array([of_each @ logs**2])
    found = _variance(rest, alone, np.maximum(_regression(rest), steady), DRIFT)
    return math.exp(_student_of_batches(len(rest)) * math.sqrt(max(float((found - alone)[0]), 0.0)) / total)


def median_regression(counts: Ints) -> float:
    """Return the correlation of neighbouring bins in the share of values below the median (``[bin, level]``)."""
    whole, below = counts.sum(axis=1), np.cumsum(counts, axis=1)
    total = whole.sum()
    column = level_of(below.sum(axis=0) / total, 0.5)
    events = below[:, column : column + 1]
    return float(_regression(np.asarray(events - whole[:, None] * (events.sum(axis=0) / total), float))[0])


def level_of(share: Floats, quantile: float) -> int:
    """Return the first level whose cumulative share reaches a quantile."""
    return min(int(np.searchsorted(share, quantile - 1e-9)), len(share) - 1)


def bins_of_batch(bins: int) -> int:
    """Return the number of bins in a batch."""
    return math.ceil(bins / _BATCHES)


def filled_blocks(counts: Ints, bins: int) -> int:
    """Count the non-empty blocks among consecutive blocks of ``bins`` bins."""
    whole = len(counts) // bins * bins
    return int(np.count_nonzero(counts[:whole].reshape(-1, bins).sum(axis=1)))


def fill_batches(counts: Ints) -> bool:
    """Whether at most one batch of a stage is empty."""
    batch = bins_of_batch(len(counts))
    return filled_blocks(counts, batch) >= len(counts) // batch - 1


def drifts(regression: float, bins: int) -> bool:
    """Whether correlation lasts longer than the share ``DRIFT`` of the stage."""
    return regression > math.exp(-1 / (DRIFT * bins))


def _variance(rest: Floats, alone: Floats, regression: Floats, long: float) -> Floats:
    """The variance of the sum over all bins, by column.

    Args:
        rest: ``[bin, column]``; deviation of each bin from the mean.
        alone: the variance of independent requests.
        regression: correlation of neighbouring bins.
        long: as for ``binned_shares``.
    """
    bins, square = len(rest), (rest**2).sum(axis=0)
    # Add an allowance for few bins to a significant correlation: too little is worse than too much.
    unsure = _ADDED * np.sqrt(np.maximum(1 - regression**2, 0) / bins)
    beyond_doubt = regression > _SIGNIFICANT / math.sqrt(bins)
    capped = np.clip(regression + np.where(beyond_doubt, unsure, 0), 0, _MOST_REGRESSION)
    # The variance of independent requests is not correlated between bins. Few bins estimate it badly: the longer the
    # correlation lasts, the larger the allowance.
    lasting = -1 / np.log(np.clip(regression, 1e-9, _MOST_REGRESSION))
    unknown = np.where(beyond_doubt, np.clip(lasting / (bins * long), 0, 1) * math.sqrt(2 / bins), 0)
    excess = np.maximum(square * (1 + unknown) - alone, 0)
    regressed = square + excess * 2 * capped / (1 - capped)
    return np.asarray(np.maximum(_overlapping_batches(rest), regressed))


def _regression(rest: Floats) -> Floats:
    """Correlation of neighbouring bins, by column, with the bias of few bins removed."""
    bins = len(rest)
    found = (rest[1:] * rest[:-1]).sum(axis=0) / np.maximum((rest**2).sum(axis=0), 1e-12) * bins / (bins - 1)
    return np.asarray(found + (1 + 3 * found) / bins)


def _overlapping_batches(rest: Floats) -> Floats:
    """The variance of the sum over all bins, from the sums of all runs of one batch's length."""
    bins, batch = len(rest), bins_of_batch(len(rest))
    ahead = np.concatenate((np.zeros((1, rest.shape[1])), np.cumsum(rest, axis=0)))
    return np.asarray(((ahead[batch:] - ahead[:-batch]) ** 2).mean(axis=0) * bins / batch / (1 - batch / bins))


def _student_of_batches(bins: int) -> float:
    # Overlapping batches are worth up to 1.5 times as many. The greater of two estimates is rarely too small.
    return student(0.975, 2 * bins / bins_of_batch(bins))
