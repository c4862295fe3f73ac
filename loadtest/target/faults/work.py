"""Executions and jobs that misbehave: slower, never ending, starved, with wrong results or times."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from itertools import islice
from typing import Any, Final

from loadtest.contract import LimitName
from loadtest.faults import AnyFault
from loadtest.faults.kinds import BackToPending, NeverFinish, Starve
from loadtest.target.answers import encode
from loadtest.target.execution import Outcome, execute
from loadtest.target.faults.board import Board
from loadtest.target.faults.marks import Recent, note
from loadtest.target.faults.outcomes import falsify, slowness, without_time
from loadtest.target.faults.pauses import pause
from loadtest.target.job import Job

_LOOK_AGAIN: Final = 0.02
"""Seconds between two looks whether what is starved may go on."""

_NOBODY: Final = -1
"""The number of those whose key is no longer accepted, and whose jobs go on all the same."""


class Work:
    """Lets executions and jobs misbehave, as the board says; it is the meddler of a ``JobStore``.

    Args:
        board: the faults.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._keys: Mapping[Any, int] = {}
        self._wake: Callable[[], None] = lambda: None
        self._marks: Recent[list[AnyFault]] = Recent()
        self._ended: Recent[bool] = Recent()
        self._last: dict[int, bytes] = {}
        self._at_work: Counter[int] = Counter()
        self._counted: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._starved = 0
        """How many of those that wait longest were starved when they were last looked at."""

    def attach(self, keys: Mapping[Any, int], wake: Callable[[], None]) -> None:
        """Say whose executions and jobs these are.

        Args:
            keys: the number of each owner's API key.
            wake: lets idle workers look for jobs again.
        """
        self._keys, self._wake = keys, wake

    def marks(self, job_id: str) -> list[AnyFault]:
        """What hit a job when it was submitted."""
        return self._marks.get(job_id) or []

    async def run(self, owner: object, work: Coroutine[Any, Any, Outcome]) -> Outcome:
        """Execute a synchronous run: ``work``, as if it were for this owner."""
        key = self._keys.get(owner, _NOBODY)
        faults = [strike.fault for strike in self._board.strikes(LimitName.SYNC_RUN, key, work=True)]
        note(*faults)
        try:
            while not self._starving().isdisjoint(faults):  # noqa: ASYNC110 -- what starves it is no one event: work, time, or a fault
                await asyncio.sleep(_LOOK_AGAIN)
        except asyncio.CancelledError:
            work.close()
            raise
        self._at_work[key] += 1
        try:
            return await self._execute(key, work, faults)
        finally:
            self._at_work[key] -= 1

    def submitted(self, job: Job) -> None:
        """Draw what hits a job."""
        key = self._keys.get(job.owner, _NOBODY)
        faults = [strike.fault for strike in self._board.strikes(LimitName.ASYNC_SUBMIT, key, work=True)]
        if faults:
            self._marks.put(job.id, faults)
        self._at_work[key] += 1
        self._counted.add(job.id)

    def take(self, waiting: Any) -> Job | None:
        """Take the first job that isn't starved."""
        starving = self._starving()
        # Thousands may be starved: until they are looked at again, each submit looks only at what has come since.
        for place, job in enumerate(islice(waiting, self._starved, None), self._starved):
            if not starving or starving.isdisjoint(self.marks(job.id)):
                del waiting[place]
                return job  # type: ignore[no-any-return] # what waits are jobs
        self._starved = len(waiting)
        if waiting and self._timer is None:
            # What starves them may end without a job's ending: with a run, or because the fault is over.
            self._timer = asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again)
        return None

    async def execute(self, job: Job) -> Outcome | None:
        """Execute a job; None if it is never to finish."""
        faults, key = self.marks(job.id), self._keys.get(job.owner, _NOBODY)
        try:
            if job.workflow is None or any(isinstance(fault, NeverFinish) for fault in faults):
                return None
            return await self._execute(key, execute(job.workflow, job.parameters), faults)
        finally:
            if job.id in self._counted:
                self._counted.discard(job.id)
                self._at_work[key] -= 1

    def retrieved(self, job: Job, answer: bytes) -> bytes:
        """What a retrieval is answered with."""
        note(*self.marks(job.id))
        faults = [
            strike.fault
            for strike in self._board.strikes(LimitName.RETRIEVAL, self._keys.get(job.owner, _NOBODY), work=True)
        ]
        if not job.answer:
            return answer
        if any(isinstance(fault, BackToPending) for fault in faults) and job.id in self._ended:
            note(*faults)
            return encode({"jobId": job.id, "status": "pending", "executionTime": 0})
        self._ended.put(job.id, True)
        return without_time(answer)

    async def _execute(self, key: int, work: Coroutine[Any, Any, Outcome], faults: list[AnyFault]) -> Outcome:
        outcome = await work
        if (more := slowness(faults, outcome.milliseconds)) > 0:
            began = self._board.clock()
            await pause(more)
            took = (self._board.clock() - began) * 1000
            outcome = outcome._replace(milliseconds=round(outcome.milliseconds + took, 3))
        before = self._last.get(key)
        if outcome.result is not None:
            self._last[key] = outcome.result
        return falsify(outcome, faults, before)

    def _starving(self) -> set[AnyFault]:
        """The faults that hold runs and jobs back just now."""
        now = self._board.clock()
        return {
            each.fault
            for each in self._board
            if isinstance(each.fault, Starve) and each.active(now) and self._busy(each.fault)
        }

    def _busy(self, fault: Starve) -> bool:
        return any(count and key != fault.key and fault.by in {None, key} for key, count in self._at_work.items())

    def _look_again(self) -> None:
        self._timer, self._starved = None, 0
        self._wake()
