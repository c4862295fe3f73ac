"""Distributions of any number of values, their percentiles, and time bins for plots.

A distribution of many values becomes a log histogram (see ``EXACT``). The bucket of a value is the upper half of its
bits as a 32-bit float (sign, exponent, 7 bits of mantissa), so no logarithm is computed. A bucket's width is at most
1/128 of its lower edge, and its middle stands for its values. Percentiles of a histogram therefore have a relative
error of at most 0.4 % (as in HdrHistogram and DDSketch: Masson et al., "DDSketch", VLDB 2019). Counts and sums are
exact, and so are minima and maxima, except those of a histogram's ``ended``. All reports use this module, so a figure
has the same value everywhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.columns import groups
from loadtest.analysis.results import Summary, Value
from loadtest.arrays import Bools, Floats, Ints
from loadtest.metrics import STATISTICS
from loadtest.stats.order_statistics import QUANTILES, interval_ranks, rank

EXACT: Final = 20_000
"""By default, a slot with more values than this becomes a histogram. Slots are numbered distributions."""
_SHIFT: Final = 16
_SIGN: Final = 15
"""Bit number of the sign in the upper half of a 32-bit float."""
_LEAST, _MOST = 1e-6, 1e12
"""Smallest and largest magnitude in ms with a bucket: a nanosecond and 31 years. Smaller magnitudes count as zero."""

Slots = NDArray[np.intp] | NDArray[np.int32] | Ints


def _top(values: Floats) -> NDArray[np.uint32]:
    """Return the upper half of each value's bits as a 32-bit float."""
    return np.asarray(values.astype(np.float32).view(np.uint32) >> np.uint32(_SHIFT))


_BASE: Final = int(_top(np.array([_LEAST]))[0]) - 1
_HALF: Final = int(_top(np.array([_MOST]))[0]) - _BASE
WIDTH: Final = 2 * _HALF + 1
"""Number of buckets for negative values, zero and positive values."""
_SIZES: Final = np.clip(np.arange(1 << _SIGN) - _BASE, 0, _HALF)
_BUCKET_OF: Final = np.concatenate((_HALF + _SIZES, _HALF - _SIZES))
"""Bucket by the upper half of a value's bits. Positive values come first, then negative values."""


def buckets(values: Floats) -> Ints:
    """Return each value's bucket. A greater value never has a lower bucket."""
    return _BUCKET_OF.take(_top(values))


def _middles() -> Floats:
    edges = ((np.arange(_HALF + 2, dtype=np.int64) + _BASE) << _SHIFT).astype(np.int32).view(np.float32).astype(float)
    middle = (edges[:-1] + edges[1:]) / 2
    middle[0] = 0.0
    return np.concatenate((-middle[:0:-1], middle))


MIDDLES: Final = _middles()
"""The value that represents each bucket."""


@dataclass(frozen=True, eq=False)
class Distribution:
    """The values of one or several slots.

    Attributes:
        least: the minimum; NaN if empty. ``most`` is the maximum.
        late: the values that are lower bounds (time-outs); None if there are none.
        ordered: all values, ascending; meaningless in a histogram.
        counts: number of values by bucket in a histogram; None if all values are kept.
    """

    n: int = 0
    total: float = 0.0
    least: float = math.nan
    most: float = math.nan
    late: "Distribution | None" = None
    ordered: Floats = field(default_factory=lambda: np.zeros(0))
    counts: Ints | None = None

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None

    @cached_property
    def ended(self) -> "Distribution":
        """All values except time-outs."""
        if self.late is None:
            return self
        n = self.n - self.late.n
        if not n:
            return Distribution()
        if self.counts is None:
            # Remove each time-out once, because other values may be equal to it.
            late = self.late.ordered
            places = np.searchsorted(self.ordered, late) + np.arange(len(late)) - np.searchsorted(late, late)
            return distribution(np.delete(self.ordered, places))
        counts = self.counts - (
            np.bincount(buckets(self.late.ordered), minlength=WIDTH) if self.late.counts is None else self.late.counts
        )
        held = np.flatnonzero(counts)
        least, most = MIDDLES[held[[0, -1]]].tolist()
        return Distribution(n, self.total - self.late.total, least, most, None, self.ordered[:0], counts)

    def greatest_at(self, number: int) -> float:
        """Return the upper bound of the value at a 1-based rank. Each time-out counts as infinite.

        ``at`` returns the lower bound, in which each time-out counts with its duration. The two bounds hold,
        however long the timed-out operations would have taken.
        """
        ended = self.ended
        return float(ended.at([number])[0]) if number <= ended.n else math.inf

    def nearest(self, quantile: float) -> float:
        """Return a percentile by nearest rank, which exists for any n above zero."""
        return float(self.at([rank(self.n, quantile)])[0])

    def at(self, ranks: Sequence[int] | Ints) -> Floats:
        places = np.asarray(ranks, np.int64)
        if self.counts is None:
            return self.ordered[places - 1]
        found = MIDDLES[np.searchsorted(np.cumsum(self.counts), places)]
        # The middle of a bucket may be below the exact minimum or above the exact maximum.
        found = np.clip(found, self.least, self.most)
        return np.where(places == 1, self.least, np.where(places == self.n, self.most, found))


