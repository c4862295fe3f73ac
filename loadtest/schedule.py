"""The schedule, which turns arrival rates into intended starts. It reads no clock.

Λ(t) is the integral of the arrival rate from the epoch to t. With ``even`` arrivals, arrival k (from 0) is intended at
Λ⁻¹(k). ``poisson`` arrivals are a seeded unit-rate process mapped through Λ⁻¹ (the time-rescaling theorem, or
"time-scale transformation" in Lewis & Shedler, "Simulation of nonhomogeneous Poisson processes by thinning", 1979,
section 1).
Arrivals end where Λ ends: an entry with rate r and duration d has ⌈r·d⌉ ``even`` arrivals.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from loadtest.arrays import Floats, Ints
from loadtest.record.run_info import StagePlan

_BLOCK: Final = 4096
_NS: Final = 1_000_000_000
_ROUNDING: Final = 1e-9
"""Tolerance for rounding errors of rate times duration, in arrivals."""


class Arrival(NamedTuple):
    """One arrival of the schedule. Tuples are created faster than objects of a dataclass."""

    traffic: str
    number: int
    """0-based number within its traffic entry, over all workers."""
    stage: str
    intended_ns: int
    """Intended start, in ns since the epoch."""


@dataclass(frozen=True, slots=True)
class TrafficSchedule:
    """The arrivals of one traffic entry."""

    traffic: str
    stages: Sequence[StagePlan]
    arrivals: Literal["even", "poisson"]
    seed: int
    recorded_s: Floats | None = None
    """Recorded intended starts, in ascending order. They replace the rate of the only stage."""

    @property
    def duration(self) -> float:
        """Seconds from the epoch to the end of the last stage."""
        return self.stages[-1].end_s

    def blocks(self) -> Iterator[tuple[int, Ints, npt.NDArray[np.intp]]]:
        """Yield blocks of (number of the first arrival, intended starts in ns, index of each arrival's stage)."""
        if self.recorded_s is not None:
            for first in range(0, len(self.recorded_s), _BLOCK):
                times = np.rint(self.recorded_s[first : first + _BLOCK] * _NS).astype(np.int64)
                yield first, times, np.zeros(len(times), np.intp)
            return
        ends = np.cumsum([stage.arrivals for stage in self.stages])
        first = 0
        last = int(np.searchsorted(ends, ends[-1]))
        for marks in self._marks(float(ends[-1])):
            # A stage at 80 % of 100/min for 1 min may have 80.00000000000001 arrivals, but arrival 80 is in the next
            # stage. The tolerance may move a mark past the last stage with arrivals.
            where = np.minimum(np.searchsorted(ends, marks + _ROUNDING, side="right"), last)
            yield first, self._times(marks, where, ends), where
            first += len(marks)

    def share(self, worker: int = 0, workers: int = 1, from_ns: int = 0) -> Iterator[Arrival]:
        """Yield a worker's arrivals in order, from ``from_ns`` (since the epoch) on. The first worker is 0.

        Each of n workers has every n-th arrival, so each arrival has exactly one worker.
        """
        names = [stage.name for stage in self.stages]
        for first, times, where in self.blocks():
            begin = int(np.searchsorted(times, from_ns))
            mine = slice(begin + (worker - first - begin) % workers, None, workers)
            numbers = range(first, first + len(times))[mine]
            # Iterating over a list is several times faster than iterating over an array.
            for number, segment, time in zip(numbers, where[mine].tolist(), times[mine].tolist(), strict=True):
                yield Arrival(self.traffic, number, names[segment], time)

    def _marks(self, total: float) -> Iterator[Floats]:
        """Yield the arrivals' positions on the axis of Λ, below ``total``."""
        if self.arrivals == "even":
            count = int(np.ceil(total - _ROUNDING))
            for start in range(0, count, _BLOCK):
                yield np.arange(start, min(start + _BLOCK, count), dtype=np.float64)
            return
        # The entry's name is part of the seed, so that two entries are independent. NumPy keeps the stream of uniform
        # doubles stable over versions, but not that of exponentials.
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
        """Invert Λ with a numerically stable formula.

        In a stage of duration d with rates from a to b, Λ grows by a·u + (b−a)/(2d)·u² in the first u seconds.
        """
        start, duration, rate, rate_to, burst = (
            np.array([getattr(stage, name) for stage in self.stages])[where]
            for name in ("start_s", "duration_s", "rate", "rate_to", "burst")
        )
        begun = np.concatenate(([0.0], ends[:-1]))[where]
        # A burst is a jump of Λ: all arrivals within it have the same time.
        inside = np.maximum(marks - begun - burst, 0.0)
        slope = (rate_to - rate) / duration
        root = np.sqrt(np.maximum(rate * rate + 2 * slope * inside, 0.0))
        elapsed = np.divide(2 * inside, rate + root, out=np.zeros_like(inside), where=(rate + root) > 0)
        times: Ints = np.rint((start + np.minimum(elapsed, duration)) * _NS).astype(np.int64)
        return times
