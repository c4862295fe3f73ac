"""The record of a run: one row for each operation and each request, as an Arrow IPC stream.

The stream is the interface between making load and understanding it. It is written in small batches, each
flushed to the file as it is complete, so that a process that is killed loses at most what it had not yet
flushed; a reader takes every whole batch and ignores a torn last one.

Times are monotonic nanoseconds since the run's epoch, below zero for the requests that prepare a run before it;
``run.json`` says when the epoch was on the wall clock.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

import msgspec
import pyarrow as pa

from loadtest.errors import RecordError

SCHEMA_VERSION: Final = 1
FILE_NAME: Final = "samples.arrows"
_END_MARK: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"

Operation = Literal["sync_run", "async_run", "retrieval"]
Kind = Literal["run", "submit", "poll", "retrieve"]
Outcome = Literal["ok", "throttled", "failed", "timed_out", "dropped", "lost"]
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
    kind: Kind | None = None
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
    reason: str | None = None
    """Why it is not ok: a stable snake_case word."""
    error_code: str | None = None
    """``code`` of the API's error body."""
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
}

SCHEMA: Final = pa.schema(
    [pa.field(name, _TYPES.get(name, pa.string())) for name in Sample.__struct_fields__],
    metadata={"loadtest.samples": str(SCHEMA_VERSION)},
)


def to_batch(samples: Iterable[Sample]) -> pa.RecordBatch:
    """Turn samples into one Arrow record batch of ``SCHEMA``; the order is kept."""
    columns = zip(*(msgspec.structs.astuple(sample) for sample in samples), strict=True)
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


class SampleWriter:
    """Writes batches of samples to a run directory's stream; what ``write`` returned from is in the file.

    The operating system holds it then, so it outlives the process (though not a power cut).
    """

    def __init__(self, directory: Path) -> None:
        self.count = 0
        self._file = (directory / FILE_NAME).open("wb", buffering=0)
        self._file.write(SCHEMA.serialize())
        # Arrow's first conversion of all takes over 100 ms, which must not fall into the run.
        to_batch([Sample(row="operation", traffic="", operation="sync_run", stage="", outcome="ok")])

    def write(self, samples: list[Sample]) -> None:
        """Append samples as one batch (none: nothing is written)."""
        if samples:
            # One write call a batch: letting Arrow write to the file itself makes a call for each of 100 buffers.
            self._file.write(to_batch(samples).serialize())
            self.count += len(samples)

    def close(self) -> None:
        """End the stream with Arrow's end mark."""
        self._file.write(_END_MARK)
        self._file.close()


def read_table(directory: Path) -> pa.Table:
    """Read every whole batch of a run directory's stream, also of one that was torn.

    Raises:
        RecordError: if there is no stream, it is something else, or it is of another schema version.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        raise RecordError(f"{directory} holds no record ({FILE_NAME} is missing)", "Name a directory that a run made.")
    batches: list[pa.RecordBatch] = []
    with path.open("rb") as file:
        try:
            stream = pa.ipc.open_stream(file)
        except (pa.ArrowException, OSError) as error:
            if SCHEMA.serialize().to_pybytes().startswith(path.read_bytes()):
                # Killed before even the schema was out: a record of nothing.
                return SCHEMA.empty_table()
            raise RecordError(f"{path} is no stream of samples: {error}") from error
        version = (stream.schema.metadata or {}).get(b"loadtest.samples", b"?").decode(errors="replace")
        if version != str(SCHEMA_VERSION):
            raise RecordError(f"{path} has schema version {version}; this loadtest reads version {SCHEMA_VERSION}")
        if not stream.schema.equals(SCHEMA):
            raise RecordError(f"{path} was written by another loadtest: its columns are not those of this one")
        try:
            batches.extend(iter(stream.read_next_batch, None))
        except StopIteration:
            pass
        except (pa.ArrowInvalid, OSError):
            # The torn last batch of a killed run: everything before it is whole.
            pass
    return pa.Table.from_batches(batches, SCHEMA)
