"""executionTime over time and against what the client saw: percentiles of bins, and dots of single operations."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis import bins
from loadtest.analysis.chunks import Chunk
from loadtest.analysis.distribution import Distribution, Distributions
from loadtest.analysis.oddities import impossible, seen_ms
from loadtest.analysis.record import Record
from loadtest.analysis.rows import Rows
from loadtest.contract import Operation

Floats = NDArray[np.float64]

_MOST: Final = 4_000
"""Dots of an entry, picked evenly."""
_MOST_ODD: Final = 500
"""Dots of an entry that cannot be: the first ones."""
_PER_BIN: Final = 25


@dataclass(frozen=True, eq=False)
class Executions:
    """Of one traffic entry's ok operations that say an executionTime.

    Attributes:
        n: how many those are, warm-up included.
        seconds: intended starts of some of them, in s since the epoch.
        execution: their executionTime, in ms.
        seen: the longest that it can have been: what the client waited, in ms.
        odd: (executionTime, seen) of some of those that cannot be, without the warm-up's.
        odds: how many those are.
        cuts: edges of the bins, in s since the epoch.
        binned: of each bin, the executionTimes.
    """

    n: int
    seconds: Floats
    execution: Floats
    seen: Floats
    odd: tuple[Floats, Floats]
    odds: int
    cuts: Floats
    binned: list[Distribution]


class ExecutionTimes:
    """Gathers them for each traffic entry that executes anything: a retrieval's job was executed before it."""

    def __init__(self, record: Record) -> None:
        self._record = record
        plans = record.info.traffic
        self._entries = {
            place: name
            for place, name in enumerate(record.book.entries)
            if plans[name].operation != Operation.RETRIEVAL
        }
        said = record.times.of["execution_time_ms"]
        self._n = {place: said.get(record.cells_of(name)).n for place, name in self._entries.items()}
        self._cuts = {
            place: bins.edges(0, record.covered_s, bins.width(record.covered_s, n, _PER_BIN))
            for place, n in self._n.items()
        }
        self._binned = {p: Distributions(max(1, len(cuts) - 1), exact=1_000) for p, cuts in self._cuts.items()}
        self._seen = dict.fromkeys(self._entries, 0)
        self._odds = dict.fromkeys(self._entries, 0)
        self._dots: dict[int, list[tuple[Floats, ...]]] = {place: [] for place in self._entries}
        self._odd: dict[int, list[tuple[Floats, ...]]] = {place: [] for place in self._entries}

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        for cell, rows in chunk.operations.by_cell:
            if chunk.book.entry_of[cell] in self._entries:
                good = rows.meant_well.ok
                self._take(cell, good.where(~np.isnan(good.floats("execution_time_ms"))))

    def result(self) -> dict[str, Executions]:
        """Of each traffic entry that executed anything."""
        found = {}
        for place, name in self._entries.items():
            if not self._n[place]:
                continue
            cuts = self._cuts[place]
            seconds, execution, seen = _joined(self._dots[place], 3)
            odd, odd_seen = _joined(self._odd[place], 2)
            binned = [self._binned[place].get([k]) for k in range(len(cuts) - 1)]
            found[name] = Executions(
                self._n[place], seconds, execution, seen, (odd, odd_seen), self._odds[place], cuts, binned
            )
        return found

    def _take(self, cell: int, rows: Rows) -> None:
        book = self._record.book
        place = book.entry_of[cell]
        execution, seconds = rows.floats("execution_time_ms"), rows.floats("intended_start") / 1e9
        bins.spread(self._binned[place], self._cuts[place], seconds, execution)
        seen = seen_ms(rows, book.operation_of[cell])
        odd = impossible(execution, seen)
        keep = bins.every(max(1, -(-self._n[place] // _MOST)), self._seen[place], len(rows))
        self._seen[place] += len(rows)
        keep = keep[~odd[keep]]
        if len(keep):
            self._dots[place].append((seconds[keep], execution[keep], seen[keep]))
        if book.in_figures[cell] and odd.any():
            left = max(0, _MOST_ODD - self._odds[place])
            self._odd[place].append((execution[odd][:left], seen[odd][:left]))
            self._odds[place] += int(odd.sum())


def _joined(parts: list[tuple[Floats, ...]], width: int) -> tuple[Floats, ...]:
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True)) if parts else (np.zeros(0),) * width
