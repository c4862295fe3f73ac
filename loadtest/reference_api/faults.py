"""The faults of a server, the requests that they affect, and their effects on executions and jobs."""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from itertools import count, islice
from statistics import NormalDist
from typing import Any, Final, TypeVar

import msgspec

from loadtest.contract import JobState, LimitName
from loadtest.faults import Fault, check_keys, kinds
from loadtest.reference_api.execution import Execution, ExecutionOutcome, pause
from loadtest.reference_api.jobs import Execute, Job, WorkHooks
from loadtest.reference_api.messages import encode
from loadtest.seeded_random import seeded_random

_NORMAL: Final = NormalDist()
_WORK: Final = (
    kinds.SlowExecution,
    kinds.NeverFinish,
    kinds.WrongResult,
    kinds.FalseExecutionTime,
    kinds.BackToPending,
    kinds.Starve,
)
_MOST: Final = 200_000
"""``WorkFaults`` remembers the faults, and the reported ends, of at most this many jobs. Oldest entries go first."""

_T = TypeVar("_T")

HITS: ContextVar[list[Fault]] = ContextVar("HITS")
"""The faults that affected the current request. Not set if the request came while the server had no faults."""

_LOOK_AGAIN: Final = 0.02
"""Seconds between two checks whether starved work may continue."""

_ABOVE: Final = 600_000.0
"""The value ``above`` makes an executionTime this many ms too long. Few clients wait that long."""

_LEVELS: Final = 100
"""Values of a result are changed down to this depth. Recursion into deeper results could overflow the stack."""

_ABSENT: Final = b',"executionTime":null}'


class ActiveFault:
    """One fault of a server. Its random draws depend on its number and on the seed.

    The fault's ``start`` counts from ``zero``, in monotonic seconds. ``zero`` is None until the clock of faults starts.
    """

    def __init__(self, number: int, fault: Fault, zero: float | None, seed: int) -> None:
        self.number = number
        self.fault = fault
        self.zero = zero
        self.hits = 0
        """Number of affected requests or, if ``freezes`` is true, of freezes."""
        self.freezes = isinstance(fault, kinds.Freeze) and fault.ms is None
        """Whether the server freezes for the whole duration of the fault, whatever requests arrive."""
        self._seed = seed
        self._seen = 0
        self._asked = self._warm = -math.inf
        """For a cold start, in monotonic s: the time of the last request, and the time when the server becomes warm."""

    @property
    def begin(self) -> float:
        """Start of the fault in monotonic seconds. Infinite while ``zero`` is None."""
        return math.inf if self.zero is None else self.zero + self.fault.start

    @property
    def end(self) -> float:
        """End of the fault in monotonic seconds. Infinite without a duration, or while ``zero`` is None."""
        return math.inf if self.fault.duration is None else self.begin + self.fault.duration

    def in_force(self, now: float) -> bool:
        return self.begin <= now < self.end

    def concerns(self, name: LimitName, key: int) -> bool:
        return not self.freezes and name in self.fault.names and self.fault.key in {None, key}

    def strike(self, now: float) -> float | None:
        """Return the delay of a matching request in seconds, or None if the fault does not affect the request."""
        fault = self.fault
        if isinstance(fault, kinds.ColdStart):
            return self._start_up(fault, now)
        if not self.in_force(now) or not self._drawn():
            return None
        self.hits += 1
        return self._latency(fault, now) if isinstance(fault, kinds.Latency) else 0.0

    def restart(self, zero: float) -> None:
        """Start the fault again. It repeats the same random draws."""
        self.zero, self._seen = zero, 0

    def _drawn(self) -> bool:
        """Draw whether a request is affected. The n-th draw depends on neither the time nor the request."""
        self._seen += 1
        probability = self.fault.probability
        return probability == 1 or seeded_random(self._seed, self.number, self._seen) < probability

    def _latency(self, fault: kinds.Latency, now: float) -> float:
        seconds = fault.ms / 1000
        if fault.shape == "ramp" and fault.duration is not None:
            return seconds * (now - self.begin) / fault.duration
        if fault.shape == "lognormal":
            drawn = seeded_random(self._seed, self.number, self._seen, "latency")
            return seconds * math.exp(fault.sigma * _NORMAL.inv_cdf(max(drawn, 2**-53)))
        return seconds

    def _start_up(self, fault: kinds.ColdStart, now: float) -> float | None:
        cold = now >= self._warm and now - self._asked >= fault.idle
        self._asked = now
        if now >= self._warm:
            if not (cold and self.in_force(now) and self._drawn()):
                return None
            self._warm = self._asked = now + fault.ms / 1000  # a starting server is not idle
        self.hits += 1
        return self._warm - now


