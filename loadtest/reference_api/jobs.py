"""Asynchronous jobs in memory. The queue and the number of workers are bounded, and results expire.

Expiry has a constant cost per job, because finished jobs expire in the order in which they ended.
"""

import asyncio
import logging
import secrets
import struct
import time
from collections import deque
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, Final

import msgspec

from loadtest.contract import JobState
from loadtest.reference_api.execution import INTERNAL, Call, Execution, ExecutionOutcome, Workflow
from loadtest.reference_api.messages import encode
from loadtest.reference_settings import PendingTime

logger = logging.getLogger(__name__)
Execute = Coroutine[Any, Any, ExecutionOutcome]

SWEEP_EVERY: Final = 1.0
"""Minimum number of seconds between two sweeps, which free the memory of expired jobs."""

FREED_PER_STEP: Final = 500
"""At most this many jobs are freed before requests are handled again. This takes less than 1 ms."""


_HEAD: Final = struct.Struct("<dI?")
"""Fields stored before a finished job's answer: its expiry (monotonic s), its owner's index, and whether it failed."""


class State(StrEnum):
    """The state of a job. ``docs/reference-api.md`` lists the status that a retrieval shows for each state."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = JobState.COMPLETED.value
    FAILED = JobState.FAILED.value


class Job(msgspec.Struct, gc=False, eq=False):
    """A job that has not ended.

    The garbage collector does not track jobs, because they are never part of a reference cycle.
    """

    owner: object
    workflow: Workflow
    call: Call
    id: str = msgspec.field(default_factory=lambda: secrets.token_hex(12))
    started: float | None = None
    """Start of the execution in monotonic s. None while the job is queued."""


class WorkHooks:
    """Hooks into runs and jobs. Faults override them."""

    def run(self, _owner: object, work: Execute) -> Execute:
        """Return the coroutine that executes a synchronous run. A fault may wrap ``work``."""
        return work

    def submitted(self, job: Job) -> None:
        """Handle a job that was submitted and has not started."""

    def take(self, waiting: deque[Job]) -> Job | None:
        """Remove and return a worker's next job. Return None if no job may start now."""
        return waiting.popleft() if waiting else None

    def execute(self, job: Job) -> Coroutine[Any, Any, ExecutionOutcome | None]:
        """Execute a job. Return None if the job must stay pending; its worker then takes other jobs."""
        return Execution(job.workflow, job.call).run()

    def retrieved(self, _owner: object, _job_id: str, answer: bytes, *, ended: bool) -> bytes:
        """Return the response to a retrieval. A fault may replace ``answer`` once the job has ``ended``."""
        return answer


class QueueFullError(Exception):
    """Running and waiting jobs fill the workers and the queue."""


