"""Estimation of one metric's change: on the log scale for a time or rate, on the log-odds scale for a share.

An estimate gives p, the interval of the change, the minimum detectable change, and whether the change matters.

After 0 errors in 3,000 requests, 12 in 600 are clearly a rise. Log odds hardly show it: their standard error is 1.4.
The p of a share therefore follows from the counts: Fisher's exact test gives a normal deviate. If each run has an
expected share (of 429s; its log odds are an offset), or if events are very many, the deviate is the signed root of
the deviance (McCullagh & Nelder, "Generalized Linear Models", 1989, §4.4). The deviate is divided by the
overdispersion, the variation of rates between runs beyond counting error (§4.5). Student's t then has Satterthwaite's
degrees of freedom. The difference has Newcombe's interval (1998), from Wilson intervals at effective counts.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from loadtest.compare.measurements import MOST_SCORE, NATURES, Key, Measurement, Metric
from loadtest.compare.noise import PRIOR_DF, shrunk
from loadtest.metrics import Nature
from loadtest.stats.means import student, student_tail
from loadtest.stats.shares import (
    EventCount,
    common_log_odds,
    deviance_root,
    expit,
    fisher_deviate,
    information,
    logit,
    wilson,
)
from loadtest.stats.shares import (
    pooled as pooled_counts,
)

LEAST_RATIO: Final = math.log(1.05)
"""Minimum relative change of a time or rate that can be a regression: 5 %, on the log scale."""
LEAST_MS: Final = 1.0
"""Minimum change in ms of a time that can be a regression. Smaller changes do not matter even if they are real."""
LEAST_SHARE: Final = 0.001
"""Minimum rise of a share: 0.1 percentage points. The share must also triple, or rise by one point."""
_FACTOR: Final = 3.0
_POINT: Final = 0.01
_UNCHANGED_RATIO: Final = math.log(1.10)
_UNCHANGED_SHARE: Final = 0.02
_UNCHANGED_CONFIDENCE: Final = 0.92
"""Confidence of the upper bound of an unchanged time. If one entry is 10 % slower, less than 4 % of paired comparisons
call it unchanged (``bench/regression_power.py``)."""
_CONFIDENCE: Final = 0.975
"""Upper quantile of a two-sided 95 % interval."""
_STEPS: Final = 5
"""Iterations to find the smallest detectable share, whose variance depends on the share."""
_MOST_DF: Final = 1e4
"""Degrees of freedom above which Student's t is treated as normal."""
_MOST_PRIOR_DF: Final = 8
"""Maximum degrees of freedom ν of the variance s₀² in ``estimate``, fixed by ``bench/regression_power.py``."""
ALIKE: Final = math.log(3.0)
"""Maximum difference between the logarithms of two sizes that count as similar."""
_MOST_EVENTS: Final = 2000
"""Maximum number of events for Fisher's test, which is computed term by term."""


def reaches_effect(nature: Nature, delta: float, difference: float, resolution_ms: float) -> bool:
    """Whether a change of a time or rate for the worse reaches the minimum effect.

    ``delta`` is head − base on the log scale, and ``difference`` is head − base in the metric's unit. Differences below
    the poll interval ``resolution_ms`` are not visible.
    """
    hidden = nature.unit == "ms" and difference < max(LEAST_MS, resolution_ms)
    return nature.worse * delta >= LEAST_RATIO and not hidden


def least_rise(share: float, rise: float | None = None) -> float:
    """Return the minimum rise of a share that counts: from 0 to 0.1 %, 0.3 to 0.9 %, 1 to 2 %, 20 to 21 %.

    ``share`` is the smaller side's. It is negative if 429s are fewer than expected. ``rise`` is the user's own minimum.
    """
    return max(LEAST_SHARE, min((_FACTOR - 1) * max(share, 0.0), _POINT)) if rise is None else rise


