"""Transfer of samples from workers into the record of a run, and detection of missing arrivals.

A worker packs its samples into batches, and keeps each batch until the master has recorded it. The master alone can
find job ids that two workers received, and arrivals that a lost worker did not record.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from loadtest.arrays import Ints
from loadtest.contract import POLLED_OPERATIONS, Outcome, Reason, RequestKind
from loadtest.load.distributed.assignment import Assignment, Member
from loadtest.load.distributed.protocol import Batch
from loadtest.load.payloads import JobNumbers
from loadtest.load.recorder import PendingJobs, Recorder, RunFiles
from loadtest.record.samples import SCHEMA, Packer, Sample, warm_up
from loadtest.schedule import Arrival, TrafficSchedule

if TYPE_CHECKING:  # importing Locust patches the interpreter, which tests of batches avoid
    from loadtest.load.session import Session

_AGAIN_NS: Final = 3_000_000_000
"""Time until an unacknowledged batch is sent again, because a broken connection may have lost it."""


class Outbox:
    """The ``Output`` of a worker's recorder: it packs batches, and keeps each until the master acknowledges it."""

    def __init__(self) -> None:
        self.count = 0
        self._number = 0
        self._rows: list[pa.RecordBatch] = []
        self._kept: dict[int, tuple[Batch, int]] = {}
        """Batches by number, with the monotonic time of the last sending; 0 before the first."""
        self._jobs: list[tuple[str, int]] = []
        warm_up()

    def write(self, samples: list[Sample], rest: Callable[[], None] = lambda: None) -> None:
        # Each batch has its own dictionaries, so that the master can read it without other batches.
        packed = Packer().pack(samples, rest)
        # `take` may have replaced the list during a rest.
        self._rows.append(packed)
        self.count += len(samples)

    def write_jobs(self, jobs: Sequence[tuple[str, int]]) -> None:
        self._jobs += jobs

    def end(self, pending: PendingJobs) -> None:
        """Do nothing: the master writes the pending jobs."""

    @property
    def all_sent(self) -> bool:
        return not self._rows and not self._jobs and all(sent for _, sent in self._kept.values())

    @property
    def empty(self) -> bool:
        return not self._rows and not self._jobs and not self._kept

    def take(self) -> Batch | None:
        """Return the batch to send now: the oldest overdue batch or a new batch; None if there is neither."""
        now = time.monotonic_ns()
        if self._rows or self._jobs:
            self._number += 1
            self._kept[self._number] = Batch(number=self._number, samples=self._packed(), jobs=self._jobs), 0
            self._jobs = []
        for number, (batch, sent) in self._kept.items():
            if now - sent >= _AGAIN_NS:
                self._kept[number] = batch, now
                return batch
        return None

    def _packed(self) -> bytes:
        rows, self._rows = self._rows, []
        if not rows:
            return b""
        target = pa.BufferOutputStream()
        with pa.ipc.new_stream(target, SCHEMA) as stream:
            for each in rows:
                stream.write_batch(each)
        packed: bytes = target.getvalue().to_pybytes()
        return packed

    def acknowledged(self, number: int) -> None:
        self._kept = {each: kept for each, kept in self._kept.items() if each > number}


def unpack(batch: bytes) -> list[pa.RecordBatch]:
    """Return the record batches of a batch's samples; raises ``pyarrow.ArrowInvalid`` if they are damaged."""
    if not batch:
        return []
    with pa.ipc.open_stream(batch) as stream:
        return list(stream)


_GROWTH: Final = 1 << 16
_WATCHED: Final = (
    "row", "traffic", "operation", "stage", "outcome", "kind", "intended_start", "start", "end", "status", "job_id",
    "job_state", "key_index", "execution_time_ms", "user_free",
)  # fmt: skip
"""Columns for circuit breakers, live figures and pending jobs."""


class Collector:
    """Records the samples of all workers."""

    def __init__(
        self, recorder: Recorder, files: RunFiles, on_jobs: Callable[[str, list[tuple[str, int]]], None]
    ) -> None:
        self.arrivals = ArrivalBitmap()
        self.rows: Counter[str] = Counter()
        """Recorded samples by worker."""
        self.last: Counter[str] = Counter()
        """Number of the last recorded batch by worker."""
        self._duplicates = DuplicateJobIds()
        self._recorder = recorder
        self._files = files
        self._on_jobs = on_jobs

    def take(self, worker: str, batch: Batch) -> None:
        """Record a batch if it is the worker's next; the worker repeats batches that are not acknowledged."""
        if batch.number != self.last[worker] + 1:
            return
        self.last[worker] = batch.number
        for job_id, key in batch.jobs:
            self._recorder.job(job_id, key)
        if batch.jobs:
            self._on_jobs(worker, batch.jobs)
        for received in unpack(batch.samples):
            rows = self._duplicates.correct(received)
            self.arrivals.add_batch(rows)
            self._recorder.see(watched(rows))
            self.rows[worker] += rows.num_rows
            try:
                self._files.write_batch(rows)
            except OSError as error:
                self._recorder.failure = error


def watched(rows: pa.RecordBatch) -> list[Sample]:
    """Return the samples of a record batch, with the columns that a running load needs."""
    columns = [rows.column(name).to_pylist() for name in _WATCHED]
    return [Sample(**dict(zip(_WATCHED, each, strict=True))) for each in zip(*columns, strict=True)]


