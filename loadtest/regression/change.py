"""A change of one metric: an estimate on the metric's scale, and what it means in ms, shares and rates."""

import math
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from loadtest.regression.measurements import NATURES, Key, Measurement, Nature, logit

LEAST_RATIO: Final = math.log(1.05)
"""The least effect on times and rates that can be a regression: 5 %, on the log scale …"""
LEAST_MS: Final = 1.0
"""… and, of times, one millisecond. Smaller changes are real at best, and nobody's business."""
LEAST_SHARE: Final = 0.01
"""The least effect on shares: one percentage point. A ratio would make a regression of one error in a thousand."""
_MOST_SCORE: Final = 50.0
"""e⁵⁰ ms are older than the universe."""
_UNCHANGED_RATIO: Final = math.log(1.10)
_UNCHANGED_SHARE: Final = 0.02
CONFIDENCE: Final = 0.975
"""Upper quantile of a two-sided 95 % interval."""
# A change counts as found when the first comparison *and* the rerun find it: √.8 each makes 80 % of both.
_EACH_FINDS: Final = math.sqrt(0.8)


class Change(NamedTuple):
    """Head − base of one metric, estimated.

    Attributes:
        centre: of the base side, on the metric's scale.
        delta: head − base, likewise.
        se: standard error of ``delta``; with ``df`` degrees of freedom it is a scaled Student t.
        sd: from run to run, or pair to pair, that ``se`` rests on.
        n: runs of the history, or pairs.
        base: the base side's value, in the metric's unit.
        head: the head side's, likewise.
        expected: of a 429 rate, the share that was expected of the head; None where it is unknown.
        resolution_ms: what a poll interval hides; a smaller difference is none.
        looks: how often the change was looked for, each with a baseline of its own; p is multiplied by it.
        anchored: whether the baseline are the segment's first runs (slow drift), not the latest.
        earlier: values of the base side, in order.
        later: of the head side, likewise.
    """

    key: Key
    centre: float
    delta: float
    se: float
    df: float
    sd: float
    n: int
    base: float
    head: float
    expected: float | None = None
    resolution_ms: float = 0.0
    looks: int = 1
    anchored: bool = False
    earlier: tuple[float, ...] = ()
    later: tuple[float, ...] = ()

    @property
    def nature(self) -> Nature:
        """How its metric is compared."""
        return NATURES[self.key.metric]

    @property
    def worse(self) -> float:
        """``delta`` with the sign that makes more of it worse."""
        return self.nature.worse * self.delta

    def p(self, *, better: bool = False) -> float:
        """One-sided p: that the metric became worse (or better), under no change."""
        from scipy.special import stdtr  # noqa: PLC0415 - slow to import, and most commands need none of it

        t = self.worse / self.se
        return min(1.0, self.looks * float(stdtr(self.df, t if better else -t)))

    def interval(self) -> tuple[float, float]:
        """95 % interval of ``delta``."""
        half = student(CONFIDENCE, self.df) * self.se
        return self.delta - half, self.delta + half

    def difference(self) -> float:
        """Head − base in the metric's unit."""
        return self.head - self.base

    def difference_interval(self) -> tuple[float, float] | None:
        """95 % interval of ``difference``; None for a 429 rate whose expectation is unknown."""
        low, high = self.interval()
        if self.nature.scale == "log":
            base = math.exp(self.centre)
            return base * math.expm1(low), base * math.expm1(high)
        origin = self._base_log_odds()
        return None if origin is None else (_share_difference(origin, low), _share_difference(origin, high))

    def matters(self, *, better: bool = False) -> bool:
        """Whether the estimate reaches the minimum effect for the worse (or the better)."""
        sign = -1 if better else 1
        if self.nature.scale == "logit":
            return sign * self.nature.worse * self.difference() >= LEAST_SHARE
        enough = sign * self.worse >= LEAST_RATIO
        if self.nature.unit == "ms":
            enough = enough and sign * self.difference() >= max(LEAST_MS, self.resolution_ms)
        return enough

    def unchanged(self) -> bool:
        """Whether the 95 % interval ends below + 10 % (of shares, below + 2 percentage points) for the worse."""
        if self.nature.scale == "log":
            return self.worse + student(CONFIDENCE, self.df) * self.se < _UNCHANGED_RATIO
        interval = self.difference_interval()
        if interval is None:
            # log odds change a share the fastest at one half, so the difference is at most this.
            return _share_difference(-self.interval()[1] / 2, self.interval()[1]) < _UNCHANGED_SHARE
        return interval[1] < _UNCHANGED_SHARE

    def detectable(self, level: float) -> float | None:
        """The least change for the worse that is found, and confirmed, in 80 % of cases: a factor, or an odds ratio.

        Args:
            level: the one-sided p that decides.

        Returns:
            None where no change would be found.
        """
        critical = student(1 - level / self.looks, self.df) * self.se
        least = max(critical, self._least()) + student(_EACH_FINDS, self.df) * self.se
        return math.exp(self.nature.worse * least) if least < _MOST_SCORE else None

    def _least(self) -> float:
        """The minimum effect on the scale."""
        if self.nature.scale == "log":
            least = LEAST_RATIO
            if self.nature.unit == "ms":
                least = max(least, math.log1p(max(LEAST_MS, self.resolution_ms) / math.exp(self.centre)))
            return least
        origin = self._base_log_odds()
        origin = 0.0 if origin is None else origin
        after = _expit(origin) + LEAST_SHARE
        return logit(after) - origin if after < 1 else math.inf

    def _base_log_odds(self) -> float | None:
        """The log odds that the base side's share would have now; of a 429 rate, at what is expected now."""
        if self.key.metric.value != "throttled_rate":
            return self.centre
        if self.expected is None:
            return None
        return logit(min(max(self.expected, 1e-4), 1 - 1e-4)) + self.centre


@lru_cache(maxsize=1024)
def student(quantile: float, df: float) -> float:
    """Quantile of Student's t with ``df`` degrees of freedom."""
    from scipy.special import stdtrit  # noqa: PLC0415 - as above

    return float(stdtrit(df, quantile))


def within_variance(one: Measurement) -> float:
    """Variance of a score within its run: what its blocks say; of a share at least that of its count.

    A share of n independent requests has var(log odds) ≈ 1 ÷ (k + ½) + 1 ÷ (n − k + ½) (Haldane–Anscombe). Without
    that, the first error ever would be infinitely surprising.
    """
    variance = known_se(one) ** 2
    if NATURES[one.metric].scale == "logit" and one.n > 0:
        events = min(max(one.value + (one.expected or 0.0), 0.0), 1.0) * one.n
        variance = max(variance, 1 / (events + 0.5) + 1 / (one.n - events + 0.5))
    return variance


def known_se(one: Measurement) -> float:
    """What a run knows of the spread of a score; 0 if it does not know any."""
    return one.se if one.se is not None and math.isfinite(one.se) else 0.0


def unfit(one: Measurement) -> str:
    """Why a measurement cannot be compared; empty if it can."""
    if not (abs(one.score) < _MOST_SCORE and math.isfinite(one.value)):
        return "its value is impossible, or zero"
    return one.why_not or ("" if one.gated else "it is shown only")


Side = Literal["base", "head"]


def _expit(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0  # below it, exp overflows


def _share_difference(origin: float, delta: float) -> float:
    return _expit(origin + delta) - _expit(origin)