@dataclass(frozen=True, kw_only=True)
class MetricChange:
    """Head − base of one metric: of a time or rate (``TimeChange``), or of a share (``ShareChange``).

    Attributes:
        earlier: the base side's measurements for plots.
        prior: assumed variance between runs or pairs.
        seen: observed variance between runs or pairs, with ``seen_df`` degrees of freedom; for shares, the variance
            beyond counting error.
        variance: the variance that all tests use, from ``estimate``, with ``df`` degrees of freedom.
        parts: factors of the variance for the base side's mean and for the head.
        penalty: factor that multiplies p, because the metric is tested against several baselines.
        weight: the metric's share of the family's α, relative to the share of a p50; 0 for a metric that is not tested.
        anchored: whether the baseline is the first runs of its period (slow drift) instead of the latest.
        rise: the user's own minimum rise of a share; None for ``least_rise``.
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
        """The poll interval in ms; differences below this interval count as zero."""
        return max(one.resolution_ms for one in (*self.bases, *self.heads))


@dataclass(frozen=True, kw_only=True)
class TimeChange(MetricChange):
    """Head − base of a time or rate.

    Attributes:
        centre: logarithm of the base side.
        delta: head − base on the log scale.
    """

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
        """Standard error of ``delta``, a scaled Student t with ``df`` degrees of freedom."""
        return math.sqrt(self.variance * sum(self.parts))

    @property
    def worse(self) -> float:
        """``delta`` with the sign that makes positive values worse."""
        return self.nature.worse * self.delta

    def p(self, *, better: bool = False) -> float:
        """One-sided p of the hypothesis of no change, against a change for the worse (or better)."""
        deviate = self.worse / self.se
        return min(1.0, self.penalty * student_tail(-deviate if better else deviate, self.df))

    def decided(self) -> bool:
        """Whether no data could reject the hypothesis of no change; always False for times and rates."""
        return False

    def interval(self) -> tuple[float, float]:
        half = student(_CONFIDENCE, self.df) * self.se
        return self.delta - half, self.delta + half

    def difference_interval(self) -> tuple[float, float]:
        low, high = self.interval()
        return self.base * math.expm1(low), self.base * math.expm1(high)

    def matters(self, *, better: bool = False) -> bool:
        """Whether the estimate reaches the minimum effect for the worse (or better)."""
        sign = -1 if better else 1
        return reaches_effect(self.nature, sign * self.delta, sign * (self.head - self.base), self.resolution_ms)

    def unchanged(self) -> bool:
        """Whether the upper bound of a change for the worse is below +10 %, or too small to be visible."""
        limit = max(_UNCHANGED_RATIO, self._least_effect)
        return self.worse + student(_UNCHANGED_CONFIDENCE, self.df) * self.se < limit

    @property
    def _least_effect(self) -> float:
        if self.nature.unit != "ms":
            return LEAST_RATIO
        return max(LEAST_RATIO, math.log1p(max(LEAST_MS, self.resolution_ms) / self.base))

    def detectable(self, level: float, power: float) -> float | None:
        """The smallest change for the worse that is found with a certain power, as a factor; None if there is none.

        Args:
            level: decision level of the one-sided p.
            power: probability (0-1) that this comparison finds the change.
        """
        critical = student(1 - level / self.penalty, self.df) * self.se
        least = max(critical, self._least_effect) + student(power, self.df) * self.se
        return math.exp(self.nature.worse * least) if least < MOST_SCORE else None


@dataclass(frozen=True, kw_only=True)
class ShareChange(MetricChange):
    """Head − base of a share, with the same methods as ``TimeChange``."""

    @cached_property
    def base_counts(self) -> tuple[EventCount, ...]:
        return tuple(one.count for one in self.bases)

    @cached_property
    def head_counts(self) -> tuple[EventCount, ...]:
        return tuple(one.count for one in self.heads)

    @property
    def varies(self) -> tuple[float, float]:
        """Variances of the log odds beyond counting error, for the base side's mean and for the head."""
        return self.variance * self.parts[0], self.variance * self.parts[1]

    @property
    def base(self) -> float:
        return statistics.fmean(one.value for one in self.bases)

    @property
    def head(self) -> float:
        return statistics.fmean(one.value for one in self.heads)

    @property
    def delta(self) -> float:
        """Head − base in log odds, with half an event and half a non-event added to each."""
        return common_log_odds(self.head_counts, half=True) - common_log_odds(self.base_counts, half=True)

    def p(self, *, better: bool = False) -> float:
        """One-sided p of the hypothesis of no change, against a rise (or fall)."""
        noise = (sum(self.varies), self.df)
        return min(
            1.0, self.penalty * student_tail(*_deviate(self.base_counts, self.head_counts, noise, better=better))
        )

    def decided(self) -> bool:
        """Whether no test can reject, because every count has no event or every count has only events."""
        return math.isinf(common_log_odds([*self.base_counts, *self.head_counts]))

    def interval(self) -> tuple[float, float]:
        """95 % interval of ``delta`` (Wald)."""
        counting = _counting(self.base_counts) + _counting(self.head_counts)
        varies = sum(self.varies)
        half = student(_CONFIDENCE, _df(self.df, counting, varies)) * math.sqrt(counting + varies)
        return self.delta - half, self.delta + half

    def difference_interval(self) -> tuple[float, float]:
        head = self._side(self.head_counts, self.varies[1])
        base = self._side(self.base_counts, self.varies[0])
        low = math.hypot(head[0] - head[1], base[2] - base[0])
        high = math.hypot(head[2] - head[0], base[0] - base[1])
        difference = self.head - self.base
        # Rounding must not exceed the range of a difference of shares.
        return max(difference - low, min(-1.0, difference)), min(difference + high, max(1.0, difference))

    def matters(self, *, better: bool = False) -> bool:
        smaller, larger = (self.head, self.base) if better else (self.base, self.head)
        return larger - smaller >= least_rise(smaller, self.rise)

    def unchanged(self) -> bool:
        """Whether the 95 % interval of the difference ends below +2 percentage points."""
        return self.difference_interval()[1] < _UNCHANGED_SHARE

    def detectable(self, level: float, power: float) -> float | None:
        """The smallest rise that is found with a certain power, as an odds ratio; None if there is none."""
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
        """Return the head's value for an odds ratio to the base side; for 429s, the excess over the expected share."""
        share = expit(common_log_odds(self.base_counts, half=True) + self._offset + math.log(odds))
        return share - expit(self._offset) if self.key.metric == Metric.THROTTLED_RATE else share

    @property
    def _offset(self) -> float:
        return sum(one.offset for one in self.head_counts) / len(self.head_counts)

    def _side(self, counts: Sequence[EventCount], varies: float) -> tuple[float, float, float]:
        """A side's share and its Wilson interval, at the effective count given by its overdispersion."""
        share, n = expit(common_log_odds(counts) + self._offset), sum(one.n for one in counts)
        counting = _counting(counts)
        n /= 1 + varies / counting
        return share, *wilson(share, n, student(_CONFIDENCE, _df(self.df, counting, varies)))


