"""All reported latencies and lags: their formulas, their distributions by stage, and the slowest operations.

Polling shows a job's waits only within bounds. The submit was sent at S and answered at A. The last request that saw
the job pending was sent at P. The poll that saw the job ended was answered at T. The job was accepted between S and A,
and the result was ready between P and T. If the executionTime E is correct,

* the queue wait, from acceptance to the start of execution, is at least P − A − E and at most T − S − E;
* the poll lag, from the result to the poll that saw it, is at most T − P, and may be zero.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from loadtest.analysis.columns import KINDS, OUTCOMES, Rows, Vocabulary
from loadtest.analysis.distribution import Distributions
from loadtest.analysis.reader import Chunk
from loadtest.arrays import Floats
from loadtest.contract import EXECUTING_OPERATIONS, POLLED_OPERATIONS, ErrorCode, Operation
from loadtest.record.figures import RequestPhase, SlowOperation

MOST: Final = 100
"""At most this many of the slowest operations of a traffic entry are kept."""
REQUESTS: Final = 200
"""At most this many requests of a slow operation are kept. Later requests are left out."""
GRAIN_MS: Final = 1.0
"""An executionTime may be too long by this many ms, because it may be rounded up."""


def between(first: str, last: str) -> Callable[[Rows], Floats]:
    """Return the formula of the time between two moments of a row, in ms."""
    return lambda rows: (rows.floats(last) - rows.floats(first)) / 1e6


response_time: Final = between("intended_start", "end")
service_time: Final = between("start", "end")
submit_time: Final = between("accepted_start", "accepted_end")
"""The service time of an operation's ok request of kind run, submit or retrieve."""
poll_lag: Final = between("pending_seen", "end")
"""The upper bound of an ended job's poll lag. The lower bound is zero."""
_FROM_SUBMIT: Final = between("accepted_start", "end")


def queue_wait(rows: Rows) -> tuple[Floats, Floats]:
    """Return the lower and the upper bound of ended jobs' queue waits, in ms. Both are at least zero.

    Both bounds are NaN if a time is unknown, or if the executionTime is impossible (an anomaly).
    """
    execution = rows.floats("execution_time_ms")
    lower = (rows.floats("pending_seen") - rows.floats("accepted_end")) / 1e6 - execution
    upper = _FROM_SUBMIT(rows) - execution
    known = (upper >= -GRAIN_MS) & ~np.isnan(lower)
    return np.where(known, np.maximum(lower, 0.0), np.nan), np.where(known, np.maximum(upper, 0.0), np.nan)


def start_lag(rows: Rows) -> Floats:
    """Return start − intended start, in ms; NaN for an imported run."""
    lag: Floats = (rows.floats("start") - rows.floats("intended_start")) / 1e6
    return lag * np.nan if rows.columns.vocabulary.imported else lag


def dispatch_lag(rows: Rows) -> Floats:
    """Return start − max(intended start, user free), in ms; NaN for an imported run."""
    waited = np.fmax(rows.floats("user_free") - rows.floats("intended_start"), 0.0)
    return start_lag(rows) - waited / 1e6


def time_to_result_lower(rows: Rows) -> Floats:
    """Return the lower bound of the time to result of jobs, in ms.

    The result was not ready when the last request that saw the job pending started. A job also takes at least its
    executionTime from the start of the submit. An impossible executionTime is ignored.
    """
    executed = rows.floats("accepted_start") + rows.floats("execution_time_ms") * 1e6
    executed = np.where(executed <= rows.floats("end"), executed, np.nan)
    return np.fmax(last_pending(rows), np.maximum((executed - rows.floats("intended_start")) / 1e6, 0.0))


def last_pending(rows: Rows) -> Floats:
    """Return the time from the intended start to the last request that saw a job pending, in ms; at least zero."""
    return np.maximum((rows.floats("pending_seen") - rows.floats("intended_start")) / 1e6, 0.0)


def overhead(rows: Rows) -> Floats:
    """Return the client's wait beyond executionTime, in ms.

    For a sync run, the wait is the service time of its ok request. For a job, the wait lasts from start to end, and
    includes submit, queue and poll lag. For a retrieval, the result is NaN, because the job ran earlier.
    """
    return _executing(rows, submit_time(rows), service_time(rows)) - rows.floats("execution_time_ms")


def longest_execution(rows: Rows) -> Floats:
    """Return the longest possible executionTime, in ms: the client's wait.

    For a sync run, the wait is the service time of its ok request. For a job, the wait lasts from the start of its ok
    submit to its end. For a retrieval, the result is NaN, because the job ran earlier.
    """
    return _executing(rows, submit_time(rows), _FROM_SUBMIT(rows))


