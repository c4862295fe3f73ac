"""Counts of operations and requests by stage, means of their times, and the final states of all accepted jobs."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadtest.analysis.columns import KINDS, OK, Rows, Stages, Vocabulary, groups
from loadtest.analysis.distribution import known, place
from loadtest.analysis.reader import Chunk
from loadtest.analysis.results import Count, Result
from loadtest.analysis.times import between, last_pending, response_time, start_lag, submit_time
from loadtest.arrays import Floats
from loadtest.assumed_limits import CONCURRENCY, AssumedLimits
from loadtest.contract import FIRST_KINDS, LIMIT_OF_KIND, THROTTLED_STATUS, JobState, RequestKind
from loadtest.record.run_directory import PENDING_NAME
from loadtest.record.run_info import RunInfo

NO_ANSWER: Final = 0
"""Status of a request without a response."""
FIRST: Final = len(FIRST_KINDS)
"""Number of kinds that begin an operation. These kinds come first in ``KINDS``, before polls."""
_STATUSES: Final = 1000
_DENSE: Final = 100_000
"""If at most this many cells are possible, counting them in an array is faster than sorting."""


class OperationCell(NamedTuple):
    """Fields by which operations are counted. Words are integers of the vocabulary, -1 for null. ``sent`` is 0 or 1."""

    outcome: int
    sent: int
    reason: int
    mistake: int


class RequestCell(NamedTuple):
    """Fields by which requests are counted.

    Attributes:
        status: HTTP status, or ``NO_ANSWER``.
        stretch: index of the period in which the requests were sent, between two successive stage boundaries; -1
            outside all periods.
    """

    kind: int
    outcome: int
    status: int
    key: int
    stretch: int


class Counts:
    """Counts of operations and requests by stage and cell. Cells that do not occur are absent.

    A request counts for its operation's stage. Its ``stretch`` shows when it was sent, because a poll may follow in the
    next stage or in the drain.

    Attributes:
        operations: counts by stage index, warm-up included.
        requests: counts by stage index, with -1 for the set-up and for unknown stages. A request without a key counts
            for the first key.
    """

    def __init__(self, vocabulary: Vocabulary, info: RunInfo, assumed: AssumedLimits) -> None:
        self._vocabulary = vocabulary
        self.operations: dict[int, Counter[OperationCell]] = defaultdict(Counter)
        self.requests: dict[int, Counter[RequestCell]] = defaultdict(Counter)
        self._edges = np.unique([t for key in vocabulary.stage_keys for t in (key.stage.start_s, key.stage.end_s)])
        cut_short = info.end != "finished" and info.elapsed_s is not None
        self._until_s = float(info.elapsed_s or 0.0) if cut_short else np.inf
        self._concurrency = assumed.spec.algorithm == CONCURRENCY
        self._held = np.zeros((len(KINDS), len(self._edges)))
        """Total seconds in flight of requests without a 429, by kind and stretch. Zero without a concurrency limit."""

    def add(self, chunk: Chunk) -> None:
        rows = chunk.operations
        sent = ~np.isnan(chunk.operations.floats("start"))
        words = (rows.words(name) for name in ("reason", "mistake"))
        for (stage, *cell), count in _occurring(rows.stage_index, rows.words("outcome"), sent, *words):
            self.operations[stage][OperationCell(*cell)] += count
        rows = chunk.requests
        status = np.clip(np.fmax(rows.floats("status"), NO_ANSWER), NO_ANSWER, _STATUSES - 1)
        key, seconds = np.fmax(rows.floats("key_index"), 0.0), rows.floats("start") / 1e9
        stretch = np.where(seconds <= self._until_s, place(seconds, self._edges), -1)
        columns = (rows.stage_index, rows.words("kind"), rows.words("outcome"), status, key, stretch)
        for (stage, *cell), count in _occurring(*columns):
            self.requests[stage][RequestCell(*cell)] += count
        if self._concurrency:
            self._hold(rows.where((rows.stage_index >= 0) & (status != THROTTLED_STATUS)))

    def _hold(self, rows: Rows) -> None:
        end = np.minimum(rows.floats("end") / 1e9, self._until_s)
        begin, kind = rows.floats("start") / 1e9, rows.words("kind")
        for stretch, (low, high) in enumerate(pairwise(self._edges)):
            held = np.fmax(np.minimum(end, high) - np.maximum(begin, low), 0.0)
            self._held[:, stretch] += np.bincount(kind, held, minlength=len(KINDS))

    def of_operations(self, stages: Iterable[int]) -> "Counter[OperationCell]":
        return _sum(self.operations, stages)

    def of_requests(self, stages: Iterable[int]) -> "Counter[RequestCell]":
        return _sum(self.requests, stages)

    def ended(self, stages: Iterable[int], *outcomes: int) -> int:
        """Count the stages' operations that ended in any of the outcomes."""
        return sum(count for cell, count in self.of_operations(stages).items() if cell.outcome in outcomes)

    def sent(self, stages: Iterable[int]) -> int:
        """Count the stages' operations that sent a request."""
        return sum(count for cell, count in self.of_operations(stages).items() if cell.sent)

    def sent_within(self, spans: Iterable[tuple[float, float]]) -> "Counter[RequestCell]":
        """Count the requests sent within any of the spans. Spans begin and end at stage boundaries."""
        within = {stretch for span in spans for stretch in self._stretches(*span)}
        return _sum(self._by_stretch, [(name, stretch) for name in self._vocabulary.entries for stretch in within])

    def sent_during(self, stages: Stages) -> "Counter[RequestCell]":
        """Count the requests that the traffic entry of each stage sent during this stage."""
        spans = {(key.traffic, self._stretches(key.stage.start_s, key.stage.end_s)) for key in stages}
        return _sum(self._by_stretch, {(traffic, stretch) for traffic, span in spans for stretch in span})

    def held_s(self, kinds: list[int], begin_s: float, end_s: float) -> float:
        """Return the seconds in flight within a span, summed over requests of these kinds without a 429."""
        return float(self._held[kinds][:, self._stretches(begin_s, end_s)].sum())

    def _stretches(self, begin_s: float, end_s: float) -> range:
        return range(*np.searchsorted(self._edges, (begin_s, end_s)).tolist())

    @cached_property
    def _by_stretch(self) -> "dict[tuple[str, int], Counter[RequestCell]]":
        """Counts by traffic entry and stretch, without the set-up."""
        found: dict[tuple[str, int], Counter[RequestCell]] = defaultdict(Counter)
        for stage, cells in self.requests.items():
            for cell, count in cells.items() if stage >= 0 else ():
                found[self._vocabulary.stage_keys[stage].traffic, cell.stretch][cell] += count
        return found

    def requested(self, limit: str) -> int:
        """Count the requests that drew on a limit, set-up included."""
        return self.on_limit[limit].total()

    @cached_property
    def on_limit(self) -> "dict[str, Counter[int]]":
        """Number of requests by limit name and key, set-up included. Read this only after the last ``add``."""
        found: dict[str, Counter[int]] = defaultdict(Counter)
        for cells in self.requests.values():
            for cell, count in cells.items():
                found[LIMIT_OF_KIND[KINDS[cell.kind]]][cell.key] += count
        return found


