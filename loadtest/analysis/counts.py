"""What is counted of a record, by cell: outcomes, statuses, reasons; requests by limit and key."""

from typing import Final

import numpy as np

from loadtest.analysis.book import KINDS, OUTCOMES, Book
from loadtest.analysis.chunks import Chunk
from loadtest.analysis.distribution import known
from loadtest.analysis.rows import TIMED_OUT, Rows, groups, tally
from loadtest.contract import FIRST_KINDS, LIMIT_NAMES, LIMIT_OF_KIND, Outcome

NO_ANSWER: Final = 0
"""The status of a request that got none."""
FIRST: Final = len(FIRST_KINDS)
"""So many of ``KINDS`` begin an operation; the rest are polls."""
_STATUSES: Final = 1000
_FAILED: Final = OUTCOMES.index(Outcome.FAILED)


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
        chunk.columns.words("reason")  # brings new ones
        words = len(self._book.words["reason"])
        if words > self.reasons.shape[1]:
            self.reasons = np.pad(self.reasons, ((0, 0), (0, words - self.reasons.shape[1])))
        for cell, rows in chunk.operations.by_cell:
            tally(self.outcomes[cell], rows.words("outcome"))
            tally(self.reasons[cell], rows.words("reason"))
            self.sent[cell] += len(rows) - np.count_nonzero(np.isnan(rows.floats("start")))

    def _requests(self, chunk: Chunk) -> None:
        self._ask(chunk.requests)
        for cell, rows in chunk.requests.by_cell:
            status = np.fmax(rows.floats("status"), NO_ANSWER)
            tally(self.statuses[cell], np.minimum(status, _STATUSES - 1).astype(np.int64))
            outcome = rows.words("outcome")
            self.errors[cell] += np.count_nonzero((outcome == _FAILED) | (outcome == TIMED_OUT))
            self.first[cell] += np.count_nonzero(rows.words("kind") < FIRST)
            self._bytes[cell] += known(rows.floats("bytes_received")).sum()

    def _ask(self, rows: Rows) -> None:
        """Count what was asked with which key; a request without one counts as the first key's."""
        for kind, mine in rows.by_kind:
            limit = LIMIT_OF_KIND[KINDS[kind]]
            self.asked[limit] += len(mine)
            keys = np.fmax(mine.floats("key_index"), 0.0).astype(np.int64)
            self.keys[limit] |= {key for key, _ in groups(keys)}
