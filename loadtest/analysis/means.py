"""Where the time of an ok operation goes, on average: means, because means add up."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.chunks import Book, Chunk
from loadtest.analysis.times import OK, response_time, start_lag

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
        rows = chunk.operations
        rows = rows[chunk.words("outcome")[rows] == OK]
        cell = chunk.cell[rows]
        intended = chunk.floats("intended_start")[rows]
        self.n += np.bincount(cell, minlength=len(self.n))
        self._add(cell, "start_lag", np.maximum(start_lag(chunk, rows), 0.0))
        self._add(cell, "response", response_time(chunk, rows))
        self._add(cell, "execution", chunk.floats("execution_time_ms")[rows])
        submit = chunk.floats("accepted_end")[rows] - chunk.floats("accepted_start")[rows]
        self._add(cell, "submit", submit / 1e6)
        self._add(cell, "pending_lower", np.maximum(chunk.floats("pending_seen")[rows] - intended, 0.0) / 1e6)

    def of(self, cell: int, name: str) -> float | None:
        """A mean in ms; None where no operation has that part."""
        n = int(self._n[name][cell])
        return float(self._sums[name][cell]) / n if n else None

    def _add(self, cell: NDArray[np.int32], name: str, values: NDArray[np.float64]) -> None:
        known = ~np.isnan(values)
        self._sums[name] += np.bincount(cell[known], values[known], minlength=len(self.n))
        self._n[name] += np.bincount(cell[known], minlength=len(self.n))
