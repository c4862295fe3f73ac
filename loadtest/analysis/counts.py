"""What is counted of a record, by cell: outcomes, statuses, reasons; requests by limit and key."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.chunks import KINDS, LIMIT_OF_KIND, OUTCOMES, Book, Chunk, present
from loadtest.limits import LIMIT_NAMES

Ints = NDArray[np.int64]

NO_ANSWER: Final = 0
"""The status of a request that got none."""
FIRST_KINDS: Final = 3
"""So many of ``KINDS`` begin an operation; the rest are polls."""
_STATUSES: Final = 1000


class Counts:
    """Counts by cell of a book; those that are judged and those of the warm-up alike.

    Attributes:
        outcomes: ``[cell, outcome]`` operations.
        sent: ``[cell]`` operations of which a request was sent.
        reasons: ``[cell, reason]`` operations, by the book's words.
        statuses: ``[cell, status]`` requests; ``NO_ANSWER`` for those without one.
        errors: ``[cell]`` requests that failed or timed out.
        first: ``[cell]`` runs, submits and retrieves.
        asked: requests by limit name, set-up included.
        keys: the key indices that were used on each limit name.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        cells = len(book.cells)
        self.outcomes = np.zeros((cells, len(OUTCOMES)), np.int64)
        self.sent = np.zeros(cells, np.int64)
        self.reasons = np.zeros((cells, 0), np.int64)
        self.statuses = np.zeros((cells, _STATUSES), np.int64)
        self.errors = np.zeros(cells, np.int64)
        self.first = np.zeros(cells, np.int64)
        self._bytes = np.zeros(cells)
        self.asked: dict[str, int] = dict.fromkeys(LIMIT_NAMES, 0)
        self.keys: dict[str, set[int]] = {name: set() for name in LIMIT_NAMES}

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        self._operations(chunk)
        self._requests(chunk)

    def received(self, cells: list[int]) -> float:
        """Bytes of an answer, on average over the requests of some cells; 0 without any."""
        asked = int(self.statuses[cells].sum())
        return float(self._bytes[cells].sum()) / asked if asked else 0.0

    def _operations(self, chunk: Chunk) -> None:
        rows, cells = chunk.operations, len(self.sent)
        cell = chunk.cell[rows]
        self.outcomes += _table(cell, chunk.words("outcome")[rows], cells, len(OUTCOMES))
        self.sent += np.bincount(cell[~np.isnan(chunk.floats("start")[rows])], minlength=cells)
        reason = chunk.words("reason")[rows]
        known = len(self._book.words["reason"])
        if known > self.reasons.shape[1]:
            self.reasons = np.pad(self.reasons, ((0, 0), (0, known - self.reasons.shape[1])))
        given = reason >= 0
        self.reasons += _table(cell[given], reason[given], cells, known)

    def _requests(self, chunk: Chunk) -> None:
        rows, cells = chunk.requests, len(self.sent)
        kind = chunk.words("kind")[rows]
        key = np.nan_to_num(chunk.floats("key_index")[rows]).astype(np.int64)
        for place, name in enumerate(KINDS):
            mine = kind == place
            self.asked[LIMIT_OF_KIND[name]] += int(mine.sum())
            self.keys[LIMIT_OF_KIND[name]] |= set(present(key[mine]))
        planned = chunk.cell[rows] >= 0
        rows, kind = rows[planned], kind[planned]
        cell = chunk.cell[rows]
        status = np.clip(np.nan_to_num(chunk.floats("status")[rows]), 0, _STATUSES - 1).astype(np.int64)
        self.statuses += _table(cell, status, cells, _STATUSES)
        outcome = chunk.words("outcome")[rows]
        wrong = (outcome == OUTCOMES.index("failed")) | (outcome == OUTCOMES.index("timed_out"))
        self.errors += np.bincount(cell[wrong], minlength=cells)
        self.first += np.bincount(cell[kind < FIRST_KINDS], minlength=cells)
        self._bytes += np.bincount(cell, np.nan_to_num(chunk.floats("bytes_received")[rows]), minlength=cells)


def _table(rows: NDArray[np.int32], columns: NDArray[np.int32] | Ints, height: int, width: int) -> Ints:
    flat = np.bincount(rows.astype(np.int64) * width + columns, minlength=height * width)
    return flat.reshape(height, width)
