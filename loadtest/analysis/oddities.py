"""Values that cannot be: what a target says of its executionTime against what its client saw. Findings about it.

An answer without executionTime is no answer of the documented shape: such are counted as failed, ``wrong_shape``.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.chunks import Book, Chunk
from loadtest.analysis.times import OK
from loadtest.analysis.waits import GRAIN_MS

WORDS: Final = {
    "negative": "executionTime below zero",
    "longer_than_seen": "executionTime longer than the client waited for it",
    "wrong_result": "a result that is not that of what was asked",
}


@dataclass(slots=True)
class Oddity:
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
    count: int = 0
    of: int = 0
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
        self._found = {name: Oddity(name) for name in WORDS}

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        rows = chunk.operations
        rows = rows[self._book.in_figures[chunk.cell[rows]]]
        answered = (chunk.words("outcome")[rows] == OK) & (chunk.words("mistake")[rows] < 0)
        good = rows[answered]
        execution = chunk.floats("execution_time_ms")[good]
        self._note(chunk, "negative", good, execution < 0, execution)
        self._note(chunk, "longer_than_seen", good, execution > seen_ms(chunk, good) + GRAIN_MS, execution)
        matched = chunk.floats("result_matched")[rows]
        self._note(chunk, "wrong_result", rows[~np.isnan(matched)], matched[~np.isnan(matched)] == 0)

    def result(self) -> list[Oddity]:
        """Those that occurred."""
        return [one for one in self._found.values() if one.count]

    def _note(
        self,
        chunk: Chunk,
        name: str,
        rows: NDArray[np.int64],
        odd: NDArray[np.bool_],
        execution: NDArray[np.float64] | None = None,
    ) -> None:
        found = self._found[name]
        found.of += len(rows)
        places = odd.nonzero()[0]
        if not len(places):
            return
        if not found.count:
            first = int(rows[places[0]])
            found.traffic = self._book.words["traffic"][chunk.words("traffic")[first]]
            found.request_id = chunk.text("request_id", first)
        found.count += len(places)
        if execution is not None:
            worst = float(execution[places].min() if name == "negative" else execution[places].max())
            further = min if name == "negative" else max
            found.worst_ms = worst if found.worst_ms is None else further(worst, found.worst_ms)


def seen_ms(chunk: Chunk, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The longest that an execution can have taken: the run's own time, or from the submit's start to the result.

    Unknown (NaN) for a retrieval, whose job ran before it.
    """
    operation = chunk.words("operation")[rows]
    sync, job = chunk.book.codes("operation", ["sync_run", "async_run"])
    start = chunk.floats("accepted_start")[rows]
    run = chunk.floats("accepted_end")[rows] - start
    whole = chunk.floats("end")[rows] - start
    return np.where(operation == sync, run, np.where(operation == job, whole, np.nan)) / 1e6


def impossible(execution_ms: NDArray[np.float64], seen_ms: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which executionTimes cannot be: below zero, or beyond what the client saw."""
    return (execution_ms < 0) | (execution_ms > seen_ms + GRAIN_MS)
