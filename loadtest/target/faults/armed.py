"""One fault of a server: when it is in force, and which requests it hits."""

import math
from statistics import NormalDist
from typing import Final

from loadtest.contract import LimitName
from loadtest.draws import draw
from loadtest.faults import AnyFault
from loadtest.faults.kinds import ColdStart, Freeze, Latency

_NORMAL: Final = NormalDist()


class Armed:
    """One fault of a server.

    Args:
        number: its id, which is the first thing that its draws are about.
        fault: what it is.
        zero: monotonic seconds from which its ``start`` counts; None while that isn't known.
        seed: of its draws.
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

    def active(self, now: float) -> bool:
        """Whether it is in force."""
        return self.begin <= now < self.end

    def concerns(self, name: LimitName, key: int) -> bool:
        """Whether it is about such requests of this key at all."""
        fault = self.fault
        return name in fault.names and fault.key in {None, key}

    def strike(self, now: float) -> float | None:
        """Say whether it hits the request at hand, which concerns it.

        Returns:
            The seconds that it makes the request wait, 0 for most kinds; None if it doesn't hit it.
        """
        if not self.active(now) or not self._drawn():
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
        return probability == 1 or draw(self._seed, self.number, self._seen) < probability

    def _wait(self, _now: float) -> float:
        return 0.0


class _Latency(Armed):
    fault: Latency

    def _wait(self, now: float) -> float:
        fault, seconds = self.fault, self.fault.ms / 1000
        if fault.shape == "ramp" and fault.duration is not None:
            return seconds * (now - self.begin) / fault.duration
        if fault.shape == "lognormal":
            drawn = draw(self._seed, self.number, self._seen, "latency")
            return seconds * math.exp(fault.sigma * _NORMAL.inv_cdf(max(drawn, 2**-53)))
        return seconds


class _ColdStart(Armed):
    """Remembers since when nobody asked (also before the fault begins), and until when the server is starting."""

    fault: ColdStart

    def __init__(self, number: int, fault: AnyFault, zero: float | None, seed: int) -> None:
        super().__init__(number, fault, zero, seed)
        self._asked = self._warm = -math.inf

    def strike(self, now: float) -> float | None:
        cold = now >= self._warm and now - self._asked >= self.fault.idle
        self._asked = now
        if now >= self._warm and not (cold and self.active(now) and self._drawn()):
            return None
        if now >= self._warm:
            self._warm = self._asked = now + self.fault.ms / 1000  # while it starts, it isn't idle
        self.hits += 1
        return self._warm - now


class _Freeze(Armed):
    fault: Freeze

    def concerns(self, name: LimitName, key: int) -> bool:
        return self.fault.ms is not None and super().concerns(name, key)


def arm(number: int, fault: AnyFault, zero: float | None, seed: int) -> Armed:
    """Make a fault ready to hit; see ``Armed``."""
    kinds: dict[type, type[Armed]] = {Latency: _Latency, ColdStart: _ColdStart, Freeze: _Freeze}
    return kinds.get(type(fault), Armed)(number, fault, zero, seed)
