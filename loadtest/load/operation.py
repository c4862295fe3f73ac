"""Execution of one arrival, with its requests and its outcome, and requests that seed jobs before the epoch."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from typing import Final

import gevent

from loadtest.contract import JOB_OPERATIONS, MISTAKE_STATUS, POLLED_OPERATIONS, TERMINAL, Outcome, Reason, RequestKind
from loadtest.errors import TargetError
from loadtest.foreign_text import visible
from loadtest.http_headers import parse_date, parse_retry_after
from loadtest.load.client import Answer, WorkflowClient
from loadtest.load.exchange import HttpConnection
from loadtest.load.pool import TrafficEntry
from loadtest.load.session import Session
from loadtest.record.samples import SETUP, Sample
from loadtest.schedule import Arrival
from loadtest.targets import allow, refused

_PATIENCE: Final = 90.0
_PAUSE: Final = 0.2
_GENTLE_PAUSE: Final = 1.0
"""Seconds between two requests about a seeded job if the run has a request budget. Retries then use little of it."""


class RunningOperation:
    """Sends and records the requests of one arrival, then records its outcome.

    The user that carries out the arrival became free at ``free_ns`` (monotonic), and sends over ``connection``.
    """

    def __init__(
        self, session: Session, entry: TrafficEntry, arrival: Arrival, free_ns: int, connection: HttpConnection
    ) -> None:
        self.arrival = arrival
        self.sample = sample = session.operation(entry, arrival)
        """The operation's row in the record. Its requests fill in the row."""
        self.key_index = sample.key_index or 0
        mistake = entry.mistake(arrival.number) if entry.mistaken else None
        self.expected = MISTAKE_STATUS[mistake] if mistake else entry.traffic.expect.status
        """Expected status of the response to the operation's first request. None for the documented status."""
        self.contradiction: Reason | None = None
        """Set if an answer contradicts an earlier answer (see ``JobHistory``). The operation then fails."""
        sample.mistake, sample.user_free = mistake, free_ns - session.epoch_ns
        sample.poll = 0 if entry.operation in POLLED_OPERATIONS else None
        self._session = session
        self._entry = entry
        self._connection = connection
        self._ended = False

    def begin(self, kind: RequestKind, send: Callable[[str], Answer]) -> Answer:
        """Send the operation's first request. After a 429, retry it if the retry policy allows that."""
        intended: int | None = None
        while True:
            self.sample.attempt = attempt = (self.sample.attempt or 0) + 1
            answer = self.request(kind, send, intended_ns=intended)
            if answer.outcome != Outcome.THROTTLED:
                return answer
            exchange = answer.exchange
            wait = self._entry.traffic.retry.wait(
                attempt,
                self._entry.draw(self.arrival.number, "backoff", attempt),
                retry_after_s(exchange.retry_after, exchange.date),
            )
            if wait is None:
                return answer
            intended = exchange.end + round(wait * 1e9)
            gevent.sleep(wait)

    def request(
        self,
        kind: RequestKind,
        send: Callable[[str], Answer],
        *,
        intended_ns: int | None = None,
        poll: int | None = None,
    ) -> Answer:
        """Send one request and record it. ``send`` takes a ``traceparent``.

        Retries and polls have their own intended start (monotonic ns). Polls also have a number.
        """
        trace = self._session.traceparent(self.sample.request_id or "")
        intended = self.arrival.intended_ns if intended_ns is None else intended_ns - self._session.epoch_ns
        try:
            answer = send(trace)
        except BaseException:
            if (begun := self._connection.sending) is not None:
                begun.end = time.monotonic_ns()
                cut = Answer(exchange=begun, outcome=Outcome.TIMED_OUT, reason=Reason.DRAIN)
                self._record_request(kind, cut, trace, intended, poll)
            raise
        try:
            if self._entry.pool.crowded:
                # After a server's pause, many answers arrive at once, and recording each takes 0.06 ms. Other greenlets
                # can note the ends of their answers first.
                gevent.sleep(0)
        finally:
            self._record_request(kind, answer, trace, intended, poll)
        if answer.job_id is not None:
            self.contradiction = self.contradiction or self._session.history.contradiction(kind, answer)
        return answer

    def finish(self, outcome: Outcome, reason: Reason | None = None, error_code: str | None = None) -> None:
        """Record the outcome. Only the first call counts."""
        if self._ended:
            return
        self._ended = True
        sample = self.sample
        sample.outcome, sample.reason, sample.error_code = outcome, reason, error_code
        if sample.end is None or outcome == Outcome.TIMED_OUT:
            sample.end = time.monotonic_ns() - self._session.epoch_ns
        self._session.record(sample)

    def finish_as(self, answer: Answer) -> None:
        self.finish(answer.outcome, answer.reason, answer.error_code)

    def _record_request(self, kind: RequestKind, answer: Answer, trace: str, intended: int, poll: int | None) -> None:
        session = self._session
        whole = self.sample
        stage = self.arrival.stage
        session.clock.see(answer.exchange)
        sample = request_sample(session, self._entry, answer, kind, trace, key=self.key_index, stage=stage)
        sample.parent_arrival = self.arrival.number
        sample.intended_start = intended
        sample.poll, sample.mistake = poll, whole.mistake
        if poll is None:
            sample.attempt = whole.attempt or 1
        else:
            whole.poll = (whole.poll or 0) + 1
        session.record(sample)
        if whole.start is None:
            whole.start = sample.start
        whole.end, whole.status, whole.execution_time_ms = sample.end, sample.status, sample.execution_time_ms
        whole.job_id, whole.job_state = sample.job_id, sample.job_state
        if answer.outcome != Outcome.OK:
            return
        if kind != RequestKind.POLL:
            whole.accepted_start, whole.accepted_end = sample.start, sample.end
        if whole.poll is not None and (kind == RequestKind.SUBMIT or answer.job_state not in TERMINAL):
            whole.pending_seen = sample.start


