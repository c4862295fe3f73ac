"""A log histogram for live figures: small, and histograms can be added.

Each bucket is wider than the previous one by a fixed factor, so a quantile is off by at most half a bucket (about 2 %).
Histograms add up without loss, as in HdrHistogram and DDSketch (Masson et al., "DDSketch", VLDB 2019). Final figures
are computed from every sample instead.
"""

import math
from collections import Counter
from typing import Final, Self

GROWTH: Final = 1.04
"""The ratio of the widths of neighbouring buckets."""
_LOG_GROWTH: Final = math.log(GROWTH)
_ZERO: Final = -(10**6)
"""The bucket of zero, below that of any positive float."""


class LogHistogram:
    """Counts of non-negative values (for example ms) in logarithmic buckets."""

    __slots__ = ("buckets", "count")

    def __init__(self) -> None:
        self.buckets: Counter[int] = Counter()
        self.count = 0

    def add(self, value: float) -> None:
        """Count one value; a negative value counts as zero."""
        self.count += 1
        bucket = math.ceil(math.log(value) / _LOG_GROWTH) if value > 0 else _ZERO
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def quantile(self, share: float) -> float | None:
        """Return the value that ``share`` (0-1) of the values do not exceed, to about 2 %; None without values."""
        rank, seen = max(1, math.ceil(share * self.count)), 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                # The geometric mean of the bucket's bounds.
                return 0.0 if bucket == _ZERO else math.exp((bucket - 0.5) * _LOG_GROWTH)
        return None

    def __iadd__(self, other: "LogHistogram") -> Self:
        self.count += other.count
        self.buckets.update(other.buckets)
        return self

    def __isub__(self, other: "LogHistogram") -> Self:
        """Subtract a histogram that was added before."""
        self.count -= other.count
        self.buckets -= other.buckets
        return self
