"""The limiters that a probe looks for, each with the bounds on its load that volleys leave, and every parameter."""

import math
from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np

from loadtest.arrays import Bools, Floats, Ints
from loadtest.limits import ALGORITHMS, CONCURRENCY, AlgorithmName
from loadtest.limits.probing.cells import MANY, SLACK, Model
from loadtest.limits.probing.evidence import ProbeEvidence, Volley
from loadtest.limits.replays import LimiterReplay
from loadtest.units import Limit

_WINDOW_EXACT: Final = 0.002
"""Part by which a window may differ from the length that it is said to have: a tenth of the ± 2 % that the bench
calls right, so that drifting clocks contradict nothing."""
RATES: Final = 30.0
"""Factor on either side of the documented rate within which rates are looked for: the windows that are looked for go
as far down (`Asker`: a thirtieth of the documented one)."""
_NEAR: Final = 0.1
"""Width of the range around the documented rate, as a part of it, in which half of all buckets are at first: a prior,
wide enough for the ± 4 % to which rates are narrowed (docs/probe.md)."""


class Log(Model):
    """At most N in any W: what passed within W of a volley."""

    algorithm = "sliding-log"

    def loads(self, evidence: ProbeEvidence, place: int) -> tuple[Floats, Floats]:
        begin, end, few, many = evidence.until(place, count_rejected=self.count_rejected)
        now = evidence.volleys[place]
        certain = (now.end - begin)[None, :] < self.low[:, None] - SLACK
        possible = (now.begin - end)[None, :] < self.high[:, None]
        return certain @ few, possible @ many


class Aligned(Model):
    """At most N in each window that begins at a multiple of W on the server's clock; the cells are of its offset."""

    algorithm: ClassVar[AlgorithmName] = "fixed-window"

    def numbers(self, begin: Floats, end: Floats) -> tuple[Floats, Floats]:
        """Of each cell and volley, the number of the window in which it may have begun, and have ended."""
        wide = self.windows[:, None]
        first = np.floor((begin[None, :] + self.low[:, None]) / wide + 1e-12)
        return first, np.floor((end[None, :] + self.high[:, None]) / wide + 1e-12)

    def loads(self, evidence: ProbeEvidence, place: int) -> tuple[Floats, Floats]:
        begin, end, few, many = evidence.until(place, count_rejected=False)
        now = evidence.volleys[place]
        first, last = self.numbers(begin, end)
        own_first, own_last = self.numbers(np.array([now.begin]), np.array([now.end]))
        within = own_first == own_last
        certain = within & (first == own_first) & (last == own_first)
        possible = (first <= own_last) & (last >= own_first)
        # One that lies across a boundary may have used up two windows.
        least = np.where(within[:, 0], certain @ few, -MANY)
        return least, possible @ many


class Counter(Aligned):
    """At most N by p(1 − f) + c + 1 ≤ N: what passed in the window before, weighted, and in this one."""

    algorithm = "sliding-counter"

    def loads(self, evidence: ProbeEvidence, place: int) -> tuple[Floats, Floats]:
        begin, end, few, many = evidence.until(place, count_rejected=self.count_rejected)
        now = evidence.volleys[place]
        first, last = self.numbers(begin, end)
        own_first, own_last = self.numbers(np.array([now.begin]), np.array([now.end]))
        within = (own_first == own_last)[:, 0]
        least = ((first == own_first) & (last == own_first)) @ few
        most = ((first <= own_last) & (last >= own_first)) @ many
        before = ((first == own_first - 1) & (last == own_first - 1)) @ few
        may_before = ((first <= own_last - 1) & (last >= own_first - 1)) @ many
        closes = (own_first[:, 0] + 1) * self.windows
        left_most = np.clip((closes - now.begin - self.low) / self.windows, 0, 1)
        left_least = np.clip((closes - now.end - self.high) / self.windows, 0, 1)
        # Some take the whole part of p(1 − f) only: up to one more passes.
        least = np.where(within, least + np.floor(before * left_least + 1e-9), -MANY)
        return least, most + may_before * np.where(within, left_most, 1.0)


