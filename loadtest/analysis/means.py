"""Where the time of an ok operation goes, on average: means, because means add up."""

from typing import Final

import numpy as np

from loadtest.analysis.book import Book
from loadtest.analysis.chunks import Chunk
from loadtest.analysis.distribution import known
from loadtest.analysis.rows import Rows
from loadtest.analysis.times import response_time, start_lag, submit_time

NAMES: Final = ("start_lag", "response", "execution", "submit", "pending_lower")


class Means:
    """Sums of the parts of ok operations' times in ms, by cell of a book.

    ``start_lag`` counts from zero; ``pending_lower`` is the lower bound of the time to result.
    """

    def __init__(self, book: Book) -> None:
        self._sums = {name: np.zeros(len(book.cells)) for name in NAMES}
        self._n = {name: np.zeros(len(book.cells), np.int64) for name in NAMES}
        self.n = np.zeros(len(book.cells), np.int64)
        """Ok operations."""

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        for cell, rows in chunk.operations.by_cell:
            self._take(cell, rows.ok)

    def of(self, cell: int, name: str) -> float | None:
        """A mean in ms; None where no operation has that part."""
        n = int(self._n[name][cell])
        return float(self._sums[name][cell]) / n if n else None

    def _take(self, cell: int, rows: Rows) -> None:
        self.n[cell] += len(rows)
        pending = rows.floats("pending_seen") - rows.floats("intended_start")
        parts = {
            "start_lag": np.maximum(start_lag(rows), 0.0),
            "response": response_time(rows),
            "execution": rows.floats("execution_time_ms"),
            "submit": submit_time(rows),
            "pending_lower": np.maximum(pending, 0.0) / 1e6,
        }
        for name, values in parts.items():
            found = known(values)
            self._sums[name][cell] += found.sum()
            self._n[name][cell] += len(found)
