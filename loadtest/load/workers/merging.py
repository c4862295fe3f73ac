"""Takes what workers recorded into the one record of a run, batch by batch."""

from collections.abc import Callable
from typing import Final

import pyarrow as pa

from loadtest.load.recorder import Recorder, RunFiles
from loadtest.load.workers.duplicates import Duplicates
from loadtest.load.workers.messages import Batch
from loadtest.load.workers.outbox import unpack
from loadtest.load.workers.seen import Seen
from loadtest.samples import Sample

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
