"""Noise: the variation between runs of an unchanged service.

Variances are shrunk towards assumed values, and outliers are limited. A control is a measurement that the service
cannot affect: if it moved, the environment changed.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

from loadtest.compare.measurements import RunMeasurements
from loadtest.compare.results import ControlComparison
from loadtest.stats.differences import student, variance

PRIOR_DF: Final = 4
"""The assumed variance counts as if it had this many degrees of freedom."""
SE_FACTOR: Final = 1.3
"""In runs of a few minutes, time blocks underestimate the standard error by this factor."""
_WINSOR: Final = 2.5
"""Values are limited to this distance from the median, in robust standard deviations."""
# MAD × 1.4826 is the sd of normal values; _SMALL_N corrects its bias at small n (Croux & Rousseeuw, 1992).
_MAD: Final = 1.4826
_SMALL_N: Final = {2: 1.196, 3: 1.495, 4: 1.363, 5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}


def winsorised(values: Sequence[float], least_sd: float) -> list[float]:
    """Limit values to median ± 2.5 robust standard deviations, so that one outlier does not hide the next change.

    The standard deviation is at least ``least_sd``, because four of five runs may be equal by chance.
    """
    middle = statistics.median(values)
    n = len(values)
    mad = statistics.median(abs(value - middle) for value in values)
    reach = _WINSOR * max(least_sd, _MAD * _SMALL_N.get(n, n / (n - 0.8)) * mad)
    return [min(max(value, middle - reach), middle + reach) for value in values]


def shrunk(prior: float, seen: float, df: int, weight: float = PRIOR_DF) -> tuple[float, float]:
    """Return the mean of two variances, weighted by their degrees of freedom, and the sum of these degrees."""
    return (weight * prior + df * seen) / (weight + df), weight + df


class _Kind(NamedTuple):
    """Assumptions about a control: its sd between runs (log scale), and the smallest growth that counts."""

    prior_sd: float
    least_ratio: float
    least_ms: float


# On a calm machine, a timed loop varies by a few per cent. The p99 of dispatch lags varies more.
_KINDS: Final = {"CPU loop": _Kind(0.03, 1.05, 0.0), "dispatch lag p99": _Kind(0.30, 1.5, 1.0)}
_LEVEL: Final = 0.01
"""A control moved if its one-sided p (Student's t, shrunk sd) is at most this and it grew by the minimum."""
_LEAST: Final = 3
"""Controls are compared only if at least this many runs or pairs have them."""


def controls(
    pairs: Sequence[tuple[RunMeasurements, RunMeasurements]], *, paired: bool
) -> tuple[ControlComparison, ...]:
    """Compare the controls of the head side with those of the base side.

    Args:
        pairs: (base, head) of each pair of blocks, or (earlier run, judged run) for each earlier run.
        paired: whether ``pairs`` are pairs of blocks. The noise is then the variation of their differences. Otherwise
            the noise is the variation of the earlier runs.
    """
    found = []
    named = [
        [{str(one.name): one.value_ms for one in run.controls if one.value_ms > 0} for run in pair] for pair in pairs
    ]
    for name, kind in _KINDS.items():
        logs = [
            (math.log(base[name]), math.log(head[name])) for base, head in named if base.keys() & head.keys() & {name}
        ]
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
        control = ControlComparison(name=name, base_ms=math.exp(base), head_ms=math.exp(head), ratio=ratio, moved=moved)
        found.append(control)
    return tuple(found)
