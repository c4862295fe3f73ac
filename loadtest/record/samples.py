"""The record of a run. It is an Arrow IPC stream with a row for each operation and each request.

The stream is the interface between load and analysis. It is written in small batches, and each batch is flushed when it
is complete. A process that is killed loses only samples that are not flushed. A reader takes all complete batches, and
ignores a torn batch at the end.

Words (traffic, stage, outcome, …) are stored as indices into dictionaries that grow with the stream. Operation rows
also contain results of their requests, so that most figures need no joins.
"""

import sys
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
"""The file's metadata have the schema version under this key."""
SETUP: Final = "setup"
"""Stage of requests that prepare a run before its epoch. Plans of entries do not contain it."""
RowType = Literal["operation", "request"]


class Sample(msgspec.Struct, kw_only=True, array_like=True, gc=False):
    """One operation or one request. Times are monotonic ns since the run's epoch.

    Field order is column order. On request rows, ``parent_arrival`` is the arrival of the request's operation (null in
    the stage ``setup``), and ``arrival`` is null. On operation rows, ``parent_arrival`` and ``kind`` are null.
    """

    row: RowType
    traffic: str
    operation: Operation
    stage: str
    outcome: Outcome
    """Requests can only be ok, throttled, failed or timed_out."""
    kind: RequestKind | None = None
    arrival: int | None = None
    """Number of the arrival in its traffic entry, from 0, over all workers."""
    parent_arrival: int | None = None
    attempt: int | None = None
    """Number of this attempt, from 1. On operation rows, it is the number of attempts of the first request."""
    poll: int | None = None
    """Number of a poll, from 1. On operation rows, it is the number of polls."""
    intended_start: int | None = None
    """Start according to the schedule. For polls and retries, it is the start according to their policy."""
    user_free: int | None = None
    """Time when the user that took the arrival became free. Operations only."""
    start: int | None = None
    """Time when connecting or sending began. Null if neither began."""
    first_byte: int | None = None
    """Time of the response's first byte. Requests only."""
    end: int | None = None
    """Time when the response was complete, the request failed, or the client gave up."""
    connect_ms: float | None = None
    """Null for a reused connection."""
    connection_reused: bool | None = None
    status: int | None = None
    """HTTP status. On operation rows, it is the last request's status. Null without a response."""
    reason: Reason | None = None
    error_code: str | None = None
    """``code`` of the API's error body. For the reason ``wrong_shape``, it says what is wrong with the body."""
    retry_after: str | None = None
    rate_limit: str | None = None
    """The first 20 headers about rate limits, with a line ``name: value`` for each."""
    execution_time_ms: float | None = None
    """Execution time that the server states. Only responses that show the end of a sync run or job have it."""
    job_id: str | None = None
    job_state: str | None = None
    result_matched: bool | None = None
    bytes_sent: int | None = None
    bytes_received: int | None = None
    key_index: int | None = None
    worker: int = 0
    mistake: str | None = None
    """Kind of a deliberate mistake. A response with the mistake's documented status counts as ok."""
    request_id: str | None = None
    """The W3C ``traceparent`` that was sent. On operation rows, it is only the trace id."""
    accepted_start: int | None = None
    """Start of the ok request of kind run, submit or retrieve. Operations only, like the fields below."""
    accepted_end: int | None = None
    pending_seen: int | None = None
    """Start of the last poll that found the job pending, or of the submit if no poll did. ``async_run`` only."""

    @property
    def accepted_job(self) -> str | None:
        """Id of the job that this request submitted. None for other requests, and for operations."""
        return self.job_id if self.kind == RequestKind.SUBMIT and self.outcome == Outcome.OK else None


WORDS: Final = (
    "row", "traffic", "operation", "stage", "outcome", "kind", "reason", "error_code", "retry_after", "job_state",
    "mistake",
)  # fmt: skip
"""Columns with few distinct texts, stored as dictionaries."""

_TYPES: Final[dict[str, pa.DataType]] = {
    **dict.fromkeys(Sample.__struct_fields__, pa.string()),
    **dict.fromkeys(("arrival", "parent_arrival", "bytes_sent", "bytes_received"), pa.int64()),
    **dict.fromkeys(("intended_start", "user_free", "start", "first_byte", "end"), pa.int64()),
    **dict.fromkeys(("accepted_start", "accepted_end", "pending_seen"), pa.int64()),
    **dict.fromkeys(("attempt", "poll", "status", "key_index", "worker"), pa.int32()),
    **dict.fromkeys(("connect_ms", "execution_time_ms"), pa.float64()),
    **dict.fromkeys(("connection_reused", "result_matched"), pa.bool_()),
    **dict.fromkeys(WORDS, pa.dictionary(pa.int32(), pa.string())),
}
SCHEMA: Final = pa.schema(_TYPES, metadata={_MARK: str(SCHEMA_VERSION)})
_PLACES: Final = {name: place for place, name in enumerate(SCHEMA.names)}
_BUFFER: Final = 1024 * 1024


