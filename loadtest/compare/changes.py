"""Estimates of the change of one metric.

Times and rates are compared on the log scale, shares on the log-odds scale. An estimate gives the p value of a
worsening or improvement, the interval of the change, and the minimum detectable change.

The p of a share is computed from counts, because log odds are imprecise for rare events. After 0 errors in 3,000
requests, 12 in 600 are clearly a rise, but the change in log odds has a standard error of 1.4. Fisher's exact test
gives a normal deviate. With more than 2,000 events, or if the runs' expected shares of 429s differ, the test is not
used: the deviate is the signed root of the deviance, with the expected log odds as an offset (McCullagh & Nelder,
"Generalized Linear Models", 1989, §4.4). Shares vary between runs by more than counting error, so the deviate is
divided by the root of the overdispersion (§4.5). Student's t with Satterthwaite's degrees of freedom turns it into p.
The interval of the difference is Newcombe's (1998), from Wilson intervals with sample sizes divided by overdispersion.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from loadtest.compare.measurements import MOST_SCORE, NATURES, Key, Measurement, Metric
from loadtest.metrics import Nature
from loadtest.stats.differences import student, student_tail
from loadtest.stats.shares import (
    EventCount,
    common_log_odds,
    deviance_root,
    expit,
    fisher_deviate,
    information,
    logit,
    pooled,
    wilson,
)

LEAST_RATIO: Final = math.log(1.05)
"""A time or rate must change by at least this log ratio (5 %) to count as a regression."""
LEAST_MS: Final = 1.0
"""A smaller change of a time, in ms, does not matter, even if it is real."""
LEAST_SHARE: Final = 0.001
"""By default, a share must rise by at least this (0.1 percentage points), and also triple or rise by one point."""
_FACTOR: Final = 3.0
_POINT: Final = 0.01
_UNCHANGED_RATIO: Final = math.log(1.10)
_UNCHANGED_SHARE: Final = 0.02
_UNCHANGED_CONFIDENCE: Final = 0.92
"""One-sided confidence at which ``TimeChange.unchanged`` excludes a worsening. If one entry is 10 % slower, fewer than
4 % of paired comparisons call it unchanged (``bench/regression_power.py``)."""
CONFIDENCE: Final = 0.975
"""Upper quantile of a two-sided 95 % interval."""
_STEPS: Final = 5
"""The smallest detectable share is found in this many iterations, because the variance depends on this share."""
_MOST_DF: Final = 1e4
"""Degrees of freedom are limited to this. Student's t is then practically normal."""
_MOST_PRIOR_DF: Final = 8
"""In ``estimate``, s₀² has at most this many degrees of freedom. Chosen with ``bench/regression_power.py``."""
ALIKE: Final = math.log(3.0)
"""Two times or rates have similar sizes if their logarithms differ by at most this (a factor of three)."""
_MOST_EVENTS: Final = 2000
"""With more events than this, Fisher's test is not used, because its computing time grows with their number."""
PRIOR_DF: Final = 4
"""Degrees of freedom of the assumed variance. In ``estimate``, similar changes add theirs."""
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


def reaches_effect(nature: Nature, delta: float, difference: float, resolution_ms: float) -> bool:
    """Whether a time or rate became worse by at least the minimum effect.

    ``delta`` is head − base on the log scale, and ``difference`` is head − base in the metric's unit. Time
    differences below 1 ms or ``resolution_ms`` do not count.
    """
    hidden = nature.unit == "ms" and difference < max(LEAST_MS, resolution_ms)
    return nature.worse * delta >= LEAST_RATIO and not hidden


def least_rise(share: float, rise: float | None = None) -> float:
    """Return the smallest rise of a share that counts: from 0 to 0.1 %, from 1 to 2 %, from 20 to 21 %.

    ``share`` is the share before the rise. It can be negative for 429s, where it is the observed minus the expected
    share. ``rise``, if given, replaces this minimum.
    """
    return max(LEAST_SHARE, min((_FACTOR - 1) * max(share, 0.0), _POINT)) if rise is None else rise