_Key = TypeVar("_Key", bound=Hashable)
_Cell = TypeVar("_Cell", bound=tuple[object, ...])


def _sum(counts: Mapping[_Key, "Counter[_Cell]"], keys: Iterable[_Key]) -> "Counter[_Cell]":
    total: Counter[_Cell] = Counter()
    for key in keys:
        if key in counts:
            total.update(counts[key])
    return total


def folded(cells: Mapping[_Cell, int], key: Callable[[_Cell], _Key]) -> "Counter[_Key]":
    """Add up the counts of all cells for which ``key`` returns the same value."""
    total: Counter[_Key] = Counter()
    for cell, count in cells.items():
        total[key(cell)] += count
    return total


def _occurring(*columns: NDArray[Any]) -> Iterator[tuple[list[int], int]]:
    """Yield each combination of whole numbers that occurs in a row of the columns, and its frequency."""
    if not len(columns[0]):
        return
    code, sizes = np.zeros(len(columns[0]), np.int64), []
    leasts = [int(column.min()) for column in columns]
    for column, least in zip(columns, leasts, strict=True):
        sizes.append(int(column.max()) - least + 1)
        if sizes[-1] > 1:
            code *= sizes[-1]
            code += column.astype(np.int64) - least
    if math.prod(sizes) <= _DENSE:
        counts = np.bincount(code)
        found = counts.nonzero()[0]
        counts = counts[found]
    else:
        found, counts = np.unique(code, return_counts=True)
    places = np.stack(np.unravel_index(found, sizes), axis=1) + leasts
    yield from zip(places.tolist(), counts.tolist(), strict=True)