class JobStore:
    """All jobs of a server. At most ``workers`` workers execute them, and a bounded queue holds the rest.

    Assumptions: the documentation does not say how long a finished job is kept (``retention``, in s). It lists
    ``executionTime`` for every status, but does not define its value for a pending job (``pending_time``).
    """

    def __init__(
        self,
        workers: int,
        queue: int,
        retention: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        pending_time: PendingTime = "elapsed",
        hooks: WorkHooks | None = None,
    ) -> None:
        self._workers = workers
        self._room = workers + queue
        self._retention = retention
        self._clock = clock
        self._pending_time = pending_time
        self._hooks = hooks or WorkHooks()
        self._jobs: dict[str, Job] = {}
        """Jobs that have not ended."""
        self._waiting: deque[Job] = deque()
        self._finished: dict[str, bytes] = {}
        """Finished jobs by id: ``_HEAD``, then the answer without the id. This takes a third of a ``Job``'s memory."""
        self._expiring: deque[str] = deque()
        """Ids of finished jobs, in the order in which they ended."""
        self._owners: list[object] = []
        """Owners of finished jobs. ``_HEAD`` stores an index into this list."""
        self._failed = 0
        self.accepted = 0
        self.ended = dict.fromkeys((State.COMPLETED, State.FAILED), 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None

    def __len__(self) -> int:
        return len(self._jobs) + len(self._finished)

    @property
    def counts(self) -> dict[State, int]:
        return {
            State.QUEUED: len(self._waiting),
            State.RUNNING: len(self._tasks),
            State.COMPLETED: len(self._finished) - self._failed,
            State.FAILED: self._failed,
        }

    def submit(self, owner: object, workflow: Workflow, call: Call) -> Job:
        """Queue a job, or start it if a worker is idle. Raise ``QueueFullError`` like ``check_room``."""
        self.check_room()
        job = Job(owner, workflow, call)
        self._jobs[job.id] = job
        self.accepted += 1
        self._hooks.submitted(job)
        self._waiting.append(job)
        self.wake()
        return job

    def check_room(self) -> None:
        """Raise ``QueueFullError`` if no job can be accepted."""
        if len(self._tasks) + len(self._waiting) >= self._room:
            raise QueueFullError

    def retrieve(self, owner: object, job_id: str) -> bytes | None:
        """Return the response to a retrieval, or None if the owner has no such job or the job has expired."""
        if (job := self._jobs.get(job_id)) is not None:
            if job.owner is not owner:
                return None
            answer = self._pending(job)
        elif (kept := self._finished.get(job_id)) is not None:
            expires, place, _ = _HEAD.unpack_from(kept)
            if self._owners[place] is not owner or self._clock() >= expires:
                return None
            answer = b'{"jobId":"%b",%b' % (job_id.encode(), kept[_HEAD.size :])
        else:
            return None
        return self._hooks.retrieved(owner, job_id, answer, ended=job is None)

    def wake(self) -> None:
        """Start waiting jobs while workers are idle. Jobs that a fault holds back stay in the queue."""
        while (
            self._waiting and len(self._tasks) < self._workers and (job := self._hooks.take(self._waiting)) is not None
        ):
            self._tasks.add(asyncio.get_running_loop().create_task(self._work(job)))

    def expire(self) -> bool:
        """Free up to ``FREED_PER_STEP`` expired jobs, and return whether more may be left."""
        now, finished, expiring = self._clock(), self._finished, self._expiring
        for _ in range(FREED_PER_STEP):
            if not expiring or self._expiry() > now:
                return False
            *_, failed = _HEAD.unpack_from(finished.pop(expiring.popleft()))
            self._failed -= failed
        return True

    def close(self) -> None:
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    async def _work(self, first: Job) -> None:
        # A worker ends when `take` returns None. Its task leaves the set before the event loop does anything else, so
        # that a submitted job never waits for a worker that is about to end.
        try:
            await self._run(first)
            while (job := self._hooks.take(self._waiting)) is not None:
                await asyncio.sleep(0)  # lets the loop handle requests between instant jobs
                await self._run(job)
        finally:
            self._tasks.discard(asyncio.current_task())

    async def _run(self, job: Job) -> None:
        job.started = began = self._clock()
        try:
            outcome = await self._hooks.execute(job)
        except Exception:
            logger.exception("workflow %s broke", job.workflow.name)
            outcome = ExecutionOutcome(None, INTERNAL, round((self._clock() - began) * 1000, 3))
        if outcome is not None:
            self._finish(job, outcome)

    def _finish(self, job: Job, outcome: ExecutionOutcome) -> None:
        body: dict[str, Any]
        if outcome.result is None:
            state, body = State.FAILED, {"status": JobState.FAILED, "error": outcome.error}
        else:
            state, body = State.COMPLETED, {"status": JobState.COMPLETED, "result": msgspec.Raw(outcome.result)}
        body["executionTime"] = outcome.milliseconds
        if job.owner not in self._owners:
            self._owners.append(job.owner)
        head = _HEAD.pack(self._clock() + self._retention, self._owners.index(job.owner), state is State.FAILED)
        # The answer is stored without the job's id, because the id is the dictionary's key.
        self._finished[job.id] = head + encode(body)[1:]
        self._expiring.append(job.id)
        del self._jobs[job.id]
        self.ended[state] += 1
        self._failed += state is State.FAILED
        if self._timer is None:
            self._sweep_later()

    def _sweep_later(self) -> None:
        seconds = max(SWEEP_EVERY, self._expiry() - self._clock())
        self._timer = asyncio.get_running_loop().call_later(seconds, self._sweep)

    def _expiry(self) -> float:
        """Return the monotonic time in s at which the oldest finished job expires."""
        expires: float = _HEAD.unpack_from(self._finished[self._expiring[0]])[0]
        return expires

    def _sweep(self) -> None:
        self._timer = None
        if self.expire():
            self._timer = asyncio.get_running_loop().call_soon(self._sweep)
        elif self._finished:
            self._sweep_later()

    def _pending(self, job: Job) -> bytes:
        body: dict[str, Any] = {"jobId": job.id, "status": JobState.PENDING}
        if self._pending_time == "elapsed" and job.started is not None:
            body["executionTime"] = round((self._clock() - job.started) * 1000, 3)
        elif self._pending_time != "omitted":
            body["executionTime"] = 0
        return encode(body)
