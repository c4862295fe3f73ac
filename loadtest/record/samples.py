"""The record of a run: one row for each operation and each request, as an Arrow IPC stream.

The stream is the interface between making load and understanding it. It is written in small batches, each
flushed to the file as it is complete, so that a process that is killed loses at most what it had not yet
flushed; a reader takes every whole batch and ignores a torn last one.

Times are monotonic nanoseconds since the run's epoch, below zero for the requests that prepare a run before it;
``run.json`` says when the epoch was on the wall clock.

Version 2 keeps words (traffic, stage, outcome, …) as indices into dictionaries that grow with the stream, and notes
on operation rows what their requests showed, so that an analysis needs neither strings nor joins.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import pyarrow as pa

from loadtest.contract import Operation, Outcome, Reason, RequestKind
from loadtest.errors import RecordError
from loadtest.foreign_text import ODD_CELL, csv_text

SCHEMA_VERSION: Final = 2
FILE_NAME: Final = "samples.arrows"
_MARK: Final = "loadtest.samples"
"""Of the schema's version, in the file."""

SETUP: Final = "setup"
"""The stage of requests that prepare a run before its epoch; it is in no plan and in no figure."""

RowType = Literal["operation", "request"]


class Sample(msgspec.Struct, kw_only=True, gc=False):
    """One operation, or one request of an operation.

    Field order is column order. On request rows ``parent_arrival`` is the arrival whose operation sent it,
    and ``arrival`` is null; on operation rows the other way round.
    """

    row: RowType
    traffic: str
    operation: Operation
    stage: str
    outcome: Outcome
    """Requests use ok, throttled, failed and timed_out."""
    kind: RequestKind | None = None
    """Requests only."""
    arrival: int | None = None
    """0-based number of the arrival within its traffic, over all workers."""
    parent_arrival: int | None = None
    attempt: int | None = None
    """1-based try of this request; on operation rows, tries of its first request."""
    poll: int | None = None
    """1-based number of a poll; on operation rows, how many polls were sent."""
    intended_start: int | None = None
    """ns: when the schedule (or, for polls and retries, the policy) wanted it."""
    user_free: int | None = None
    """ns: when the user that took the arrival became free. Operations only."""
    start: int | None = None
    """ns: first byte sent, or connecting began. Null if nothing was sent."""
    first_byte: int | None = None
    """ns: first byte of the answer. Requests only."""
    end: int | None = None
    """ns: answer complete, or given up."""
    connect_ms: float | None = None
    """Null where a connection was reused."""
    connection_reused: bool | None = None
    status: int | None = None
    """HTTP status; on operation rows that of the last answer. Null without an answer."""
    reason: Reason | None = None
    """Why it is not ok."""
    error_code: str | None = None
    """``code`` of the API's error body; where the reason is ``wrong_shape``, what is amiss with the body."""
    retry_after: str | None = None
    """The header as it came."""
    rate_limit: str | None = None
    """Every RateLimit-like header as ``name: value``, one a line."""
    execution_time_ms: float | None = None
    """What the server says it spent; sync 200s and terminal retrievals only."""
    job_id: str | None = None
    job_state: str | None = None
    result_matched: bool | None = None
    bytes_sent: int | None = None
    bytes_received: int | None = None
    key_index: int | None = None
    worker: int = 0
    mistake: str | None = None
    """What was wrong on purpose: such an operation is ok with the status that its mistake expects."""
    request_id: str | None = None
    """The W3C ``traceparent`` sent; on operation rows its trace id."""
    accepted_start: int | None = None
    """ns: start of the run, submit or retrieve that was answered with success. Operations only, as what follows."""
    accepted_end: int | None = None
    """ns: its end."""
    pending_seen: int | None = None
    """ns: start of the last request that saw the job pending (its submit, if no poll did). ``async_run`` only."""


WORDS: Final = (
    "row", "traffic", "operation", "stage", "outcome", "kind", "reason", "error_code", "retry_after", "job_state",
    "mistake",
)  # fmt: skip
"""Columns of few distinct texts, kept as dictionaries."""

