"""What became of every job that was accepted, as a ledger that balances; and the jobs left pending, by name."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loadtest.analysis.columns import KINDS, OK, Vocabulary
from loadtest.analysis.reader import Chunk
from loadtest.analysis.results import Count, Result
from loadtest.contract import JobState, RequestKind
from loadtest.record.run_directory import PENDING_NAME

JOBS: Final = 5_000_000
"""Jobs that are told apart; of more, the first."""
_COMPACT: Final = 2_000_000
_GONE: Final = 404
_SUBMIT: Final = KINDS.index(RequestKind.SUBMIT)
_COLUMNS: Final = ("accepted", JobState.COMPLETED, JobState.FAILED, "gone")


class Ledger(Result, frozen=True, kw_only=True):
    """Jobs that the run submitted, set-up and warm-up included: ``submitted`` is the sum of the five after it.

    Attributes:
        submitted: submits that were accepted.
        completed: jobs that were seen completed.
        failed: jobs that were seen failed, and never completed.
        pending: jobs that were never seen to end.
        lost: jobs that the target knew no longer (404) and that nobody had seen end.
        duplicated: submits that were answered with the id of an earlier one.
        back_to_pending: jobs that were seen to end, and pending by a later request.
        changed: jobs that were seen both completed and failed.
        complete: whether every job is in it: beyond ``JOBS`` they are not told apart.
    """

    submitted: Count
    completed: Count
    failed: Count
    pending: Count
    lost: Count
    duplicated: Count
    back_to_pending: Count
    changed: Count
    complete: bool


class JobTracker:
    """Follows jobs by a 64-bit hash of their ids: of five million, two share one with a probability of 1e-6."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._complete = True
        self._table = _no_jobs()
        self._parts: list[dict[str, NDArray[Any]]] = []
        self._rows = 0

    def add(self, chunk: Chunk) -> None:
        column = chunk.columns.arrow("job_id")
        if not self._complete or column.null_count == len(column):
            return
        rows = chunk.requests
        known = column.is_valid().to_numpy().take(rows.places)
        ended_or_gone = (rows.words("outcome") == OK) | (rows.floats("status") == _GONE)
        # What was wrong on purpose (a bad key) is ok, and its answer tells nothing of the job.
        rows = rows.where(known & ended_or_gone & (rows.words("mistake") < 0))
        if not len(rows):
            return
        gone, kind, state = rows.floats("status") == _GONE, rows.words("kind"), rows.words("job_state")
        completed, failed = (
            state == code for code in self._vocabulary.codes("job_state", [JobState.COMPLETED, JobState.FAILED])
        )
        ended, submit = completed | failed, kind == _SUBMIT
        pending = ~ended & ~gone & ~submit
        ids = column.take(rows.places).to_numpy()
        self._parts.append(
            {
                "id": pd.util.hash_array(ids, categorize=False),
                "accepted": (submit & ~gone).astype(np.int32),
                JobState.COMPLETED: completed.astype(np.int32),
                JobState.FAILED: failed.astype(np.int32),
                "gone": gone.astype(np.int32),
                "ended": np.where(ended, rows.floats("end"), np.inf),
                JobState.PENDING: np.where(pending, rows.floats("start"), -np.inf),
            }
        )
        self._rows += len(rows)
        if self._rows > _COMPACT:
            self._compact()

    def result(self) -> Ledger:
        self._compact()
        jobs = self._table
        # Jobs of other runs are asked for, too: only those that this one submitted are in the ledger.
        own = jobs["accepted"] > 0
        completed, failed, gone = (own & (jobs[name] > 0) for name in _COLUMNS[1:])
        ended = completed | failed
        submitted = int(jobs["accepted"].sum())
        return Ledger(
            submitted=submitted,
            completed=int(completed.sum()),
            failed=int((failed & ~completed).sum()),
            pending=int((own & ~ended & ~gone).sum()),
            lost=int((own & gone & ~ended).sum()),
            duplicated=submitted - int(own.sum()),
            back_to_pending=int((jobs[JobState.PENDING] > jobs["ended"]).sum()),
            changed=int(((jobs[JobState.COMPLETED] > 0) & (jobs[JobState.FAILED] > 0)).sum()),
            complete=self._complete,
        )

    def _compact(self) -> None:
        """One row for each job."""
        parts = [self._table, *self._parts]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in self._table}
        order = np.argsort(joined["id"], kind="stable")
        ids = joined["id"][order]
        starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]]) if len(ids) else np.zeros(0, np.int64)
        table = {"id": ids[starts]}
        for name, add in (
            *((name, np.add) for name in _COLUMNS),
            ("ended", np.minimum),
            (JobState.PENDING, np.maximum),
        ):
            table[name] = add.reduceat(joined[name][order], starts) if len(starts) else joined[name][:0]
        self._table, self._parts, self._rows = table, [], 0
        self._complete = len(starts) <= JOBS


def _no_jobs() -> dict[str, NDArray[Any]]:
    counts = {name: np.zeros(0, np.int32) for name in _COLUMNS}
    return {"id": np.zeros(0, np.uint64), **counts, "ended": np.zeros(0), JobState.PENDING: np.zeros(0)}


FIRST: Final = 20
"""Jobs that are named."""
_LONGEST: Final = 200
"""Characters of an id that are kept: a target may choose what it likes."""


@dataclass(frozen=True, slots=True)
class PendingJob:
    """A job that was accepted and never seen to end.

    Attributes:
        job_id: what the target calls it.
        key_index: of the key that may ask for it; None if that is not noted.
    """

    job_id: str
    key_index: int | None


def first_pending(directory: Path) -> tuple[PendingJob, ...]:
    """The first of the jobs that a run directory names as pending; none if it names none."""
    try:
        with (directory / PENDING_NAME).open(encoding="utf-8", errors="replace") as lines:
            return tuple(_read(line) for line in islice(lines, FIRST) if line.strip())
    except OSError:
        return ()


def _read(line: str) -> PendingJob:
    job_id, _, key = line.rstrip("\n").rpartition("\t")
    if not job_id:
        job_id, key = key, ""
    return PendingJob(job_id[:_LONGEST], int(key) if key.isdecimal() else None)
