"""Jobs that retrievals ask for, made and finished before the epoch.

Their requests spend quota like any other, so they are recorded: in a stage of their own, before the epoch.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import gevent

from loadtest.contract import TERMINAL, Operation, Outcome, RequestKind
from loadtest.errors import TargetError
from loadtest.load.client import Answer, WorkflowClient
from loadtest.load.operation import request_sample
from loadtest.load.session import Session, TrafficEntry

STAGE: Final = "setup"
"""The stage that these requests are recorded in; it is in no figure."""
_PATIENCE: Final = 90.0
_PAUSE: Final = 0.2
_GENTLE_PAUSE: Final = 1.0
"""Where a leash holds: its share of a limit is soon spent by impatience."""


class Seeder:
    """Seeds the jobs of every retrieval entry that asks for it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sent: list[tuple[TrafficEntry, RequestKind, Answer, str, int]] = []

    def seed(self) -> None:
        """Submit the jobs and wait until each is completed or has failed.

        Raises:
            TargetError: if the target refuses, or is not done within 90 s.
        """
        for entry in self._session.entries.values():
            if entry.operation == Operation.RETRIEVAL and entry.traffic.job_ids == "seeded":
                client = WorkflowClient(self._session.endpoint, entry.timeouts)
                try:
                    self._seed(entry, client)
                finally:
                    client.close()

    def record(self) -> None:
        """Record what was sent; to be called when the epoch is known."""
        for entry, kind, answer, trace, key_index in self._sent:
            self._session.recorder.append(
                request_sample(self._session, entry, answer, kind=kind, trace=trace, stage=STAGE, key_index=key_index)
            )

    def _seed(self, entry: TrafficEntry, client: WorkflowClient) -> None:
        keys = entry.plan.key_count
        deadline = time.monotonic() + _PATIENCE
        waiting: list[tuple[str, int]] = []
        for number in range(max(entry.traffic.seed_jobs, keys)):
            key = entry.key_index(number)
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
                self._session.recorder.pending.settled(job_id)
                return
        raise TargetError(
            f"a job that was seeded for {entry.name!r} was still {answer.job_state} after {_PATIENCE:g} s",
            "Give the entry a quicker workflow, or a file of job_ids.",
        )

    def _insist(
        self, entry: TrafficEntry, kind: RequestKind, send: Callable[[str], Answer], key: int, deadline: float
    ) -> Answer:
        """Send until it is not throttled."""
        trace_id = self._session.trace_id(entry, 0)
        for _ in self._pauses(deadline):
            trace = self._session.traceparent(trace_id)
            answer = send(trace)
            self._sent.append((entry, kind, answer, trace, key))
            if answer.outcome == Outcome.OK:
                return answer
            if answer.outcome != Outcome.THROTTLED:
                break
        status = answer.exchange.status or "no status"
        raise TargetError(
            f"the jobs that {entry.name!r} asks for could not be seeded: {kind} was answered with {status} "
            f"({answer.error_code or answer.reason})",
            "Check the target, its keys and the entry's workflow.",
        )

    def _pauses(self, deadline: float) -> Iterator[None]:
        """Yield once at once, then after a pause each until the deadline."""
        yield
        while time.monotonic() < deadline:
            gevent.sleep(_GENTLE_PAUSE if self._session.endpoint.budget.leashed else _PAUSE)
            yield
