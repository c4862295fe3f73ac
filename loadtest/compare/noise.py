"""How much a metric varies without a change: what history shows, shrunk to what was assumed before.

With few runs their own standard deviation is too uncertain to judge by, and requests of one run are correlated, so that
what a run knows of itself is too small. The variance is therefore an average of both, weighted by degrees of freedom
(an inverse-χ² prior, as in limma: Smyth, "Linear models and empirical Bayes methods", 2004, §4)::

    s² = (ν₀·s₀² + df·s_h²) ÷ (ν₀ + df),   ν₀ = 4
    s₀² = prior² · max(1, a, b)
    a = mean of s_h² ÷ prior² over the same metric of entries and stages of like size
    b = median of s_h² ÷ prior² over all metrics of like size, freed from the bias of the median

The second line is what keeps the check of a noisier service quiet: a prior that is too small shows in many metrics at
once. Like size is within a factor of three: 1 ms varies by more per cent than 300 ms does, and a p95 more than a p50.
If all metrics counted as alike, the noise of a do-nothing workflow would make the check deaf to the others. The median
helps where a scenario has one entry; a few noisy metrics cannot move it.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

from loadtest.compare.measurements import NATURES, Metric

PRIOR_DF: Final = 4
"""ν₀: what the prior counts, in runs."""
SE_FACTOR: Final = 1.3
"""By which a standard error from blocks of time is too small at run lengths of minutes."""
_WINSOR: Final = 2.5
_ALIKE: Final = 3.0
# MAD × 1.4826 is the sd of normal values; the second factors make up for its bias at small n (Croux & Rousseeuw, 1992).
_MAD: Final = 1.4826
_SMALL_N: Final = {2: 1.196, 3: 1.495, 4: 1.363, 5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}


class Spread(NamedTuple):
    """The variance of a metric as it was seen, beside what was assumed.

    Attributes:
        size: the metric's value; 1 of shares.
        prior: variance that was assumed.
        seen: variance of the values.
        df: degrees of freedom of ``seen``.
    """

    metric: Metric
    size: float
    prior: float
    seen: float
    df: int


def variance(values: Sequence[float]) -> float:
    """Sample variance of at least two values (``statistics.variance`` is exact and thirty times slower)."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def winsorised(values: Sequence[float], least_sd: float) -> list[float]:
    """Values pulled in to median ± 2.5 robust standard deviations, so that one odd run does not hide the next change.

    Args:
        values: scores of earlier runs.
        least_sd: the robust sd is not taken below it: of five runs, four may be alike by chance.
    """
    middle = statistics.median(values)
    n = len(values)
    mad = statistics.median(abs(value - middle) for value in values)
    reach = _WINSOR * max(least_sd, _MAD * _SMALL_N.get(n, n / (n - 0.8)) * mad)
    return [min(max(value, middle - reach), middle + reach) for value in values]


def inflation(spreads: Sequence[Spread]) -> list[float]:
    """By which factor the assumed variance of each metric is too small, by what the family shows; 1 if it is not."""
    # The median of χ² ÷ df is about (1 − 2 ÷ 9df)³ (Wilson & Hilferty, 1931).
    ratios = [(one.seen / one.prior, (1 - 2 / (9 * one.df)) ** 3) for one in spreads]
    factors = []
    for one in spreads:
        alike = [place for place, other in enumerate(spreads) if _alike(one, other)]
        same = [ratios[place][0] for place in alike if spreads[place].metric == one.metric]
        middle = statistics.median_low(ratios[place][0] / ratios[place][1] for place in alike)
        factors.append(max(1.0, statistics.fmean(same), middle))
    return factors


def _alike(one: Spread, other: Spread) -> bool:
    """Whether two metrics are of one unit, and their values within a factor of three."""
    if NATURES[one.metric].unit != NATURES[other.metric].unit:
        return False
    return one.size <= _ALIKE * other.size and other.size <= _ALIKE * one.size


def shrunk(spread: Spread, factor: float) -> tuple[float, float]:
    """Variance s² and degrees of freedom of a metric, by the module's formula."""
    df = PRIOR_DF + spread.df
    return (PRIOR_DF * spread.prior * factor + spread.df * spread.seen) / df, df