def _executing(rows: Rows, of_run: Floats, of_job: Floats) -> Floats:
    """Return ``of_run`` for sync runs, ``of_job`` for jobs, and NaN for operations that execute nothing."""
    operation, vocabulary = rows.words("operation"), rows.columns.vocabulary
    (run,) = vocabulary.codes("operation", [Operation.SYNC_RUN])
    executing = np.isin(operation, vocabulary.codes("operation", list(EXECUTING_OPERATIONS)))
    return np.where(executing, np.where(operation == run, of_run, of_job), np.nan)


class _Time(NamedTuple):
    """A time's formula, and the rows with this time. ``censored``: whether a time-out gives only a lower bound."""

    formula: Callable[[Rows], Floats]
    rows: Callable[[Rows], Rows]
    censored: bool = False


def _answered(rows: Rows) -> Rows:
    return rows.without_mistakes.answered


def _ended(rows: Rows) -> Rows:
    return rows.without_mistakes.answered.ok


def _connected(reused: float) -> Callable[[Rows], Rows]:
    return lambda rows: _answered(rows).where(_answered(rows).floats("connection_reused") == reused)


NOT_FOUND: Final = "not_found"
"""Response times of operations that ended in an expected 404. Deliberate mistakes are included."""
WAITED: Final = "waited"
"""Response time − ``submit_time``, for ok operations: lag, retries, and the wait for a job."""
LAST_PENDING: Final = "last_pending"
"""Time from the intended start to the last request that saw the job pending. The last polling interval begins there."""
_OF_OPERATIONS: Final = {
    "start_lag_ms": _Time(start_lag, lambda rows: rows),
    "dispatch_lag_ms": _Time(dispatch_lag, lambda rows: rows),
    "response_time_ms": _Time(response_time, _answered, censored=True),
    "execution_time_ms": _Time(lambda rows: rows.floats("execution_time_ms"), _answered),
    "overhead_ms": _Time(overhead, _answered),
    NOT_FOUND: _Time(
        response_time, lambda rows: rows.ok.where(rows.ok.floats("status") == ErrorCode.UNKNOWN_WORKFLOW.status)
    ),
    WAITED: _Time(lambda rows: response_time(rows) - submit_time(rows), _ended),
}
_OF_JOBS: Final = {
    "submit_ms": _Time(submit_time, _answered),
    "time_to_result_ms": _Time(response_time, _answered, censored=True),
    "time_to_result_lower_ms": _Time(time_to_result_lower, _answered),
    LAST_PENDING: _Time(last_pending, _answered),
    "polls": _Time(lambda rows: rows.floats("poll"), _answered, censored=True),
    "queue_wait_lower_ms": _Time(lambda rows: queue_wait(rows)[0], _ended),
    "queue_wait_upper_ms": _Time(lambda rows: queue_wait(rows)[1], _ended),
    "poll_lag_upper_ms": _Time(poll_lag, _ended),
}
_OF_REQUESTS: Final = {
    "service_time_ms": _Time(service_time, _answered, censored=True),
    "first_byte_ms": _Time(between("start", "first_byte"), _answered),
    "connect_ms": _Time(lambda rows: rows.floats("connect_ms"), _answered),
    "service_time_new_ms": _Time(service_time, _connected(reused=0), censored=True),
    "service_time_reused_ms": _Time(service_time, _connected(reused=1), censored=True),
}
FORMULAS: Final = {name: time.formula for name, time in (_OF_OPERATIONS | _OF_JOBS | _OF_REQUESTS).items()}
"""The formula of each time, by its name in ``metrics.json``, or by ``NOT_FOUND``, ``WAITED`` or ``LAST_PENDING``."""


