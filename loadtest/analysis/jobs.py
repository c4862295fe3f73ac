"""Final states of all accepted jobs, and the ids of jobs that are still pending."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadtest.analysis.columns import KINDS, OK, Vocabulary, groups
from loadtest.analysis.reader import Chunk
from loadtest.analysis.results import Count, Result
from loadtest.contract import JobState, RequestKind
from loadtest.record.run_directory import PENDING_NAME

JOBS: Final = 5_000_000
"""At most this many jobs are tracked. Later jobs are ignored."""
_COMPACT: Final = 2_000_000
_GONE: Final = 404
_ACCEPTED, _COMPLETED, _FAILED, _LOST = (np.uint8(1 << bit) for bit in range(4))
"""Observations of a job, as bits."""
_COLUMNS: Final = {"id": np.uint64, "seen": np.uint8, "ended": np.float64, JobState.PENDING: np.float64}


class Ledger(Result, frozen=True, kw_only=True):
    """Jobs that the run submitted, set-up and warm-up included. ``submitted`` is the sum of the next five fields.

    Attributes:
        failed: jobs that a response showed as failed, and no response as completed.
        pending: jobs without a response that showed their end.
        lost: jobs that the target forgot (404) before a response showed their end.
        duplicated: submits whose response had the id of an earlier job.
        back_to_pending: jobs that a response showed as ended, and a later response as pending.
        changed: jobs that one response showed as completed and another as failed.
        complete: whether every job was tracked. At most ``JOBS`` jobs are tracked.
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
    """Tracks jobs by a 64-bit hash of their ids. Two of five million ids share a hash with a probability of 1e-6."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._complete = True
        self._submitted = 0
        self._table = {name: np.zeros(0, kind) for name, kind in _COLUMNS.items()}
        self._parts: list[dict[str, NDArray[Any]]] = []
        self._rows = 0

    def add(self, chunk: Chunk) -> None:
        column = chunk.columns.arrow("job_id")
        if not self._complete or column.null_count == len(column):
            return
        rows = chunk.requests
        ended_or_gone = (rows.words("outcome") == OK) | (rows.floats("status") == _GONE)
        # The response to a deliberate error, such as a bad key, does not show the state of the job.
        rows = rows.where(ended_or_gone & (rows.words("mistake") < 0))
        rows = rows.where(rows.known("job_id"))
        if not len(rows):
            return
        gone, kind, state = rows.floats("status") == _GONE, rows.words("kind"), rows.words("job_state")
        completed, failed = (
            state == code for code in self._vocabulary.codes("job_state", [JobState.COMPLETED, JobState.FAILED])
        )
        ended, submit = completed | failed, kind == KINDS.index(RequestKind.SUBMIT)
        pending, accepted = ~ended & ~gone & ~submit, submit & ~gone
        self._submitted += int(np.count_nonzero(accepted))
        self._parts.append(
            {
                "id": _hashes(column.take(pa.array(rows.places))),
                "seen": accepted * _ACCEPTED | completed * _COMPLETED | failed * _FAILED | gone * _LOST,
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
        # A run may also poll jobs of earlier runs. The ledger counts only the run's own jobs.
        own, completed, failed, gone = (jobs["seen"] & bit > 0 for bit in (_ACCEPTED, _COMPLETED, _FAILED, _LOST))
        ended = completed | failed
        return Ledger(
            submitted=self._submitted,
            completed=int((own & completed).sum()),
            failed=int((own & failed & ~completed).sum()),
            pending=int((own & ~ended & ~gone).sum()),
            lost=int((own & gone & ~ended).sum()),
            duplicated=self._submitted - int(own.sum()),
            back_to_pending=int((jobs[JobState.PENDING] > jobs["ended"]).sum()),
            changed=int((completed & failed).sum()),
            complete=self._complete,
        )

    def _compact(self) -> None:
        """Merge the rows of each job into one."""
        if not self._parts:
            return
        parts, self._parts, self._rows = [self._table, *self._parts], [], 0
        ids = np.concatenate([part["id"] for part in parts])
        order = np.argsort(ids)
        ids = ids[order]
        starts = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1])))
        self._table = {"id": ids[starts]}
        for name, joined in (("seen", np.bitwise_or), ("ended", np.minimum), (JobState.PENDING, np.maximum)):
            self._table[name] = joined.reduceat(np.concatenate([part[name] for part in parts])[order], starts)
        self._complete = len(starts) <= JOBS


def _hashes(ids: pa.Array) -> NDArray[np.uint64]:
    """Return a hash of each non-null id. Eight bytes each are mixed as in splitmix64 (Steele et al., OOPSLA 2014)."""
    offsets = np.frombuffer(ids.buffers()[1], np.int32, len(ids) + ids.offset + 1)[ids.offset :]
    lengths = np.diff(offsets)
    if not lengths.any():  # only in a damaged record are all ids empty
        return np.zeros(len(ids), np.uint64)
    data = np.frombuffer(ids.buffers()[2], np.uint8)
    padded = np.zeros((len(ids), -(-int(lengths.max()) // 8) * 8), np.uint8)
    for length, at in groups(lengths):
        if at is None:
            padded[:, :length] = data[offsets[0] : offsets[-1]].reshape(-1, length)
        else:
            padded[at, :length] = data[offsets[at][:, None] + np.arange(length)]
    found = lengths.astype(np.uint64)
    for word in padded.view(np.uint64).T:
        found = (found ^ word) * np.uint64(0xBF58476D1CE4E5B9)
        found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        found ^= found >> np.uint64(31)
    return found


FIRST: Final = 20
"""A report names at most this many pending jobs."""
_LONGEST: Final = 200
"""A job id is cut to this many characters, because the target chooses it."""


@dataclass(frozen=True, slots=True)
class PendingJob:
    """An accepted job without a response that showed its end. ``key_index`` is None if the API key is unknown."""

    job_id: str
    key_index: int | None


def first_pending(directory: Path) -> tuple[PendingJob, ...]:
    """Return the first pending jobs of a run directory."""
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
