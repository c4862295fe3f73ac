"""Which faults are in force, which of them hit a request, and how long they make it, or the whole server, wait."""

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
    """One fault of a server, whose draws depend on its number and the seed.

    Its ``start`` counts from ``zero`` in monotonic seconds; None while that isn't known.
    """

    def __init__(self, number: int, fault: AnyFault, zero: float | None, seed: int) -> None:
        self.number = number
        self.fault = fault
        self.zero = zero
        self.hits = 0
        """Requests that it has hit."""
        self._seed = seed
        self._seen = 0

    @property
    def begin(self) -> float:
        """Monotonic seconds at which it begins; infinite while that isn't known."""
        return math.inf if self.zero is None else self.zero + self.fault.start

    @property
    def end(self) -> float:
        """Monotonic seconds at which it ends; infinite if it doesn't."""
        return math.inf if self.fault.duration is None else self.begin + self.fault.duration

    def in_force(self, now: float) -> bool:
        return self.begin <= now < self.end

    def concerns(self, name: LimitName, key: int) -> bool:
        fault = self.fault
        return name in fault.names and fault.key in {None, key}

    def strike(self, now: float) -> float | None:
        """The seconds that it makes a request wait which concerns it: 0 for most kinds, None if it doesn't hit it."""
        if not self.in_force(now) or not self._drawn():
            return None
        self.hits += 1
        return self._wait(now)

    def restart(self, zero: float) -> None:
        """Begin anew, with the same draws."""
        self.zero, self._seen = zero, 0

    def _drawn(self) -> bool:
        """The n-th draw is the same whenever, and for whatever request, it is made."""
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
    """Remembers since when nobody asked (also before the fault begins), and until when the server is starting."""

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
            self._warm = self._asked = now + self.fault.ms / 1000  # while it starts, it isn't idle
        self.hits += 1
        return self._warm - now


class _Freeze(ActiveFault):
    fault: kinds.Freeze

    def concerns(self, name: LimitName, key: int) -> bool:
        return self.fault.ms is not None and super().concerns(name, key)


def activate(number: int, fault: AnyFault, zero: float | None, seed: int) -> ActiveFault:
    """Make a fault ready to hit; see ``ActiveFault``."""
    forms: dict[type, type[ActiveFault]] = {kinds.Latency: _Latency, kinds.ColdStart: _ColdStart, kinds.Freeze: _Freeze}
    return forms.get(type(fault), ActiveFault)(number, fault, zero, seed)


class ActiveFaults:
    """All faults of a server with so many API keys; the clock gives monotonic seconds."""

    def __init__(self, seed: int, keys: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.header = b""
        """The kinds of all faults, for a header of every answer."""
        self.on_change: list[Callable[[], None]] = []
        """Called when faults were added, removed or restarted."""
        self._seed = seed
        self._keys = keys
        self._by_number: dict[int, ActiveFault] = {}
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[ActiveFault]:
        return iter(self._by_number.values())

    def add(self, faults: Iterable[AnyFault], zero: float | None) -> list[ActiveFault]:
        """Put faults in force, whose ``start`` counts from ``zero`` (monotonic seconds; None: from ``restart``).

        Raises:
            InputError: if one is about an API key that there isn't; none is added then.
        """
        wanted = list(faults)
        for fault in wanted:
            check_keys(fault, self._keys)
        added = [activate(next(self._numbers), fault, zero, self._seed) for fault in wanted]
        self._by_number.update({each.number: each for each in added})
        self._changed()
        return added

    def remove(self, number: int | None = None) -> int:
        """Take one fault out of force, or all; gives how many there were."""
        numbers = list(self._by_number) if number is None else [number]
        removed = [self._by_number.pop(each, None) for each in numbers]
        self._changed()
        return sum(each is not None for each in removed)

    def restart(self, zero: float) -> None:
        """Let every fault's ``start`` count from ``zero``, monotonic seconds."""
        for each in self:
            each.restart(zero)
        self._changed()

    def strikes(self, name: LimitName, key: int, *, work: bool) -> list[tuple[AnyFault, float]]:
        """The faults that hit a request, drawn for each that concerns it, and the seconds that each makes it wait.

        ``work`` says whether to draw those about the execution, job and result, or those about the exchange.
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


async def pause(seconds: float) -> None:
    """Sleep, and never less than ``seconds``: an event loop's timers tick in whole ms, and may fire early."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:  # noqa: ASYNC110 -- it waits for time, not for an event
        await asyncio.sleep(max(left, 0.001))


class Freezer:
    """Stops the whole server for a while, by not letting its event loop go on; a server that is to end thaws.

    The kernel goes on accepting connections, and threads go on with what they have.
    """

    def __init__(self, faults: ActiveFaults, stopping: Callable[[], bool]) -> None:
        self._faults = faults
        self._stopping = stopping
        self._timer: asyncio.TimerHandle | None = None
        faults.on_change.append(self.plan)

    def freeze(self, until: float) -> None:
        """Freeze until that time, in monotonic seconds, or until the server is to end."""
        # In slices, between which a signal's handler can say so.
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