@dataclass(frozen=True, kw_only=True)
class MetricChange:
    """The change of one metric from base to head.

    Attributes:
        earlier: all measurements of the base side, for plots.
        prior: assumed variance between runs or pairs.
        seen: observed variance between runs or pairs, with ``seen_df`` degrees of freedom. For shares, it is only
            the part beyond counting error.
        variance: the variance that all tests use. ``estimate`` sets it, and its degrees of freedom ``df``.
        parts: factors that turn ``variance`` into the variances of the base side's mean and of the head.
        penalty: factor of p, above 1 if the metric is tested against several baselines.
        weight: the metric's share of α is proportional to this; 0 if the metric is not tested.
        anchored: whether the baseline has the first runs of its period instead of the latest, to find slow drift.
        rise: minimum rise of a share; None for the default.
    """

    bases: Sequence[Measurement]
    heads: Sequence[Measurement]
    earlier: Sequence[Measurement]
    prior: float
    seen: float
    seen_df: int
    variance: float = 0.0
    df: float = 0.0
    parts: tuple[float, float]
    penalty: float = 1.0
    weight: float = 1.0
    anchored: bool = False
    rise: float | None = None

    @property
    def key(self) -> Key:
        return self.heads[0].key

    @property
    def nature(self) -> Nature:
        return NATURES[self.key.metric]

    @property
    def resolution_ms(self) -> float:
        return max(one.resolution_ms for one in (*self.bases, *self.heads))


@dataclass(frozen=True, kw_only=True)
class TimeChange(MetricChange):
    """The change of a time or rate. ``centre`` is the logarithm of ``base``; ``delta`` is log(head) − log(base)."""

    centre: float
    delta: float

    @property
    def base(self) -> float:
        return math.exp(self.centre)

    @property
    def head(self) -> float:
        return self.heads[0].value if len(self.heads) == 1 else math.exp(self.centre + self.delta)

    @property
    def se(self) -> float:
        """Standard error of ``delta``. If nothing changed, ``delta`` ÷ ``se`` has Student's t distribution."""
        return math.sqrt(self.variance * sum(self.parts))

    @property
    def worse(self) -> float:
        """``delta``, negated for metrics that become worse by falling, such as goodput."""
        return self.nature.worse * self.delta

    def p(self, *, better: bool = False) -> float:
        """One-sided p value, which is small if the metric became worse (or better)."""
        deviate = self.worse / self.se
        return min(1.0, self.penalty * student_tail(-deviate if better else deviate, self.df))

    def decided(self) -> bool:
        return False

    def interval(self) -> tuple[float, float]:
        half = student(CONFIDENCE, self.df) * self.se
        return self.delta - half, self.delta + half

    def difference_interval(self) -> tuple[float, float]:
        low, high = self.interval()
        return self.base * math.expm1(low), self.base * math.expm1(high)

    def matters(self, *, better: bool = False) -> bool:
        """Whether the metric became worse (or better) by at least the minimum effect."""
        sign = -1 if better else 1
        return reaches_effect(self.nature, sign * self.delta, sign * (self.head - self.base), self.resolution_ms)

    def unchanged(self) -> bool:
        """Whether the upper bound of a worsening is below 10 %, or below the minimum effect if that is larger."""
        limit = max(_UNCHANGED_RATIO, self._least_effect)
        return self.worse + student(_UNCHANGED_CONFIDENCE, self.df) * self.se < limit

    @property
    def _least_effect(self) -> float:
        if self.nature.unit != "ms":
            return LEAST_RATIO
        return max(LEAST_RATIO, math.log1p(max(LEAST_MS, self.resolution_ms) / self.base))

    def detectable(self, level: float, power: float) -> float | None:
        """The smallest worsening that is found with the given power (0-1), as a ratio. None if it is out of range.

        A worsening is found if it reaches the minimum effect and its one-sided p is at most ``level``.
        """
        critical = student(1 - level / self.penalty, self.df) * self.se
        least = max(critical, self._least_effect) + student(power, self.df) * self.se
        return math.exp(self.nature.worse * least) if least < MOST_SCORE else None