def request_sample(
    session: Session, entry: TrafficEntry, answer: Answer, kind: RequestKind, trace: str, *, key: int, stage: str
) -> Sample:
    """Return the sample of a request, as a first attempt without an arrival. Callers set other fields."""
    exchange = answer.exchange
    epoch = session.epoch_ns
    return Sample(
        row="request",
        traffic=entry.name,
        operation=entry.operation,
        stage=stage,
        outcome=answer.outcome,
        kind=kind,
        attempt=1,
        start=exchange.start - epoch,
        first_byte=None if exchange.first_byte is None else exchange.first_byte - epoch,
        end=exchange.end - epoch,
        connect_ms=exchange.connect_ms,
        connection_reused=exchange.reused,
        status=exchange.status,
        reason=answer.reason,
        error_code=answer.error_code,
        retry_after=exchange.retry_after,
        rate_limit=exchange.rate_limit,
        execution_time_ms=answer.execution_time_ms,
        job_id=answer.job_id,
        job_state=answer.job_state,
        bytes_sent=exchange.bytes_sent,
        bytes_received=exchange.bytes_received,
        key_index=key,
        request_id=trace,
    )


def retry_after_s(value: str | None, date: bytes | None) -> float | None:
    """Return the seconds in a ``Retry-After`` header, or None if it is absent or invalid.

    If the header is a date, the seconds count from the response's ``Date``, and are at least 0. Without ``Date``, the
    result is None.
    """
    wanted = None if value is None else parse_retry_after(value)
    if not isinstance(wanted, datetime):
        return wanted
    now = None if date is None else parse_date(date.decode("latin-1"))
    return None if now is None else max(0.0, (wanted - now).total_seconds())


class Seeder:
    """Seeds the jobs of every retrieval entry with ``job_ids = "seeded"``."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._deadline = 0.0
        self._sent: list[Callable[[], Sample]] = []
        """For each request, a function that returns its sample. It is called after the epoch is set."""

    def seed(self) -> None:
        """Submit the jobs and wait until they end.

        Raise ``TargetError`` if a request fails, or an entry's jobs have not ended after 90 s.
        """
        for entry in self._session.entries.values():
            if entry.operation in JOB_OPERATIONS and entry.traffic.job_ids == "seeded":
                client = WorkflowClient(self._session.endpoint, entry.timeouts)
                with closing(client.connection):
                    self._seed(entry, client)

    def record(self) -> None:
        for sample in self._sent:
            self._session.recorder.append(sample())

    def _seed(self, entry: TrafficEntry, client: WorkflowClient) -> None:
        keys = entry.plan.keys
        waiting: list[tuple[str, int]] = []
        self._deadline = time.monotonic() + _PATIENCE
        for number in range(max(entry.traffic.seed_jobs, len(keys))):
            key = keys[number % len(keys)]
            answer = self._insist(entry, client, key)
            if answer.job_id is not None:
                waiting.append((answer.job_id, key))
                self._session.recorder.job(answer.job_id, key)
        for job_id, key in waiting:
            for _ in self._pauses():
                answer = self._insist(entry, client, key, job_id)
                if answer.job_state in TERMINAL:
                    break
            else:
                state = self._shown(answer.job_state)
                raise TargetError(
                    f"a job that was seeded for {entry.name!r} was still {state} after {_PATIENCE:g} s",
                    "Give the entry a quicker workflow, or a file of job_ids.",
                )
            entry.job_ids.add(job_id, key)
            self._session.recorder.pending.pop(self._session.recorder.blank(job_id), None)

    def _shown(self, word: str | None) -> str:
        return visible(self._session.recorder.blank(str(word)))

    def _insist(self, entry: TrafficEntry, client: WorkflowClient, key: int, job_id: str | None = None) -> Answer:
        """Submit a job, or poll the given job. Repeat the request after a 429."""
        session = self._session
        kind = RequestKind.SUBMIT if job_id is None else RequestKind.POLL
        for _ in self._pauses():
            trace = session.traceparent(session.trace_id(entry, 0))
            if job_id is None:
                answer = client.post(kind, entry.bodies.of(0), key, trace)
            else:
                answer = client.get(kind, job_id, key, trace)
            answer.result = None
            self._sent.append(partial(request_sample, session, entry, answer, kind, trace, key=key, stage=SETUP))
            if answer.outcome == Outcome.OK:
                return answer
            if answer.outcome != Outcome.THROTTLED:
                break
        if answer.reason == Reason.CONNECTION_REFUSED:
            target = session.info.target
            raise refused(allow(target.url, listed=target.budget is not None))
        status = answer.exchange.status or "no status"
        raise TargetError(
            f"the jobs that {entry.name!r} asks for could not be seeded: {kind} was answered with {status} "
            f"({self._shown(answer.error_code or answer.reason)})",
            "Check the target, its keys and the entry's workflow.",
        )

    def _pauses(self) -> Iterator[None]:
        yield
        while time.monotonic() < self._deadline:
            gevent.sleep(_GENTLE_PAUSE if self._session.endpoint.budget.bounded else _PAUSE)
            yield
