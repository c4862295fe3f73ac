"""The variation of a metric without a change: that of the history, shrunk towards the metric's other entries.

A few runs' own standard deviation is too uncertain, and a run's own estimate is too small because its requests are
correlated. The variance is therefore an average of both, weighted by degrees of freedom (an inverse-χ² prior, as in
limma: Smyth, "Linear models and empirical Bayes methods", 2004, §4)::

    s² = (ν·s₀² + df·s_h²) ÷ (ν + df),   ν = 4 + the df of the other entries, at most 8
    s₀² = prior² · max(1, mean of s_h² ÷ prior² over the same metric of entries and stages of similar size)

The second line limits false alarms for a noisier service. Similar size means within a factor of three: 1 ms varies by
more per cent than 300 ms does. If all entries were pooled, a do-nothing workflow's noise would hide changes of others.

Controls, which the service cannot affect, are compared too. If they moved, the environment changed.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

from loadtest.compare.measurements import Metric, RunMeasurements
from loadtest.compare.results import ControlComparison
from loadtest.stats.means import student, variance

PRIOR_DF: Final = 4
"""Degrees of freedom of the assumed variance."""
_MOST_PRIOR_DF: Final = 8
"""Maximum degrees of freedom of the variance that a metric's own is shrunk towards (``bench/regression_power.py``)."""
SE_FACTOR: Final = 1.3
"""Ratio of the true standard error to that from time blocks, at run lengths of minutes."""
_WINSOR: Final = 2.5
"""Robust standard deviations from the median."""
_ALIKE: Final = 3.0
"""Maximum factor between similar sizes."""
# MAD × 1.4826 is the sd of normal values; the second factors correct its bias at small n (Croux & Rousseeuw, 1992).
_MAD: Final = 1.4826
_SMALL_N: Final = {2: 1.196, 3: 1.495, 4: 1.363, 5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}


class MetricSpread(NamedTuple):
    """The observed variance of a metric, with the assumed variance.

    Attributes:
        size: the metric's value; 1 for shares.
        prior: assumed variance.
        seen: variance of the values.
        df: degrees of freedom of ``seen``.
    """

    metric: Metric
    size: float
    prior: float
    seen: float
    df: int


def winsorised(values: Sequence[float], least_sd: float) -> list[float]:
    """Limit values to median ± 2.5 robust standard deviations, so that one outlier does not hide the next change.

    Args:
        values: scores of earlier runs.
        least_sd: minimum of the robust sd, because four of five runs may be equal by chance.
    """
    middle = statistics.median(values)
    n = len(values)
    mad = statistics.median(abs(value - middle) for value in values)
    reach = _WINSOR * max(least_sd, _MAD * _SMALL_N.get(n, n / (n - 0.8)) * mad)
    return [min(max(value, middle - reach), middle + reach) for value in values]


def pooled(spreads: Sequence[MetricSpread]) -> list[tuple[float, float]]:
    """Return each metric's variance s² and its degrees of freedom by the module's formula."""
    found = []
    for one in spreads:
        alike = [other for other in spreads if other.metric == one.metric and _alike(one.size, other.size)]
        whole = sum(other.df for other in alike)
        factor = max(1.0, sum(other.df * other.seen / other.prior for other in alike) / whole)
        found.append(shrunk(one.prior * factor, one.seen, one.df, min(_MOST_PRIOR_DF, PRIOR_DF + whole - one.df)))
    return found


def _alike(size: float, other: float) -> bool:
    return size <= _ALIKE * other and other <= _ALIKE * size


def shrunk(prior: float, seen: float, df: int, weight: float = PRIOR_DF) -> tuple[float, float]:
    """Return the mean of two variances, weighted by their degrees of freedom, and the sum of these."""
    return (weight * prior + df * seen) / (weight + df), weight + df


class _Kind(NamedTuple):
    """Assumptions about a control: its sd between runs (log scale), and the minimum growth that counts."""

    prior_sd: float
    least_ratio: float
    least_ms: float


# A timed loop repeats within some per cent on a calm machine; the p99 of lags of tenths of a ms does not.
_KINDS: Final = {"CPU loop": _Kind(0.03, 1.05, 0.0), "dispatch lag p99": _Kind(0.30, 1.5, 1.0)}
_LEVEL: Final = 0.01
"""One-sided p (Student, with the sd shrunk to a prior) below which a control moved, if it also grew enough."""
_LEAST: Final = 3
"""Minimum number of runs or pairs for a control."""


def controls(
    pairs: Sequence[tuple[RunMeasurements, RunMeasurements]], *, paired: bool
) -> tuple[ControlComparison, ...]:
    """Compare the controls of the head side with those of the base side.

    Args:
        pairs: (base, head) of each pair of blocks; or each earlier run with the run in question.
        paired: whether they are pairs of blocks, whose differences vary; otherwise the earlier runs vary.
    """
    found = []
    for name, kind in _KINDS.items():
        values = [(_value(base, name), _value(head, name)) for base, head in pairs]
        logs = [(math.log(one), math.log(other)) for one, other in values if one and other]
        if len(logs) < _LEAST:
            continue
        bases, heads = [one for one, _ in logs], [other for _, other in logs]
        if paired:
            prior, varying, of_error = 2 * kind.prior_sd**2, [other - one for one, other in logs], 1 / len(logs)
        else:
            bases = winsorised(bases, kind.prior_sd)
            prior, varying, of_error = kind.prior_sd**2, bases, 1 / len(logs) + 1
        squared_sd, df = shrunk(prior, variance(varying), len(logs) - 1)
        base, head = statistics.fmean(bases), statistics.fmean(heads)
        t = (head - base) / math.sqrt(squared_sd * of_error)
        ratio, more = math.exp(head - base), math.exp(head) - math.exp(base)
        moved = t >= student(1 - _LEVEL, df) and ratio >= kind.least_ratio and more >= kind.least_ms
        one = ControlComparison(name=name, base_ms=math.exp(base), head_ms=math.exp(head), ratio=ratio, moved=moved)
        found.append(one)
    return tuple(found)


def _value(run: RunMeasurements, name: str) -> float | None:
    return next((one.value_ms for one in run.controls if one.name == name and one.value_ms > 0), None)
