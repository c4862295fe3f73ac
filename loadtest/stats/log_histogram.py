"""A log histogram for live figures, which is small and can be added to others.

Each bucket is wider than the previous one by a fixed factor, so a quantile is off by at most half a bucket (about 2 %).
Histograms add up without loss, as in HdrHistogram and DDSketch (Masson et al., "DDSketch", VLDB 2019). Final figures
are computed from every sample instead.
"""

import math
from collections import Counter
from typing import Final, Self

import numpy as np

GROWTH: Final = 1.04
"""The ratio of the widths of neighbouring buckets."""
_LOG_GROWTH: Final = math.log(GROWTH)
_ZERO: Final = -(10**6)
"""The bucket of zero, below that of any positive float."""


class LogHistogram:
    """Counts of non-negative values (for example ms) in logarithmic buckets.

    New values are only counted when the histogram is read: counting them together takes a tenth of the time.
    """

    __slots__ = ("_buckets", "_new", "add", "extend", "longest", "total")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._new: list[float] = []
        self.add = self._new.append
        """Count a value; a negative value counts as zero."""
        self.extend = self._new.extend
        """Count several values."""
        self.total = self.longest = 0.0
        """Sum and maximum of the values, as of the last reading of ``buckets``."""

    @property
    def buckets(self) -> Counter[int]:
        """Number of values by bucket."""
        self.fold()
        return self._buckets

    def fold(self) -> None:
        """Count the values that were added since the last reading."""
        if self._new:
            values = np.maximum(self._new, 0.0)
            self._new.clear()
            self.total += float(values.sum())
            self.longest = max(self.longest, float(values.max()))
            with np.errstate(divide="ignore"):
                buckets = np.maximum(np.ceil(np.log(values) / _LOG_GROWTH), _ZERO).astype(int)
            found, counts = np.unique(buckets, return_counts=True)
            self._buckets.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    @property
    def count(self) -> int:
        return self.buckets.total()

    def quantile(self, share: float) -> float | None:
        """Return the value that ``share`` (0-1) of the values do not exceed, to about 2 %; None without values."""
        buckets = self.buckets
        rank, seen = max(1, math.ceil(share * buckets.total())), 0
        for bucket in sorted(buckets):
            seen += buckets[bucket]
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
        """Subtract a histogram that was added before; the maximum stays."""
        self._buckets -= other.buckets
        self.total -= other.total
        return self
