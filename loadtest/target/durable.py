"""Jobs on disk: what a client was told of them holds after the server was killed.

A submit is acknowledged when its job is on disk, and an end is shown when its answer is. All jobs are in memory, too,
so that a retrieval costs what it always does; the disk is read only at the start.
"""

import asyncio
import hmac
import itertools
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from loadtest.target.answers import ApiError, encode
from loadtest.target.config import ServerConfig
from loadtest.target.database import DELETE, FINISH, INSERT, Database, Pending
from loadtest.target.execution import Outcome
from loadtest.target.job import Job, Meddler, terminal
from loadtest.target.jobs import JobStore, QueueFullError
from loadtest.target.states import FIRST_ON_DISK, Event, State, move
from loadtest.target.workflows import Workflow, find
from loadtest.target.writer import Write, Writer

_NOBODY: Final = object()
"""Owns the jobs of keys that the server no longer accepts."""


class StorageError(Exception):
    """The job could not be written to disk: it was not accepted."""


class DurableJobs(JobStore):
    """The jobs of a server, also on disk. What is there already is taken in at once, and goes on at ``start``.

    Args:
        database: where they are kept; closed with the store.
        owners: who owns jobs, by API key.
        workflows: what can be run, by name.
        retention: seconds that a finished job stays, by the wall clock where the server was restarted.
        wall: Unix time.
        others: as ``JobStore``.

    Raises:
        InputError: if the database can't be read.
    """

    def __init__(
        self,
        database: Database,
        owners: Mapping[bytes, object],
        workflows: dict[str, Workflow],
        *,
        retention: float,
        wall: Callable[[], float] = time.time,
        **others: Any,
    ) -> None:
        super().__init__(retention=retention, **others)
        self._database = database
        self._workflows = workflows
        self._wall = wall
        self._digests = {owner: hmac.digest(database.salt, key, "sha256") for key, owner in owners.items()}
        self._owners = {digest: owner for owner, digest in self._digests.items()}
        self._writer: Writer | None = None
        self._arriving = self._saving = 0
        self._closed = False
        database.expire(wall() - retention)
        self._load()
        self._resumable = list(database.pending())
        rows = [job.row for job in self._finished] + [pending.row for pending in self._resumable]
        self._rows = itertools.count(1 + max(rows, default=0))

    @property
    def counts(self) -> dict[State, int]:
        """How many jobs there are in each state that has any worth counting."""
        return {**super().counts, State.ARRIVING: self._arriving, State.SAVING: self._saving}

    @property
    def broken(self) -> bool:
        """Whether the disk refused what was last to be written."""
        return self._writer is not None and self._writer.failing

    def start(self) -> None:
        """Begin to write, and to execute what had not ended when the server last stopped. Needs the event loop."""
        self._writer = Writer(self._database)
        if self._finished:
            self._sweep_later()
        for pending in self._resumable:
            self._resume(pending)
        self._resumable.clear()

    def submit(self, owner: object, workflow: Workflow, parameters: Any) -> Job:
        """Not here: a job is on disk before it is queued, and that takes time.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("a job that is kept on disk is submitted by accept")

    async def accept(self, owner: object, workflow: Workflow, parameters: Any, submitted: dict[str, Any]) -> Job:
        """Queue a job as soon as it is on disk.

        Raises:
            QueueFullError: if there is no room.
            StorageError: if it could not be written.
        """
        self.check_room()
        job = Job(owner, workflow, parameters, state=FIRST_ON_DISK, row=next(self._rows))
        values = (job.row, job.id, self._digests[owner], workflow.name, encode(submitted))
        known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._write(INSERT, values, partial(self._stored, job, known), partial(self._refused, job, known))
        self._arriving += 1
        await known
        return job

    def check_room(self) -> None:
        """Look whether one more job may come: those that wait for the disk count as if they waited for a worker.

        Raises:
            QueueFullError: if there is no room.
        """
        if len(self._tasks) + len(self._waiting) + self._arriving + self._saving >= self._room:
            raise QueueFullError

    def close(self) -> None:
        """Cancel what is running; it and what waits stay on disk for the next start."""
        super().close()
        self._closed = True
        if self._writer is None:
            self._database.close()
        else:
            self._writer.close()

    def _write(
        self,
        statement: str,
        values: tuple[Any, ...],
        done: Callable[[], None] | None = None,
        refused: Callable[[], None] | None = None,
    ) -> None:
        if self._writer is None:
            raise RuntimeError("the store has not started")
        self._writer.add(Write(statement, values, done, refused))

    def _stored(self, job: Job, known: asyncio.Future[None]) -> None:
        self._arriving -= 1
        self.accepted += 1
        job.move(Event.STORE)
        if not self._closed:
            self._enqueue(job)
        if not known.done():  # a stopping server cancels the request, though its job is on disk by now
            known.set_result(None)

    def _refused(self, job: Job, known: asyncio.Future[None]) -> None:
        self._arriving -= 1
        job.move(Event.REFUSE)
        if not known.done():
            known.set_exception(StorageError())

    def _end(self, job: Job, event: Event, answer: bytes) -> None:
        job.move(Event.SAVE)
        self._saving += 1
        values = (move(job.state, event), answer, self._wall(), job.row)
        self._write(FINISH, values, partial(self._saved, job, event, answer))

    def _saved(self, job: Job, event: Event, answer: bytes) -> None:
        self._saving -= 1
        self._finish(job, event, answer)

    def _forget(self, job: Job) -> None:
        self._write(DELETE, (job.row,))

    def _load(self) -> None:
        """Take in the jobs that have ended, each with what is left of its retention."""
        now, wall = self._clock(), self._wall()
        for ended in self._database.ended():
            owner = self._owners.get(ended.owner, _NOBODY)
            age = max(0.0, wall - ended.ended)  # a clock that was set back must not keep a job for longer
            state, expires = State(ended.state), now + self._retention - age
            job = Job(owner, None, None, ended.id, state, 0.0, expires, ended.answer, ended.row)
            self._jobs[job.id] = job
            self._finished.append(job)
            self._failed += state is State.FAILED

    def _resume(self, pending: Pending) -> None:
        owner = self._owners.get(pending.owner, _NOBODY)
        job = Job(owner, None, None, pending.id, row=pending.row)
        try:
            job.workflow = find(self._workflows, pending.workflow)
            job.parameters = job.workflow.parse(msgspec.json.decode(pending.parameters))
        except ApiError as error:
            self._jobs[job.id] = job
            job.move(Event.START)
            why = f"The server was restarted and cannot execute {pending.workflow!r} any more: {error.message}"
            if "problem" in error.details:
                why += f": {error.details['field']}: {error.details['problem']}"
            self._end(job, Event.FAIL, terminal(job.id, Outcome(None, why, 0.0)))
        else:
            self._enqueue(job)


def open_store(
    config: ServerConfig, owners: Mapping[bytes, object], workflows: dict[str, Workflow], meddler: Meddler | None = None
) -> JobStore:
    """The job store that a server was configured to have.

    Args:
        config: says whether jobs are kept on disk, and all bounds.
        owners: who owns jobs, by API key.
        workflows: what can be run, by name.
        meddler: who makes jobs misbehave, if anyone.

    Raises:
        InputError: if the directory can't be used.
    """
    bounds: dict[str, Any] = {
        "workers": config.workers,
        "queue": config.queue,
        "retention": config.retention,
        "pending_time": config.pending_execution_time,
        "meddler": meddler,
    }
    if config.data is None:
        return JobStore(**bounds)
    return DurableJobs(Database(config.data), owners, workflows, **bounds)