AnyChange = TimeChange | ShareChange


def make_change(centre: float, delta: float, **fields: Any) -> AnyChange:
    """Return a metric's ``TimeChange`` or ``ShareChange``; a share ignores ``centre`` and ``delta``."""
    if NATURES[fields["heads"][0].metric].scale == "logit":
        return ShareChange(**fields)
    return TimeChange(centre=centre, delta=delta, **fields)


def estimate(family: Sequence[AnyChange]) -> list[AnyChange]:
    """Give each change its variance s²: the history's variance, shrunk towards the metric's other entries.

    The variance s_h² of a few runs is too uncertain. A run's own estimate is too small because the run's requests are
    correlated. Both are therefore averaged by degrees of freedom (an inverse-χ² prior, such as limma's: Smyth, "Linear
    models and empirical Bayes methods", 2004, §4)::

        s² = (ν·s₀² + df·s_h²) ÷ (ν + df),   ν = 4 + the df of the other entries, at most 8
        s₀² = prior² · max(1, mean of s_h² ÷ prior² over the same metric of entries and stages of similar size)

    The second line limits false alarms for a noisier service. Similar size means within a factor of three, because
    1 ms varies by a higher percentage than 300 ms. If all entries were pooled, a do-nothing workflow's noise would hide
    changes of other workflows.
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
    """Degrees of freedom of a sum of variances, the first of which is known (Satterthwaite, 1946)."""
    return min(_MOST_DF, df * ((counting + varies) / varies) ** 2)


def _deviate(
    base: Sequence[EventCount], head: Sequence[EventCount], noise: tuple[float, float], *, better: bool = False
) -> tuple[float, float]:
    """Return the deviate of a rise (or fall), divided by the overdispersion, and the deviate's degrees of freedom.

    ``noise`` is both sides' variance between runs beyond counting error, with its degrees of freedom.
    """
    base, head = pooled_counts(base), pooled_counts(head)
    both = [*base, *head]
    rate = common_log_odds(both)
    if math.isinf(rate):
        return 0.0, _MOST_DF
    alike = len(both) == 2 and base[0].offset == head[0].offset
    if alike and sum(one.events for one in both) <= _MOST_EVENTS:
        deviate = fisher_deviate(base[0], head[0], better=better)
    else:
        deviate = (-1 if better else 1) * deviance_root(base, head, rate)
    (varies, df), counting = noise, 1 / information(base, rate) + 1 / information(head, rate)
    # Rounded to three digits, so that the cache of quantiles has few entries.
    return deviate / math.sqrt(1 + varies / counting), float(f"{_df(df, counting, varies):.3g}")