_TYPES: Final[dict[str, pa.DataType]] = {
    "arrival": pa.int64(),
    "parent_arrival": pa.int64(),
    "attempt": pa.int32(),
    "poll": pa.int32(),
    "intended_start": pa.int64(),
    "user_free": pa.int64(),
    "start": pa.int64(),
    "first_byte": pa.int64(),
    "end": pa.int64(),
    "connect_ms": pa.float64(),
    "connection_reused": pa.bool_(),
    "status": pa.int32(),
    "execution_time_ms": pa.float64(),
    "result_matched": pa.bool_(),
    "bytes_sent": pa.int64(),
    "bytes_received": pa.int64(),
    "key_index": pa.int32(),
    "worker": pa.int32(),
    "accepted_start": pa.int64(),
    "accepted_end": pa.int64(),
    "pending_seen": pa.int64(),
    **dict.fromkeys(WORDS, pa.dictionary(pa.int32(), pa.string())),
}

SCHEMA: Final = pa.schema(
    [pa.field(name, _TYPES.get(name, pa.string())) for name in Sample.__struct_fields__],
    metadata={_MARK: str(SCHEMA_VERSION)},
)


PLAIN_SCHEMA: Final = pa.schema(
    [pa.field(each.name, pa.string() if each.name in WORDS else each.type) for each in SCHEMA]
)
"""``SCHEMA`` with words as plain text."""
_BUFFER: Final = 1024 * 1024