class Packer:
    """Packs samples into record batches of ``SCHEMA``. The dictionaries of the batches only grow."""

    def __init__(self) -> None:
        self._words: dict[str, dict[str, int]] = {name: {} for name in WORDS}
        self._dictionaries = {name: pa.array([], pa.string()) for name in WORDS}

    def pack(self, samples: Iterable[Sample], rest: Callable[[], None] = lambda: None) -> pa.RecordBatch:
        """Pack samples into one batch, in order.

        ``rest`` is called between two columns, about every 10 µs for 250 rows, so that a process can send requests
        while it packs a batch. ``rest`` may itself pack batches.
        """
        columns = zip(*map(msgspec.structs.astuple, samples), strict=True)
        arrays = []
        for column, field in zip(columns, SCHEMA, strict=True):
            rest()
            arrays.append(self._array(column, field))
        rest()
        # Dictionaries come last, because packing during a rest may add words, and dictionaries must not shrink.
        return self._with_dictionaries(arrays)

    def adopt(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return another packer's batch with this packer's dictionaries."""
        arrays = batch.columns
        for name, known in self._words.items():
            column = batch[name]
            theirs = column.dictionary.to_pylist()
            places = pa.array([known.setdefault(word, len(known)) for word in theirs], pa.int32())
            arrays[_PLACES[name]] = places.take(column.indices)
        return self._with_dictionaries(arrays)

    def _with_dictionaries(self, arrays: list[pa.Array]) -> pa.RecordBatch:
        """Turn the arrays of word indices into dictionary columns, and return a batch of all columns."""
        for name, known in self._words.items():
            if len(self._dictionaries[name]) < len(known):
                self._dictionaries[name] = pa.array(list(known), pa.string())
            place = _PLACES[name]
            arrays[place] = pa.DictionaryArray.from_arrays(arrays[place], self._dictionaries[name])
        return pa.record_batch(arrays, schema=SCHEMA)

    def _array(self, column: tuple[Any, ...], field: pa.Field) -> pa.Array:
        known = self._words.get(field.name)
        if column[0] is None and column.count(None) == len(column):
            return pa.nulls(len(column), field.type if known is None else pa.int32())
        if known is None:
            return pa.array(column, field.type)
        for word in dict.fromkeys(column):
            if word is not None:
                known.setdefault(word, len(known))
        return pa.array(list(map(known.get, column)), pa.int32())


def warm_up_without_pandas() -> None:
    """Pack one sample before a run, because Arrow's first conversion takes over 100 ms.

    The import of pandas is blocked meanwhile. It takes 0.25 s of CPU time and 60 MB, and is not needed here.
    ``to_pandas`` and ``to_numpy(zero_copy_only=False)`` still import it later.
    """

    class NoPandas:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "pandas":
                raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, NoPandas)
    Packer().pack([Sample(row="operation", traffic="", operation=Operation.SYNC_RUN, stage="", outcome=Outcome.OK)])
    sys.meta_path.remove(NoPandas)


class SampleWriter:
    """Writes batches of samples to a run directory's stream.

    When ``write`` returns, the operating system has the data. They survive the process, but not a power failure.
    """

    def __init__(self, directory: Path) -> None:
        self.count = 0
        self._packer = Packer()
        # The file is buffered, so a batch costs one system call. Otherwise, it would cost one for each of 100 arrays.
        self._file = pa.output_stream(str(directory / FILE_NAME), compression=None, buffer_size=_BUFFER)
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
        self._stream = pa.ipc.new_stream(self._file, SCHEMA, options=options)
        self._file.flush()

    def write(self, samples: list[Sample], rest: Callable[[], None] = lambda: None) -> None:
        """Append samples as one batch, or raise ``OSError``. Write nothing if there are none.

        If ``rest`` (see ``Packer.pack``) raises an error, nothing is written.
        """
        if samples:
            self._stream.write_batch(self._packer.pack(samples, rest))
            self._file.flush()
            self.count += len(samples)

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Append a batch of another packer, or raise ``OSError``."""
        self._stream.write_batch(self._packer.adopt(batch))
        self._file.flush()
        self.count += batch.num_rows

    def close(self) -> None:
        self._stream.close()
        self._file.close()


def read_batches(directory: Path) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a run directory's stream up to a torn or damaged batch. The file is memory-mapped.

    Raise ``RecordError`` if the stream is missing, invalid, or of another schema version.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        raise RecordError(f"{directory} has no record ({FILE_NAME} is missing)", "Give the directory of a run.")
    with path.open("rb") as start:
        if SCHEMA.serialize().to_pybytes().startswith(start.read(64 * 1024)):
            return  # the run was killed before the schema was written
    with pa.memory_map(str(path)) as file:
        try:
            stream = pa.ipc.open_stream(file)
        except (pa.ArrowException, OSError) as error:
            raise RecordError(f"{path} is not a stream of samples: {error}") from error
        version = (stream.schema.metadata or {}).get(_MARK.encode(), b"?").decode(errors="replace")
        if version != str(SCHEMA_VERSION):
            raise RecordError(f"{path} has schema version {version}; this loadtest reads version {SCHEMA_VERSION}")
        if not stream.schema.equals(SCHEMA):
            raise RecordError(f"{path} was written by another version: its columns differ")
        while True:
            try:
                batch = stream.read_next_batch()
                batch.validate(full=True)  # a damaged buffer could crash the process
            except (StopIteration, pa.ArrowException, OSError):
                return  # the end, or the torn last batch of a killed run
            yield batch


def safe_cells(table: pa.Table) -> pa.Table:
    """Return the table with texts that are safe in spreadsheets and terminals (see ``csv_text``)."""
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
