"""How much a metric varies without a change: what history shows, shrunk to what was assumed before.

With few runs their own standard deviation is too uncertain to judge by, and requests of one run are correlated, so that
what a run knows of itself is too small. The variance is therefore an average of both, weighted by degrees of freedom
(an inverse-χ² prior, as in limma: Smyth, "Linear models and empirical Bayes methods", 2004, §4)::

    s² = (ν₀·s₀² + df·s_h²) ÷ (ν₀ + df),   ν₀ = 4
    s₀² = prior² · max(1, a, b)
    a = mean of s_h² ÷ prior² over the same metric of all traffic entries and stages
    b = median of s_h² ÷ prior² over all metrics with the same prior sd, freed from the bias of the median;
        only where there are fewer than three of the same metric

The second line is what keeps the check of a noisier service quiet: a prior that is too small shows in many metrics at
once. The mean is of one metric, since a p95 or a small overhead varies more than a p50 and would make the check deaf
to the others. That holds for a median over all metrics, too, as most of them may be of the noisy sort; it helps where a
scenario has one entry or two, and the mean would be of little more than the metric itself.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from loadtest.regression.measurements import NATURES, Metric

PRIOR_DF: Final = 4
"""ν₀: what the prior counts, in runs."""
SE_FACTOR: Final = 1.3
"""By which a standard error from blocks of time is too small at run lengths of minutes."""
_ENOUGH_ALIKE: Final = 3
"""Of the same metric, in other entries and stages, that tell its noise well enough by themselves."""
_WINSOR: Final = 2.5
# MAD × 1.4826 is the sd of normal values; the second factors make up for its bias at small n (Croux & Rousseeuw, 1992).
_MAD: Final = 1.4826
_SMALL_N: Final = {2: 1.196, 3: 1.495, 4: 1.363, 5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}


class Spread(NamedTuple):
    """The variance of a metric as it was seen, beside what was assumed.

    Attributes:
        metric: of which.
        prior: variance that was assumed.
        seen: variance of the values.
        df: degrees of freedom of ``seen``.
    """

    metric: Metric
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


def inflation(spreads: Iterable[Spread]) -> dict[Metric, float]:
    """By metric, the factor by which the assumed variances are too small over the family; 1 if they are not."""
    by_metric: dict[Metric, list[Spread]] = {}
    alike: dict[float, list[float]] = {}
    for one in spreads:
        by_metric.setdefault(one.metric, []).append(one)
        # The median of χ² ÷ df is about (1 − 2 ÷ 9df)³ (Wilson & Hilferty, 1931).
        alike.setdefault(NATURES[one.metric].prior_sd, []).append(one.seen / one.prior / (1 - 2 / (9 * one.df)) ** 3)
    return {
        metric: max(
            1.0,
            sum(one.df * one.seen / one.prior for one in same) / sum(one.df for one in same),
            statistics.median(alike[NATURES[metric].prior_sd]) if len(same) < _ENOUGH_ALIKE else 1.0,
        )
        for metric, same in by_metric.items()
    }


def shrunk(spread: Spread, factor: float) -> tuple[float, float]:
    """Variance s² and degrees of freedom of a metric, by the module's formula.

    Args:
        spread: of the metric.
        factor: its metric's ``inflation``.
    """
    df = PRIOR_DF + spread.df
    return (PRIOR_DF * spread.prior * factor + spread.df * spread.seen) / df, df
