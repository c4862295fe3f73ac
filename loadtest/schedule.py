"""The schedule: arrival rates turned into intended starts. Pure, without a clock.

Λ(t) is the integral of the arrival rate from the epoch to t. Even arrival k is intended at Λ⁻¹(k), ramps
included; Poisson arrivals are a seeded unit-rate process mapped through Λ⁻¹ (the time-rescaling theorem;
Lewis & Shedler, "Simulation of nonhomogeneous Poisson processes by thinning", 1979, section 1, calls it
time-scale transformation). Arrivals end where Λ does, so that an entry of rate r and duration d has ⌈r·d⌉.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from loadtest.arrays import Floats, Ints

_BLOCK: Final = 4096
_NS: Final = 1_000_000_000
_ROUNDING: Final = 1e-9
"""Arrivals: by how much sums of rate times duration may be off."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time over which the rate goes linearly from ``rate`` to ``rate_to`` (requests/s)."""

    stage: str
    start: float
    """Seconds since the epoch."""
    duration: float
    rate: float
    rate_to: float
    burst: int = 0
    """Arrivals that come all at once at the start, before those of the rate."""

    @property
    def arrivals(self) -> float:
        """How much Λ grows over the segment: the burst, and the integral of the rate."""
        return self.burst + (self.rate + self.rate_to) / 2 * self.duration


class Arrival(NamedTuple):
    """One arrival: when its operation is intended to start. A tuple, because one is made for every operation."""

    traffic: str
    number: int
    """0-based, within its traffic and over all workers."""
    stage: str
    intended_ns: int
    """ns since the epoch."""


@dataclass(frozen=True, slots=True)
class TrafficSchedule:
    """The arrivals of one traffic entry."""

    traffic: str
    segments: tuple[Segment, ...]
    arrivals: Literal["even", "poisson"]
    seed: int

    @property
    def duration(self) -> float:
        """Seconds from the epoch to the end of the last segment."""
        return self.segments[-1].start + self.segments[-1].duration

    def blocks(self) -> Iterator[tuple[int, Ints, npt.NDArray[np.intp]]]:
        """Yield (number of the first arrival, intended starts in ns, index of their segments), block by block."""
        ends = np.cumsum([segment.arrivals for segment in self.segments])
        last = int(np.searchsorted(ends, ends[-1]))
        first = 0
        for marks in self._marks(float(ends[-1])):
            # 80 % of 100 a minute for a minute may come out as 80.00000000000001: arrival 80 is the next segment's.
            where = np.searchsorted(ends, marks + _ROUNDING, side="right")
            # Past the end of the last segment with arrivals, rounding may point behind it.
            where = np.minimum(where, last)
            yield first, self._times(marks, where, ends), where
            first += len(marks)

    def share(self, worker: int = 0, workers: int = 1, from_ns: int = 0) -> Iterator[Arrival]:
        """Yield the arrivals of one worker of several, in order: every n-th, so that the shares add up exactly.

        Args:
            worker: 0-based place among the workers.
            workers: how many there are.
            from_ns: intended starts (ns since the epoch) before this are passed over.
        """
        names = [segment.stage for segment in self.segments]
        for first, times, where in self.blocks():
            begin = int(np.searchsorted(times, from_ns))
            for at in range(begin + (worker - first - begin) % workers, len(times), workers):
                yield Arrival(self.traffic, first + at, names[int(where[at])], int(times[at]))

    def _marks(self, total: float) -> Iterator[Floats]:
        """Yield the arrivals' places on the axis of Λ, below ``total``."""
        if self.arrivals == "even":
            count = int(np.ceil(total - _ROUNDING))
            for start in range(0, count, _BLOCK):
                yield np.arange(start, min(start + _BLOCK, count), dtype=np.float64)
            return
        # The name is part of the seed, so that two entries are independent; uniform doubles, of which NumPy
        # keeps the stream stable over versions, unlike that of its exponentials.
        generator = np.random.Generator(np.random.PCG64([self.seed, zlib.crc32(self.traffic.encode())]))
        reached = 0.0
        while True:
            marks = reached + np.cumsum(-np.log1p(-generator.random(_BLOCK)))
            reached = float(marks[-1])
            if reached >= total:
                if len(last := marks[marks < total]):
                    yield last
                return
            yield marks

    def _times(self, marks: Floats, where: npt.NDArray[np.intp], ends: Floats) -> Ints:
        """Invert Λ: within a segment, Λ(u) = a·u + (b−a)/(2d)·u², solved for u in its stable form."""
        start, duration, rate, rate_to, burst = (
            np.array([getattr(segment, name) for segment in self.segments])[where]
            for name in ("start", "duration", "rate", "rate_to", "burst")
        )
        begun = np.concatenate(([0.0], ends[:-1]))[where]
        # A burst is a jump of Λ: all marks within it have one time.
        inside = np.maximum(marks - begun - burst, 0.0)
        slope = (rate_to - rate) / duration
        root = np.sqrt(np.maximum(rate * rate + 2 * slope * inside, 0.0))
        elapsed = np.divide(2 * inside, rate + root, out=np.zeros_like(inside), where=(rate + root) > 0)
        times: Ints = np.rint((start + np.minimum(elapsed, duration)) * _NS).astype(np.int64)
        return times
