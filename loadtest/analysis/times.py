"""The times of a record, by cell: every latency and lag that is reported, as distributions."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.chunks import OUTCOMES, Book, Chunk
from loadtest.analysis.distribution import Distributions
from loadtest.analysis.waits import poll_lag, queue_wait

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NAMES: Final = (
    "response_time_ms", "service_time_ms", "start_lag_ms", "dispatch_lag_ms", "execution_time_ms", "overhead_ms",
    "first_byte_ms", "connect_ms", "service_time_new_ms", "service_time_reused_ms",
    "submit_ms", "time_to_result_ms", "time_to_result_lower_ms", "queue_wait_lower_ms", "queue_wait_upper_ms",
    "poll_lag_upper_ms", "polls",
)  # fmt: skip
OK: Final = OUTCOMES.index("ok")
TIMED_OUT: Final = OUTCOMES.index("timed_out")


def response_time(chunk: Chunk, rows: NDArray[np.int64]) -> Floats:
    """End − intended start, in ms."""
    return (chunk.floats("end")[rows] - chunk.floats("intended_start")[rows]) / 1e6


def start_lag(chunk: Chunk, rows: NDArray[np.int64]) -> Floats:
    """Start − intended start, in ms."""
    return (chunk.floats("start")[rows] - chunk.floats("intended_start")[rows]) / 1e6


def dispatch_lag(chunk: Chunk, rows: NDArray[np.int64]) -> Floats:
    """Start − the later of intended start and user free, in ms."""
    free = np.fmax(chunk.floats("intended_start")[rows], chunk.floats("user_free")[rows])
    return (chunk.floats("start")[rows] - free) / 1e6


def service_time(chunk: Chunk, rows: NDArray[np.int64]) -> Floats:
    """End − start of requests, in ms."""
    return (chunk.floats("end")[rows] - chunk.floats("start")[rows]) / 1e6


def overhead(chunk: Chunk, rows: NDArray[np.int64]) -> Floats:
    """What the client waited beyond executionTime, in ms.

    The accepted run's service time − executionTime for ``sync_run``; for ``async_run`` the whole of the operation from
    its first byte on − executionTime: submit, queue, poll lag. A retrieval has none (NaN): its executionTime is the
    job's, spent before the request.
    """
    operation = chunk.words("operation")[rows]
    known = chunk.book.codes("operation", ["sync_run", "async_run"])
    whole = np.where(operation == known[1], chunk.floats("end")[rows] - chunk.floats("start")[rows], np.nan)
    run = chunk.floats("accepted_end")[rows] - chunk.floats("accepted_start")[rows]
    return np.where(operation == known[0], run, whole) / 1e6 - chunk.floats("execution_time_ms")[rows]


class Times:
    """Distributions of every time, by cell of a book.

    Latencies are of ok and timed-out operations and requests that were not wrong on purpose: how fast a mistake is
    refused says nothing of how fast work is done. What jobs waited for is of those that were seen to end. Lags cover
    every operation that was sent: they say how well *we* did, so a 429 has them too. Of requests there is also the
    time to the first byte, to connect (where one had to), and the service time on new connections and on reused ones.
    """

    def __init__(self, book: Book) -> None:
        self.of = {name: Distributions(len(book.cells)) for name in NAMES}
        self.ended = Distributions(len(book.cells))
        """The upper bound of the time to result of jobs that were seen to end: ``time_to_result_ms`` less time-outs."""

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        rows = chunk.operations
        cell = chunk.cell[rows]
        self.of["start_lag_ms"].add(cell, start_lag(chunk, rows))
        self.of["dispatch_lag_ms"].add(cell, dispatch_lag(chunk, rows))
        rows, late = _answered(chunk, rows)
        cell = chunk.cell[rows]
        response = response_time(chunk, rows)
        self.of["response_time_ms"].add(cell, response, late)
        self.of["execution_time_ms"].add(cell, chunk.floats("execution_time_ms")[rows])
        self.of["overhead_ms"].add(cell, overhead(chunk, rows))
        self._asynchronous(chunk, rows, response, late)
        rows = chunk.requests
        rows, late = _answered(chunk, rows[chunk.cell[rows] >= 0])
        cell, service = chunk.cell[rows], service_time(chunk, rows)
        self.of["service_time_ms"].add(cell, service, late)
        first = chunk.floats("first_byte")[rows] - chunk.floats("start")[rows]
        self.of["first_byte_ms"].add(cell, first / 1e6)
        self.of["connect_ms"].add(cell, chunk.floats("connect_ms")[rows])
        reused = chunk.floats("connection_reused")[rows]
        for name, kept in (("service_time_new_ms", reused == 0), ("service_time_reused_ms", reused == 1)):
            self.of[name].add(cell[kept], service[kept], late[kept])

    def _asynchronous(self, chunk: Chunk, rows: NDArray[np.int64], response: Floats, late: Bools) -> None:
        mine = chunk.words("operation")[rows] == chunk.book.codes("operation", ["async_run"])[0]
        if not mine.any():
            return
        rows, response, late = rows[mine], response[mine], late[mine]
        cell = chunk.cell[rows]
        submit = (chunk.floats("accepted_end")[rows] - chunk.floats("accepted_start")[rows]) / 1e6
        lower = (chunk.floats("pending_seen")[rows] - chunk.floats("intended_start")[rows]) / 1e6
        self.of["submit_ms"].add(cell, submit)
        self.of["time_to_result_ms"].add(cell, response, late)
        self.of["time_to_result_lower_ms"].add(cell, np.maximum(lower, 0.0))
        self.of["polls"].add(cell, chunk.floats("poll")[rows], late)
        rows, cell = rows[~late], cell[~late]
        self.ended.add(cell, response[~late])
        for name, waited in zip(("queue_wait_lower_ms", "queue_wait_upper_ms"), queue_wait(chunk, rows), strict=True):
            self.of[name].add(cell, waited)
        self.of["poll_lag_upper_ms"].add(cell, poll_lag(chunk, rows))


def _answered(chunk: Chunk, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], Bools]:
    """Those that were ok or timed out and were not wrong on purpose; and which of them timed out."""
    outcome = chunk.words("outcome")[rows]
    known = ((outcome == OK) | (outcome == TIMED_OUT)) & (chunk.words("mistake")[rows] < 0)
    return rows[known], outcome[known] == TIMED_OUT
