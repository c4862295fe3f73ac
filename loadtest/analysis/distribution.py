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

from loadtest.analysis.rows import groups

EXACT: Final = 20_000
"""Values of a cell up to which each is kept as it is."""
_SHIFT: Final = 16
_SIGN: Final = 15
"""The place of the sign in the upper half of a 32-bit float."""
_LEAST, _MOST = 1e-6, 1e12
"""Magnitudes that are told apart (in ms: from a nanosecond to 31 years); what is nearer to zero counts as zero."""

Floats = NDArray[np.float64]
Cells = NDArray[np.intp] | NDArray[np.int32] | NDArray[np.int64]


def _top(values: Floats) -> NDArray[np.uint32]:
    """The upper half of each value's bits as a 32-bit float."""
    bits: NDArray[np.uint32] = values.astype(np.float32).view(np.uint32)
    return bits >> np.uint32(_SHIFT)


_BASE: Final = int(_top(np.array([_LEAST]))[0]) - 1
_HALF: Final = int(_top(np.array([_MOST]))[0]) - _BASE
WIDTH: Final = 2 * _HALF + 1
"""Buckets of a histogram: negative ones, zero, positive ones."""


def _bucket_of() -> NDArray[np.int64]:
    size = np.clip(np.arange(1 << _SIGN) - _BASE, 0, _HALF)
    return np.concatenate((_HALF + size, _HALF - size))


_BUCKET_OF: Final = _bucket_of()
"""By the upper half of a value's bits: those of positive ones ascend, then come those of negative ones."""


def buckets(values: Floats) -> NDArray[np.int64]:
    """The bucket of each value, ascending with it."""
    return _BUCKET_OF.take(_top(values))


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


def known(values: Floats) -> Floats:
    """Those that are not NaN; the same array where that is all of them."""
    return values.take(np.flatnonzero(~np.isnan(values))) if np.isnan(values.sum()) else values


def distribution(values: Floats, at_least: NDArray[np.bool_] | None = None) -> Distribution:
    """All of the values, exactly; NaN is left out.

    Args:
        values: in any order.
        at_least: True for values of which only a lower bound is known (time-outs).
    """
    late = known(values[at_least]) if at_least is not None else values[:0]
    ordered = np.sort(known(values))
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
        self._kept: list[list[Floats]] = [[] for _ in range(cells)]
        """Of cells that are no histograms, their values in pieces."""
        self._counts: dict[int, NDArray[np.int64]] = {}
        """Of cells that are histograms."""

    def add(self, cells: Cells, values: Floats, at_least: NDArray[np.bool_] | None = None) -> None:
        """Take in values; NaN is left out.

        Args:
            cells: the cell of each value, from 0.
            values: as many.
            at_least: True for values of which only a lower bound is known.
        """
        for cell, places in groups(cells):
            if places is None:
                self.add_to(cell, values, at_least)
            else:
                self.add_to(cell, values.take(places), None if at_least is None else at_least.take(places))

    def add_to(self, cell: int, values: Floats, at_least: NDArray[np.bool_] | None = None) -> None:
        """Take in values of one cell; NaN is left out. They are not copied.

        Args:
            cell: of them all.
            values: in any order.
            at_least: True for values of which only a lower bound is known.
        """
        if at_least is not None and at_least.any():
            self._open[cell] = np.fmin(self._open[cell], np.fmin.reduce(values[at_least]))
        values = known(values)
        if not len(values):
            return
        self._n[cell] += len(values)
        self._total[cell] += values.sum()
        self._least[cell] = min(self._least[cell], values.min())
        self._most[cell] = max(self._most[cell], values.max())
        if cell not in self._counts:
            self._kept[cell].append(values)
            if self._n[cell] <= self._exact:
                return
            values, self._kept[cell] = np.concatenate(self._kept[cell]), []
            self._counts[cell] = np.zeros(WIDTH, np.int64)
        self._counts[cell] += np.bincount(buckets(values), minlength=WIDTH)

    def get(self, cells: Sequence[int]) -> Distribution:
        """The distribution of some cells together."""
        places = [cell for cell in cells if self._n[cell]]
        if not places:
            return Distribution()
        kept = np.concatenate([np.zeros(0), *(part for cell in places for part in self._kept[cell])])
        binned = [self._counts[cell] for cell in places if cell in self._counts]
        counts = np.sum([*binned, np.bincount(buckets(kept), minlength=WIDTH)], axis=0) if binned else None
        return Distribution(
            int(self._n[places].sum()),
            float(self._total[places].sum()),
            float(self._least[places].min()),
            float(self._most[places].max()),
            float(self._open[places].min()),
            np.sort(kept),
            counts,
        )
