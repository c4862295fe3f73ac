"""A small histogram with logarithmic buckets, for live figures.

Each bucket is wider than the previous one by a fixed factor, so a quantile is off by at most half a bucket (about 2 %).
Histograms add up without loss, as in HdrHistogram and DDSketch (Masson et al., "DDSketch", VLDB 2019). Final figures
are computed from every sample instead.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final, Self

import numpy as np

GROWTH: Final = 1.04
"""The ratio of the widths of neighbouring buckets."""
_LOG_GROWTH: Final = math.log(GROWTH)
_ZERO: Final = -(10**6)
"""The bucket of zero, which is below the bucket of any positive float."""


class LogHistogram:
    """Counts of non-negative values (for example ms) in logarithmic buckets."""

    __slots__ = ("buckets", "longest", "total")

    def __init__(self) -> None:
        self.buckets: Counter[int] = Counter()
        """Number of values by bucket."""
        self.total = self.longest = 0.0
        """Sum (``total``) and maximum (``longest``) of the values."""

    def extend(self, new: Sequence[float]) -> None:
        """Count several values; a negative value counts as zero."""
        if not new:
            return
        values = np.maximum(new, 0.0)
        self.total += float(values.sum())
        self.longest = max(self.longest, float(values.max()))
        with np.errstate(divide="ignore"):
            buckets = np.maximum(np.ceil(np.log(values) / _LOG_GROWTH), _ZERO).astype(int)
        self.buckets.update(buckets.tolist())

    @property
    def count(self) -> int:
        return self.buckets.total()

    def quantile(self, share: float) -> float | None:
        """Return the quantile for a share from 0 to 1, with an error of about 2 %; None without values."""
        rank, seen = max(1, math.ceil(share * self.count)), 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                # The geometric mean of the bucket's bounds.
                return 0.0 if bucket == _ZERO else math.exp((bucket - 0.5) * _LOG_GROWTH)
        return None

    def __iadd__(self, other: "LogHistogram") -> Self:
        self.buckets.update(other.buckets)
        self.total += other.total
        self.longest = max(self.longest, other.longest)
        return self

    def __isub__(self, other: "LogHistogram") -> Self:
        """Subtract a histogram that was added before. The maximum does not change."""
        self.buckets -= other.buckets
        self.total -= other.total
        return self
