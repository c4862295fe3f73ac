"""Asynchronous jobs in memory, with a bounded queue, a bounded number of workers, and results that expire.

Every operation has constant cost: finished jobs expire in the order of their ends, so a queue gives the next one, and a
timer frees them in small steps.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, Final, Protocol

import msgspec

from loadtest.contract import JobState
from loadtest.reference_api.http.messages import encode
from loadtest.reference_api.workflows.execution import INTERNAL, Call, ExecutionOutcome, Workflow, execute
from loadtest.reference_settings import PendingTime

logger = logging.getLogger(__name__)

SWEEP_EVERY: Final = 1.0
"""Minimum seconds between two sweeps: the longest time that a job is kept beyond its retention."""

FREED_PER_STEP: Final = 500
"""Maximum number of jobs freed before other requests are handled: less than 1 ms of work."""


class State(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    """Accepted; waits for a worker."""
    RUNNING = "running"
    COMPLETED = JobState.COMPLETED.value
    FAILED = JobState.FAILED.value
    EXPIRED = "expired"
    """Its retention is over; its id is unknown."""


FOLLOWING: Final[dict[State, tuple[State, ...]]] = {
    State.QUEUED: (State.RUNNING,),
    State.RUNNING: (State.COMPLETED, State.FAILED),
    State.COMPLETED: (State.EXPIRED,),
    State.FAILED: (State.EXPIRED,),
    State.EXPIRED: (),
}
"""All possible transitions."""

STATUS: Final[dict[State, JobState | None]] = {
    State.QUEUED: JobState.PENDING,
    State.RUNNING: JobState.PENDING,
    State.COMPLETED: JobState.COMPLETED,
    State.FAILED: JobState.FAILED,
    State.EXPIRED: None,
}
"""The documented ``status`` for a retrieval; None for a 404."""


class Job(msgspec.Struct, gc=False, eq=False):
    """One submitted run.

    It is excluded from garbage collection, which would scan all stored jobs. It is in no reference cycle, provided that
    arguments do not refer to their job.
    """

    owner: object
    workflow: Workflow | None
    """None after the run, as ``call``."""
    call: Call | None
    id: str = msgspec.field(default_factory=lambda: secrets.token_hex(12))
    state: State = State.QUEUED
    started: float = 0.0
    """Monotonic seconds of its start; 0 before and after its execution."""
    expires: float = 0.0
    """Monotonic seconds of its expiry; 0 before its end."""
    answer: bytes = b""
    """The response to every retrieval after its end; empty before."""

    def move(self, state: State) -> None:
        """Change the state.

        Raises:
            RuntimeError: if there is no such transition; the state stays.
        """
        if state not in FOLLOWING[self.state]:
            raise RuntimeError(f"a job that is {self.state} cannot become {state}")
        self.state = state

    def finish(self, state: State, answer: bytes, expires: float) -> None:
        """Set a terminal state and the answer, and drop everything that only the execution needed."""
        self.move(state)
        self.answer, self.expires = answer, expires
        self.workflow = self.call = None
        self.started = 0.0


class FaultHooks(Protocol):
    """Faults of runs and jobs."""

    def run(self, owner: object, work: Coroutine[Any, Any, ExecutionOutcome]) -> Coroutine[Any, Any, ExecutionOutcome]:
        """Return the execution of a synchronous run, to replace ``work``."""

    def submitted(self, job: Job) -> None:
        """Handle a submitted job that has not started."""

    def take(self, waiting: deque[Job]) -> Job | None:
        """Remove and return a worker's next job from ``waiting``; None if none may start now."""

    async def execute(self, job: Job) -> ExecutionOutcome | None:
        """Execute a job in place of ``execution.execute``; None if it never ends, which frees its worker."""

    def retrieved(self, job: Job, answer: bytes) -> bytes:
        """Return the response to a retrieval, to replace ``answer``."""


class QueueFullError(Exception):
    """All workers are busy, and the queue is full."""