class ActiveFaults:
    """All faults of a server."""

    def __init__(self, seed: int, keys: int) -> None:
        self.clock = time.monotonic
        self.header = b""
        """The value of the response header that names the kinds of all faults."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after faults were added, removed or restarted."""
        self._seed = seed
        self._keys = keys
        self._by_number: dict[int, ActiveFault] = {}
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[ActiveFault]:
        return iter(self._by_number.values())

    def add(self, faults: Iterable[Fault], zero: float | None) -> list[ActiveFault]:
        """Activate faults. Their starts count from ``zero`` (monotonic s). If it is None, ``restart`` sets it later.

        If ``check_keys`` raises ``WrongValueError``, no fault is added.
        """
        wanted = list(faults)
        for fault in wanted:
            check_keys(fault, self._keys)
        added = [ActiveFault(next(self._numbers), fault, zero, self._seed) for fault in wanted]
        self._by_number.update({each.number: each for each in added})
        self._changed()
        return added

    def remove(self, number: int | None = None) -> int:
        """Remove one fault, or all if ``number`` is None. Return how many were removed."""
        numbers = list(self._by_number) if number is None else [number]
        removed = [self._by_number.pop(each, None) for each in numbers]
        self._changed()
        return sum(each is not None for each in removed)

    def restart(self, zero: float) -> None:
        """Count every fault's ``start`` from ``zero``, in monotonic seconds."""
        for each in self:
            each.restart(zero)
        self._changed()

    def strikes(self, name: LimitName, key: int, *, work: bool) -> list[tuple[Fault, float]]:
        """Draw the faults that affect a request, and return each with its delay in seconds.

        ``work`` selects faults of the execution, the job or its result. Otherwise faults of the exchange are drawn.
        """
        now = self.clock()
        return [
            (each.fault, wait)
            for each in self
            if _is_work(each.fault) is work and each.concerns(name, key) and (wait := each.strike(now)) is not None
        ]

    def _changed(self) -> None:
        self.header = ",".join(dict.fromkeys(each.fault.kind for each in self)).encode()
        self.on_change()


def _is_work(fault: Fault) -> bool:
    return isinstance(fault, _WORK) or (isinstance(fault, kinds.DuplicateResult) and fault.what == "result")


def _note_hits(faults: Iterable[Fault]) -> None:
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
        self._marks: dict[str, list[Fault]] = {}
        self._ended: dict[str, bool] = {}
        self._last: dict[int, bytes] = {}
        self._at_work: Counter[int] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._starved = 0
        """The last check found this many starved jobs at the head of the queue."""

    def attach(self, keys: Mapping[Any, int], wake: Callable[[], None]) -> None:
        """Set the index of each account's API key, and the function that makes idle workers look for jobs."""
        self._keys, self._wake = keys, wake

    def marks(self, job_id: str) -> list[Fault]:
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
            _note_hits(faults)
            _remember(self._marks, job.id, faults)
        self._at_work[self._keys[job.owner]] += 1

    def take(self, waiting: deque[Job]) -> Job | None:
        starving = self._starving()
        # Thousands of jobs may be starved, so until the timer fires, only new jobs are examined.
        for place, job in enumerate(islice(waiting, self._starved, None), self._starved):
            if starving.isdisjoint(self.marks(job.id)):
                del waiting[place]
                return job
        self._starved = len(waiting)
        if waiting and self._timer is None:
            # Starvation may also end when a run or the fault ends. Then only this timer makes the workers look again.
            self._timer = asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again)
        return None

    async def execute(self, job: Job) -> ExecutionOutcome | None:
        faults, key = self.marks(job.id), self._keys[job.owner]
        try:
            if any(isinstance(fault, kinds.NeverFinish) for fault in faults):
                return None
            return await self._execute(key, Execution(job.workflow, job.call).run(), faults)
        finally:
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

    def _struck(self, name: LimitName, owner: object) -> list[Fault]:
        return [fault for fault, _ in self.active.strikes(name, self._keys[owner], work=True)]

    async def _execute(self, key: int, work: Execute, faults: list[Fault]) -> ExecutionOutcome:
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

    def _starving(self) -> set[Fault]:
        now = self.active.clock()
        at_work = self._at_work.items()
        starves = (each.fault for each in self.active if isinstance(each.fault, kinds.Starve) and each.in_force(now))
        return {
            fault for fault in starves if any(n and key != fault.key and fault.by in {None, key} for key, n in at_work)
        }

    def _look_again(self) -> None:
        self._timer, self._starved = None, 0
        self._wake()


def _falsify(outcome: ExecutionOutcome, faults: Iterable[Fault], before: bytes | None) -> ExecutionOutcome:
    """Falsify an outcome. ``before`` is the previous JSON result for the same API key, if any."""
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
    """Return the answer. Its last key, ``executionTime``, is removed if a fault has set it to null."""
    return answer[: -len(_ABSENT)] + b"}" if answer.endswith(_ABSENT) else answer


def spoil(value: Any, levels: int = _LEVELS) -> Any:
    """Return a result with the same structure and other values. An empty object or list gets an extra value.

    Objects and lists nested deeper than ``levels`` become a string.
    """
    if isinstance(value, dict | list) and not levels:
        return "wrong"
    if isinstance(value, dict):
        return {key: spoil(each, levels - 1) for key, each in value.items()} or {"wrong": True}
    if isinstance(value, list):
        return [spoil(each, levels - 1) for each in value] or ["wrong"]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"not {value}"