class DuplicateJobIds:
    """Fails operations whose submit returned the id of another worker's job.

    In one process, ``payloads.JobHistory`` does this. The operation in the later batch fails.
    """

    def __init__(self) -> None:
        self._accepted = JobNumbers()
        self._found: set[tuple[str, int]] = set()
        """Traffic and number of arrivals with a duplicate id whose operation is not yet recorded."""

    def correct(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return a worker's next rows, with operations of duplicate job ids marked as failed."""
        if rows.column("job_id").null_count == rows.num_rows:
            return rows
        submits = _where(rows, row="request", kind=RequestKind.SUBMIT, outcome=Outcome.OK)
        for traffic, arrival, job_id in _columns(submits, "traffic", "parent_arrival", "job_id"):
            if job_id is None:
                continue
            if self._accepted[job_id]:
                self._found.add((traffic, arrival))
            self._accepted[job_id] = 1
        return self._corrected(rows) if self._found else rows

    def _corrected(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        # An operation ends after its submit, so its row is in the same batch or a later batch.
        ended = {
            each
            for operation in POLLED_OPERATIONS
            for each in _columns(_where(rows, row="operation", operation=operation), "traffic", "arrival")
        }
        if not (duplicates := ended & self._found):
            return rows
        self._found -= duplicates
        samples = [Sample(**each) for each in rows.to_pylist()]
        for sample in samples:
            duplicate = sample.row == "operation" and (sample.traffic, sample.arrival) in duplicates
            # A deliberately wrong request is judged by its status alone.
            if duplicate and sample.outcome == Outcome.OK and sample.mistake is None:
                sample.outcome, sample.reason = Outcome.FAILED, Reason.DUPLICATE_JOB_ID
        return Packer().pack(samples)


def _where(rows: pa.RecordBatch, **words: str) -> pa.RecordBatch:
    """Return the job columns of the rows that have these values."""
    import pyarrow.compute as pc  # noqa: PLC0415 - slow to import, and for runs on several processes only

    mask = None
    for name, word in words.items():
        same = pc.equal(rows.column(name).dictionary_decode(), word)
        mask = same if mask is None else pc.and_(mask, same)
    return rows.select(["job_id", "traffic", "arrival", "parent_arrival"]).filter(mask)


def _columns(rows: pa.RecordBatch, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows.column(name).to_pylist() for name in names), strict=True)


class ArrivalBitmap:
    """The recorded arrivals of each traffic entry, in one byte per arrival."""

    def __init__(self) -> None:
        self._noted: dict[str, npt.NDArray[np.uint8]] = {}
        self.repeated = 0
        """Number of arrivals that were recorded twice, which is an error of the harness."""

    def add(self, traffic: str, numbers: Ints) -> None:
        if not len(numbers):
            return
        noted = self._noted.get(traffic, np.zeros(0, np.uint8))
        if numbers.max() >= len(noted):
            grown = np.zeros(max(int(numbers.max()) + _GROWTH, 2 * len(noted)), np.uint8)
            grown[: len(noted)] = noted
            noted = self._noted[traffic] = grown
        self.repeated += int(noted[numbers].sum()) + len(numbers) - len(np.unique(numbers))
        noted[numbers] = 1

    def add_batch(self, batch: pa.RecordBatch) -> None:
        traffic = batch.column("traffic")
        numbers = batch.column("arrival")
        operations = ~np.asarray(numbers.is_null())
        codes = traffic.indices.to_numpy(zero_copy_only=False)
        values = numbers.fill_null(-1).to_numpy(zero_copy_only=False)
        for code, name in enumerate(traffic.dictionary.to_pylist()):
            self.add(name, values[operations & (codes == code)])

    def count(self, traffic: str) -> int:
        return int(self._noted.get(traffic, np.zeros(0, np.uint8)).sum())

    def has(self, arrival: Arrival) -> bool:
        noted = self._noted.get(arrival.traffic)
        return noted is not None and arrival.number < len(noted) and bool(noted[arrival.number])

    def missing(
        self, schedule: TrafficSchedule, assignments: Sequence[Assignment], until_ns: int, workers: set[str] | None
    ) -> Iterator[tuple[Arrival, str]]:
        """Yield assigned arrivals before ``until_ns`` that are not recorded, each with its worker.

        ``workers`` limits the search to these workers.
        """
        ends = [*(each.from_ns for each in assignments[1:]), until_ns]
        for assignment, end in zip(assignments, ends, strict=True):
            for place, worker in enumerate(assignment.workers):
                if workers is not None and worker not in workers:
                    continue
                for arrival in schedule.share(place, len(assignment.workers), assignment.from_ns):
                    if arrival.intended_ns >= min(end, until_ns):
                        break
                    if not self.has(arrival):
                        yield arrival, worker


def record_lost_arrivals(
    session: "Session",
    members: Mapping[str, Member],
    collector: Collector,
    assignments: Sequence[Assignment],
    ended_ns: int | None,
) -> None:
    """Record assigned arrivals without a sample as lost, after the workers have sent all samples.

    If the run was cut short, its workers were told to offer nothing more at ``ended_ns`` (since the epoch).
    """
    arrivals, finished = collector.arrivals, session.info.end == "finished"
    # In a run that was cut short, only workers that are gone leave arrivals without a sample.
    gone = {each.worker for each in members.values() if each.gone_ns is not None or each.returned}
    for schedule in session.schedules:
        entry = session.entries[schedule.traffic]
        until = int(schedule.duration * 1e9) + 1 if finished or ended_ns is None else ended_ns
        lost = 0
        for arrival, worker in arrivals.missing(schedule, assignments, until, None if finished else gone):
            lost += 1
            sample = session.operation(entry, arrival, Outcome.LOST, Reason.WORKER_LOST)
            sample.worker = members[worker].index
            session.recorder.append(sample)
        session.live.offered[entry.name] = arrivals.count(entry.name) + lost
    if arrivals.repeated:
        session.bug = f"{arrivals.repeated} arrivals were sent by two workers"
