"""Rows of a record as NumPy columns.

A word is stored as its place in the ``Vocabulary`` of the record. Numbers are float64, with NaN for null, so times are
exact to the ns for 104 days. Each column is converted and sorted once per chunk, on first use. The operations or
requests of a stage are a slice of each column. A selection with gaps copies the columns that it needs.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadtest.arrays import Bools, Floats, Ints
from loadtest.contract import Operation, Outcome, RequestKind
from loadtest.foreign_text import visible
from loadtest.record import samples
from loadtest.record.run_info import RunInfo, StagePlan, TrafficPlan

OUTCOMES: Final = tuple(Outcome)
KINDS: Final = tuple(RequestKind)


class StageKey(NamedTuple):
    """A stage of a traffic entry. ``place`` is its index among all stages of the plan."""

    traffic: str
    stage: StagePlan
    operation: Operation
    place: int


Stages = Sequence[StageKey]


class Vocabulary:
    """The words of a record and the stages of its plan, as integers.

    Attributes:
        words: all words so far, by column. ``outcome`` begins with ``OUTCOMES``, and ``kind`` begins with ``KINDS``.
        stage_keys: every stage of every entry, the warm-up included.
        entry_of: for each stage, the index of its traffic entry in ``entries``.
        in_figures: for each stage, whether figures include it; False at -1 (the set-up and unknown stages).
        meaningful: whether a pass over the record found no meaningless row. Later passes then do not look for any.
        imported: whether the record was made from a log. A log has no intended starts, so starts replace them.
        most_arrivals: for each entry, the number of offered arrivals; in a killed run, an upper bound from the plan.
    """

    def __init__(self, info: RunInfo) -> None:
        self.imported, self.meaningful = info.imported, False
        self.entries = list(info.traffic)
        first = {"outcome": OUTCOMES, "kind": KINDS, "row": ("operation", "request"), "traffic": self.entries}
        self.words: dict[str, list[str]] = {name: [*first.get(name, ())] for name in samples.WORDS}
        plans = [(name, stage, plan.operation) for name, plan in info.traffic.items() for stage in plan.stages]
        self.stage_keys = [StageKey(name, stage, Operation(kind), at) for at, (name, stage, kind) in enumerate(plans)]
        self.entry_of = [self.entries.index(key.traffic) for key in self.stage_keys]
        self.in_figures = np.array([*(not key.stage.warmup for key in self.stage_keys), False])
        self.most_arrivals = np.array([_most_arrivals(plan) for plan in info.traffic.values()], np.float64)
        self._places = {(key.traffic, key.stage.name): key.place for key in self.stage_keys}
        self._known = {name: {word: place for place, word in enumerate(known)} for name, known in self.words.items()}
        self._last: dict[str, tuple[pa.Array, NDArray[np.int32]]] = {}

    def codes(self, name: str, words: list[str]) -> NDArray[np.int32]:
        """Return the integers of a column's words. New words are added in printable form."""
        known = self._known[name]
        for word in words:
            if word not in known:
                known[word] = len(known)
                self.words[name].append(visible(word))
        return np.array([known[word] for word in words], np.int32)

    def of_dictionary(self, name: str, dictionary: pa.Array) -> NDArray[np.int32]:
        """Return the integers of a dictionary's words, followed by -1, which stands for null.

        The result is cached, because most batches share a dictionary.
        """
        last = self._last.get(name)
        if last is None or not last[0].equals(dictionary):
            codes = np.append(self.codes(name, dictionary.to_pylist()), np.int32(-1))
            last = self._last[name] = dictionary, codes
        return last[1]

    def stage_index(self, traffic: NDArray[np.int32], stage: NDArray[np.int32]) -> Ints:
        """Return the stage index for each pair of an entry and a stage; -1 for the set-up and for unknown pairs."""
        stages = self.words["stage"]
        table = [self._places.get((entry, each), -1) for entry in self.words["traffic"] for each in stages]
        places = np.where((traffic < 0) | (stage < 0), len(table), traffic * np.int64(len(stages)) + stage)
        return np.array([*table, -1], np.int64).take(places)