class FromFirst(Model):
    """At most N in a window that begins with the first request after the last one ended."""

    algorithm = "fixed-window-from-first"
    whole_streams = True

    def _start(self) -> None:
        super()._start()
        self._opened = np.full((2, len(self.low)), -np.inf)
        """The earliest and the latest moment at which the present window may have begun."""
        self._counted, self._inside = np.zeros((2, len(self.low))), np.zeros((2, len(self.low)), bool)

    def _keep(self, kept: Bools) -> None:
        super()._keep(kept)
        self._opened, self._counted = self._opened[:, kept], self._counted[:, kept]
        self._inside = self._inside[:, kept]

    def loads(self, evidence: ProbeEvidence, place: int) -> tuple[Floats, Floats]:
        now = evidence.wholes[place] or evidence.volleys[place]
        certain = now.end < self._opened[0] + self.low - SLACK
        possible = now.begin < self._opened[1] + self.high
        if not now.passed:  # a new window would have let one pass
            certain = certain | possible
        full = self._counted[0] >= self.most_n
        mixed = possible & ~certain & full  # rejected by the old window, and let pass by a new one
        if now.passed:
            possible = possible & (certain | ~full)
        self._inside = np.stack((certain, possible))
        # One that lies across the end may have used up two windows.
        across = possible & ~certain
        least = np.where(across, -MANY, np.where(certain, self._counted[0], 0.0))
        most = np.where(possible, self._counted[1], 0.0)
        return least, np.where(mixed, MANY, most) if now.passed else most

    def _after(self, volley: Volley) -> None:
        certain, possible = self._inside
        new = ~possible
        opened, ended = np.maximum(volley.begin, self._opened[0] + self.low), volley.end
        across = possible & ~certain
        self._opened = np.stack(
            (np.where(new, np.minimum(opened, ended), self._opened[0]), np.where(certain, self._opened[1], ended))
        )
        least = np.where(certain, self._counted[0] + volley.passed, np.where(new, volley.passed, 0.0))
        most = np.where(new, 0.0, self._counted[1]) + volley.passed
        self._counted = np.stack((np.where(across, 0.0, least), most))

    def see(self, evidence: ProbeEvidence, place: int) -> None:
        """Set aside what a volley contradicts, and what is not renewed as a stream shows it."""
        super().see(evidence, place)
        if self.stands and evidence.wholes[place] not in {None, evidence.volleys[place]}:
            count, span = evidence.renewals(place)
            self.most_n = np.minimum(self.most_n, count)
            self._keep((self.least_n <= self.most_n) & (self.low <= span))


class Concurrency(Model):
    """At most N at the same time: volleys do not overlap, so each finds it empty."""

    algorithm = CONCURRENCY

    def loads(self, evidence: ProbeEvidence, place: int) -> tuple[Floats, Floats]:
        none = np.zeros(len(self.low))
        return none, none


