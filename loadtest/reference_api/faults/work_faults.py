"""Executions and jobs that misbehave: slower, never ending, starved, with wrong results or times."""

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import ContextVar
from itertools import islice
from typing import Any, Final, Generic, TypeVar

import msgspec

from loadtest.contract import JobState, LimitName
from loadtest.faults import AnyFault, kinds
from loadtest.reference_api.faults.active_faults import ActiveFaults, pause
from loadtest.reference_api.http.messages import encode
from loadtest.reference_api.jobs import Job
from loadtest.reference_api.workflows.execution import ExecutionOutcome, execute

MOST: Final = 200_000
"""Entries that are kept of each sort; the oldest go first."""

_T = TypeVar("_T")

HITS: ContextVar[list[AnyFault]] = ContextVar("HITS")
"""What has hit the request at hand; not set outside of one."""

_LOOK_AGAIN: Final = 0.02
"""Seconds between two looks whether what is starved may go on."""


_ABOVE: Final = 600_000.0
"""ms by which an executionTime is above the truth, more than any client waits."""

_LEVELS: Final = 100
"""Levels of a result that are made wrong: a result may be nested as deeply as the stack allows."""

_ABSENT: Final = b',"executionTime":null'


def note_hits(*faults: AnyFault) -> None:
    """Note that faults hit the request at hand, if there is one."""
    if (hits := HITS.get(None)) is not None:
        hits.extend(fault for fault in faults if fault not in hits)


