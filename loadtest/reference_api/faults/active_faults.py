"""The faults in force, the requests that they affect, and the delays that they cause."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from statistics import NormalDist
from typing import Final

from loadtest.contract import LimitName
from loadtest.faults import AnyFault, check_keys, kinds
from loadtest.seeded_random import seeded_random

_NORMAL: Final = NormalDist()
_SLICE: Final = 0.05
_WORK: Final = (
    kinds.SlowExecution,
    kinds.NeverFinish,
    kinds.WrongResult,
    kinds.FalseExecutionTime,
    kinds.BackToPending,
    kinds.Starve,
)


class ActiveFault:
    """One fault of a server, with random draws that depend on its number and the seed.

    The fault's ``start`` counts from ``zero``, in monotonic seconds; ``zero`` is None while unknown.
    """

    def __init__(self, number: int, fault: AnyFault, zero: float | None, seed: int) -> None:
        self.number = number
        self.fault = fault
        self.zero = zero
        self.hits = 0
        """Number of affected requests."""
        self._seed = seed
        self._seen = 0

    @property
    def begin(self) -> float:
        """Start in monotonic seconds; infinite while it is unknown."""
        return math.inf if self.zero is None else self.zero + self.fault.start

    @property
    def end(self) -> float:
        """End in monotonic seconds; infinite without an end."""
        return math.inf if self.fault.duration is None else self.begin + self.fault.duration

    def in_force(self, now: float) -> bool:
        return self.begin <= now < self.end

    def concerns(self, name: LimitName, key: int) -> bool:
        fault = self.fault
        return name in fault.names and fault.key in {None, key}

    def strike(self, now: float) -> float | None:
        """Seconds that the fault delays a matching request: 0 for most kinds, None if the request is not affected."""
        if not self.in_force(now) or not self._drawn():
            return None
        self.hits += 1
        return self._wait(now)

    def restart(self, zero: float) -> None:
        """Start again, with the same draws."""
        self.zero, self._seen = zero, 0

    def _drawn(self) -> bool:
        """Draw whether a request is affected; the n-th draw does not depend on time or request."""
        self._seen += 1
        probability = self.fault.probability
        return probability == 1 or seeded_random(self._seed, self.number, self._seen) < probability

    def _wait(self, _now: float) -> float:
        return 0.0


class _Latency(ActiveFault):
    fault: kinds.Latency

    def _wait(self, now: float) -> float:
        fault, seconds = self.fault, self.fault.ms / 1000
        if fault.shape == "ramp" and fault.duration is not None:
            return seconds * (now - self.begin) / fault.duration
        if fault.shape == "lognormal":
            drawn = seeded_random(self._seed, self.number, self._seen, "latency")
            return seconds * math.exp(fault.sigma * _NORMAL.inv_cdf(max(drawn, 2**-53)))
        return seconds


class _ColdStart(ActiveFault):
    """Tracks the last request (even before the fault begins) and the time at which the server is warm."""

    fault: kinds.ColdStart

    def __init__(self, number: int, fault: AnyFault, zero: float | None, seed: int) -> None:
        super().__init__(number, fault, zero, seed)
        self._asked = self._warm = -math.inf

    def strike(self, now: float) -> float | None:
        cold = now >= self._warm and now - self._asked >= self.fault.idle
        self._asked = now
        if now >= self._warm and not (cold and self.in_force(now) and self._drawn()):
            return None
        if now >= self._warm:
            self._warm = self._asked = now + self.fault.ms / 1000  # a starting server is not idle
        self.hits += 1
        return self._warm - now


class _Freeze(ActiveFault):
    fault: kinds.Freeze

    def concerns(self, name: LimitName, key: int) -> bool:
        return self.fault.ms is not None and super().concerns(name, key)


def activate(number: int, fault: AnyFault, zero: float | None, seed: int) -> ActiveFault:
    """Return an ``ActiveFault`` for a fault."""
    forms: dict[type, type[ActiveFault]] = {kinds.Latency: _Latency, kinds.ColdStart: _ColdStart, kinds.Freeze: _Freeze}
    return forms.get(type(fault), ActiveFault)(number, fault, zero, seed)


class ActiveFaults:
    """All faults of a server; the clock gives monotonic seconds."""

    def __init__(self, seed: int, keys: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.header = b""
        """The kinds of all faults, for a header of every response."""
        self.on_change: list[Callable[[], None]] = []
        """Called after faults were added, removed or restarted."""
        self._seed = seed
        self._keys = keys
        self._by_number: dict[int, ActiveFault] = {}
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[ActiveFault]:
        return iter(self._by_number.values())

    def add(self, faults: Iterable[AnyFault], zero: float | None) -> list[ActiveFault]:
        """Activate faults. Their ``start`` counts from ``zero`` (monotonic seconds); if None, from ``restart``.

        Raises:
            InputError: if a fault names a missing API key; then no fault is added.
        """
        wanted = list(faults)
        for fault in wanted:
            check_keys(fault, self._keys)
        added = [activate(next(self._numbers), fault, zero, self._seed) for fault in wanted]
        self._by_number.update({each.number: each for each in added})
        self._changed()
        return added

    def remove(self, number: int | None = None) -> int:
        """Remove one fault or all, and return how many were removed."""
        numbers = list(self._by_number) if number is None else [number]
        removed = [self._by_number.pop(each, None) for each in numbers]
        self._changed()
        return sum(each is not None for each in removed)

    def restart(self, zero: float) -> None:
        """Count every fault's ``start`` from ``zero``, in monotonic seconds."""
        for each in self:
            each.restart(zero)
        self._changed()

    def strikes(self, name: LimitName, key: int, *, work: bool) -> list[tuple[AnyFault, float]]:
        """Draw the faults that affect a request, with the seconds that each delays it.

        With ``work`` these are faults of the execution, job and result; without it, faults of the exchange.
        """
        now = self.clock()
        return [
            (each.fault, wait)
            for each in self
            if _is_work(each.fault) is work and each.concerns(name, key) and (wait := each.strike(now)) is not None
        ]

    def _changed(self) -> None:
        self.header = ",".join(dict.fromkeys(each.fault.kind for each in self)).encode()
        for tell in self.on_change:
            tell()


def _is_work(fault: AnyFault) -> bool:
    return isinstance(fault, _WORK) or (isinstance(fault, kinds.DuplicateResult) and fault.what == "result")


class Freezer:
    """Freezes the whole server by blocking its event loop; a stopping server resumes.

    The kernel continues to accept connections, and threads continue their work.
    """

    def __init__(self, faults: ActiveFaults, stopping: Callable[[], bool]) -> None:
        self._faults = faults
        self._stopping = stopping
        self._timer: asyncio.TimerHandle | None = None
        faults.on_change.append(self.plan)

    def freeze(self, until: float) -> None:
        """Freeze until a time in monotonic seconds, or until the server stops."""
        # The sleep is sliced, so that a signal handler can run in between.
        while (left := until - time.monotonic()) > 0 and not self._stopping():
            time.sleep(min(left, _SLICE))

    def plan(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._faults.clock()
        due = [each for each in self._faults if isinstance(each.fault, kinds.Freeze) and each.fault.ms is None]
        begins = [max(each.begin, now) for each in due if each.end > now and each.zero is not None]
        if begins:
            self._timer = asyncio.get_running_loop().call_later(min(begins) - now, self._freeze)

    def _freeze(self) -> None:
        now = self._faults.clock()
        for each in self._faults:
            if isinstance(each.fault, kinds.Freeze) and each.fault.ms is None and each.in_force(now):
                each.hits += 1
                self.freeze(each.end)
        if not self._stopping():
            self.plan()