class Bucket(Model):
    """B at once and ρ a second: token bucket, GCRA, and a leaky queue; the cells are of ρ.

    The level that is used up falls by ρ a second. It is least where requests came as early as they may have, and
    greatest where they came as late.
    """

    algorithm = "token-bucket"
    scale_free = True
    fewest = 1.0
    whole_streams = True

    def _start(self) -> None:
        super()._start()
        self._level = np.zeros((2, len(self.low)))
        """The least at ``_since[0]`` and the greatest at ``_since[1]``."""
        self._since = (-math.inf, -math.inf)

    def _keep(self, kept: Bools) -> None:
        super()._keep(kept)
        self._level = self._level[:, kept]

    def _at(self, time: float) -> tuple[Floats, Floats]:
        gone = [0.0 if math.isinf(since) else max(0.0, time - since) for since in self._since]
        return (
            np.maximum(self._level[0] - self.high * gone[0], 0.0),
            np.maximum(self._level[1] - self.low * gone[1], 0.0),
        )

    def loads(self, evidence: ProbeEvidence, place: int) -> tuple[Floats, Floats]:
        now = evidence.wholes[place] or evidence.volleys[place]
        least, most = self._at(now.begin)
        return least - self.high * (now.end - now.begin), most

    def _after(self, volley: Volley) -> None:
        counted = volley.sent if self.count_rejected else volley.passed
        least, most = self._at(volley.begin)[0] + counted, self._at(volley.end)[1] + counted
        if volley.rejected:  # then there was less than one left
            least = np.maximum(least, self.least_n - 1)
        if self.count_rejected:  # a debt of the burst is the most
            least, most = np.minimum(least, 2 * self.least_n), np.minimum(most, 2 * self.most_n)
        else:
            most = np.minimum(most, self.most_n)
        self._level, self._since = np.stack((least, most)), (volley.begin, volley.end)

    def nearest(self, documented: Limit) -> Ints:
        apart = np.abs(np.log((self.low + self.high) / 2 / documented.rate))
        return np.flatnonzero(apart < _NEAR / 2 + np.log(self.high / self.low) / 2)[:4]

    def share(self, cell: int, documented: Limit) -> float:
        """How likely a cell was at first: half for the documented rate, the other half even by the rate's logarithm."""
        width = math.log(self.high[cell] / self.low[cell])
        near = abs(math.log(documented.rate / ((self.low[cell] + self.high[cell]) / 2)))
        return 0.5 * width / (2 * math.log(RATES)) + 0.5 * (width / _NEAR if near < _NEAR / 2 + width / 2 else 0.0)

    def replay(self, counts: Floats, values: Floats, cells: Ints) -> LimiterReplay:
        return self.kind(counts, 1 / values, np.zeros_like(values), count_rejected=self.count_rejected)

    def window(self) -> tuple[float, float]:
        return 1 / float(self.high.max()), 1 / float(self.low.min())


MODELS: Final[tuple[type[Model], ...]] = (Aligned, FromFirst, Log, Counter, Bucket, Concurrency)


def every_model(documented: Limit, windows: Sequence[float], reach_s: float) -> list[Model]:
    """Return all models, each with all parameters that may be in force.

    Args:
        documented: the limit that the documentation gives; rates are looked for within a factor of ``RATES``.
        windows: lengths that they may have, in s.
        reach_s: how far the server's clock may be from ours.
    """
    around, edges = np.array(windows), []
    for window in windows:
        bound = min(reach_s, window / 2)
        edges.append(np.linspace(-bound, bound, 1 + max(4, math.ceil(2 * bound / min(0.1, window / 20)))))
    lows, highs = (np.concatenate([each[part] for each in edges]) for part in (slice(-1), slice(1, None)))
    lengths = np.repeat(around, [len(each) - 1 for each in edges])
    rates = documented.rate * np.exp(np.linspace(-math.log(RATES), math.log(RATES), 141))
    one = np.zeros(1)

    def model(kind: type[Model], count_rejected: bool) -> Model:
        algorithm = ALGORITHMS[kind.algorithm]
        if algorithm.aligned:
            return kind(lows, highs, lengths, count_rejected=count_rejected, grain=0.01)
        if algorithm.windowed:
            low, high = around * (1 - _WINDOW_EXACT), around * (1 + _WINDOW_EXACT)
            return kind(low, high, count_rejected=count_rejected, grain=math.inf)
        if algorithm.has_burst:
            return kind(rates[:-1], rates[1:], count_rejected=count_rejected, grain=0.004)
        return kind(one, one)

    # Those to which rejected requests make no difference first, then the others without and with them.
    every = [(kind, counting) for kind in MODELS for counting in ALGORITHMS[kind.algorithm].variants]
    every.sort(key=lambda each: (ALGORITHMS[each[0].algorithm].can_count_rejected, each[1]))
    return [model(*each) for each in every]