class RecentJobs(Generic[_T]):
    """A dictionary by job id that forgets what is oldest."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: dict[str, _T] = {}

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, job_id: str) -> _T | None:
        return self._kept.get(job_id)

    def put(self, job_id: str, value: _T) -> None:
        self._kept[job_id] = value
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]


class WorkFaults:
    """Lets executions and jobs misbehave, as the active faults say; these are the fault hooks of a ``JobStore``."""

    def __init__(self, active: ActiveFaults) -> None:
        self._active = active
        self._keys: Mapping[Any, int] = {}
        self._wake: Callable[[], None] = lambda: None
        self._marks: RecentJobs[list[AnyFault]] = RecentJobs()
        self._ended: RecentJobs[bool] = RecentJobs()
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
        return self._marks.get(job_id) or []

    async def run(self, owner: object, work: Coroutine[Any, Any, ExecutionOutcome]) -> ExecutionOutcome:
        """Execute a synchronous run: ``work``, as if it were for this owner."""
        key = self._keys[owner]
        faults = [strike.fault for strike in self._active.strikes(LimitName.SYNC_RUN, key, work=True)]
        note_hits(*faults)
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
        key = self._keys[job.owner]
        faults = [strike.fault for strike in self._active.strikes(LimitName.ASYNC_SUBMIT, key, work=True)]
        if faults:
            self._marks.put(job.id, faults)
        self._at_work[key] += 1
        self._counted.add(job.id)

    def take(self, waiting: deque[Job]) -> Job | None:
        starving = self._starving()
        # Thousands may be starved: until they are looked at again, each submit looks only at what has come since.
        for place, job in enumerate(islice(waiting, self._starved, None), self._starved):
            if not starving or starving.isdisjoint(self.marks(job.id)):
                del waiting[place]
                return job
        self._starved = len(waiting)
        if waiting and self._timer is None:
            # What starves them may end without a job's ending: with a run, or because the fault is over.
            self._timer = asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again)
        return None

    async def execute(self, job: Job) -> ExecutionOutcome | None:
        """Execute a job; None if it is never to finish."""
        faults, key = self.marks(job.id), self._keys[job.owner]
        try:
            if (
                job.workflow is None
                or job.call is None
                or any(isinstance(fault, kinds.NeverFinish) for fault in faults)
            ):
                return None
            return await self._execute(key, execute(job.workflow, job.call), faults)
        finally:
            if job.id in self._counted:
                self._counted.discard(job.id)
                self._at_work[key] -= 1

    def retrieved(self, job: Job, answer: bytes) -> bytes:
        """What a retrieval is answered with."""
        note_hits(*self.marks(job.id))
        faults = [
            strike.fault for strike in self._active.strikes(LimitName.RETRIEVAL, self._keys[job.owner], work=True)
        ]
        if not job.answer:
            return answer
        if any(isinstance(fault, kinds.BackToPending) for fault in faults) and job.id in self._ended:
            note_hits(*faults)
            return encode({"jobId": job.id, "status": JobState.PENDING, "executionTime": 0})
        self._ended.put(job.id, True)
        return without_time(answer)

    async def _execute(
        self, key: int, work: Coroutine[Any, Any, ExecutionOutcome], faults: list[AnyFault]
    ) -> ExecutionOutcome:
        outcome = await work
        if (more := slowness(faults, outcome.milliseconds)) > 0:
            began = self._active.clock()
            await pause(more)
            took = (self._active.clock() - began) * 1000
            outcome = outcome._replace(milliseconds=round(outcome.milliseconds + took, 3))
        before = self._last.get(key)
        if outcome.result is not None:
            self._last[key] = outcome.result
        return falsify(outcome, faults, before)

    def _starving(self) -> set[AnyFault]:
        """The faults that hold runs and jobs back just now."""
        now = self._active.clock()
        return {
            each.fault
            for each in self._active
            if isinstance(each.fault, kinds.Starve) and each.in_force(now) and self._busy(each.fault)
        }

    def _busy(self, fault: kinds.Starve) -> bool:
        return any(count and key != fault.key and fault.by in {None, key} for key, count in self._at_work.items())

    def _look_again(self) -> None:
        self._timer, self._starved = None, 0
        self._wake()


def slowness(faults: Iterable[AnyFault], milliseconds: float) -> float:
    """Seconds that an execution is to last longer than the ``milliseconds`` that it took."""
    slow = [fault for fault in faults if isinstance(fault, kinds.SlowExecution)]
    return sum(milliseconds * (fault.factor - 1) + fault.ms for fault in slow) / 1000


def falsify(outcome: ExecutionOutcome, faults: Iterable[AnyFault], before: bytes | None) -> ExecutionOutcome:
    """Make an outcome wrong.

    Args:
        outcome: the true one.
        faults: what hits it.
        before: the result, as JSON, of the last execution for the same key; None if there was none.
    """
    for fault in faults:
        if isinstance(fault, kinds.FalseExecutionTime):
            outcome = outcome._replace(milliseconds=_false_time(fault, outcome.milliseconds))
        elif outcome.result is not None and isinstance(fault, kinds.DuplicateResult) and before is not None:
            outcome = outcome._replace(result=before)
        elif outcome.result is not None and isinstance(fault, kinds.WrongResult):
            outcome = outcome._replace(result=msgspec.json.encode(spoil(msgspec.json.decode(outcome.result))))
    return outcome


def _false_time(fault: kinds.FalseExecutionTime, milliseconds: float) -> float:
    match fault.value:
        case "above":
            return milliseconds + _ABOVE
        case "negative":
            return -1.0 - milliseconds
        case "missing":
            return math.nan  # which becomes null in JSON: see ``without_time``
    return round(milliseconds * fault.factor + fault.ms, 3)


def without_time(answer: bytes) -> bytes:
    """An answer without its ``executionTime``, where that is to be missing."""
    before, absent, after = answer.rpartition(_ABSENT)
    return before + after if absent else answer


def spoil(value: Any, levels: int = _LEVELS) -> Any:
    """A result of the same shape with other values; an empty one gets a key that doesn't belong there.

    Args:
        value: the result, or what is in it.
        levels: how deep to go; what lies deeper is replaced.
    """
    if isinstance(value, dict) and levels:
        return {key: spoil(each, levels - 1) for key, each in value.items()} or {"wrong": True}
    if isinstance(value, list) and levels:
        return [spoil(each, levels - 1) for each in value] or ["wrong"]
    if isinstance(value, dict | list):
        return "wrong"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"not {value}"
