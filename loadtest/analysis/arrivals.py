"""Which arrivals a record tells of: those that left no row are lost, and belong to the stage of their neighbours."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.chunks import Book, Chunk, present
from loadtest.analysis.distribution import Distribution, distribution
from loadtest.runfile import RunInfo

GAPS: Final = 5_000_000
"""Arrivals of an entry whose gaps are looked at: the first."""


@dataclass(frozen=True, slots=True)
class Missing:
    """How many arrivals of a stage have no operation row."""

    traffic: str
    stage: str
    count: int


class Arrivals:
    """Of each traffic entry, which arrivals have an operation row, which a request names, and how late each left."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._ended: list[NDArray[np.bool_]] = [np.zeros(0, bool) for _ in book.entries]
        self._named: list[NDArray[np.bool_]] = [np.zeros(0, bool) for _ in book.entries]
        self._lag: list[NDArray[np.float32]] = [np.zeros(0, np.float32) for _ in book.entries]
        self._first = np.full(len(book.cells), np.inf)
        """The least arrival that is known of each cell: arrivals are numbered in the order of their stages."""

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        traffic = chunk.words("traffic")
        rows = chunk.operations
        self._see(chunk, rows[~np.isnan(chunk.floats("arrival")[rows])], "arrival", self._ended)
        lag = chunk.floats("start") - chunk.floats("intended_start")
        rows = rows[~np.isnan(lag[rows]) & chunk.book.in_figures[chunk.cell[rows]]]
        for entry in range(len(self._lag)):
            mine = rows[traffic[rows] == entry]
            number = chunk.floats("arrival")[mine].astype(np.int64)
            mine, number = mine[number < GAPS], number[number < GAPS]
            self._lag[entry] = _grown(self._lag[entry], number, np.float32(np.nan))
            self._lag[entry][number] = lag[mine] / 1e6
        rows = chunk.requests
        rows = rows[(chunk.cell[rows] >= 0) & ~np.isnan(chunk.floats("parent_arrival")[rows])]
        self._see(chunk, rows, "parent_arrival", self._named)

    def gap_errors(self, entry: str) -> Distribution:
        """|gap between two starts − gap between their intended starts| of neighbouring sent arrivals, in ms."""
        lag = self._lag[self._book.entries.index(entry)].astype(np.float64)
        return distribution(np.abs(np.diff(lag[~np.isnan(lag)])))

    def missing(self, info: RunInfo) -> list[Missing]:
        """Arrivals without an operation row, the warm-up's left out.

        Of a run that ended, those are the numbers below ``offered`` that have no row. Of a killed one, whose
        ``offered`` nobody wrote down, the arrivals that requests name but that never got an outcome.
        """
        found = []
        for place, (name, plan) in enumerate(info.traffic.items()):
            ended, named = self._ended[place], self._named[place]
            expected = named.nonzero()[0] if plan.offered is None else np.arange(plan.offered)
            absent = expected[~_grown(ended, expected, False)[expected]]
            cells = [cell for cell, (entry, _) in enumerate(self._book.cells) if entry == name]
            counts = self._by_cell(absent, cells)
            found += [
                Missing(name, self._book.cells[cell][1].name, count)
                for cell, count in zip(cells, counts, strict=True)
                if count and self._book.in_figures[cell]
            ]
        return found

    def _by_cell(self, absent: NDArray[np.int64], cells: list[int]) -> list[int]:
        """How many belong to each cell: to that of the nearest known arrival before, else after."""
        known = [cell for cell in cells if np.isfinite(self._first[cell])]
        if not known:
            return [0] * (len(cells) - 1) + [len(absent)] if cells else []
        firsts = self._first[known]
        order = np.argsort(firsts)
        places = np.maximum(np.searchsorted(firsts[order], absent, side="right") - 1, 0)
        counts = np.bincount(places, minlength=len(known))
        by_cell = dict(zip(np.asarray(known)[order].tolist(), counts.tolist(), strict=True))
        return [by_cell.get(cell, 0) for cell in cells]

    def _see(self, chunk: Chunk, rows: NDArray[np.int64], column: str, seen: list[NDArray[np.bool_]]) -> None:
        number = chunk.floats(column)[rows].astype(np.int64)
        cells = chunk.cell[rows]
        for cell in present(cells):
            self._first[cell] = min(self._first[cell], number[cells == cell].min())
        traffic = chunk.words("traffic")[rows]
        for entry in range(len(seen)):
            mine = number[traffic == entry]
            seen[entry] = _grown(seen[entry], mine, False)
            seen[entry][mine] = True


def _grown(array: NDArray[Any], places: NDArray[np.int64], empty: object) -> NDArray[Any]:
    """The array, long enough to hold something at every place; it doubles, so that growing it costs little."""
    needed = int(places.max()) + 1 if len(places) else 0
    if needed <= len(array):
        return array
    longer = np.full(max(needed, 2 * len(array)), empty, array.dtype)
    longer[: len(array)] = array
    return longer
