"""A change of a share (errors, 429s): counts of few events, compared as counts and not as if they were normal.

Differences are taken of log odds. Of 0 errors in 3,000 the log odds say almost nothing (their standard error is 1.4),
yet 12 in 600 after them are plain. So p comes from the counts: Fisher's exact test, as a normal deviate. Where another
share was expected of each run (429s; its log odds are an offset), or there are very many events, the deviate is the
signed root of the likelihood ratio, r = ± √(2·(ℓ of two rates − ℓ of one)), with half an event's correction for
continuity (McCullagh & Nelder, "Generalized Linear Models", 1989, §4.4). It is divided by what rates vary from run to
run beyond counting (overdispersion: §4.5), on Student's t with Satterthwaite's degrees of freedom, since counting needs
no estimate. The interval of the difference is Newcombe's (1998), of Wilson's for both sides at their effective counts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from loadtest.compare.change import CONFIDENCE, EACH_FINDS, LEAST_SHARE, MetricChange, student
from loadtest.compare.measurements import Key, Measurement, Metric, logit
from loadtest.stats import wilson

_UNCHANGED: Final = 0.02
_STEPS: Final = 25
_MOST_DF: Final = 1e4
_MOST_EVENTS: Final = 2000


class Count(NamedTuple):
    """Events of n, and the log odds that were expected (0 where nothing is)."""

    events: float
    n: float
    offset: float


@dataclass(frozen=True, kw_only=True)
class ShareChange(MetricChange):
    """Head − base of a share, estimated; the same questions as to ``change.Change``.

    Attributes:
        base_counts: of the base side.
        head_counts: of the head side.
        varies: variance of the log odds from run to run beyond counting, of the base side's mean and of the head's.
    """

    base_counts: tuple[Count, ...]
    head_counts: tuple[Count, ...]
    varies: tuple[float, float]

    @property
    def delta(self) -> float:
        """Head − base in log odds, with half an event added on each side."""
        return _rate(self.head_counts, half=True) - _rate(self.base_counts, half=True)

    def p(self, *, better: bool = False) -> float:
        """One-sided p: that the share grew (or fell), under no change."""
        from scipy.special import stdtr  # noqa: PLC0415 - slow to import, and most commands need none of it

        t, df = self._t(self.head_counts, better=better)
        return min(1.0, self.looks * float(stdtr(df, -t)))

    def decided(self) -> bool:
        """Whether both sides are all alike (no event at all, or nothing else): then no test could reject anything."""
        return math.isinf(_rate([*self.base_counts, *self.head_counts]))

    def interval(self) -> tuple[float, float]:
        """95 % interval of ``delta`` (Wald)."""
        counting = sum(
            1 / _information(side, _rate(side, half=True), half=True) for side in (self.base_counts, self.head_counts)
        )
        varies = sum(self.varies)
        half = student(CONFIDENCE, self._df(counting, varies)) * math.sqrt(counting + varies)
        return self.delta - half, self.delta + half

    def difference_interval(self) -> tuple[float, float]:
        """95 % interval of ``difference``."""
        head = self._side(self.head_counts, self.varies[1])
        base = self._side(self.base_counts, self.varies[0])
        low = math.hypot(head[0] - head[1], base[2] - base[0])
        high = math.hypot(head[2] - head[0], base[0] - base[1])
        difference = self.difference()
        # Rounding must not lead beyond what a difference of shares can be.
        return max(difference - low, min(-1.0, difference)), min(difference + high, max(1.0, difference))

    def matters(self, *, better: bool = False) -> bool:
        """Whether the estimate reaches one percentage point for the worse (or the better)."""
        return (-1 if better else 1) * self.difference() >= LEAST_SHARE

    def unchanged(self) -> bool:
        """Whether the 95 % interval ends below + 2 percentage points."""
        return self.difference_interval()[1] < _UNCHANGED

    def detectable(self, level: float) -> float | None:
        """The least growth that is found, and confirmed, in 80 % of cases, as an odds ratio; None if none is.

        Args:
            level: the one-sided p that decides.
        """
        n = sum(one.n for one in self.head_counts)
        offset = sum(one.offset for one in self.head_counts) / len(self.head_counts)
        # Of what matters here alone, so that entries that are alike are computed once.
        same = replace(
            self, key=Key("", "", self.key.metric), head_counts=(), sd=0.0, base=0.0, head=0.0, earlier=(), later=()
        )
        return _detectable(same, n, offset, level / self.looks)

    def least_found(self, n: float, offset: float, level: float) -> float | None:
        """As ``detectable``, of a head of n with these expected log odds."""
        base = _rate(self.base_counts, half=True)
        before = _expit(base + offset)
        low, high = min(before + LEAST_SHARE, 1.0), 1.0
        for _ in range(_STEPS):
            share = (low + high) / 2
            t, df = self._t([Count(share * n, n, offset)])
            reach = student(EACH_FINDS, df)
            clear = (share - before - LEAST_SHARE) >= reach * math.sqrt(share * (1 - share) / n)
            if clear and t >= student(1 - level, df) + reach:
                high = share
            else:
                low = share
        return math.exp(logit(high) - base - offset) if high < 1 else None

    def _df(self, counting: float, varies: float) -> float:
        """Degrees of freedom of a sum of variances of which the first is known (Satterthwaite, 1946)."""
        return min(_MOST_DF, self.df * ((counting + varies) / varies) ** 2)

    def _t(self, head: Sequence[Count], *, better: bool = False) -> tuple[float, float]:
        """Deviate of a growth (or a fall) over its overdispersion, and its degrees of freedom."""
        base, head = _pooled(self.base_counts), _pooled(head)
        rate = _rate([*base, *head])
        if math.isinf(rate):
            return 0.0, _MOST_DF
        events = sum(one.events for one in (*base, *head))
        if len(base) == len(head) == 1 and base[0].offset == head[0].offset and events <= _MOST_EVENTS:
            deviate = _fisher(base[0], head[0], better=better)
        else:
            deviate = (-1 if better else 1) * _likelihood_root(base, head, rate)
        counting, varies = 1 / _information(base, rate) + 1 / _information(head, rate), sum(self.varies)
        # To three digits, since quantiles are kept.
        return deviate / math.sqrt(1 + varies / counting), float(f"{self._df(counting, varies):.3g}")

    def _side(self, counts: Sequence[Count], varies: float) -> tuple[float, float, float]:
        """A side's share and its Wilson interval, at the count to which its overdispersion amounts."""
        at = sum(one.offset for one in self.head_counts) / len(self.head_counts)
        share, n = _expit(_rate(counts) + at), sum(one.n for one in counts)
        counting = 1 / _information(counts, _rate(counts, half=True), half=True)
        n /= 1 + varies / counting
        low, high = wilson(share, n, student(CONFIDENCE, self._df(counting, varies)))
        return share, low, high


