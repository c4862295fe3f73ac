"""The change of one metric, estimated: of a time or a rate on the log scale, of a share on that of log odds.

Both answer the same questions: how likely chance alone is (p), between which bounds the change lies, whether it
matters, and which change would have been found.

Of 0 errors in 3,000 the log odds say almost nothing (their standard error is 1.4), yet 12 in 600 after them are plain.
So p of a share comes from the counts: Fisher's exact test, as a normal deviate. Where another share was expected of
each run (429s; its log odds are an offset), or there are very many events, the deviate is the signed root of the
likelihood ratio, r = ± √(2·(ℓ of two rates − ℓ of one)), with half an event's correction for continuity (McCullagh &
Nelder, "Generalized Linear Models", 1989, §4.4). It is divided by what rates vary from run to run beyond counting
(overdispersion: §4.5), on Student's t with Satterthwaite's degrees of freedom, since counting needs no estimate. The
interval of the difference is Newcombe's (1998), of Wilson's for both sides at their effective counts.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from loadtest.compare.measurements import NATURES, Key, Measurement, Metric
from loadtest.compare.noise import MetricSpread, inflation, shrunk
from loadtest.metrics import Nature
from loadtest.stats.means import student, student_tail
from loadtest.stats.shares import (
    EventCount,
    common_log_odds,
    expit,
    fisher_deviate,
    information,
    likelihood_root,
    logit,
    pooled,
    share_score,
    wilson,
)

LEAST_RATIO: Final = math.log(1.05)
"""The least effect on times and rates that can be a regression: 5 %, on the log scale …"""
LEAST_MS: Final = 1.0
"""… and, of times, one millisecond. Smaller changes are real at best, and nobody's business."""
LEAST_SHARE: Final = 0.01
"""The least effect on shares: one percentage point. A ratio would make a regression of one error in a thousand."""
EACH_FINDS: Final = math.sqrt(0.8)
"""A change counts as found when the first comparison *and* the rerun find it: √.8 each makes 80 % of both."""
_MOST_SCORE: Final = 50.0
"""e⁵⁰ ms are older than the universe."""
_UNCHANGED_RATIO: Final = math.log(1.10)
_UNCHANGED_SHARE: Final = 0.02
_CONFIDENCE: Final = 0.975
"""Upper quantile of a two-sided 95 % interval."""
_STEPS: Final = 25
"""Halvings of the interval in which the least share that is found lies: it is then known to 3e-8."""
_MOST_DF: Final = 1e4
"""Degrees of freedom from which Student's t is normal."""
_MOST_EVENTS: Final = 2000
"""Events up to which Fisher's test is computed, term by term."""


def reaches_effect(nature: Nature, delta: float, difference: float, resolution_ms: float) -> bool:
    """Whether a change for the worse reaches the minimum effect.

    Args:
        nature: of the metric.
        delta: of a time or a rate, head − base on the log scale.
        difference: in the metric's unit.
        resolution_ms: what a poll interval hides.
    """
    if nature.scale == "logit":
        return difference >= LEAST_SHARE
    hidden = nature.unit == "ms" and difference < max(LEAST_MS, resolution_ms)
    return nature.worse * delta >= LEAST_RATIO and not hidden


@dataclass(frozen=True, kw_only=True)
class MetricChange:
    """Head − base of one metric, of a time or rate (``TimeChange``) or of a share (``ShareChange``).

    Attributes:
        df: degrees of freedom of what varies from run to run.
        sd: from run to run, or pair to pair.
        n: runs of the history, or pairs.
        base: the base side's value, in the metric's unit.
        head: the head side's, likewise.
        resolution_ms: what a poll interval hides; a smaller difference is none.
        looks: how often the change was looked for, each with a baseline of its own; p is multiplied by it.
        anchored: whether the baseline are the segment's first runs (slow drift), not the latest.
        earlier: values of the base side, in order.
        later: of the head side, likewise.
    """

    key: Key
    df: float
    sd: float
    n: int
    base: float
    head: float
    resolution_ms: float = 0.0
    looks: int = 1
    anchored: bool = False
    earlier: tuple[float, ...] = ()
    later: tuple[float, ...] = ()

    @property
    def nature(self) -> Nature:
        return NATURES[self.key.metric]

    def difference(self) -> float:
        """Head − base in the metric's unit."""
        return self.head - self.base


