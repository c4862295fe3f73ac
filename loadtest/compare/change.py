"""A change of a time or a rate: an estimate on the log scale, and what it means in ms and 1/s (not of shares)."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from loadtest.compare.measurements import NATURES, Key, Measurement
from loadtest.metrics import Nature

LEAST_RATIO: Final = math.log(1.05)
"""The least effect on times and rates that can be a regression: 5 %, on the log scale …"""
LEAST_MS: Final = 1.0
"""… and, of times, one millisecond. Smaller changes are real at best, and nobody's business."""
LEAST_SHARE: Final = 0.01
"""The least effect on shares: one percentage point. A ratio would make a regression of one error in a thousand."""
_MOST_SCORE: Final = 50.0
"""e⁵⁰ ms are older than the universe."""
_UNCHANGED_RATIO: Final = math.log(1.10)
CONFIDENCE: Final = 0.975
"""Upper quantile of a two-sided 95 % interval."""
EACH_FINDS: Final = math.sqrt(0.8)
"""A change counts as found when the first comparison *and* the rerun find it: √.8 each makes 80 % of both."""


@dataclass(frozen=True, kw_only=True)
class MetricChange:
    """Head − base of one metric, of a time or rate (``Change``) or of a share (``shares.ShareChange``).

    Attributes:
        df: degrees of freedom of what varies from run to run.
        sd: from run to run, or pair to pair.
        n: runs of the history, or pairs.
        base: the base side's value, in the metric's unit.
        head: the head side's, likewise.
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
    looks: int = 1
    anchored: bool = False
    earlier: tuple[float, ...] = ()
    later: tuple[float, ...] = ()

    @property
    def nature(self) -> Nature:
        """How its metric is compared."""
        return NATURES[self.key.metric]

    def difference(self) -> float:
        """Head − base in the metric's unit."""
        return self.head - self.base


@dataclass(frozen=True, kw_only=True)
class Change(MetricChange):
    """Head − base of a time or a rate, estimated.

    Attributes:
        centre: logarithm of the base side.
        delta: head − base, likewise.
        se: standard error of ``delta``; with ``df`` degrees of freedom it is a scaled Student t.
        resolution_ms: what a poll interval hides; a smaller difference is none.
    """

    centre: float
    delta: float
    se: float
    resolution_ms: float = 0.0

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

    def difference_interval(self) -> tuple[float, float]:
        """95 % interval of ``difference``."""
        low, high = self.interval()
        base = math.exp(self.centre)
        return base * math.expm1(low), base * math.expm1(high)

    def matters(self, *, better: bool = False) -> bool:
        """Whether the estimate reaches the minimum effect for the worse (or the better)."""
        sign = -1 if better else 1
        enough = sign * self.worse >= LEAST_RATIO
        if self.nature.unit == "ms":
            enough = enough and sign * self.difference() >= max(LEAST_MS, self.resolution_ms)
        return enough

    def unchanged(self) -> bool:
        """Whether the 95 % interval ends below + 10 % for the worse."""
        return self.worse + student(CONFIDENCE, self.df) * self.se < _UNCHANGED_RATIO

    def detectable(self, level: float) -> float | None:
        """The least change for the worse that is found, and confirmed, in 80 % of cases, as a factor.

        Args:
            level: the one-sided p that decides.

        Returns:
            None where no change would be found.
        """
        critical = student(1 - level / self.looks, self.df) * self.se
        least = max(critical, self._least()) + student(EACH_FINDS, self.df) * self.se
        return math.exp(self.nature.worse * least) if least < _MOST_SCORE else None

    def _least(self) -> float:
        """The minimum effect on the scale."""
        if self.nature.unit != "ms":
            return LEAST_RATIO
        return max(LEAST_RATIO, math.log1p(max(LEAST_MS, self.resolution_ms) / math.exp(self.centre)))


@lru_cache(maxsize=1024)
def student(quantile: float, df: float) -> float:
    """Quantile of Student's t with ``df`` degrees of freedom."""
    from scipy.special import stdtrit  # noqa: PLC0415 - as above

    return float(stdtrit(df, quantile))


def known_se(one: Measurement) -> float:
    """What a run knows of the spread of a score; 0 if it does not know any."""
    return one.se if one.se is not None and math.isfinite(one.se) else 0.0


def unfit(one: Measurement) -> str:
    """Why a measurement cannot be compared; empty if it can."""
    if not (abs(one.score) < _MOST_SCORE and math.isfinite(one.value)):
        return "its value is impossible, or zero"
    return one.why_not or ("" if one.gated else "it is shown only")


Side = Literal["base", "head"]