class Packer:
    """Turns samples into record batches of ``SCHEMA`` whose dictionaries only ever grow."""

    def __init__(self) -> None:
        self._words: dict[str, dict[str, int]] = {name: {} for name in WORDS}
        self._dictionaries = {name: pa.array([], pa.string()) for name in WORDS}

    def pack(self, samples: Iterable[Sample], rest: Callable[[], None] = lambda: None) -> pa.RecordBatch:
        """One batch; the order is kept.

        ``rest`` is called between two columns, about each 10 µs for 250 rows: a process that packs and sends would send
        nothing while the whole batch is packed. It may pack others meanwhile.
        """
        columns = zip(*(msgspec.structs.astuple(sample) for sample in samples), strict=True)
        arrays = []
        for column, field in zip(columns, SCHEMA, strict=True):
            rest()
            arrays.append(self._array(column, field))
        rest()
        for place, field in enumerate(SCHEMA):
            # Not before: what was packed during a rest may have added words, and dictionaries must not shrink.
            if field.name in self._words:
                arrays[place] = pa.DictionaryArray.from_arrays(arrays[place], self._dictionary(field.name))
        return pa.record_batch(arrays, schema=SCHEMA)

    def adopt(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch that another packer made, with the dictionaries of this one."""
        columns = []
        for name, column in zip(SCHEMA.names, batch.columns, strict=True):
            known = self._words.get(name)
            if known is None:
                columns.append(column)
                continue
            theirs = column.dictionary.to_pylist()
            places = pa.array([known.setdefault(word, len(known)) for word in theirs], pa.int32())
            words = pa.array(list(known), pa.string())
            columns.append(pa.DictionaryArray.from_arrays(places.take(column.indices), words))
        return pa.record_batch(columns, schema=SCHEMA)

    def _array(self, column: tuple[Any, ...], field: pa.Field) -> pa.Array:
        known = self._words.get(field.name)
        if known is None:
            return pa.array(column, field.type)
        for word in dict.fromkeys(column):
            if word is not None and word not in known:
                known[word] = len(known)
        return pa.array(list(map(known.get, column)), pa.int32())

    def _dictionary(self, name: str) -> pa.Array:
        known = self._words[name]
        if len(self._dictionaries[name]) < len(known):
            self._dictionaries[name] = pa.array(list(known), pa.string())
        return self._dictionaries[name]


def warm_up() -> None:
    """Pack something: Arrow's first conversion of all takes over 100 ms, which must not fall into a run."""
    Packer().pack([Sample(row="operation", traffic="", operation=Operation.SYNC_RUN, stage="", outcome=Outcome.OK)])


class SampleWriter:
    """Writes batches of samples to a run directory's stream; what ``write`` returned from is in the file.

    The operating system holds it then, so it outlives the process (though not a power cut).
    """

    def __init__(self, directory: Path) -> None:
        self.count = 0
        self._packer = Packer()
        # Buffered, so that a batch costs one call to the system and not one for each of its 100 buffers.
        self._file = pa.output_stream(str(directory / FILE_NAME), compression=None, buffer_size=_BUFFER)
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
        self._stream = pa.ipc.new_stream(self._file, SCHEMA, options=options)
        self._file.flush()
        warm_up()

    def write(self, samples: list[Sample], rest: Callable[[], None] = lambda: None) -> None:
        """Append samples as one batch (none: nothing is written).

        ``rest`` is as in ``Packer.pack``. What it raises is raised, and nothing is written then.

        Raises:
            OSError: if the file can't be written.
        """
        if samples:
            self._stream.write_batch(self._packer.pack(samples, rest))
            self._file.flush()
            self.count += len(samples)

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Append a batch of ``SCHEMA`` that was packed elsewhere; errors as ``write``."""
        self._stream.write_batch(self._packer.adopt(batch))
        self._file.flush()
        self.count += batch.num_rows

    def close(self) -> None:
        """End the stream with Arrow's end mark."""
        self._stream.close()
        self._file.close()


def read_batches(directory: Path) -> Iterator[pa.RecordBatch]:
    """Yield every whole batch of a run directory's stream, also of one that was torn; the file is mapped, not read.

    Raises:
        RecordError: if there is no stream, it is something else, or it is of another schema version.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        raise RecordError(f"{directory} holds no record ({FILE_NAME} is missing)", "Name a directory that a run made.")
    if _is_empty(path):
        return
    with pa.memory_map(str(path)) as file:
        try:
            stream = pa.ipc.open_stream(file)
        except (pa.ArrowException, OSError) as error:
            raise RecordError(f"{path} is no stream of samples: {error}") from error
        _check(path, stream.schema)
        while True:
            try:
                batch = stream.read_next_batch()
            except (StopIteration, pa.ArrowInvalid, OSError):
                return  # the end, or the torn last batch of a killed run: everything before it is whole
            yield batch


def _is_empty(path: Path) -> bool:
    """Whether a run was killed before even the whole schema was out."""
    with path.open("rb") as file:
        return bool(SCHEMA.serialize().to_pybytes().startswith(file.read(64 * 1024)))


def _check(path: Path, schema: pa.Schema) -> None:
    text = (schema.metadata or {}).get(_MARK.encode(), b"?").decode(errors="replace")
    if text != str(SCHEMA_VERSION):
        raise RecordError(f"{path} has schema version {text}; this loadtest reads version {SCHEMA_VERSION}")
    if not schema.equals(SCHEMA):
        raise RecordError(f"{path} was written by another loadtest: its columns are not those of this one")


def read_table(directory: Path) -> pa.Table:
    """Read every whole batch of a run directory's stream into one table, words as plain text.

    Raises:
        RecordError: as ``read_batches``.
    """
    return pa.Table.from_batches(list(read_batches(directory)), SCHEMA).cast(PLAIN_SCHEMA)


def safe_cells(table: pa.Table) -> pa.Table:
    """A table whose texts a spreadsheet takes for text, and a terminal shows as they are (``csv_text``)."""
    from pyarrow import compute  # noqa: PLC0415 - slow to import, and needed for a CSV only

    for place, field in enumerate(table.schema):
        if not pa.types.is_string(field.type):
            continue
        column = table.column(place)
        odd = compute.fill_null(compute.match_substring_regex(column, ODD_CELL), fill_value=False)
        if compute.any(odd).as_py():
            texts = pa.array([csv_text(text) for text in column.filter(odd).to_pylist()], pa.string())
            safe = compute.replace_with_mask(column, odd.combine_chunks(), texts)
            table = table.set_column(place, field, safe)
    return table
