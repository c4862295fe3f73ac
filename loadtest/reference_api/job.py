"""One asynchronous job: what is kept of it, what it answers when it has ended, and who may make it misbehave."""

import secrets
from collections import deque
from typing import Any, Protocol

import msgspec

from loadtest.reference_api.answers import encode
from loadtest.reference_api.execution import Outcome
from loadtest.reference_api.states import FIRST, STATUS, Event, State, move
from loadtest.reference_api.workflows import Workflow


class Job(msgspec.Struct, gc=False, eq=False):
    """One submitted run.

    It is no business of the garbage collector's, which would walk all that are kept; it is in no cycle, as long as no
    parameters refer to their job.

    Attributes:
        owner: who may see it.
        workflow: what it runs; None when it has run.
        parameters: converted by the workflow's ``parse``; None when it has run.
        id: unguessable, and unique.
        state: see ``states``.
        started: monotonic seconds at which its execution began; 0 before and when it has ended.
        expires: monotonic seconds at which its retention is over; 0 before it has ended.
        answer: what every retrieval gets from its end on; empty before.
    """

    owner: object
    workflow: Workflow | None
    parameters: Any
    id: str = msgspec.field(default_factory=lambda: secrets.token_hex(12))
    state: State = FIRST
    started: float = 0.0
    expires: float = 0.0
    answer: bytes = b""

    def move(self, event: Event) -> None:
        """Take the transition ``event``.

        Raises:
            RuntimeError: if the state has no such transition; the state stays as it was.
        """
        self.state = move(self.state, event)

    def finish(self, event: Event, answer: bytes, expires: float) -> None:
        """Take the terminal state, keep the answer, and let go of all that only the execution needed.

        Args:
            event: SUCCEED or FAIL.
            answer: what every later retrieval gets.
            expires: monotonic seconds at which its retention is over.
        """
        self.move(event)
        self.answer, self.expires = answer, expires
        self.workflow = self.parameters = None
        self.started = 0.0


class Meddler(Protocol):
    """Who makes jobs misbehave on demand."""

    def submitted(self, job: Job) -> None:
        """A job was submitted; it has not started."""

    def take(self, waiting: deque[Job]) -> Job | None:
        """Take the job that a worker is to execute next out of ``waiting``; None if none may start now."""

    async def execute(self, job: Job) -> Outcome | None:
        """Execute a job in place of ``execution.execute``; None if it never ends, which frees its worker."""

    def retrieved(self, job: Job, answer: bytes) -> bytes:
        """What a retrieval is answered with in place of ``answer``."""


def terminal(job_id: str, outcome: Outcome) -> bytes:
    """The answer, as JSON, to every retrieval of a job that ended so."""
    body: dict[str, Any] = {"jobId": job_id}
    if outcome.result is None:
        body.update(status=STATUS[State.FAILED], error=outcome.error)
    else:
        body.update(status=STATUS[State.COMPLETED], result=msgspec.Raw(outcome.result))
    body["executionTime"] = outcome.milliseconds
    return encode(body)
