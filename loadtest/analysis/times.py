"""Every latency and lag that is reported, as distributions by stage.

Polling only bounds a job's waits. The record has these times of a job: its submit was sent (S) and answered (A),
the last request that saw it pending was sent (P), and the poll that saw its end was answered (T). The target accepted
it at some time from S to A, its result was ready at some time from P to T, and it says to have executed it for E
(executionTime). So

* queue wait, from being accepted to the begin of execution, is at least P − A − E and at most T − S − E;
* poll lag, from the result to its being seen, is at most T − P, and may be nothing at all.

Both hold whatever the target does in between, as long as its executionTime is true.
"""

from typing import Final

import numpy as np

from loadtest.analysis.columns import Rows, Vocabulary
from loadtest.analysis.distribution import Distributions
from loadtest.analysis.reader import Chunk
from loadtest.analysis.results import TIMES
from loadtest.arrays import Floats
from loadtest.contract import EXECUTING_OPERATIONS, POLLED_OPERATIONS, ErrorCode, Operation

_NOT_FOUND: Final = ErrorCode.UNKNOWN_WORKFLOW.status
GRAIN_MS: Final = 1.0
"""executionTime may be rounded up to a whole millisecond without being impossible."""


def queue_wait(rows: Rows) -> tuple[Floats, Floats]:
    """Lower and upper bound of the queue wait of ended jobs, in ms.

    Both NaN where something isn't known, and where the executionTime cannot be true (such are among the anomalies);
    a wait is never below zero.
    """
    execution = rows.floats("execution_time_ms")
    lower = (rows.floats("pending_seen") - rows.floats("accepted_end")) / 1e6 - execution
    upper = (rows.floats("end") - rows.floats("accepted_start")) / 1e6 - execution
    known = (upper >= -GRAIN_MS) & ~np.isnan(lower)
    return np.where(known, np.maximum(lower, 0.0), np.nan), np.where(known, np.maximum(upper, 0.0), np.nan)


def poll_lag(rows: Rows) -> Floats:
    """Upper bound of the poll lag of ended jobs, in ms; the lower one is zero."""
    lag: Floats = (rows.floats("end") - rows.floats("pending_seen")) / 1e6
    return lag


def response_time(rows: Rows) -> Floats:
    """Return end − intended start, in ms."""
    return (rows.floats("end") - rows.floats("intended_start")) / 1e6


def start_lag(rows: Rows) -> Floats:
    """Return start − intended start, in ms."""
    return (rows.floats("start") - rows.floats("intended_start")) / 1e6


def dispatch_lag(rows: Rows) -> Floats:
    """Return start − the later of intended start and user free, in ms."""
    free = np.fmax(rows.floats("intended_start"), rows.floats("user_free"))
    return (rows.floats("start") - free) / 1e6


def service_time(rows: Rows) -> Floats:
    """Return end − start of requests, in ms."""
    return (rows.floats("end") - rows.floats("start")) / 1e6


def first_byte(rows: Rows) -> Floats:
    """Return first byte of the response − start of requests, in ms."""
    return (rows.floats("first_byte") - rows.floats("start")) / 1e6


def time_to_result_lower(rows: Rows) -> Floats:
    """Return the lower bound of the time to result of jobs, in ms.

    A result is not ready before the last request that saw the job pending, nor sooner after the submit than its
    executionTime, where that can be true.
    """
    executed = rows.floats("accepted_start") + rows.floats("execution_time_ms") * 1e6
    executed = np.where(executed <= rows.floats("end"), executed, np.nan)
    return np.fmax(last_pending(rows), np.maximum((executed - rows.floats("intended_start")) / 1e6, 0.0))


def last_pending(rows: Rows) -> Floats:
    """Return the last request that saw a job pending − intended start, in ms; at least zero."""
    return np.maximum((rows.floats("pending_seen") - rows.floats("intended_start")) / 1e6, 0.0)


def submit_time(rows: Rows) -> Floats:
    """Return the service time of each operation's first successful request, in ms."""
    return (rows.floats("accepted_end") - rows.floats("accepted_start")) / 1e6


