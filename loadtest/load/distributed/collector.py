"""Job ids that two workers were given: each of them knows only its own, so it is the master that finds these.

As in one process (see ``history``), the operation has failed whose submit is answered with the id of another job; of
two workers', that of the one who tells it later.

Takes what workers recorded into the one record of a run, batch by batch.
"""

from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from loadtest.contract import Operation, Outcome, Reason, RequestKind
from loadtest.load.distributed.assignment import Seen
from loadtest.load.distributed.batches import unpack
from loadtest.load.distributed.protocol import Batch
from loadtest.load.recorder import Recorder, RunFiles
from loadtest.record.samples import Packer, Sample


class Duplicates:
    """Knows the jobs of all workers of a run, and corrects operations whose worker could not know."""

    def __init__(self) -> None:
        self._accepted: set[str] = set()
        self._found: set[tuple[str, int]] = set()
        """Arrivals whose submit was answered with a known id, and whose operation is not in the record yet."""

    def correct(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Take a worker's next rows into account: the same rows, some operations of which may have failed now."""
        if rows.column("job_id").null_count == rows.num_rows:
            return rows
        for submit in _where(rows, row="request", kind=RequestKind.SUBMIT, outcome=Outcome.OK):
            job_id = submit["job_id"]
            if job_id is None:
                continue
            if job_id in self._accepted:
                self._found.add((submit["traffic"], submit["parent_arrival"]))
            self._accepted.add(job_id)
        return self._corrected(rows) if self._found else rows

    def _corrected(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        # An operation ends after its submit was answered, so that it is in the same batch at the earliest.
        ended = {
            (each["traffic"], each["arrival"]) for each in _where(rows, row="operation", operation=Operation.ASYNC_RUN)
        }
        if not (mine := ended & self._found):
            return rows
        self._found -= mine
        samples = [Sample(**each) for each in rows.to_pylist()]
        for sample in samples:
            wrong = sample.row == "operation" and (sample.traffic, sample.arrival) in mine
            # What was wrong on purpose is judged by its status alone.
            if wrong and sample.outcome == Outcome.OK and sample.mistake is None:
                sample.outcome, sample.reason = Outcome.FAILED, Reason.DUPLICATE_JOB_ID
        return Packer().pack(samples)


def _where(rows: pa.RecordBatch, **words: str) -> list[dict[str, Any]]:
    """The rows with these words, as far as anything is looked at."""
    mask = None
    for name, word in words.items():
        same = pc.equal(rows.column(name).dictionary_decode(), word)
        mask = same if mask is None else pc.and_(mask, same)
    found: list[dict[str, Any]] = (
        rows.select(["job_id", "traffic", "arrival", "parent_arrival"]).filter(mask).to_pylist()
    )
    return found


_WATCHED: Final = (
    "row", "traffic", "operation", "stage", "outcome", "kind", "intended_start", "start", "end", "status", "job_id",
    "job_state", "key_index",
)  # fmt: skip
"""What breakers, live figures and the list of pending jobs look at."""


class Merging:
    """The record of a run that workers send.

    Args:
        recorder: of the run, whose output is the run directory.
        files: that output.
        on_jobs: told of the ids of jobs that were accepted, and of the worker that sent them.
    """

    def __init__(
        self, recorder: Recorder, files: RunFiles, on_jobs: Callable[[str, list[tuple[str, int]]], None]
    ) -> None:
        self.seen = Seen()
        self.rows: dict[str, int] = {}
        """By worker."""
        self._last: dict[str, int] = {}
        self._duplicates = Duplicates()
        self._recorder = recorder
        self._files = files
        self._on_jobs = on_jobs

    def last(self, worker: str) -> int:
        """Number of the last batch of a worker that is in the record."""
        return self._last.get(worker, 0)

    def take(self, worker: str, batch: Batch) -> None:
        """Write a batch, unless it was written before or one before it is missing: then it will be sent again."""
        if batch.number != self.last(worker) + 1:
            return
        self._last[worker] = batch.number
        for job_id, key in batch.jobs:
            self._recorder.job(job_id, key)
        if batch.jobs:
            self._on_jobs(worker, batch.jobs)
        for told in unpack(batch.samples):
            rows = self._duplicates.correct(told)
            self.seen.add_batch(rows)
            self._recorder.see(watched(rows))
            self.rows[worker] = self.rows.get(worker, 0) + rows.num_rows
            try:
                self._files.write_batch(rows)
            except OSError as error:
                self._recorder.failure = error


def watched(rows: pa.RecordBatch) -> list[Sample]:
    """The samples of a record batch, as far as they are looked at while the run goes on."""
    columns = [rows.column(name).to_pylist() for name in _WATCHED]
    return [Sample(**dict(zip(_WATCHED, each, strict=True))) for each in zip(*columns, strict=True)]