@dataclass(frozen=True, kw_only=True)
class ShareChange(MetricChange):
    """The change of a share. Methods without a docstring mean the same as in ``TimeChange``."""

    @cached_property
    def base_counts(self) -> tuple[EventCount, ...]:
        return tuple(one.count for one in self.bases)

    @cached_property
    def head_counts(self) -> tuple[EventCount, ...]:
        return tuple(one.count for one in self.heads)

    @property
    def varies(self) -> tuple[float, float]:
        """Variances of log odds beyond counting error: of the base side's mean, and of the head."""
        return self.variance * self.parts[0], self.variance * self.parts[1]

    @property
    def base(self) -> float:
        return statistics.fmean(one.value for one in self.bases)

    @property
    def head(self) -> float:
        return statistics.fmean(one.value for one in self.heads)

    @property
    def delta(self) -> float:
        """Head − base in log odds. Half an event and half a non-event are added to each side."""
        return common_log_odds(self.head_counts, half=True) - common_log_odds(self.base_counts, half=True)

    def p(self, *, better: bool = False) -> float:
        return min(1.0, self.penalty * student_tail(*self._deviate(better=better)))

    def decided(self) -> bool:
        """Whether a test is pointless, because both sides have no events, or nothing but events."""
        return math.isinf(common_log_odds([*self.base_counts, *self.head_counts]))

    def interval(self) -> tuple[float, float]:
        """95 % interval of ``delta`` (Wald)."""
        counting = _counting(self.base_counts) + _counting(self.head_counts)
        varies = sum(self.varies)
        half = student(CONFIDENCE, _df(self.df, counting, varies)) * math.sqrt(counting + varies)
        return self.delta - half, self.delta + half

    def difference_interval(self) -> tuple[float, float]:
        head = self._side(self.head_counts, self.varies[1])
        base = self._side(self.base_counts, self.varies[0])
        low = math.hypot(head[0] - head[1], base[2] - base[0])
        high = math.hypot(head[2] - head[0], base[0] - base[1])
        difference = self.head - self.base
        # Rounding errors must not move a bound beyond −1 or 1.
        return max(difference - low, min(-1.0, difference)), min(difference + high, max(1.0, difference))

    def matters(self, *, better: bool = False) -> bool:
        smaller, larger = (self.head, self.base) if better else (self.base, self.head)
        return larger - smaller >= least_rise(smaller, self.rise)

    def unchanged(self) -> bool:
        """Whether the 95 % interval of the difference ends below +2 percentage points."""
        return self.difference_interval()[1] < _UNCHANGED_SHARE

    def detectable(self, level: float, power: float) -> float | None:
        """The smallest rise that is found with the given power, as an odds ratio. None if the share would reach 1."""
        n, of_base = (sum(one.n for one in side) for side in (self.head_counts, self.base_counts))
        rate, varies = common_log_odds(self.base_counts, half=True), sum(self.varies)
        share = before = expit(rate + self._offset)
        for _ in range(_STEPS):
            middle = (of_base * before + n * share) / (of_base + n)
            counting = (1 / n + 1 / of_base) / (middle * (1 - middle))
            df = _df(self.df, counting, varies)
            reach = student(power, df)
            # The standard error of arcsin √share is √(1/n) ÷ 2 for every share (Anscombe, 1948).
            se = math.sqrt((1 / n + 1 / of_base) * (1 + varies / counting)) / 2
            angle = math.asin(math.sqrt(before)) + (student(1 - level / self.penalty, df) + reach) * se
            counts = wilson(min(before + least_rise(before, self.rise), 1.0), n, reach)[1]
            share = max(counts, math.sin(angle) ** 2 + 0.5 / n)
            if angle >= math.pi / 2 or share >= 1:
                return None
        return math.exp(logit(share) - rate - self._offset)

    def value_at(self, odds: float) -> float:
        """Return the head's share for an odds ratio. For 429s, return the excess over the expected share."""
        share = expit(common_log_odds(self.base_counts, half=True) + self._offset + math.log(odds))
        return share - expit(self._offset) if self.key.metric == Metric.THROTTLED_RATE else share

    def _deviate(self, *, better: bool) -> tuple[float, float]:
        """Return the deviate of a rise (or fall), corrected for overdispersion, and its degrees of freedom."""
        base = pooled(self.base_counts)
        head = pooled(self.head_counts)
        varies = sum(self.varies)
        both = [*base, *head]
        rate = common_log_odds(both)
        if math.isinf(rate):
            return 0.0, _MOST_DF
        alike = len(both) == 2 and base[0].offset == head[0].offset
        if alike and sum(one.events for one in both) <= _MOST_EVENTS:
            deviate = fisher_deviate(base[0], head[0], better=better)
        else:
            deviate = (-1 if better else 1) * deviance_root(base, head, rate)
        counting = 1 / information(base, rate) + 1 / information(head, rate)
        # Further digits of the degrees of freedom hardly matter.
        return deviate / math.sqrt(1 + varies / counting), float(f"{_df(self.df, counting, varies):.3g}")

    @property
    def _offset(self) -> float:
        return sum(one.offset for one in self.head_counts) / len(self.head_counts)

    def _side(self, counts: Sequence[EventCount], varies: float) -> tuple[float, float, float]:
        """Return a side's share and its Wilson interval, which overdispersion widens."""
        share, n = expit(common_log_odds(counts) + self._offset), sum(one.n for one in counts)
        counting = _counting(counts)
        n /= 1 + varies / counting
        return share, *wilson(share, n, student(CONFIDENCE, _df(self.df, counting, varies)))