_PARTS: Final[dict[str, Callable[[Rows], Floats]]] = {
    "start_lag": lambda rows: np.maximum(start_lag(rows), 0.0),
    "retries": between("start", "accepted_start"),
    "response": response_time,
    "execution": lambda rows: rows.floats("execution_time_ms"),
    "submit": submit_time,
    "pending_lower": last_pending,
}
"""Parts of the time of an ok operation, in ms."""


class Means:
    """Means by stage: sizes of responses, and parts of the times of ok operations without deliberate mistakes.

    ``n`` is the number of these operations by stage.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        stages = len(vocabulary.stage_keys)
        self.n = np.zeros(stages, np.int64)
        # The first row has the sum of the known values by stage. The second row has the number of known values, but for
        # "bytes" the number of all requests.
        self._sums = {name: np.zeros((2, stages)) for name in (*_PARTS, "bytes")}

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.operations.by_stage:
            good = rows.without_mistakes.ok
            self.n[stage_index] += len(good)
            for name, part in _PARTS.items():
                values = known(part(good))
                self._sums[name][:, stage_index] += values.sum(), len(values)
        for stage_index, rows in chunk.requests.by_stage:
            self._sums["bytes"][:, stage_index] += known(rows.floats("bytes_received")).sum(), len(rows)

    def mean(self, stage_index: int | list[int], name: str) -> float | None:
        """Return the mean of a part of the time (ms), or the ``bytes`` received per request; None without values."""
        total, n = self._sums[name][:, stage_index].reshape(2, -1).sum(axis=1)
        return float(total / n) if n else None


JOBS: Final = 5_000_000
"""Tracking stops soon after this number of jobs."""
_COMPACT: Final = 2_000_000
_GONE: Final = 404
_ACCEPTED, _COMPLETED, _FAILED, _LOST = (np.uint8(1 << bit) for bit in range(4))
"""Observations of a job, as bits."""
_JOB: Final = {"id": np.uint64, "seen": np.uint8, "ended": np.float64, "pending_seen": np.float64}


class Ledger(Result, frozen=True, kw_only=True):
    """Jobs that the run submitted, set-up and warm-up included.

    ``submitted`` is the sum of ``completed``, ``failed``, ``pending``, ``lost`` and ``duplicated``.

    ``back_to_pending`` and ``changed`` also count jobs of earlier runs that this run polled.

    Attributes:
        failed: jobs that a response showed as failed, and no response as completed.
        pending: jobs that are not lost, and that no response showed as ended.
        lost: jobs that the target forgot (404), without a response that showed their end.
        duplicated: submits whose response had the id of an earlier job.
        back_to_pending: jobs that a response showed as ended, and a later response as pending.
        changed: jobs that one response showed as completed and another as failed.
        complete: whether every job was tracked. Tracking stops soon after ``JOBS`` jobs.
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
    """Tracks jobs by a 64-bit hash of their ids.

    Among five million ids, the probability that any two have the same hash is about 1e-6.
    """

    def __init__(self) -> None:
        self._complete = True
        self._submitted = 0
        self._parts: list[dict[str, NDArray[Any]]] = [{name: np.zeros(0, kind) for name, kind in _JOB.items()}]
        """Observations of jobs. After a merge, one row for each job."""
        self._rows = 0

    def add(self, chunk: Chunk) -> None:
        column = chunk.columns.arrow("job_id")
        if not self._complete or column.null_count == len(column):
            return
        rows = chunk.requests
        ended_or_gone = (rows.words("outcome") == OK) | (rows.floats("status") == _GONE)
        # The response to a deliberate mistake, such as a bad key, does not show the state of the job.
        rows = rows.where(ended_or_gone & (rows.words("mistake") < 0) & rows.known("job_id"))
        if not len(rows):
            return
        gone, kind, state = rows.floats("status") == _GONE, rows.words("kind"), rows.words("job_state")
        ends = chunk.vocabulary.codes("job_state", [JobState.COMPLETED, JobState.FAILED])
        completed, failed = (state == end for end in ends)
        ended, submit = completed | failed, kind == KINDS.index(RequestKind.SUBMIT)
        pending, accepted = ~ended & ~gone & ~submit, submit & ~gone
        self._submitted += int(np.count_nonzero(accepted))
        self._parts.append(
            {
                "id": _hashes(column.take(pa.array(rows.places))),
                "seen": accepted * _ACCEPTED | completed * _COMPLETED | failed * _FAILED | gone * _LOST,
                "ended": np.where(ended, rows.floats("end"), np.inf),
                "pending_seen": np.where(pending, rows.floats("start"), -np.inf),
            }
        )
        self._rows += len(rows)
        if self._rows > _COMPACT:
            self._compact()

    def result(self) -> Ledger:
        self._compact()
        (jobs,) = self._parts
        # A run may also poll jobs of earlier runs. The final states of those jobs are not counted.
        own, completed, failed, gone = (jobs["seen"] & bit > 0 for bit in (_ACCEPTED, _COMPLETED, _FAILED, _LOST))
        ended = completed | failed
        return Ledger(
            submitted=self._submitted,
            completed=int((own & completed).sum()),
            failed=int((own & failed & ~completed).sum()),
            pending=int((own & ~ended & ~gone).sum()),
            lost=int((own & gone & ~ended).sum()),
            duplicated=self._submitted - int(own.sum()),
            back_to_pending=int((jobs["pending_seen"] > jobs["ended"]).sum()),
            changed=int((completed & failed).sum()),
            complete=self._complete,
        )

    def _compact(self) -> None:
        """Merge the rows of each job into one."""
        ids = np.concatenate([part["id"] for part in self._parts])
        order = np.argsort(ids)
        ids = ids[order]
        starts = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1))
        merged = {"id": ids[starts]}
        for name, joined in (("seen", np.bitwise_or), ("ended", np.minimum), ("pending_seen", np.maximum)):
            merged[name] = joined.reduceat(np.concatenate([part[name] for part in self._parts])[order], starts)
        self._parts = [merged]
        self._rows = 0
        self._complete = len(starts) <= JOBS


def _hashes(ids: pa.Array) -> NDArray[np.uint64]:
    """Return a hash of each id. Groups of 8 bytes are mixed as in splitmix64 (Steele, OOPSLA 2014)."""
    offsets = np.frombuffer(ids.buffers()[1], np.int32, len(ids) + ids.offset + 1)[ids.offset :]
    lengths = np.diff(offsets)
    if not lengths.any():  # all ids are empty only in a damaged record
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


FIRST_PENDING: Final = 20
"""A report names at most this many pending jobs."""
_LONGEST: Final = 200
"""A job id is cut to this many characters, because the target chooses its length."""


class PendingJob(NamedTuple):
    """An accepted job without a response that showed its end. ``key_index`` is None if the API key is unknown."""

    job_id: str
    key_index: int | None


def first_pending(directory: Path) -> tuple[PendingJob, ...]:
    """Return the first pending jobs that a run's directory lists."""
    try:
        with (directory / PENDING_NAME).open(encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip("\n").partition("\t") for line in islice(file, FIRST_PENDING)]
    except OSError:
        return ()
    return tuple(
        PendingJob(job_id[:_LONGEST], int(key) if key.isdecimal() else None) for job_id, _, key in lines if job_id
    )