def _most_arrivals(plan: TrafficPlan) -> float:
    if plan.offered is not None:
        return plan.offered
    # There may be more random arrivals than planned. A generous bound is enough, because it only limits memory.
    return min(2 * sum(stage.arrivals for stage in plan.stages) + 1e6, 1e10)


Words = NDArray[np.int32]
_Element = TypeVar("_Element", bound=np.generic)

OPERATION: Final = 0
REQUEST: Final = 1
"""Codes of operations and requests in the column ``row``."""
_ENDED: Final = (Outcome.OK, Outcome.THROTTLED, Outcome.FAILED, Outcome.TIMED_OUT)
OK, THROTTLED, FAILED, TIMED_OUT = map(OUTCOMES.index, _ENDED)
"""Codes of the column ``outcome``."""
DAY_MS: Final = 86_400_000.0
"""An executionTime above this, or below zero, is an anomaly. Figures exclude it."""
_GIVEN: Final = "execution_time_ms"
_FEW: Final = 12
"""With at most this many distinct codes, searching for each is faster than sorting."""


class Columns:
    """The columns of a few record batches. Operations come before requests, and both are sorted by stage.

    Attributes:
        order: place of each row in the batches. Operations or requests of a stage keep the order of the record.
        stage_index: index of each row's stage; -1 for the set-up and for unknown stages.
        operations: slice of the operations of known stages. The slice ``requests`` has all requests.
    """

    def __init__(self, batches: list[pa.RecordBatch], vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.count = sum(batch.num_rows for batch in batches)
        self._table = pa.Table.from_batches(batches)
        self._floats: dict[str, Floats] = {}
        self._words: dict[str, Words] = {}
        row, traffic, stage = (self._codes(name) for name in ("row", "traffic", "stage"))
        stage_index, width = vocabulary.stage_index(traffic, stage), len(vocabulary.stage_keys) + 1
        kind = np.where((row == OPERATION) | (row == REQUEST), row, REQUEST + 1)
        sorted_by = (kind * width + stage_index + 1).astype(np.uint16)  # 16-bit integers sort in linear time
        self.order: Ints = np.argsort(sorted_by, kind="stable")
        self.stage_index: Ints = stage_index.take(self.order)
        first, second, third = np.searchsorted(sorted_by.take(self.order), (1, width, 2 * width)).tolist()
        self.operations, self.requests = slice(first, second), slice(second, third)

    def arrow(self, name: str) -> pa.Array:
        """Return a column in Arrow's form, in the order of the record."""
        column = self._table.column(name)
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()

    def text(self, name: str, place: int) -> str | None:
        """Return a column's text at a place in the batches."""
        found: str | None = self._table.column(name)[place].as_py()
        return found

    def floats(self, name: str) -> Floats:
        """Return a column of numbers, NaN for null."""
        if name == "intended_start" and self.vocabulary.imported:
            name = "start"
        if name not in self._floats and self._empty(name):
            self._floats[name] = np.full(self.count, np.nan)
        elif name not in self._floats:
            values, known = _buffers(self.arrow(name))
            found: Floats = values.astype(np.float64) if known is None else np.where(known, values, np.nan)
            self._floats[name] = found.take(self.order)
        return self._floats[name]

    def words(self, name: str) -> Words:
        """Return a word column as integers, -1 for null."""
        if name not in self._words:
            self._words[name] = self._codes(name).take(self.order)
        return self._words[name]

    def _empty(self, name: str) -> bool:
        return bool(self._table.column(name).null_count == self.count)

    def _codes(self, name: str) -> Words:
        """Return a word column as integers, in the order of the record."""
        if self._empty(name):
            return np.full(self.count, -1, np.int32)
        whole = self.arrow(name)
        places, known = _buffers(whole.indices)
        # Arrow leaves the index of a null undefined. The last code, at -1, stands for null.
        codes = self.vocabulary.of_dictionary(name, whole.dictionary)
        return codes.take(places if known is None else np.where(known, places, -1))


def _buffers(column: pa.Array) -> tuple[NDArray[Any], Bools | None]:
    """Return a column's values and the mask of non-null values. Arrow's conversion to NaN takes ten times as long."""
    validity, data = column.buffers()
    if pa.types.is_boolean(column.type):
        values: NDArray[Any] = _bits(data, column)
    else:
        values = np.frombuffer(data, column.type.to_pandas_dtype(), len(column) + column.offset)[column.offset :]
    return values, None if column.null_count == 0 else _bits(validity, column)


def _bits(buffer: pa.Buffer, column: pa.Array) -> Bools:
    bits = np.unpackbits(np.frombuffer(buffer, np.uint8), count=column.offset + len(column), bitorder="little")
    return bits[column.offset :].view(bool)


class Rows:
    """A selection of rows. Operations or requests of a stage are adjacent, except in the result of ``as_recorded``.

    ``at`` has the rows' places in the columns: a slice for adjacent rows, which saves a copy of their values.
    """

    def __init__(self, columns: Columns, at: Ints | slice) -> None:
        self.columns = columns
        self.at = at
        # None stands for the selection itself. A self-reference would keep it in memory until a garbage collection.
        self._parts: dict[str, Rows | None] = {}
        self._stages: list[tuple[int, Rows | None]] | None = None
        self._floats: dict[str, Floats] = {}
        self._words: dict[str, Words] = {}

    def __len__(self) -> int:
        return self.at.stop - self.at.start if isinstance(self.at, slice) else len(self.at)

    @property
    def places(self) -> Ints:
        """The rows' places in the order of the record."""
        return self._chosen(self.columns.order)

    def floats(self, name: str) -> Floats:
        """Return a column of numbers, with NaN for null and for an executionTime below zero or above a day.

        The array is shared: do not write to it.
        """
        if name not in self._floats:
            found = self._chosen(self.columns.floats(name))
            if name == _GIVEN and (wrong := (found < 0) | (found > DAY_MS)).any():
                found = np.where(wrong, np.nan, found)
            self._floats[name] = found
        return self._floats[name]

    @cached_property
    def execution_given(self) -> Floats:
        """Each executionTime as received from the target, in ms."""
        return self._chosen(self.columns.floats(_GIVEN))

    def words(self, name: str) -> Words:
        """Return a word column as integers, -1 for null. The array is shared: do not write to it."""
        if name not in self._words:
            self._words[name] = self._chosen(self.columns.words(name))
        return self._words[name]

    def text(self, name: str, place: int) -> str | None:
        return self.columns.text(name, int(self.places[place]))

    def known(self, name: str) -> Bools:
        """Return True for rows with a value in a column. Arrow's own conversion of a mask would import pandas."""
        column = self.columns.arrow(name)
        return _bits(column.buffers()[0], column).take(self.places) if column.null_count else np.ones(len(self), bool)

    def where(self, condition: Bools) -> "Rows":
        return self if condition.all() else self.some(np.flatnonzero(condition))

    def some(self, places: Ints | slice) -> "Rows":
        if not isinstance(self.at, slice):
            return Rows(self.columns, self.at[places])
        start = self.at.start
        inside = slice(start + places.start, start + places.stop) if isinstance(places, slice) else places + start
        return Rows(self.columns, inside)

    def as_recorded(self) -> "Rows":
        """Return the same rows in the order of the record."""
        places = self.places
        return self if (places[1:] > places[:-1]).all() else self.some(np.argsort(places))

    @cached_property
    def stage_index(self) -> Ints:
        """The index of each row's stage; -1 for the set-up and for unknown stages."""
        return self._chosen(self.columns.stage_index)

    @property
    def by_stage(self) -> "list[tuple[int, Rows]]":
        """The rows by stage of the plan. Stages without rows are absent."""
        if self._stages is None:
            found = [(stage, at) for stage, at in _runs(self.stage_index) if stage >= 0]
            self._stages = [(stage, None if at is None else self.some(at)) for stage, at in found]
        return [(stage, self if rows is None else rows) for stage, rows in self._stages]

    @property
    def by_judged_stage(self) -> "list[tuple[int, Rows]]":
        """The rows of stages that figures include, by stage. Stages without rows are absent."""
        return [(index, rows) for index, rows in self.by_stage if self.columns.vocabulary.in_figures[index]]

    @property
    def by_kind(self) -> "list[tuple[int, Rows]]":
        """The rows by kind of request. Kinds without rows are absent."""
        return [(kind, self if at is None else self.some(at)) for kind, at in groups(self.words("kind")) if kind >= 0]

    @property
    def ok(self) -> "Rows":
        return self._part(Outcome.OK, lambda: self.words("outcome") == OK)

    @property
    def sent(self) -> "Rows":
        """The operations that sent a request."""
        return self._part("sent", lambda: ~np.isnan(self.floats("start") - self.floats("intended_start")))

    @property
    def without_mistakes(self) -> "Rows":
        """The rows without deliberate mistakes."""
        return self._part("meant_well", lambda: self.words("mistake") < 0)

    @property
    def answered(self) -> "Rows":
        """The rows that are ok or timed out."""
        if not self.late.any():
            return self.ok
        return self._part("answered", lambda: self.late | (self.words("outcome") == OK))

    @cached_property
    def late(self) -> Bools:
        """True for rows that timed out."""
        return np.asarray(self.words("outcome") == TIMED_OUT)

    def _part(self, name: str, condition: Callable[[], Bools]) -> "Rows":
        if name not in self._parts:
            found = self.where(condition())
            self._parts[name] = None if found is self else found
        part = self._parts[name]
        return self if part is None else part

    def _chosen(self, column: NDArray[_Element]) -> NDArray[_Element]:
        return column[self.at] if isinstance(self.at, slice) else column.take(self.at)


def _runs(codes: NDArray[Any]) -> list[tuple[int, slice | None]]:
    """Return each distinct code with its places. None stands for all places. Equal codes must be adjacent."""
    begins = np.flatnonzero(np.diff(codes, prepend=codes[:1] - 1)).tolist()
    if len(begins) == 1:
        return [(int(codes[0]), None)]
    return [(int(codes[begin]), slice(begin, end)) for begin, end in pairwise([*begins, len(codes)])]


def groups(codes: NDArray[Any]) -> list[tuple[int, Ints | None]]:
    """Return each distinct code with its places. None stands for all places."""
    if not len(codes):
        return []
    least, most = int(codes.min()), int(codes.max())
    if least == most:
        return [(least, None)]
    counts = np.bincount(codes - least)
    present = counts.nonzero()[0]
    if len(present) <= _FEW:
        return [(code, np.flatnonzero(codes == code)) for code in (present + least).tolist()]
    # Codes of at most 16 bits are sorted in linear time.
    order = np.argsort((codes - least).astype(np.min_scalar_type(most - least)), kind="stable")
    ends = np.cumsum(counts)
    return [(code + least, order[ends[code] - counts[code] : ends[code]]) for code in present.tolist()]


def tally(counts: Ints, codes: NDArray[Any]) -> None:
    """Add the frequency of each code to ``counts[code]``. Negative codes are ignored."""
    if not len(codes):
        return
    least, most = int(codes.min()), int(codes.max())
    if least == most:
        if least >= 0:
            counts[least] += len(codes)
        return
    found = np.bincount(codes - least)[max(0, -least) :]
    counts[max(0, least) : most + 1] += found


def grown(array: NDArray[_Element], needed: int, empty: float = 0) -> NDArray[_Element]:
    """Return the array or, if it is too short, a copy at least twice as long, filled up with ``empty``."""
    if needed <= len(array):
        return array
    # np.zeros allocates pages lazily, so the unused end needs no memory.
    longer = np.zeros(max(needed, 2 * len(array)), array.dtype)
    longer[: len(array)] = array
    if empty:
        longer[len(array) :] = empty
    return longer