def known(values: Floats) -> Floats:
    """Return the values that are not NaN. Without NaN, this is the same array."""
    return values.take(np.flatnonzero(~np.isnan(values))) if np.isnan(values.sum()) else values


def distribution(values: Floats, at_least: Bools | None = None) -> Distribution:
    """Return the exact distribution of values, without NaN. ``at_least`` marks lower bounds (time-outs)."""
    ordered = np.sort(known(values))
    if not len(ordered):
        return Distribution()
    late = None if at_least is None or not at_least.any() else distribution(values[at_least])
    return Distribution(len(ordered), float(ordered.sum()), float(ordered[0]), float(ordered[-1]), late, ordered)


class Distributions:
    """Several distributions, filled in pieces. Each has a slot. A slot with up to ``exact`` values is exact."""

    def __init__(self, slots: int, exact: int = EXACT) -> None:
        self._exact = exact
        self._n = np.zeros(slots, np.int64)
        self._total = np.zeros(slots)
        self._least = np.full(slots, np.inf)
        self._most = np.full(slots, -np.inf)
        self._late: Distributions | None = None
        """The time-outs; None without time-outs."""
        self._kept: list[list[Floats]] = [[] for _ in range(slots)]
        """Pieces of the values of each exact slot."""
        self._counts: dict[int, Ints] = {}
        """Number of values by bucket, for each slot with a histogram."""

    def add(self, slots: Slots, values: Floats, at_least: Bools | None = None) -> None:
        """Add each value to its slot. A negative slot drops the value. ``at_least`` marks lower bounds (time-outs)."""
        for slot, places in groups(slots):
            if slot < 0:
                continue
            if places is None:
                self.add_to(slot, values, at_least)
            else:
                self.add_to(slot, values.take(places), None if at_least is None else at_least.take(places))

    def add_to(self, slot: int, values: Floats, at_least: Bools | None = None) -> None:
        """Add values to one slot, except NaN. The array may be kept without a copy, so do not change it afterwards."""
        if at_least is not None and at_least.any():
            if self._late is None:
                self._late = Distributions(len(self._n), self._exact)
            self._late.add_to(slot, values[at_least])
        values = known(values)
        if not len(values):
            return
        self._n[slot] += len(values)
        self._total[slot] += values.sum()
        self._least[slot] = min(self._least[slot], values.min())
        self._most[slot] = max(self._most[slot], values.max())
        if slot not in self._counts:
            self._kept[slot].append(values)
            if self._n[slot] <= self._exact:
                return
            values, self._kept[slot] = np.concatenate(self._kept[slot]), []
            self._counts[slot] = np.zeros(WIDTH, np.int64)
        self._counts[slot] += np.bincount(buckets(values), minlength=WIDTH)

    def get(self, slots: Sequence[int]) -> Distribution:
        places = [slot for slot in slots if self._n[slot]]
        if not places:
            return Distribution()
        kept = np.concatenate([np.zeros(0), *(part for slot in places for part in self._kept[slot])])
        binned = [self._counts[slot] for slot in places if slot in self._counts]
        late = None if self._late is None else self._late.get(places)
        counts = np.sum([*binned, np.bincount(buckets(kept), minlength=WIDTH)], axis=0) if binned else None
        return Distribution(
            int(self._n[places].sum()),
            float(self._total[places].sum()),
            float(self._least[places].min()),
            float(self._most[places].max()),
            late if late is not None and late.n else None,
            np.sort(kept),
            counts,
        )


