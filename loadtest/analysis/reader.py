"""Reading of a record in chunks, so that memory hardly grows with the number of samples.

A chunk has at least ``_ROWS`` × min(number of traffic entries, ``_MOST_ENTRIES``) rows; the last chunk may have fewer.
Work per stage therefore costs little compared with work per row.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

from loadtest.analysis.columns import KINDS, OPERATION, OUTCOMES, REQUEST, Columns, Rows, Vocabulary
from loadtest.arrays import Bools
from loadtest.record.samples import read_batches

_ROWS: Final = 16 * 1024
_MOST_ENTRIES: Final = 32
LATEST_NS: Final = 2.0**53
"""104 days after the epoch. A float64 cannot represent later times to the ns."""
_TIMES: Final = (
    "intended_start", "user_free", "start", "first_byte", "end", "accepted_start", "accepted_end", "pending_seen",
)  # fmt: skip


class Chunk:
    """Some rows of a record."""

    def __init__(self, batches: list[pa.RecordBatch], vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.columns = Columns(batches, vocabulary)

    @cached_property
    def everything(self) -> Rows:
        """All rows, including those that are meaningless."""
        return Rows(self.columns, slice(0, self.columns.count))

    @cached_property
    def meaningless(self) -> dict[str, Bools]:
        """Rows with meaningless words or numbers, by reason. A reason continues "a row that"."""
        if self.vocabulary.meaningful:
            return {}
        rows, row = self.everything, self.everything.words("row")
        outcome, kind = rows.words("outcome"), rows.words("kind")
        late = [np.abs(rows.floats(name)) > LATEST_NS for name in _TIMES]
        numbers = ("connect_ms", "execution_time_ms")
        strange = [~np.isfinite(self.columns.floats(name)) & rows.known(name) for name in numbers]
        checks = {
            "is neither an operation nor a request": (row != OPERATION) & (row != REQUEST),
            "has no known outcome": (outcome < 0) | (outcome >= len(OUTCOMES)),
            "is a request of no known kind": (row == REQUEST) & ((kind < 0) | (kind >= len(KINDS))),
            "has a time more than 104 days from the epoch": np.any(late, axis=0),
            "has a time that is not a number": strange[0] | strange[1],
            "belongs to an arrival that was never due": self._never_due(rows),
        }
        return {what: wrong for what, wrong in checks.items() if wrong.any()}

    @cached_property
    def operations(self) -> Rows:
        """Meaningful operations of the plan's stages."""
        return self._meaningful(self.columns.operations)

    @cached_property
    def requests(self) -> Rows:
        """Meaningful requests that were sent, including the set-up."""
        rows = self._meaningful(self.columns.requests)
        return rows.where(~np.isnan(rows.floats("start")))

    def _meaningful(self, at: slice) -> Rows:
        rows = Rows(self.columns, at)
        for wrong in self.meaningless.values():
            rows = rows.where(~wrong[rows.at])
        return rows

    def _never_due(self, rows: Rows) -> Bools:
        most = self.vocabulary.most_arrivals
        number = np.where(rows.words("row") == OPERATION, rows.floats("arrival"), rows.floats("parent_arrival"))
        if np.fmin.reduce(number) >= 0 and np.fmax.reduce(number) < most.min(initial=np.inf):
            return np.zeros(len(rows), bool)
        entry = np.where(rows.words("traffic") < len(most), rows.words("traffic"), -1)
        return (number < 0) | (number >= np.append(most, np.inf)[entry])


class Visitor(Protocol):
    """A consumer of a record's chunks."""

    def add(self, chunk: Chunk) -> None:
        """Process the next rows, in the order of the record."""
        ...


def read_chunks(directory: Path, vocabulary: Vocabulary) -> Iterator[Chunk]:
    """Yield a record's chunks.

    Raises:
        RecordError: if there is no readable record.
    """
    pending: list[pa.RecordBatch] = []
    rows = 0
    for batch in read_batches(directory):
        if batch.num_rows:
            pending.append(batch)
            rows += batch.num_rows
        if rows >= _ROWS * min(len(vocabulary.entries), _MOST_ENTRIES):
            yield Chunk(pending, vocabulary)
            pending, rows = [], 0
    if rows:
        yield Chunk(pending, vocabulary)


def scan(
    directory: Path, vocabulary: Vocabulary, visitors: list[Visitor], on_progress: Callable[[int], None] | None = None
) -> int:
    """Pass the whole record to each visitor, and return the number of rows."""
    rows = 0
    for chunk in read_chunks(directory, vocabulary):
        for visitor in visitors:
            visitor.add(chunk)
        rows += chunk.columns.count
        if on_progress is not None:
            on_progress(rows)
    return rows
