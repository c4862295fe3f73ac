"""A mergeable histogram of durations in logarithmic buckets, for live figures.

Buckets grow by a fixed factor, so a quantile is off by at most half a bucket (about 2 %) wherever it lies, and two
histograms add up without loss: the idea of HdrHistogram and DDSketch (Masson et al., "DDSketch", VLDB 2019).
Final figures never come from here: they are computed from every sample.
"""

import math
from typing import Final, Self

GROWTH: Final = 1.04
_LOG: Final = math.log(GROWTH)


class LogHistogram:
    """Counts of non-negative values (ms, say) by logarithmic bucket."""

    __slots__ = ("buckets", "count", "zeros")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.zeros = 0

    def add(self, value: float) -> None:
        """Count one value; what is not above zero counts as zero."""
        self.count += 1
        if value <= 0:
            self.zeros += 1
            return
        bucket = math.ceil(math.log(value) / _LOG)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def quantile(self, share: float) -> float | None:
        """The value below which ``share`` (0-1) of the values lie, to about 2 %; None without values."""
        if self.count == 0:
            return None
        rank = max(1, math.ceil(share * self.count))
        seen = self.zeros
        if rank <= seen:
            return 0.0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                # The geometric middle of the bucket.
                return math.exp((bucket - 0.5) * _LOG)
        return None

    def __iadd__(self, other: "LogHistogram") -> Self:
        """Add another histogram's counts to this one."""
        self.count += other.count
        self.zeros += other.zeros
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        return self