_WIDTHS_S: Final = (0.1, 0.2, 0.5, 1, 2, 3, 5, 6, 10, 12, 15, 20, 30, 60, 120, 300, 600)
_MOST_BINS: Final = 240


def edges(seconds: float, events: int, per_bin: int, phase_s: float = 0.0) -> Floats:
    """Return the edges of bins that cover the time from 0 to ``seconds``: ``phase_s`` plus multiples of a round width.

    If ``seconds`` is at least 1, there are 3 to about 240 bins. Within these limits, a bin has about ``per_bin`` events
    or more on average.
    """
    wanted = max(seconds * per_bin / max(events, 1), seconds / _MOST_BINS)
    wanted = max(min(wanted, seconds / 6), seconds / _MOST_BINS)
    width = next((float(w) for w in _WIDTHS_S if w >= wanted * 0.999), math.ceil(wanted))
    return np.arange(0.0 - (-phase_s % width), seconds + width * 0.999, width)


def place(seconds: Floats, cuts: Floats) -> Ints:
    """Return the bin of each time, and -1 for a time outside all bins."""
    if len(cuts) < 2 or not len(seconds):
        return np.full(len(seconds), -1)
    # Rows are roughly ordered by time. Searching only the few bins that a chunk covers is faster.
    low, high = np.searchsorted(cuts, (np.fmin.reduce(seconds), np.fmax.reduce(seconds)), side="right")
    places: Ints = low - 1 + np.searchsorted(cuts[low:high], seconds, side="right")
    inside = (seconds >= cuts[0]) & (seconds < cuts[-1])
    return places if inside.all() else np.where(inside, places, -1)


class TimeSeries:
    """Distributions of values by bin of time (see ``edges``)."""

    def __init__(self, seconds: float, events: int, per_bin: int) -> None:
        self.cuts = edges(seconds, events, per_bin)
        self._bins = Distributions(max(1, len(self.cuts) - 1), exact=1_000)

    def add(self, seconds: Floats, values: Floats) -> None:
        """Add each value to the bin of its time, in s since the run's epoch. Values outside all bins are dropped."""
        self._bins.add(place(seconds, self.cuts), values)

    def bins(self) -> list[Distribution]:
        return [self._bins.get([place]) for place in range(len(self.cuts) - 1)]


def every(step: int, before: int, events: int) -> Ints:
    """Return the places of the new events whose number is a multiple of ``step``.

    Events have numbers from 0 on. ``before`` events came earlier, and ``events`` are new.
    """
    return np.arange(-before % step, events, step)


def percentile(values: Distribution, quantile: float) -> Value:
    """Return a percentile by nearest rank (inverted CDF), with its interval; an empty ``Value`` if n is too small."""
    ranks = interval_ranks(values.n, quantile)
    place = rank(values.n, quantile)
    if ranks is None:
        return Value()
    low, value, high = values.at([ranks[0], place, ranks[1]]).tolist()
    if values.late is None:
        return Value(value, low, high, value)
    return Value(value, low, max(high, values.greatest_at(ranks[1])), max(value, values.greatest_at(place)))


def summarize(values: Distribution) -> Summary:
    """Return n, mean, percentiles with intervals, and maximum of a distribution."""
    found = {name: percentile(values, QUANTILES[name]) for name in STATISTICS if name in QUANTILES}
    censored = values.late is not None
    fields: dict[str, Any] = {name: one.value for name, one in found.items()}
    fields |= {f"{name}_interval": one.interval for name, one in found.items()}
    return Summary(
        n=values.n,
        mean=values.mean,
        max=values.most if values.n else None,
        at_least=tuple(name for name in STATISTICS if (found[name].at_least if name in found else censored)),
        most={name: one.most for name, one in found.items() if one.most is not None and one.open},
        **fields,
    )
