"""Preparation of a run. It seeds jobs for retrievals, and sets the epoch.

Seeding uses up limits, so its requests are recorded in a separate stage before the epoch. Faults are scheduled relative
to the epoch, so an embedded target with faults receives the epoch.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import gevent
import msgspec

from loadtest.contract import JOB_OPERATIONS, TERMINAL, Outcome, Reason, RequestKind
from loadtest.errors import LoadtestError, TargetError
from loadtest.foreign_text import visible
from loadtest.load.client import Answer, WorkflowClient
from loadtest.load.entry import TrafficEntry
from loadtest.load.http.connection import Address
from loadtest.load.http.exchange import HttpConnection, Timeouts
from loadtest.load.operation import request_sample
from loadtest.load.session import Session
from loadtest.record.run_info import RunInfo
from loadtest.record.samples import SETUP
from loadtest.targets import allow, refused

_PATIENCE: Final = 90.0
_PAUSE: Final = 0.2
_GENTLE_PAUSE: Final = 1.0
"""Seconds between tries if the run has a request budget. Retries then use little of a limit."""
_AHEAD_NS: Final = 100_000_000
"""The epoch is at least this far ahead, so that the target receives it before the first arrival."""
_TRIES: Final = 5


class Seeder:
    """Seeds the jobs of every retrieval entry with ``job_ids = "seeded"``."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sent: list[tuple[TrafficEntry, RequestKind, Answer, str, int]] = []

    def seed(self) -> None:
        """Submit the jobs and wait until they end.

        Raises:
            TargetError: if the target rejects a job, or the jobs of an entry have not ended after 90 s.
        """
        for entry in self._session.entries.values():
            if entry.operation in JOB_OPERATIONS and entry.traffic.job_ids == "seeded":
                client = WorkflowClient(self._session.endpoint, entry.timeouts)
                try:
                    self._seed(entry, client)
                finally:
                    client.connection.close()

    def record(self) -> None:
        for entry, kind, answer, trace, key_index in self._sent:
            self._session.recorder.append(
                request_sample(self._session, entry, answer, kind=kind, trace=trace, stage=SETUP, key_index=key_index)
            )

    def _seed(self, entry: TrafficEntry, client: WorkflowClient) -> None:
        keys = entry.plan.key_count
        deadline = time.monotonic() + _PATIENCE
        waiting: list[tuple[str, int]] = []
        for number in range(max(entry.traffic.seed_jobs, keys)):
            key = entry.plan.keys[number % keys]
            submit = partial(client.post, RequestKind.SUBMIT, entry.bodies.of(0), key)
            answer = self._insist(entry, RequestKind.SUBMIT, submit, key, deadline)
            if answer.job_id is not None:
                waiting.append((answer.job_id, key))
                self._session.recorder.job(answer.job_id, key)
        for job_id, key in waiting:
            self._await(entry, client, job_id, key, deadline)

    def _await(self, entry: TrafficEntry, client: WorkflowClient, job_id: str, key: int, deadline: float) -> None:
        for _ in self._pauses(deadline):
            answer = self._insist(
                entry, RequestKind.POLL, lambda trace: client.get(RequestKind.POLL, job_id, key, trace), key, deadline
            )
            if answer.job_state in TERMINAL:
                entry.job_ids.add(job_id, key)
                self._session.recorder.pending.pop(self._session.recorder.blank(job_id), None)
                return
        raise TargetError(
            f"a job that was seeded for {entry.name!r} was still {self._shown(answer.job_state)} after {_PATIENCE:g} s",
            "Give the entry a quicker workflow, or a file of job_ids.",
        )

    def _shown(self, word: str | None) -> str:
        return visible(self._session.recorder.blank(str(word)))

    def _insist(
        self, entry: TrafficEntry, kind: RequestKind, send: Callable[[str], Answer], key: int, deadline: float
    ) -> Answer:
        trace_id = self._session.trace_id(entry, 0)
        for _ in self._pauses(deadline):
            trace = self._session.traceparent(trace_id)
            answer = send(trace)
            answer.result = None
            self._sent.append((entry, kind, answer, trace, key))
            if answer.outcome == Outcome.OK:
                return answer
            if answer.outcome != Outcome.THROTTLED:
                break
        if answer.reason == Reason.CONNECTION_REFUSED:
            target = self._session.info.target
            raise refused(allow(target.url, listed=target.budget is not None))
        status = answer.exchange.status or "no status"
        raise TargetError(
            f"the jobs that {entry.name!r} asks for could not be seeded: {kind} was answered with {status} "
            f"({self._shown(answer.error_code or answer.reason)})",
            "Check the target, its keys and the entry's workflow.",
        )

    def _pauses(self, deadline: float) -> Iterator[None]:
        yield
        while time.monotonic() < deadline:
            gevent.sleep(_GENTLE_PAUSE if self._session.endpoint.budget.bounded else _PAUSE)
            yield


def set_epoch(info: RunInfo, control: str | None, ahead_ns: int = 0) -> int:
    """Return an epoch (monotonic ns) at least ``ahead_ns`` from now, and announce it to a target with faults.

    Raises:
        LoadtestError: if a target with faults does not confirm the epoch in time.
    """
    if control is None or not info.target.faults:
        return time.monotonic_ns() + ahead_ns
    ahead_ns = max(ahead_ns, _AHEAD_NS)
    target = allow(control)
    head_of_all = f"POST /epoch HTTP/1.1\r\nhost: {target.host}\r\ncontent-type: application/json\r\n"
    connection = HttpConnection(Address(target.address, target.port))
    try:
        for _ in range(_TRIES):
            epoch = time.monotonic_ns() + ahead_ns
            body = msgspec.json.encode({"unix_s": time.time() + ahead_ns / 1e9})
            head = f"{head_of_all}content-length: {len(body)}\r\n\r\n"
            answer = connection.exchange(head.encode() + body, Timeouts(5.0))
            if answer.status == 200 and time.monotonic_ns() < epoch:
                return epoch
    finally:
        connection.close()
    raise LoadtestError(
        "the embedded target did not confirm the start of its faults in time", "Is this machine overloaded?"
    )