@lru_cache(maxsize=1024)
def _detectable(change: ShareChange, n: float, offset: float, level: float) -> float | None:
    return change.least_found(n, offset, level)


def count(one: Measurement) -> Count:
    """The events that a measured share is made of."""
    events = min(max(one.value + (one.expected or 0.0), 0.0), 1.0) * one.n
    if one.metric != Metric.THROTTLED_RATE:
        return Count(events, one.n, 0.0)
    expected = (one.expected or 0.0) * one.n
    return Count(events, one.n, logit((expected + 0.5) / (one.n + 1)))


def counted_variance(one: Measurement) -> float:
    """Variance of a share's log odds by counting alone: 1 ÷ (k + ½) + 1 ÷ (n − k + ½) (Haldane–Anscombe)."""
    events, n, _ = count(one)
    return 1 / (events + 0.5) + 1 / (n - events + 0.5)


def _pooled(counts: Sequence[Count]) -> Sequence[Count]:
    """Counts added up where nothing tells them apart."""
    offset = counts[0].offset
    if any(one.offset != offset for one in counts):
        return counts
    return [Count(sum(one.events for one in counts), sum(one.n for one in counts), offset)]


def _fisher(base: Count, head: Count, *, better: bool) -> float:
    """One-sided p of Fisher's exact test, as a normal deviate: above 0 if the head has more (or fewer) events."""
    from scipy.special import gammaln, ndtri  # noqa: PLC0415 - as above

    here, n, others = round(head.events), round(head.n), round(base.n)
    events = here + round(base.events)
    first, last = max(0, events - others), min(events, n)
    k = np.arange(first, here + 1) if better else np.arange(here, last + 1)
    ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    ways += gammaln(others + 1) - gammaln(events - k + 1) - gammaln(others - events + k + 1)
    total = gammaln(n + others + 1) - gammaln(events + 1) - gammaln(n + others - events + 1)
    p = float(np.exp(ways - total).sum())
    return -float(ndtri(min(max(p, 1e-300), 1 - 1e-16)))


