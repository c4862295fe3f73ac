"""Asynchronous jobs in memory: a bounded queue before bounded workers, and results that expire.

Every operation costs the same however many jobs there are: finished jobs expire in the order in which they ended, so a
queue tells which is next, and a timer frees them in small steps.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from loadtest.reference_api.answers import encode
from loadtest.reference_api.config import PendingTime
from loadtest.reference_api.execution import Outcome, execute
from loadtest.reference_api.job import Job, Meddler, terminal
from loadtest.reference_api.states import STATUS, Event, State
from loadtest.reference_api.workflows import Workflow

logger = logging.getLogger(__name__)

SWEEP_EVERY: Final = 1.0
"""Least seconds between two looks for jobs whose retention is over: no job stays longer than that beyond it."""

FREED_PER_STEP: Final = 500
"""Jobs that are freed before requests get their turn again: well under a millisecond's work."""


class QueueFullError(Exception):
    """Every worker is busy and as many jobs wait as may."""


class JobStore:
    """All jobs of a server.

    Args:
        workers: how many execute at the same time.
        queue: how many may wait.
        retention: seconds that a finished job stays. Assumption: the documentation states no retention.
        clock: monotonic seconds.
        pending_time: what ``executionTime`` a pending job shows. Assumption: the documentation lists it for every
            status, and does not say what it is before the end.
        meddler: who makes jobs misbehave, if anyone.

    Attributes:
        accepted: how many jobs were accepted since the server started.
        ended: how many ended since then, by terminal state.
    """

    def __init__(
        self,
        workers: int,
        queue: int,
        retention: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        pending_time: PendingTime = "elapsed",
        meddler: Meddler | None = None,
    ) -> None:
        self._workers = workers
        self._room = workers + queue
        self._retention = retention
        self._clock = clock
        self._pending_time = pending_time
        self._meddler = meddler
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._finished: deque[Job] = deque()
        self._failed = 0
        self.accepted = 0
        self.ended = dict.fromkeys((State.COMPLETED, State.FAILED), 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None

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

    @property
    def counts(self) -> dict[State, int]:
        """How many jobs there are in each state that has any worth counting."""
        return {
            State.QUEUED: len(self._waiting),
            State.RUNNING: len(self._tasks),
            State.COMPLETED: len(self._finished) - self._failed,
            State.FAILED: self._failed,
        }

    def submit(self, owner: object, workflow: Workflow, parameters: Any) -> Job:
        """Queue a job, or start it where a worker is idle.

        Args:
            owner: who may see it.
            workflow: what it runs.
            parameters: from the workflow's ``parse``.

        Raises:
            QueueFullError: if there is no room; nothing was changed.
        """
        self.check_room()
        job = Job(owner, workflow, parameters)
        self.accepted += 1
        self._enqueue(job)
        return job

    def check_room(self) -> None:
        """Look whether one more job may come.

        Raises:
            QueueFullError: if there is no room.
        """
        if len(self._tasks) + len(self._waiting) >= self._room:
            raise QueueFullError

    def retrieve(self, owner: object, job_id: str) -> bytes | None:
        """The answer to a retrieval; None if the owner has no such job, or no longer."""
        job = self._jobs.get(job_id)
        if job is None or job.owner is not owner:
            return None
        if job.answer:
            if self._clock() >= job.expires:
                return None
            answer = job.answer
        else:
            answer = self._pending(job)
        return answer if self._meddler is None else self._meddler.retrieved(job, answer)

    def wake(self) -> None:
        """Let idle workers look for jobs that may start now, where a meddler held them back."""
        while len(self._tasks) < self._workers and (job := self._take()) is not None:
            self._employ(job)

    def expire(self) -> bool:
        """Free jobs whose retention is over, some at a time; True if there are more."""
        now, finished = self._clock(), self._finished
        for _ in range(FREED_PER_STEP):
            if not finished or finished[0].expires > now:
                return False
            job = finished.popleft()
            self._failed -= job.state is State.FAILED
            job.move(Event.EXPIRE)
            del self._jobs[job.id]
        return True

    def close(self) -> None:
        """Cancel what is running and forget what waits."""
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def _enqueue(self, job: Job) -> None:
        self._jobs[job.id] = job
        if self._meddler is not None:
            self._meddler.submitted(job)
        idle = len(self._tasks) < self._workers
        if idle and self._meddler is None:
            self._employ(job)
            return
        self._waiting.append(job)
        if idle:
            self._employ(None)

    def _employ(self, job: Job | None) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(self._work(job)))

    def _take(self) -> Job | None:
        if not self._waiting:
            return None
        return self._waiting.popleft() if self._meddler is None else self._meddler.take(self._waiting)

    async def _work(self, job: Job | None) -> None:
        # One worker: it ends when nothing waits. The task leaves the set in the same step as it finds the queue
        # empty, so that a submit never queues behind a worker that is about to end.
        try:
            job = job or self._take()
            while job is not None:
                await self._run(job)
                job = self._take()
                if job is not None:
                    await asyncio.sleep(0)  # a long queue of instant jobs must let requests in between
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._tasks.discard(task)

    async def _run(self, job: Job) -> None:
        workflow = job.workflow
        if workflow is None:
            raise RuntimeError(f"job {job.id} has run already")
        job.move(Event.START)
        job.started = self._clock()
        outcome: Outcome | None
        try:
            if self._meddler is None:
                outcome = await execute(workflow, job.parameters)
            else:
                outcome = await self._meddler.execute(job)
        except Exception:
            logger.exception("workflow %s broke", workflow.name)
            outcome = Outcome(None, "Internal error", round((self._clock() - job.started) * 1000, 3))
        if outcome is not None:
            self._finish(job, Event.FAIL if outcome.result is None else Event.SUCCEED, terminal(job.id, outcome))

    def _finish(self, job: Job, event: Event, answer: bytes) -> None:
        job.finish(event, answer, self._clock() + self._retention)
        self.ended[job.state] += 1
        self._failed += job.state is State.FAILED
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
