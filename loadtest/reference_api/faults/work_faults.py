"""Faults of executions and jobs. Work is slow, starved or never ends, or its result or time is wrong."""

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec

from loadtest.contract import JobState, LimitName
from loadtest.faults import AnyFault, kinds
from loadtest.reference_api.faults.active_faults import ActiveFaults
from loadtest.reference_api.http.messages import encode
from loadtest.reference_api.jobs import Execute, Job, WorkHooks
from loadtest.reference_api.workflows.execution import Execution, ExecutionOutcome, pause

_MOST: Final = 200_000
"""Faults are remembered for at most this many jobs. The oldest jobs are forgotten first."""

_T = TypeVar("_T")

HITS: ContextVar[list[AnyFault]] = ContextVar("HITS")
"""The faults that affected the current request. The variable is not set outside a request."""

_LOOK_AGAIN: Final = 0.02
"""Starved work checks whether it may continue at intervals of this many seconds."""

_ABOVE: Final = 600_000.0
"""The value ``above`` makes an executionTime this many ms too long. No client waits that long."""

_LEVELS: Final = 100
"""Values of a result are changed down to this depth. Results may be nested as deeply as the stack allows."""

_ABSENT: Final = b',"executionTime":null'


def _note_hits(faults: Iterable[AnyFault]) -> None:
    if (hits := HITS.get(None)) is not None:
        hits.extend(fault for fault in faults if fault not in hits)


def _remember(kept: dict[str, _T], job_id: str, value: _T) -> None:
    kept[job_id] = value
    if len(kept) > _MOST:
        del kept[next(iter(kept))]


class WorkFaults(WorkHooks):
    """Applies the active faults to executions and jobs."""

    def __init__(self, active: ActiveFaults) -> None:
        self.active = active
        self._keys: Mapping[Any, int] = {}
        self._wake: Callable[[], None] = lambda: None
        self._marks: dict[str, list[AnyFault]] = {}
        self._ended: dict[str, bool] = {}
        self._last: dict[int, bytes] = {}
        self._at_work: Counter[int] = Counter()
        self._counted: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._starved = 0
        """The last check found this many starved jobs at the head of the queue."""

    def attach(self, keys: Mapping[Any, int], wake: Callable[[], None]) -> None:
        """Set the key index of each owner, and the function that makes idle workers look for jobs."""
        self._keys, self._wake = keys, wake

    def marks(self, job_id: str) -> list[AnyFault]:
        return self._marks.get(job_id, [])

    async def run(self, owner: object, work: Execute) -> ExecutionOutcome:
        key = self._keys[owner]
        faults = self._struck(LimitName.SYNC_RUN, owner)
        _note_hits(faults)
        try:
            while not self._starving().isdisjoint(faults):  # noqa: ASYNC110 - starvation may end in several ways
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
        if faults := self._struck(LimitName.ASYNC_SUBMIT, job.owner):
            _remember(self._marks, job.id, faults)
        self._at_work[self._keys[job.owner]] += 1
        self._counted.add(job.id)

    def take(self, waiting: deque[Job]) -> Job | None:
        starving = self._starving()
        # Thousands of jobs may be starved, so between two checks a submit examines only new jobs.
        for place, job in enumerate(islice(waiting, self._starved, None), self._starved):
            if not starving or starving.isdisjoint(self.marks(job.id)):
                del waiting[place]
                return job
        self._starved = len(waiting)
        if waiting and self._timer is None:
            # Starvation may also end when a run or the fault ends. Then no ending job makes the workers look again.
            self._timer = asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again)
        return None

    async def execute(self, job: Job) -> ExecutionOutcome | None:
        """Execute a job, or return None if a fault keeps it from ending."""
        faults, key = self.marks(job.id), self._keys[job.owner]
        try:
            if any(isinstance(fault, kinds.NeverFinish) for fault in faults):
                return None
            return await self._execute(key, Execution(job.workflow, job.call).run(), faults)
        finally:
            if job.id in self._counted:
                self._counted.discard(job.id)
                self._at_work[key] -= 1

    def retrieved(self, owner: object, job_id: str, answer: bytes, *, ended: bool) -> bytes:
        _note_hits(self.marks(job_id))
        faults = self._struck(LimitName.RETRIEVAL, owner)
        if not ended:
            return answer
        if any(isinstance(fault, kinds.BackToPending) for fault in faults) and job_id in self._ended:
            _note_hits(faults)
            return encode({"jobId": job_id, "status": JobState.PENDING, "executionTime": 0})
        _remember(self._ended, job_id, True)
        return without_time(answer)

    def _struck(self, name: LimitName, owner: object) -> list[AnyFault]:
        return [fault for fault, _ in self.active.strikes(name, self._keys[owner], work=True)]

    async def _execute(self, key: int, work: Execute, faults: list[AnyFault]) -> ExecutionOutcome:
        outcome = await work
        slow = [fault for fault in faults if isinstance(fault, kinds.SlowExecution)]
        if (more := sum(outcome.milliseconds * (fault.factor - 1) + fault.ms for fault in slow) / 1000) > 0:
            began = self.active.clock()
            await pause(more)
            took = (self.active.clock() - began) * 1000
            outcome = outcome._replace(milliseconds=round(outcome.milliseconds + took, 3))
        before = self._last.get(key)
        if outcome.result is not None:
            self._last[key] = outcome.result
        return _falsify(outcome, faults, before)

    def _starving(self) -> set[AnyFault]:
        """Return the faults that currently hold back runs and jobs."""
        now = self.active.clock()
        return {
            each.fault
            for each in self.active
            if isinstance(each.fault, kinds.Starve) and each.in_force(now) and self._busy(each.fault)
        }

    def _busy(self, fault: kinds.Starve) -> bool:
        return any(count and key != fault.key and fault.by in {None, key} for key, count in self._at_work.items())

    def _look_again(self) -> None:
        self._timer, self._starved = None, 0
        self._wake()


def _falsify(outcome: ExecutionOutcome, faults: Iterable[AnyFault], before: bytes | None) -> ExecutionOutcome:
    """Falsify an outcome. ``before`` is the JSON result of the previous execution for the same key."""
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
            return math.nan  # null in JSON: see ``without_time``
    return round(milliseconds * fault.factor + fault.ms, 3)


def without_time(answer: bytes) -> bytes:
    """Return the answer. Its ``executionTime`` is removed if a fault has set it to null."""
    before, absent, after = answer.rpartition(_ABSENT)
    return before + after if absent else answer


def spoil(value: Any, levels: int = _LEVELS) -> Any:
    """Return a result with the same structure and other values. An empty object or list gets an extra value.

    Objects and lists nested deeper than ``levels`` become a string.
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