def overhead(rows: Rows, operation: Operation) -> Floats:
    """Return the client's wait beyond executionTime, in ms.

    The accepted run's service time − executionTime for ``sync_run``; for ``async_run`` the whole of the operation from
    its first byte on − executionTime: submit, queue, poll lag. A retrieval has none (NaN): its executionTime is the
    job's, spent before the request.
    """
    if operation not in EXECUTING_OPERATIONS:
        return np.full(len(rows), np.nan)
    waited = submit_time(rows) if operation == Operation.SYNC_RUN else service_time(rows)
    return waited - rows.floats("execution_time_ms")


class TimeDistributions:
    """Distributions of every time, by stage of a book.

    Latencies are of ok and timed-out operations and requests that were not wrong on purpose: how fast a mistake is
    refused says nothing of how fast work is done. What jobs waited for is of those that were seen to end. Lags cover
    every operation that was sent: they say how well *we* did, so a 429 has them too. Of requests there is also the
    time to the first byte, to connect (where one had to), and the service time on new connections and on reused ones.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._by_name = {name: Distributions(len(vocabulary.stage_keys)) for name in TIMES}
        self.ended = Distributions(len(vocabulary.stage_keys))
        """The upper bound of the time to result of jobs that were seen to end: ``time_to_result_ms`` less time-outs."""
        self.last_pending = Distributions(len(vocabulary.stage_keys))
        """Of jobs: what the last poll interval hides lies between it and ``time_to_result_ms``."""
        self.not_found = Distributions(len(vocabulary.stage_keys))
        """Response times of operations that are ok because they were answered 404, deliberate mistakes included."""
        self.waited = Distributions(len(vocabulary.stage_keys))
        """Of ok operations, response time − the service time of the request that was answered: lag, retries, polls."""

    def __getitem__(self, name: str) -> Distributions:
        return self._by_name[name]

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.operations.by_stage:
            self._operations(stage_index, rows, chunk.vocabulary.operation_of[stage_index])
        for stage_index, rows in chunk.requests.by_stage:
            self._requests(stage_index, rows.without_mistakes.answered)

    def _operations(self, stage_index: int, rows: Rows, operation: Operation) -> None:
        self._by_name["start_lag_ms"].add_to(stage_index, start_lag(rows))
        self._by_name["dispatch_lag_ms"].add_to(stage_index, dispatch_lag(rows))
        if (absent := rows.ok.floats("status") == _NOT_FOUND).any():
            self.not_found.add_to(stage_index, response_time(rows.ok)[absent])
        rows = rows.without_mistakes.answered
        response = response_time(rows)
        self._by_name["response_time_ms"].add_to(stage_index, response, rows.late)
        self._by_name["execution_time_ms"].add_to(stage_index, rows.floats("execution_time_ms"))
        self._by_name["overhead_ms"].add_to(stage_index, overhead(rows, operation))
        self.waited.add_to(stage_index, response_time(rows.ok) - submit_time(rows.ok))
        if operation in POLLED_OPERATIONS:
            self._asynchronous(stage_index, rows, response)

    def _requests(self, stage_index: int, rows: Rows) -> None:
        service = service_time(rows)
        self._by_name["service_time_ms"].add_to(stage_index, service, rows.late)
        self._by_name["first_byte_ms"].add_to(stage_index, first_byte(rows))
        self._by_name["connect_ms"].add_to(stage_index, rows.floats("connect_ms"))
        reused = rows.floats("connection_reused")
        for name, kept in (("service_time_new_ms", reused == 0), ("service_time_reused_ms", reused == 1)):
            places = np.flatnonzero(kept)
            self._by_name[name].add_to(stage_index, service.take(places), rows.late.take(places))

    def _asynchronous(self, stage_index: int, rows: Rows, response: Floats) -> None:
        self._by_name["submit_ms"].add_to(stage_index, submit_time(rows))
        self._by_name["time_to_result_ms"].add_to(stage_index, response, rows.late)
        self._by_name["time_to_result_lower_ms"].add_to(stage_index, time_to_result_lower(rows))
        self.last_pending.add_to(stage_index, last_pending(rows))
        self._by_name["polls"].add_to(stage_index, rows.floats("poll"), rows.late)
        rows = rows.ok
        self.ended.add_to(stage_index, response_time(rows))
        for name, waited in zip(("queue_wait_lower_ms", "queue_wait_upper_ms"), queue_wait(rows), strict=True):
            self._by_name[name].add_to(stage_index, waited)
        self._by_name["poll_lag_upper_ms"].add_to(stage_index, poll_lag(rows))
