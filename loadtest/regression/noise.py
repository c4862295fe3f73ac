"""How much a metric varies without a change: what history shows, shrunk to what was assumed before.

With few runs their own standard deviation is too uncertain to judge by, and requests of one run are correlated, so that
what a run knows of itself is too small. The variance is therefore an average of both, weighted by degrees of freedom
(an inverse-χ² prior, as in limma: Smyth, "Linear models and empirical Bayes methods", 2004, §4)::

    s² = (ν₀·s₀² + df·s_h²) ÷ (ν₀ + df),   ν₀ = 4
    s₀² = prior² · max(1, mean of s_h² ÷ prior² over the gated metrics of a kind)

The second line is what keeps a noisier service quiet: a prior that is too small shows in many metrics at once.
"""

import statistics
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

PRIOR_DF: Final = 4
"""ν₀: what the prior counts, in runs."""
SE_FACTOR: Final = 1.3
"""By which a standard error from blocks of time is too small at run lengths of minutes."""
_WINSOR: Final = 2.5
# MAD × 1.4826 is the sd of normal values; the second factors make up for its bias at small n (Croux & Rousseeuw, 1992).
_MAD: Final = 1.4826
_SMALL_N: Final = {2: 1.196, 3: 1.495, 4: 1.363, 5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}


class Spread(NamedTuple):
    """The variance of a metric as it was seen, beside what was assumed.

    Attributes:
        kind: metrics of one kind share what they say of the prior (those with the same prior sd).
        prior: variance that was assumed.
        seen: variance of the values.
        df: degrees of freedom of ``seen``.
    """

    kind: float
    prior: float
    seen: float
    df: int


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


def inflation(spreads: Iterable[Spread]) -> dict[float, float]:
    """By kind, the factor by which the assumed variances are too small over all metrics; 1 if they are not."""
    sums: dict[float, list[float]] = {}
    for one in spreads:
        total = sums.setdefault(one.kind, [0.0, 0.0])
        total[0] += one.df * one.seen / one.prior
        total[1] += one.df
    return {kind: max(1.0, total / df) if df else 1.0 for kind, (total, df) in sums.items()}


def shrunk(spread: Spread, factor: float) -> tuple[float, float]:
    """Variance s² and degrees of freedom of a metric, by the module's formula.

    Args:
        spread: of the metric.
        factor: its kind's ``inflation``.
    """
    df = PRIOR_DF + spread.df
    return (PRIOR_DF * spread.prior * factor + spread.df * spread.seen) / df, df