AnyChange = TimeChange | ShareChange


def make_change(centre: float, delta: float, **fields: Any) -> AnyChange:
    """Return a ``TimeChange``, or for a share a ``ShareChange``. Shares ignore ``centre`` and ``delta``."""
    if NATURES[fields["heads"][0].metric].scale == "logit":
        return ShareChange(**fields)
    return TimeChange(centre=centre, delta=delta, **fields)


def estimate(family: Sequence[AnyChange]) -> list[AnyChange]:
    """Return the changes with their variance s²: the observed variance s_h², averaged with an assumed variance s₀².

    The average is weighted by degrees of freedom, because s_h² of a few runs is uncertain (as in limma: Smyth, "Linear
    models and empirical Bayes methods", 2004, §4)::

        s² = (ν·s₀² + df·s_h²) ÷ (ν + df),   ν = min(8, 4 + df of all other similar changes)
        s₀² = prior · max(1, mean of s_h² ÷ prior over similar changes)

    Changes are similar if they have the same metric and, except for shares, bases within a factor of three. A raised
    s₀² limits false alarms if a service is noisier than assumed. Short times vary by a higher percentage, so if all
    sizes were pooled, the noise of a do-nothing workflow would hide changes of other workflows.
    """
    found: list[AnyChange] = []
    for one in family:
        alike = [other for other in family if other.key.metric == one.key.metric and _alike(one, other)]
        whole = sum(other.seen_df for other in alike)
        factor = max(1.0, sum(other.seen_df * other.seen / other.prior for other in alike) / whole)
        weight = min(_MOST_PRIOR_DF, PRIOR_DF + whole - one.seen_df)
        variance, df = shrunk(one.prior * factor, one.seen, one.seen_df, weight)
        found.append(replace(one, variance=variance, df=df))
    return found


def _alike(one: AnyChange, other: AnyChange) -> bool:
    if isinstance(one, TimeChange) and isinstance(other, TimeChange):
        return abs(one.centre - other.centre) <= ALIKE
    return True


def _counting(counts: Sequence[EventCount]) -> float:
    return 1 / information(counts, common_log_odds(counts, half=True), half=True)


def _df(df: float, counting: float, varies: float) -> float:
    """Return the degrees of freedom of ``counting + varies``; ``counting`` is known exactly (Satterthwaite, 1946)."""
    return min(_MOST_DF, df * ((counting + varies) / varies) ** 2)