class TimeDistributions:
    """Distributions of every time, by stage.

    Latencies other than ``NOT_FOUND`` include only operations and requests that are ok or timed out, and have no
    deliberate mistake. Queue waits, poll lags and ``WAITED`` include only ok operations. Start and dispatch lags
    measure the load generator, so they include every operation sent, even if it got a 429.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._by_name = {name: Distributions(len(vocabulary.stage_keys)) for name in FORMULAS}

    def __getitem__(self, name: str) -> Distributions:
        return self._by_name[name]

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.operations.by_stage:
            polled = chunk.vocabulary.stage_keys[stage_index].operation in POLLED_OPERATIONS
            polled = polled and not chunk.vocabulary.imported  # in a log, polls count as retrievals
            self._take(stage_index, rows, _OF_OPERATIONS | _OF_JOBS if polled else _OF_OPERATIONS)
        for stage_index, rows in chunk.requests.by_stage:
            self._take(stage_index, rows, _OF_REQUESTS)

    def _take(self, stage_index: int, rows: Rows, times: Mapping[str, _Time]) -> None:
        for name, time in times.items():
            chosen = time.rows(rows)
            self._by_name[name].add_to(stage_index, time.formula(chosen), chosen.late if time.censored else None)


class Slowest:
    """Collects the slowest operations that count in figures, in the first pass over the record."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._kept: list[list[SlowOperation]] = [[] for _ in vocabulary.entries]
        """The slowest operations so far of each entry, slowest first."""

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.operations.by_judged_stage:
            entry, response = self._vocabulary.entry_of[stage_index], response_time(rows)
            known = self._kept[entry]
            candidates = np.flatnonzero(response > (known[-1].response_ms if len(known) == MOST else -np.inf))
            if len(candidates) > MOST:
                candidates = candidates[np.argpartition(response[candidates], -MOST)[-MOST:]]
            if len(candidates):
                found = [self._operation(rows, place, float(response[place])) for place in candidates.tolist()]
                self._kept[entry] = sorted(known + found, key=lambda one: (-one.response_ms, one.arrival))[:MOST]

    def result(self) -> dict[str, list[SlowOperation]]:
        """Return each traffic entry's slowest operations, slowest first. ``Phases`` adds their requests."""
        return dict(zip(self._vocabulary.entries, self._kept, strict=True))

    def _operation(self, rows: Rows, row: int, response_ms: float) -> SlowOperation:
        number = partial(_number, rows, row)
        reason = rows.words("reason")[row]
        start, intended = number("start"), number("intended_start") or 0.0
        return SlowOperation(
            traffic=self._vocabulary.words["traffic"][rows.words("traffic")[row]],
            stage=self._vocabulary.words["stage"][rows.words("stage")[row]],
            arrival=int(number("arrival") or 0),
            intended_s=intended / 1e9,
            response_ms=response_ms,
            start_lag_ms=None
            if self._vocabulary.imported
            else (intended if start is None else start) / 1e6 - intended / 1e6,
            outcome=OUTCOMES[rows.words("outcome")[row]],
            reason=None if reason < 0 else self._vocabulary.words["reason"][reason],
            execution_ms=number("execution_time_ms"),
            attempts=int(number("attempt") or 0),
            request_id=rows.text("request_id", row),
            phases=[],
        )


class Phases:
    """Collects the requests of the slowest operations, in the second pass over the record."""

    def __init__(self, vocabulary: Vocabulary, slow: dict[str, list[SlowOperation]]) -> None:
        entries = vocabulary.entries
        self._of = {(entries.index(name), one.arrival): one for name, found in slow.items() for one in found}
        self._arrivals = [np.sort([a for place, a in self._of if place == entry]) for entry in range(len(entries))]

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.requests.by_stage:
            entry, parent = chunk.vocabulary.entry_of[stage_index], rows.floats("parent_arrival")
            arrivals = self._arrivals[entry]
            first, last = np.searchsorted(arrivals, (np.fmin.reduce(parent), np.fmax.reduce(parent)))
            within = arrivals[first : last + 1]
            if len(within):
                slow = rows.where(np.isin(parent, within))
                for row, arrival in enumerate(slow.floats("parent_arrival").tolist()):
                    one = self._of[entry, int(arrival)]
                    if len(one.phases) < REQUESTS:
                        one.phases.append(_phase(slow, row, one.intended_s * 1e9))
                        one.phases.sort(key=lambda phase: phase.start_ms)


def _number(rows: Rows, row: int, name: str) -> float | None:
    value = float(rows.floats(name)[row])
    return None if np.isnan(value) else value


def _phase(rows: Rows, row: int, intended: float) -> RequestPhase:
    def since(name: str) -> float | None:
        value = _number(rows, row, name)
        return None if value is None else (value - intended) / 1e6

    status = _number(rows, row, "status")
    return RequestPhase(
        kind=KINDS[rows.words("kind")[row]],
        start_ms=since("start") or 0.0,
        first_byte_ms=since("first_byte"),
        end_ms=since("end"),
        outcome=OUTCOMES[rows.words("outcome")[row]],
        status=None if status is None else int(status),
    )