class JobStore:
    """All jobs of a server: a fixed number of workers, and a bounded queue.

    Assumptions: the documentation specifies no ``retention`` (seconds that a finished job is kept). It lists
    ``executionTime`` for every status without specifying it for a pending job (``pending_time``).
    """

    def __init__(
        self,
        workers: int,
        queue: int,
        retention: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        pending_time: PendingTime = "elapsed",
        fault_hooks: FaultHooks | None = None,
    ) -> None:
        self._workers = workers
        self._room = workers + queue
        self._retention = retention
        self._clock = clock
        self._pending_time = pending_time
        self._fault_hooks = fault_hooks
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._finished: deque[Job] = deque()
        self._failed = 0
        self.accepted = 0
        """Since the server started."""
        self.ended = dict.fromkeys((State.COMPLETED, State.FAILED), 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._tasks)

    @property
    def kept(self) -> int:
        return len(self._finished)

    @property
    def counts(self) -> dict[State, int]:
        return {
            State.QUEUED: len(self._waiting),
            State.RUNNING: len(self._tasks),
            State.COMPLETED: len(self._finished) - self._failed,
            State.FAILED: self._failed,
        }

    def submit(self, owner: object, workflow: Workflow, call: Call) -> Job:
        """Queue a job, or start it if a worker is idle.

        Raises:
            QueueFullError: if the queue is full; nothing was changed.
        """
        self.check_room()
        job = Job(owner, workflow, call)
        self._jobs[job.id] = job
        self.accepted += 1
        idle = len(self._tasks) < self._workers
        if self._fault_hooks is not None:
            self._fault_hooks.submitted(job)
        elif idle:
            self._employ(job)
            return job
        self._waiting.append(job)
        if idle:
            self._employ(None)
        return job

    def check_room(self) -> None:
        """Check whether a job can be accepted.

        Raises:
            QueueFullError: if the queue is full.
        """
        if len(self._tasks) + len(self._waiting) >= self._room:
            raise QueueFullError

    def retrieve(self, owner: object, job_id: str) -> bytes | None:
        """Return the response to a retrieval; None if the owner has no such job, or no longer."""
        job = self._jobs.get(job_id)
        if job is None or job.owner is not owner:
            return None
        if job.answer:
            if self._clock() >= job.expires:
                return None
            answer = job.answer
        else:
            answer = self._pending(job)
        return answer if self._fault_hooks is None else self._fault_hooks.retrieved(job, answer)

    def wake(self) -> None:
        """Let idle workers look for jobs again, which a fault had held back."""
        while len(self._tasks) < self._workers and (job := self._take()) is not None:
            self._employ(job)

    def expire(self) -> bool:
        """Free expired jobs, up to ``FREED_PER_STEP``; True if there are more."""
        now, finished = self._clock(), self._finished
        for _ in range(FREED_PER_STEP):
            if not finished or finished[0].expires > now:
                return False
            job = finished.popleft()
            self._failed -= job.state is State.FAILED
            job.move(State.EXPIRED)
            del self._jobs[job.id]
        return True

    def close(self) -> None:
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def _employ(self, job: Job | None) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(self._work(job)))

    def _take(self) -> Job | None:
        if not self._waiting:
            return None
        return self._waiting.popleft() if self._fault_hooks is None else self._fault_hooks.take(self._waiting)

    async def _work(self, job: Job | None) -> None:
        # A worker ends when the queue is empty. Its task leaves the set in the same step, so that a submit never queues
        # behind a worker that is about to end.
        try:
            job = job or self._take()
            while job is not None:
                await self._run(job)
                job = self._take()
                if job is not None:
                    await asyncio.sleep(0)  # lets requests in between a long queue of instant jobs
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._tasks.discard(task)

    async def _run(self, job: Job) -> None:
        workflow, call = job.workflow, job.call
        if workflow is None or call is None:
            raise RuntimeError(f"job {job.id} has already run")
        job.move(State.RUNNING)
        job.started = self._clock()
        outcome: ExecutionOutcome | None
        try:
            if self._fault_hooks is None:
                outcome = await execute(workflow, call)
            else:
                outcome = await self._fault_hooks.execute(job)
        except Exception:
            logger.exception("workflow %s broke", workflow.name)
            outcome = ExecutionOutcome(None, INTERNAL, round((self._clock() - job.started) * 1000, 3))
        if outcome is not None:
            self._finish(job, outcome)

    def _finish(self, job: Job, outcome: ExecutionOutcome) -> None:
        body: dict[str, Any] = {"jobId": job.id}
        if outcome.result is None:
            state = State.FAILED
            body.update(status=JobState.FAILED, error=outcome.error)
        else:
            state = State.COMPLETED
            body.update(status=JobState.COMPLETED, result=msgspec.Raw(outcome.result))
        body["executionTime"] = outcome.milliseconds
        job.finish(state, encode(body), self._clock() + self._retention)
        self.ended[state] += 1
        self._failed += state is State.FAILED
        self._finished.append(job)
        if self._timer is None:
            self._sweep_later()

    def _sweep_later(self) -> None:
        seconds = max(SWEEP_EVERY, self._finished[0].expires - self._clock())
        self._timer = asyncio.get_running_loop().call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        if self.expire():
            self._timer = asyncio.get_running_loop().call_soon(self._sweep)
        elif self._finished:
            self._sweep_later()

    def _pending(self, job: Job) -> bytes:
        body: dict[str, Any] = {"jobId": job.id, "status": STATUS[job.state]}
        if self._pending_time == "elapsed" and job.state is not State.QUEUED:
            body["executionTime"] = round((self._clock() - job.started) * 1000, 3)
        elif self._pending_time != "omitted":
            body["executionTime"] = 0
        return encode(body)