@dataclass(frozen=True, kw_only=True)
class TimeChange(MetricChange):
    """Head − base of a time or a rate, estimated.

    Attributes:
        centre: logarithm of the base side.
        delta: head − base, likewise.
        se: standard error of ``delta``; with ``df`` degrees of freedom it is a scaled Student t.
    """

    centre: float
    delta: float
    se: float

    @property
    def worse(self) -> float:
        """``delta`` with the sign that makes more of it worse."""
        return self.nature.worse * self.delta

    def p(self, *, better: bool = False) -> float:
        """One-sided p: that the metric became worse (or better), under no change."""
        deviate = self.worse / self.se
        return min(1.0, self.looks * student_tail(-deviate if better else deviate, self.df))

    def decided(self) -> bool:
        """Whether no test could reject anything: never of times and rates."""
        return False

    def interval(self) -> tuple[float, float]:
        half = student(_CONFIDENCE, self.df) * self.se
        return self.delta - half, self.delta + half

    def difference_interval(self) -> tuple[float, float]:
        low, high = self.interval()
        base = math.exp(self.centre)
        return base * math.expm1(low), base * math.expm1(high)

    def matters(self, *, better: bool = False) -> bool:
        """Whether the estimate reaches the minimum effect for the worse (or the better)."""
        sign = -1 if better else 1
        return reaches_effect(self.nature, sign * self.delta, sign * self.difference(), self.resolution_ms)

    def unchanged(self) -> bool:
        """Whether the 95 % interval ends below + 10 % for the worse."""
        return self.worse + student(_CONFIDENCE, self.df) * self.se < _UNCHANGED_RATIO

    def detectable(self, level: float) -> float | None:
        """The least change for the worse that is found, and confirmed, in 80 % of cases, as a factor.

        Args:
            level: the one-sided p that decides.

        Returns:
            None where no change would be found.
        """
        effect = LEAST_RATIO
        if self.nature.unit == "ms":
            effect = max(effect, math.log1p(max(LEAST_MS, self.resolution_ms) / math.exp(self.centre)))
        critical = student(1 - level / self.looks, self.df) * self.se
        least = max(critical, effect) + student(EACH_FINDS, self.df) * self.se
        return math.exp(self.nature.worse * least) if least < _MOST_SCORE else None


@dataclass(frozen=True, kw_only=True)
class ShareChange(MetricChange):
    """Head − base of a share, estimated; the same questions as to ``TimeChange``.

    Attributes:
        base_counts: of the base side.
        head_counts: of the head side.
        varies: variance of the log odds from run to run beyond counting, of the base side's mean and of the head's.
    """

    base_counts: tuple[EventCount, ...]
    head_counts: tuple[EventCount, ...]
    varies: tuple[float, float]

    @property
    def delta(self) -> float:
        """Head − base in log odds, with half an event added on each side."""
        return common_log_odds(self.head_counts, half=True) - common_log_odds(self.base_counts, half=True)

    def p(self, *, better: bool = False) -> float:
        """One-sided p: that the share grew (or fell), under no change."""
        noise = (sum(self.varies), self.df)
        return min(1.0, self.looks * student_tail(*_deviate(self.base_counts, self.head_counts, noise, better=better)))

    def decided(self) -> bool:
        """Whether both sides are all alike (no event at all, or nothing else): then no test could reject anything."""
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
        difference = self.difference()
        # Rounding must not lead beyond what a difference of shares can be.
        return max(difference - low, min(-1.0, difference)), min(difference + high, max(1.0, difference))

    def matters(self, *, better: bool = False) -> bool:
        return (-1 if better else 1) * self.difference() >= LEAST_SHARE

    def unchanged(self) -> bool:
        """Whether the 95 % interval ends below + 2 percentage points."""
        return self.difference_interval()[1] < _UNCHANGED_SHARE

    def detectable(self, level: float) -> float | None:
        """The least growth that is found, and confirmed, in 80 % of cases, as an odds ratio; None if none is.

        Args:
            level: the one-sided p that decides.
        """
        n = sum(one.n for one in self.head_counts)
        return _least_found(self.base_counts, (sum(self.varies), self.df), n, self._offset, level / self.looks)

    @property
    def _offset(self) -> float:
        return sum(one.offset for one in self.head_counts) / len(self.head_counts)

    def _side(self, counts: Sequence[EventCount], varies: float) -> tuple[float, float, float]:
        """A side's share and its Wilson interval, at the count to which its overdispersion amounts."""
        share, n = expit(common_log_odds(counts) + self._offset), sum(one.n for one in counts)
        counting = _counting(counts)
        n /= 1 + varies / counting
        return share, *wilson(share, n, student(_CONFIDENCE, _df(self.df, counting, varies)))


AnyChange = TimeChange | ShareChange


class ChangeEvidence(NamedTuple):
    """The data that the change of one metric is estimated from.

    Attributes:
        bases: measurements of the base side.
        heads: of the head side.
        earlier: those of the base side that are shown, too.
        centre: of the base side on the log scale (of shares it is not used).
        delta: head − base, likewise.
        parts: of the variance from run to run, which the base side's mean has, and the head's.
        spread: that variance, as it was seen and assumed.
        resolution_ms: what a poll interval hides.
        looks: as in ``MetricChange``.
    """

    bases: Sequence[Measurement]
    heads: Sequence[Measurement]
    earlier: Sequence[Measurement]
    centre: float
    delta: float
    parts: tuple[float, float]
    spread: MetricSpread
    resolution_ms: float
    looks: int = 1