def _likelihood_root(base: Sequence[Count], head: Sequence[Count], rate: float) -> float:
    """The signed root of the likelihood ratio: above 0 if the head has more."""
    head = _corrected(head, rate)
    both = [*base, *head]
    rates = [_rate(side) for side in (base, head, both)]
    separate = _log_likelihood(base, rates[0]) + _log_likelihood(head, rates[1])
    root = math.sqrt(max(0.0, 2 * (separate - _log_likelihood(both, rates[2]))))
    return math.copysign(root, rates[1] - rates[0]) if root else 0.0


def _corrected(counts: Sequence[Count], rate: float) -> Sequence[Count]:
    """Counts with half an event less of what sets them apart from a rate (correction for continuity)."""
    events, n = sum(one.events for one in counts), sum(one.n for one in counts)
    expected = sum(one.n * _expit(rate + one.offset) for one in counts)
    aim = max(expected, events - 0.5) if events > expected else min(expected, events + 0.5)
    if events > expected:
        return [one._replace(events=one.events * aim / events) for one in counts]
    if events == n:
        return counts
    return [one._replace(events=one.events + (aim - events) * (one.n - one.events) / (n - events)) for one in counts]


def _rate(counts: Sequence[Count], *, half: bool = False) -> float:
    """The common log odds of counts beyond their offsets, of greatest likelihood; infinite for none and for all.

    Args:
        counts: of one side.
        half: add half an event on each side, so that it is finite.
    """
    events, n = sum(one.events for one in counts), sum(one.n for one in counts)
    extra = (0.5, 1.0) if half else (0.0, 0.0)
    first = counts[0].offset
    if events + extra[0] <= 0:
        return -math.inf
    if events + extra[0] >= n + extra[1]:
        return math.inf
    rate = logit((events + extra[0]) / (n + extra[1])) - sum(one.n * one.offset for one in counts) / n
    if all(one.offset == first for one in counts):
        return rate
    for _ in range(_STEPS):
        # Newton's method; the likelihood is concave.
        expected = sum(one.n * _expit(rate + one.offset) for one in counts)
        step = (events + extra[0] - expected * (1 + extra[1] / n)) / _information(counts, rate)
        rate += min(max(step, -2.0), 2.0)
        if abs(step) < 1e-9:
            break
    return rate


def _information(counts: Sequence[Count], rate: float, *, half: bool = False) -> float:
    """Σ n·p·(1 − p): one over the variance of log odds; with ``half`` as of (k + ½) of (n + 1)."""
    total = 0.0
    for one in counts:
        p = _expit(rate + one.offset)
        total += one.n * p * (1 - p)
    n = sum(one.n for one in counts)
    return max(total * (1 + 1 / n) if half else total, 1e-12)


def _log_likelihood(counts: Sequence[Count], rate: float) -> float:
    """Of binomial counts, less what does not depend on the rate."""
    total = 0.0
    for one in counts:
        x = rate + one.offset
        # log p = −log(1 + e⁻ˣ), without overflow; none of no events is nothing.
        total -= one.events * _softplus(-x) if one.events else 0.0
        total -= (one.n - one.events) * _softplus(x) if one.events < one.n else 0.0
    return total


def _softplus(x: float) -> float:
    return x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x))


def _expit(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0  # below it, exp overflows
