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
    """One fault of a server. Its random draws depend on its number and on the seed.

    The fault's ``start`` counts from ``zero``, in monotonic seconds. ``zero`` is None until the clock of faults starts.
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
        """Start of the fault in monotonic seconds. Infinite while it is unknown."""
        return math.inf if self.zero is None else self.zero + self.fault.start

    @property
    def end(self) -> float:
        """End of the fault in monotonic seconds. Infinite if the fault has no duration."""
        return math.inf if self.fault.duration is None else self.begin + self.fault.duration

    def in_force(self, now: float) -> bool:
        return self.begin <= now < self.end

    def concerns(self, name: LimitName, key: int) -> bool:
        fault = self.fault
        return name in fault.names and fault.key in {None, key}

    def strike(self, now: float) -> float | None:
        """Return the delay of a matching request in seconds, or None if the fault does not affect the request."""
        if not self.in_force(now) or not self._drawn():
            return None
        self.hits += 1
        return self._wait(now)

    def restart(self, zero: float) -> None:
        """Start the fault again. It repeats the same random draws."""
        self.zero, self._seen = zero, 0

    def _drawn(self) -> bool:
        """Draw whether a request is affected. The n-th draw depends on neither the time nor the request."""
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
    """A cold start. It tracks the last request, even before the fault begins, and when the server will be warm."""

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
    """Return the ``ActiveFault`` that applies a fault."""
    forms: dict[type, type[ActiveFault]] = {kinds.Latency: _Latency, kinds.ColdStart: _ColdStart, kinds.Freeze: _Freeze}
    return forms.get(type(fault), ActiveFault)(number, fault, zero, seed)


class ActiveFaults:
    """All faults of a server. The clock returns monotonic seconds."""

    def __init__(self, seed: int, keys: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.header = b""
        """The kinds of all faults. Every response names them in a header."""
        self.on_change: list[Callable[[], None]] = []
        """Functions to call after faults were added, removed or restarted."""
        self._seed = seed
        self._keys = keys
        self._by_number: dict[int, ActiveFault] = {}
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[ActiveFault]:
        return iter(self._by_number.values())

    def add(self, faults: Iterable[AnyFault], zero: float | None) -> list[ActiveFault]:
        """Activate faults. Their starts count from ``zero`` (monotonic s). If it is None, they wait for ``restart``.

        Raises:
            InputError: if a fault names an API key that does not exist. No fault is then added.
        """
        wanted = list(faults)
        for fault in wanted:
            check_keys(fault, self._keys)
        added = [activate(next(self._numbers), fault, zero, self._seed) for fault in wanted]
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

    def strikes(self, name: LimitName, key: int, *, work: bool) -> list[tuple[AnyFault, float]]:
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
        for tell in self.on_change:
            tell()


def _is_work(fault: AnyFault) -> bool:
    return isinstance(fault, _WORK) or (isinstance(fault, kinds.DuplicateResult) and fault.what == "result")


class Freezer:
    """Freezes the whole server by blocking its event loop. The freeze ends early if the server must stop.

    The kernel continues to accept connections, and threads continue their work.
    """

    def __init__(self, faults: ActiveFaults, stopping: Callable[[], bool]) -> None:
        self._faults = faults
        self._stopping = stopping
        self._timer: asyncio.TimerHandle | None = None
        faults.on_change.append(self.plan)

    def freeze(self, until: float) -> None:
        """Freeze until a time in monotonic seconds, or until the server stops."""
        # The freeze consists of short sleeps, so that a signal handler can run between them.
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