def estimate(family: Sequence[ChangeEvidence], *, anchored: bool = False) -> list[AnyChange]:
    """Estimate the change of each metric, whose noise is what history shows, shrunk to what the family lets assume."""
    changes: list[AnyChange] = []
    for one, factor in zip(family, inflation([each.spread for each in family]), strict=True):
        squared_sd, df = shrunk(one.spread.prior * factor, one.spread.seen, one.spread.df)
        bases, heads = ([each.value for each in side] for side in (one.bases, one.heads))
        common: dict[str, Any] = {
            "key": one.heads[0].key,
            "df": df,
            "sd": math.sqrt(squared_sd),
            "n": len(bases),
            "looks": one.looks,
            "anchored": anchored,
            "earlier": tuple(each.value for each in one.earlier),
            "later": tuple(heads),
        }
        if NATURES[one.spread.metric].scale == "logit":
            share = ShareChange(
                **common,
                base_counts=tuple(map(count, one.bases)),
                head_counts=tuple(map(count, one.heads)),
                varies=(squared_sd * one.parts[0], squared_sd * one.parts[1]),
                base=statistics.fmean(bases),
                head=statistics.fmean(heads),
            )
            changes.append(share)
            continue
        time = TimeChange(
            **common,
            centre=one.centre,
            delta=one.delta,
            se=math.sqrt(squared_sd * sum(one.parts)),
            base=math.exp(one.centre),
            head=heads[0] if len(heads) == 1 else math.exp(one.centre + one.delta),
            resolution_ms=one.resolution_ms,
        )
        changes.append(time)
    return changes


def count(one: Measurement) -> EventCount:
    """The events that a measured share is made of."""
    expected = one.expected or 0.0
    events = min(max(one.value + expected, 0.0), 1.0) * one.n
    of_429s = one.metric == Metric.THROTTLED_RATE
    return EventCount(events, one.n, share_score(expected * one.n, one.n) if of_429s else 0.0)


def known_se(one: Measurement) -> float:
    """What a run knows of the spread of a score; 0 if it does not know any."""
    return one.se if one.se is not None and math.isfinite(one.se) else 0.0


def unfit(one: Measurement) -> str:
    """Why a measurement cannot be compared; empty if it can."""
    if not (abs(one.score) < _MOST_SCORE and math.isfinite(one.value)):
        return "its value is impossible, or zero"
    return one.why_not or ("" if one.gated else "it is shown only")


def _counting(counts: Sequence[EventCount]) -> float:
    return 1 / information(counts, common_log_odds(counts, half=True), half=True)


def _df(df: float, counting: float, varies: float) -> float:
    """Degrees of freedom of a sum of variances of which the first is known (Satterthwaite, 1946)."""
    return min(_MOST_DF, df * ((counting + varies) / varies) ** 2)


def _deviate(
    base: Sequence[EventCount], head: Sequence[EventCount], noise: tuple[float, float], *, better: bool = False
) -> tuple[float, float]:
    """Deviate of a growth (or a fall) over its overdispersion, and its degrees of freedom.

    Args:
        base: one side.
        head: the other.
        noise: variance from run to run beyond counting, of both sides together, and its degrees of freedom.
        better: whether a fall is asked for.
    """
    base, head = pooled(base), pooled(head)
    both = [*base, *head]
    rate = common_log_odds(both)
    if math.isinf(rate):
        return 0.0, _MOST_DF
    alike = len(both) == 2 and base[0].offset == head[0].offset
    if alike and sum(one.events for one in both) <= _MOST_EVENTS:
        deviate = fisher_deviate(base[0], head[0], better=better)
    else:
        deviate = (-1 if better else 1) * likelihood_root(base, head, rate)
    (varies, df), counting = noise, 1 / information(base, rate) + 1 / information(head, rate)
    # To three digits, since quantiles are kept.
    return deviate / math.sqrt(1 + varies / counting), float(f"{_df(df, counting, varies):.3g}")


@lru_cache(maxsize=1024)
def _least_found(
    base: tuple[EventCount, ...], noise: tuple[float, float], n: float, offset: float, level: float
) -> float | None:
    """As ``ShareChange.detectable``, of a head of n with these expected log odds; entries that are alike are kept."""
    rate = common_log_odds(base, half=True)
    before = expit(rate + offset)
    low, high = min(before + LEAST_SHARE, 1.0), 1.0
    for _ in range(_STEPS):
        share = (low + high) / 2
        t, df = _deviate(base, [EventCount(share * n, n, offset)], noise)
        reach = student(EACH_FINDS, df)
        clear = (share - before - LEAST_SHARE) >= reach * math.sqrt(share * (1 - share) / n)
        if clear and t >= student(1 - level, df) + reach:
            high = share
        else:
            low = share
    return math.exp(logit(high) - rate - offset) if high < 1 else None
