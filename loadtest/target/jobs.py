"""Asynchronous jobs: their states, a bounded queue before bounded workers, and results that expire.

Every operation costs the same however many jobs there are: finished jobs expire in the order in which they ended, so
a queue tells which is next, and each submit clears a few of them.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import msgspec

from loadtest.target.answers import encode
from loadtest.target.execution import Outcome, execute
from loadtest.target.workflows import Workflow

logger = logging.getLogger(__name__)


class State(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


TRANSITIONS: Final = {
    (State.QUEUED, "start"): State.RUNNING,
    (State.RUNNING, "succeed"): State.COMPLETED,
    (State.RUNNING, "fail"): State.FAILED,
}

STATUS: Final = {
    State.QUEUED: "pending",
    State.RUNNING: "pending",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
}
"""What the documented ``status`` says of each state."""

_EXPIRED_PER_SUBMIT: Final = 4  # more than one, so that the store shrinks even while jobs keep coming


class QueueFullError(Exception):
    """Every worker is busy and as many jobs wait as may."""


class Job:
    """One submitted run.

    Args:
        owner: who may see it.
        workflow: what it runs.
        parameters: converted by the workflow's ``parse``.
    """

    __slots__ = ("answer", "expires", "id", "owner", "parameters", "started", "state", "workflow")

    def __init__(self, owner: object, workflow: Workflow, parameters: Any) -> None:
        self.id = secrets.token_hex(12)
        self.owner = owner
        self.workflow = workflow
        self.parameters = parameters
        self.state = State.QUEUED
        self.started = 0.0
        self.expires = float("inf")
        self.answer = b""

    def move(self, event: str) -> None:
        """Take the transition ``event``.

        Raises:
            RuntimeError: if the state has no such transition; the state stays as it was.
        """
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise RuntimeError(f"a job that is {self.state} cannot {event}")
        self.state = state

    def finish(self, outcome: Outcome) -> None:
        """Take the terminal state, and write the answer that every later retrieval gets."""
        self.move("succeed" if outcome.error is None else "fail")
        body: dict[str, Any] = {"jobId": self.id, "status": STATUS[self.state]}
        if outcome.result is not None:
            body["result"] = msgspec.Raw(outcome.result)
        else:
            body["error"] = outcome.error
        body["executionTime"] = outcome.milliseconds
        self.answer = encode(body)
        self.parameters = None

    def describe(self, now: float) -> bytes:
        """The answer to a retrieval, as JSON.

        Assumption: the documentation lists ``executionTime`` for every status; while the job is pending it is the
        time that it has executed so far, 0 in the queue.

        Args:
            now: monotonic seconds.
        """
        if self.answer:
            return self.answer
        so_far = round((now - self.started) * 1000, 3) if self.state is State.RUNNING else 0
        return encode({"jobId": self.id, "status": STATUS[self.state], "executionTime": so_far})


class JobStore:
    """All jobs of a server.

    Args:
        workers: how many execute at the same time.
        queue: how many may wait.
        retention: seconds that a finished job stays. Assumption: the documentation states no retention.
        clock: monotonic seconds.
    """

    def __init__(self, workers: int, queue: int, retention: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._workers = workers
        self._queue = queue
        self._retention = retention
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._finished: deque[Job] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def waiting(self) -> int:
        """How many jobs wait for a worker."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many workers are busy."""
        return len(self._tasks)

    @property
    def kept(self) -> int:
        """How many finished jobs are kept for retrieval."""
        return len(self._finished)

    def submit(self, owner: object, workflow: Workflow, parameters: Any) -> Job:
        """Queue a job, or start it where a worker is idle.

        Raises:
            QueueFullError: if there is no room; nothing was changed.
        """
        self._expire()
        idle = len(self._tasks) < self._workers
        if not idle and len(self._waiting) >= self._queue:
            raise QueueFullError
        job = Job(owner, workflow, parameters)
        self._jobs[job.id] = job
        if idle:
            task = asyncio.get_running_loop().create_task(self._work(job))
            self._tasks.add(task)
        else:
            self._waiting.append(job)
        return job

    def retrieve(self, owner: object, job_id: str) -> bytes | None:
        """The answer to a retrieval; None if the owner has no such job, or no longer."""
        job = self._jobs.get(job_id)
        if job is None or job.owner is not owner:
            return None
        now = self._clock()
        return None if now >= job.expires else job.describe(now)

    def close(self) -> None:
        """Cancel what is running and forget what waits."""
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()

    async def _work(self, job: Job) -> None:
        # One worker: it ends when nothing waits. The task leaves the set in the same step as it finds the queue
        # empty, so that a submit never queues behind a worker that is about to end.
        try:
            await self._run(job)
            while self._waiting:
                await self._run(self._waiting.popleft())
                await asyncio.sleep(0)  # a long queue of instant jobs must let requests in between
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._tasks.discard(task)

    async def _run(self, job: Job) -> None:
        job.move("start")
        job.started = self._clock()
        try:
            outcome = await execute(job.workflow, job.parameters)
        except Exception:
            logger.exception("workflow %s broke", job.workflow.name)
            outcome = Outcome(None, "Internal error", round((self._clock() - job.started) * 1000, 3))
        job.finish(outcome)
        job.expires = self._clock() + self._retention
        self._finished.append(job)

    def _expire(self) -> None:
        now = self._clock()
        for _ in range(_EXPIRED_PER_SUBMIT):
            if not self._finished or self._finished[0].expires > now:
                return
            del self._jobs[self._finished.popleft().id]
