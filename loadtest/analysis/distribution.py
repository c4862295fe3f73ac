"""Distributions of any number of values: exact while they are few, a mergeable log histogram from then on.

A value's bucket is the top of its bits as a 32-bit float: sign, exponent, and 7 bits of mantissa, so that it is found
without a logarithm. A bucket spans 1/128 of its lower edge and stands for its middle: a percentile of a histogram is
off by at most 0.4 % of itself, wherever it lies (the idea of HdrHistogram; DDSketch has the same guarantee: Masson et
al., "DDSketch", VLDB 2019). Counts, sums, minima and maxima are exact.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

EXACT: Final = 20_000
"""Values of a cell up to which each is kept as it is."""
_SHIFT: Final = 16
_LEAST, _MOST = 1e-6, 1e12
"""Magnitudes that are told apart (in ms: from a nanosecond to 31 years); what is nearer to zero counts as zero."""
_COMPACT: Final = 1_000_000
"""Values that wait to be sorted into cells."""
_FEW: Final = 12

Floats = NDArray[np.float64]
Cells = NDArray[np.intp] | NDArray[np.int32] | NDArray[np.int64]


def _magnitude_bits(values: Floats) -> NDArray[np.int32]:
    bits: NDArray[np.int32] = values.astype(np.float32).view(np.int32)
    return (bits & 0x7FFFFFFF) >> _SHIFT


_BASE: Final = int(_magnitude_bits(np.array([_LEAST]))[0]) - 1
_HALF: Final = int(_magnitude_bits(np.array([_MOST]))[0]) - _BASE
WIDTH: Final = 2 * _HALF + 1
"""Buckets of a histogram: negative ones, zero, positive ones."""


def buckets(values: Floats) -> NDArray[np.int32]:
    """The bucket of each value, ascending with it."""
    size = np.clip(_magnitude_bits(values) - _BASE, 0, _HALF)
    return np.where(values < 0, _HALF - size, _HALF + size)


def _middles() -> Floats:
    edges = ((np.arange(_HALF + 2, dtype=np.int64) + _BASE) << _SHIFT).astype(np.int32).view(np.float32).astype(float)
    middle = (edges[:-1] + edges[1:]) / 2
    middle[0] = 0.0
    return np.concatenate((-middle[:0:-1], middle))


_MIDDLES: Final = _middles()


@dataclass(frozen=True, eq=False)
class Distribution:
    """Values of one cell, or of several together.

    Attributes:
        n: how many there are.
        total: their sum.
        least: the least one; NaN without any.
        most: the greatest one; NaN without any.
        open_from: the least of those of which only a lower bound is known; infinite without any.
        ordered: every value, ascending, where all are kept; else of no meaning.
        counts: values by bucket, where not all are kept; else None.
    """

    n: int = 0
    total: float = 0.0
    least: float = math.nan
    most: float = math.nan
    open_from: float = math.inf
    ordered: Floats = field(default_factory=lambda: np.zeros(0))
    counts: NDArray[np.int64] | None = None

    @property
    def mean(self) -> float | None:
        """The mean; None without values."""
        return self.total / self.n if self.n else None

    def at(self, ranks: Sequence[int] | NDArray[np.int64]) -> Floats:
        """The values at 1-based ranks."""
        places = np.asarray(ranks, np.int64)
        if self.counts is None:
            return self.ordered[places - 1]
        found = _MIDDLES[np.searchsorted(np.cumsum(self.counts), places)]
        # The ends are known exactly, and a bucket's middle may lie beyond them.
        found = np.clip(found, self.least, self.most)
        return np.where(places == 1, self.least, np.where(places == self.n, self.most, found))


def distribution(values: Floats, at_least: NDArray[np.bool_] | None = None) -> Distribution:
    """All of the values, exactly; NaN is left out.

    Args:
        values: in any order.
        at_least: True for values of which only a lower bound is known (time-outs).
    """
    known = ~np.isnan(values)
    late = values[known & at_least] if at_least is not None else values[:0]
    ordered = np.sort(values[known])
    if not len(ordered):
        return Distribution()
    open_from = float(late.min()) if len(late) else math.inf
    return Distribution(len(ordered), float(ordered.sum()), float(ordered[0]), float(ordered[-1]), open_from, ordered)


class Distributions:
    """A distribution for each of a number of cells, filled in pieces.

    Args:
        cells: how many there are.
        exact: values of a cell up to which each is kept.
    """

    def __init__(self, cells: int, exact: int = EXACT) -> None:
        self._exact = exact
        self._n = np.zeros(cells, np.int64)
        self._total = np.zeros(cells)
        self._least = np.full(cells, np.inf)
        self._most = np.full(cells, -np.inf)
        self._open = np.full(cells, np.inf)
        self._slot = np.full(cells, -1)
        """Of cells that are histograms, their row in ``_counts``."""
        self._counts = np.zeros((0, WIDTH), np.int64)
        self._waiting: list[tuple[Cells, Floats]] = []
        self._waits = 0

    def add(self, cells: Cells, values: Floats, at_least: NDArray[np.bool_] | None = None) -> None:
        """Take in values; NaN is left out.

        Args:
            cells: the cell of each value, from 0.
            values: as many.
            at_least: True for values of which only a lower bound is known.
        """
        known = ~np.isnan(values)
        if not known.all():
            cells, values = cells[known], values[known]
            at_least = at_least[known] if at_least is not None else None
        if not len(values):
            return
        self._measure(cells, values)
        if at_least is not None and at_least.any():
            np.minimum.at(self._open, cells[at_least], values[at_least])
        slots = self._slot[cells]
        binned = slots >= 0
        if binned.any():
            self._bin(slots[binned], values[binned])
            cells, values = cells[~binned], values[~binned]
        if len(values):
            self._waiting.append((cells, values))
            self._waits += len(values)
            if self._waits > _COMPACT:
                self._compact()

    def get(self, cells: Sequence[int]) -> Distribution:
        """The distribution of some cells together."""
        places = [cell for cell in cells if self._n[cell]]
        if not places:
            return Distribution()
        if len(self._waiting) > 1:
            self._join()
        waiting, values = self._waiting[0] if self._waiting else (np.zeros(0, np.int64), np.zeros(0))
        wanted = np.zeros(len(self._n), bool)
        wanted[places] = True
        kept = values[wanted[waiting]]
        slots = [slot for slot in self._slot[places].tolist() if slot >= 0]
        counts = None
        if slots:
            counts = self._counts[slots].sum(axis=0) + np.bincount(buckets(kept), minlength=WIDTH)
        return Distribution(
            int(self._n[places].sum()),
            float(self._total[places].sum()),
            float(self._least[places].min()),
            float(self._most[places].max()),
            float(self._open[places].min()),
            np.sort(kept),
            counts,
        )

    def _measure(self, cells: Cells, values: Floats) -> None:
        n = np.bincount(cells, minlength=len(self._n))
        self._n += n
        present = n.nonzero()[0]
        if len(present) > _FEW:
            self._total += np.bincount(cells, values, minlength=len(self._n))
            np.minimum.at(self._least, cells, values)
            np.maximum.at(self._most, cells, values)
            return
        # Rows come in the order of time, so that a chunk has few cells: cutting them out is the faster way.
        for cell in present.tolist():
            mine = values if len(present) == 1 else values[cells == cell]
            self._total[cell] += mine.sum()
            self._least[cell] = min(self._least[cell], mine.min())
            self._most[cell] = max(self._most[cell], mine.max())

    def _bin(self, slots: NDArray[np.intp], values: Floats) -> None:
        flat = np.bincount(slots * WIDTH + buckets(values), minlength=self._counts.size)
        self._counts += flat.reshape(self._counts.shape)

    def _join(self) -> None:
        cells, values = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = [(cells, values)]

    def _compact(self) -> None:
        """Turn every cell that has too many values into a histogram."""
        self._join()
        cells, values = self._waiting[0]
        many = np.flatnonzero((self._slot < 0) & (self._n > self._exact))
        self._slot[many] = len(self._counts) + np.arange(len(many))
        self._counts = np.concatenate((self._counts, np.zeros((len(many), WIDTH), np.int64)))
        slots = self._slot[cells]
        binned = slots >= 0
        self._bin(slots[binned], values[binned])
        self._waiting = [(cells[~binned], values[~binned])]
        self._waits = len(self._waiting[0][1])
