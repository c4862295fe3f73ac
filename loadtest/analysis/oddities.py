"""Values that cannot be: what a target says of its executionTime against what its client saw. Findings about it.

An answer without executionTime is no answer of the documented shape: such are counted as failed, ``wrong_shape``.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.book import Book
from loadtest.analysis.chunks import Chunk
from loadtest.analysis.results import Count, Result
from loadtest.analysis.rows import Rows
from loadtest.analysis.waits import GRAIN_MS
from loadtest.contract import Operation

WORDS: Final = {
    "negative": "executionTime below zero",
    "longer_than_seen": "executionTime longer than the client waited for it",
    "wrong_result": "a result that is not that of what was asked",
}


class Oddity(Result, frozen=True, kw_only=True):
    """One kind of impossible value.

    Attributes:
        name: a key of ``WORDS``.
        count: operations that have it.
        of: operations that could have it.
        traffic: the entry of the first.
        request_id: the trace id of the first.
        worst_ms: the executionTime that is furthest from possible; None where that means nothing.
    """

    name: str
    count: Count = 0
    of: Count = 0
    traffic: str = ""
    request_id: str | None = None
    worst_ms: float | None = None

    @property
    def words(self) -> str:
        """What it is, in words."""
        return WORDS[self.name]


class Oddities:
    """Looks at every operation that was answered; those in figures only."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._found = {name: Oddity(name=name) for name in WORDS}

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        odd: dict[str, list[Rows]] = {name: [] for name in WORDS}
        for cell, rows in chunk.operations.by_cell:
            if self._book.in_figures[cell]:
                for name, of, found in _look(rows, self._book.operation_of[cell]):
                    self._found[name] = msgspec.structs.replace(self._found[name], of=self._found[name].of + of)
                    odd[name].append(found)
        for name, pieces in odd.items():
            if found_now := [rows for rows in pieces if len(rows)]:
                self._found[name] = self._counted(self._found[name], found_now)

    def result(self) -> list[Oddity]:
        """Those that occurred."""
        return [one for one in self._found.values() if one.count]

    def _counted(self, oddity: Oddity, pieces: list[Rows]) -> Oddity:
        """With some more rows that have it."""
        traffic, request_id, worst = oddity.traffic, oddity.request_id, oddity.worst_ms
        if not oddity.count:
            first = min(pieces, key=lambda rows: int(rows.places[0]))
            traffic = self._book.words["traffic"][first.words("traffic")[0]]
            request_id = first.text("request_id", 0)
        if oddity.name != "wrong_result":
            execution = np.concatenate([rows.floats("execution_time_ms") for rows in pieces])
            further = min if oddity.name == "negative" else max
            own = float(execution.min() if oddity.name == "negative" else execution.max())
            worst = own if worst is None else further(own, worst)
        count = oddity.count + sum(len(rows) for rows in pieces)
        return msgspec.structs.replace(oddity, count=count, traffic=traffic, request_id=request_id, worst_ms=worst)


def _look(rows: Rows, operation: Operation) -> Iterator[tuple[str, int, Rows]]:
    """Of each kind, how many could have it, and those that have."""
    good = rows.meant_well.ok
    execution = good.floats("execution_time_ms")
    yield "negative", len(good), good.where(execution < 0)
    yield "longer_than_seen", len(good), good.where(execution > seen_ms(good, operation) + GRAIN_MS)
    matched = rows.floats("result_matched")
    yield "wrong_result", int(np.count_nonzero(~np.isnan(matched))), rows.where(matched == 0)


def seen_ms(rows: Rows, operation: Operation) -> NDArray[np.float64]:
    """The longest that an execution can have taken: the run's own time, or from the submit's start to the result.

    Unknown (NaN) for a retrieval, whose job ran before it.
    """
    if operation == Operation.RETRIEVAL:
        return np.full(len(rows), np.nan)
    end = "accepted_end" if operation == Operation.SYNC_RUN else "end"
    return (rows.floats(end) - rows.floats("accepted_start")) / 1e6


def impossible(execution_ms: NDArray[np.float64], seen_ms: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which executionTimes cannot be: below zero, or beyond what the client saw."""
    return (execution_ms < 0) | (execution_ms > seen_ms + GRAIN_MS)
