"""A record in pieces, as NumPy columns: what lets an analysis of any number of samples run in bounded memory.

A chunk holds at least ``_ROWS`` rows (but the last), however small the batches were that a run wrote. Words are
integers, the same in every chunk: their place in ``Book``. Times are float64 with NaN for null: 2^53 ns is 104 days.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadtest import samples
from loadtest.analysis.upgrade import read_upgraded
from loadtest.runfile import RunInfo, StagePlan

_ROWS: Final = 64 * 1024
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

OUTCOMES: Final = ("ok", "throttled", "failed", "timed_out", "dropped", "lost")
KINDS: Final = ("run", "submit", "retrieve", "poll")
"""The first three are what an operation begins with."""
LIMIT_OF_KIND: Final = {"run": "sync_run", "submit": "async_submit", "poll": "retrieval", "retrieve": "retrieval"}
LIMIT_OF_OPERATION: Final = {"sync_run": "sync_run", "async_run": "async_submit", "retrieval": "retrieval"}
"""The limit that an operation's first request draws on."""


class Book:
    """The words of a record and the cells of its plan, as integers.

    Attributes:
        words: of each word column, every word so far; ``OUTCOMES`` and ``KINDS`` come first in theirs.
        entries: names of the traffic entries, in order of the scenario.
        cells: (traffic, stage) of each cell: every stage of every entry, the warm-up included.
        in_figures: for each cell, whether it is judged.
    """

    def __init__(self, info: RunInfo) -> None:
        self.words: dict[str, list[str]] = {name: [] for name in samples.WORDS}
        self.words["outcome"] += OUTCOMES
        self.words["kind"] += KINDS
        self.words["row"] += ["operation", "request"]
        self.entries = list(info.traffic)
        self.words["traffic"] += self.entries
        self.cells: list[tuple[str, StagePlan]] = [(name, s) for name, p in info.traffic.items() for s in p.stages]
        self.in_figures = np.array([not stage.warmup for _, stage in self.cells], bool)
        self._places = {(name, stage.name): place for place, (name, stage) in enumerate(self.cells)}
        self._known = {name: {word: place for place, word in enumerate(known)} for name, known in self.words.items()}

    def codes(self, name: str, words: list[str]) -> NDArray[np.int32]:
        """The integer of each word of a column; new words are taken in."""
        known = self._known[name]
        for word in words:
            if word not in known:
                known[word] = len(known)
                self.words[name].append(word)
        return np.array([known[word] for word in words], np.int32)

    def cell_table(self) -> NDArray[np.int32]:
        """``[traffic, stage]`` -> cell, -1 for what no plan names: jobs that were seeded before the epoch."""
        stages = self.words["stage"]
        rows = [[self._places.get((entry, stage), -1) for stage in stages] for entry in self.words["traffic"]]
        return np.array(rows, np.int32).reshape(len(rows), len(stages))


class Chunk:
    """Some rows of a record.

    Args:
        batches: of the record, in its order.
        book: what its words mean.
    """

    def __init__(self, batches: list[pa.RecordBatch], book: Book) -> None:
        self.book = book
        self.rows = sum(batch.num_rows for batch in batches)
        self._batches = batches
        self._kept: dict[str, Any] = {}

    def floats(self, name: str) -> Floats:
        """A column of numbers, NaN for null."""
        found: Floats = self._keep(name, self._floats)
        return found

    def words(self, name: str) -> NDArray[np.int32]:
        """A word column as integers, -1 for null."""
        found: NDArray[np.int32] = self._keep(name, self._words)
        return found

    def column(self, name: str) -> pa.ChunkedArray:
        """A column as Arrow has it."""
        return pa.chunked_array([batch.column(name) for batch in self._batches])

    def text(self, name: str, row: int) -> str | None:
        """One value of a text column that is no word column."""
        for batch in self._batches:
            if row < batch.num_rows:
                found: str | None = batch.column(name)[row].as_py()
                return found
            row -= batch.num_rows
        raise IndexError(row)

    @cached_property
    def cell(self) -> NDArray[np.int32]:
        """The cell of each row; -1 for the set-up."""
        traffic, stage = self.words("traffic"), self.words("stage")
        cells: NDArray[np.int32] = self.book.cell_table()[traffic, stage]
        return cells

    @cached_property
    def operations(self) -> Ints:
        """Places of operation rows that belong to a cell."""
        return np.flatnonzero((self.words("row") == 0) & (self.cell >= 0))

    @cached_property
    def requests(self) -> Ints:
        """Places of request rows that were sent, those of the set-up included."""
        return np.flatnonzero((self.words("row") == 1) & ~np.isnan(self.floats("start")))

    def _keep(self, name: str, make: Callable[[str], Any]) -> Any:
        if name not in self._kept:
            self._kept[name] = make(name)
        return self._kept[name]

    def _floats(self, name: str) -> Floats:
        if all(batch.column(name).null_count == batch.num_rows for batch in self._batches):
            return np.full(self.rows, np.nan)
        parts = [b.column(name).to_numpy(zero_copy_only=False) for b in self._batches]
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        # A boolean column with nulls comes as objects.
        return whole.astype(np.float64, copy=False)

    def _words(self, name: str) -> NDArray[np.int32]:
        if all(batch.column(name).null_count == batch.num_rows for batch in self._batches):
            return np.full(self.rows, -1, np.int32)
        parts, known, codes = [], None, np.zeros(0, np.int32)
        for batch in self._batches:
            column = batch.column(name)
            if known is None or not column.dictionary.equals(known):
                known = column.dictionary
                codes = np.append(self.book.codes(name, known.to_pylist()), np.int32(-1))
            indices = column.indices
            if indices.null_count:
                indices = indices.fill_null(-1)
            parts.append(codes[indices.to_numpy()])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def present(codes: NDArray[Any]) -> list[int]:
    """The distinct ones of some codes from 0, ascending: much faster than sorting them."""
    found: list[int] = np.bincount(codes).nonzero()[0].tolist()
    return found


class Visitor(Protocol):
    """What takes in a record chunk by chunk."""

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows, in the order of the record."""
        ...


def read_chunks(directory: Path, book: Book) -> Iterator[Chunk]:
    """Yield a record's chunks.

    Raises:
        RecordError: if there is no record, or it is something else.
    """
    pending: list[pa.RecordBatch] = []
    rows = 0
    for batch in read_upgraded(directory):
        pending.append(batch)
        rows += batch.num_rows
        if rows >= _ROWS:
            yield Chunk(pending, book)
            pending, rows = [], 0
    if rows:
        yield Chunk(pending, book)


def scan(directory: Path, book: Book, visitors: list[Visitor], on_progress: Callable[[int], None] | None = None) -> int:
    """Let each visitor see the whole record; returns its number of rows.

    Args:
        directory: of the run.
        book: its words.
        visitors: what takes it in.
        on_progress: told the number of rows so far, after each chunk.
    """
    rows = 0
    for chunk in read_chunks(directory, book):
        for visitor in visitors:
            visitor.add(chunk)
        rows += chunk.rows
        if on_progress is not None:
            on_progress(rows)
    return rows
