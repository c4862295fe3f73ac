"""How evenly arrivals left, against how evenly the schedule wanted them: the shape of arrivals decides the 429 rate."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.chunks import Chunk
from loadtest.analysis.percentiles import summarize
from loadtest.analysis.record import Record

_BIN_S: Final = 0.1
_ENOUGH: Final = 5
"""Mean arrivals a bin from which the bins' spread says something; below, an even schedule spreads by itself."""
_COLUMNS: Final = ("start", "intended_start")


@dataclass(frozen=True, slots=True)
class Evenness:
    """Of one traffic entry.

    Attributes:
        gap_error_ms: ``summarize``d |gap between two starts − gap between their intended starts|.
        bins_sent: sd ÷ mean of the starts in bins of 100 ms; None where arrivals are too few for it.
        bins_intended: the same of the intended starts: what a perfect sender would show.
    """

    gap_error_ms: dict[str, object]
    bins_sent: float | None
    bins_intended: float | None


class Evennesses:
    """Counts each traffic entry's first requests in bins of 100 ms; reported, never judged."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._bins: dict[tuple[int, str], NDArray[np.int64]] = {}
        extent = record.extent
        for entry in range(len(record.book.entries)):
            for column in _COLUMNS:
                first, last = extent.first[column][entry], extent.last_of[column][entry]
                if np.isfinite(first) and (count := int((last - first) / 1e9 / _BIN_S)) >= 2:
                    self._bins[entry, column] = np.zeros(count, np.int64)

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        rows = chunk.operations
        known = ~np.isnan(chunk.floats("start")[rows]) & ~np.isnan(chunk.floats("intended_start")[rows])
        rows = rows[known & chunk.book.in_figures[chunk.cell[rows]]]
        traffic = chunk.words("traffic")[rows]
        for (entry, column), counts in self._bins.items():
            since = chunk.floats(column)[rows[traffic == entry]] - self._record.extent.first[column][entry]
            # As np.histogram has it: the last bin holds its upper edge as well.
            places = np.minimum(since / (_BIN_S * 1e9), np.nextafter(len(counts), 0)).astype(np.int64)
            inside = since <= len(counts) * _BIN_S * 1e9
            self._bins[entry, column] = counts + np.bincount(places[inside], minlength=len(counts))

    def result(self) -> dict[str, Evenness]:
        """Of each traffic entry."""
        return {
            name: Evenness(
                summarize(self._record.arrivals.gap_errors(name)),
                *(_spread(self._bins.get((entry, column))) for column in _COLUMNS),
            )
            for entry, name in enumerate(self._record.book.entries)
        }


def _spread(counts: NDArray[np.int64] | None) -> float | None:
    if counts is None or counts.mean() < _ENOUGH:
        return None
    return float(counts.std() / counts.mean())
