"""The limiters that a probe considers, with the bounds on their load and all their parameters."""

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
"""Relative tolerance of a window's nominal length: a tenth of the ± 2 % that the bench accepts, so that drifting clocks
contradict nothing."""
RATES: Final = 30.0
"""Factor around the documented rate within which rates are considered; windows reach as far down (`Asker`: a thirtieth
of the documented one)."""
_NEAR: Final = 0.1
"""Relative width of the range around the documented rate that holds half of the prior probability of buckets: wide
enough for the ± 4 % to which rates are narrowed (bench/README.md)."""


class Log(Model):
    """At most N in any W seconds."""

    algorithm = "sliding-log"

    def loads(self, evidence: ProbeEvidence, place: int) -> tuple[Floats, Floats]:
        begin, end, few, many = evidence.until(place, count_rejected=self.count_rejected)
        now = evidence.volleys[place]
        certain = (now.end - begin)[None, :] < self.low[:, None] - SLACK
        possible = (now.begin - end)[None, :] < self.high[:, None]
        return certain @ few, possible @ many


class Aligned(Model):
    """At most N in each window that starts at a multiple of W on the server's clock; cells divide its offset."""

    algorithm: ClassVar[AlgorithmName] = "fixed-window"

    def numbers(self, begin: Floats, end: Floats) -> tuple[Floats, Floats]:
        """Earliest window number at each burst's start and latest at its end, by cell and burst."""
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
        # A burst across a boundary may have used two windows.
        least = np.where(within[:, 0], certain @ few, -MANY)
        return least, possible @ many


class Counter(Aligned):
    """At most N by p(1 − f) + c + 1 ≤ N, from the weighted count of the previous window and this window's count."""

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
        # Some implementations round p(1 − f) down and accept up to one more.
        least = np.where(within, least + np.floor(before * left_least + 1e-9), -MANY)
        return least, most + may_before * np.where(within, left_most, 1.0)


class FromFirst(Model):
    """At most N in a window that starts with the first request after the previous window."""

    algorithm = "fixed-window-from-first"
    whole_streams = True

    def _start(self) -> None:
        super()._start()
        self._opened = np.full((2, len(self.low)), -np.inf)
        """The earliest and latest possible start of the current window."""
        self._counted, self._inside = np.zeros((2, len(self.low))), np.zeros((2, len(self.low)), bool)

    def _keep(self, kept: Bools) -> None:
        super()._keep(kept)
        self._opened, self._counted = self._opened[:, kept], self._counted[:, kept]
        self._inside = self._inside[:, kept]

    def loads(self, evidence: ProbeEvidence, place: int) -> tuple[Floats, Floats]:
        now = evidence.wholes[place] or evidence.volleys[place]
        certain = now.end < self._opened[0] + self.low - SLACK
        possible = now.begin < self._opened[1] + self.high
        if not now.passed:  # a new window would have accepted one
            certain = certain | possible
        full = self._counted[0] >= self.most_n
        mixed = possible & ~certain & full  # rejected by the old window, and accepted by a new window
        if now.passed:
            possible = possible & (certain | ~full)
        self._inside = np.stack((certain, possible))
        # A burst across the end may have used two windows.
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
        """Discard cells that a burst contradicts, and cells whose windows a stream's renewals contradict."""
        super().see(evidence, place)
        if self.stands and evidence.wholes[place] not in {None, evidence.volleys[place]}:
            count, span = evidence.renewals(place)
            self.most_n = np.minimum(self.most_n, count)
            self._keep((self.least_n <= self.most_n) & (self.low <= span))


class Concurrency(Model):
    """At most N at the same time. Bursts do not overlap, so each finds all slots free."""

    algorithm = CONCURRENCY

    def loads(self, evidence: ProbeEvidence, place: int) -> tuple[Floats, Floats]:
        none = np.zeros(len(self.low))
        return none, none


class Bucket(Model):
    """B at once and ρ per second: token bucket, GCRA, and leaky queue; cells divide ρ.

    The level falls by ρ per second. It is lowest for the earliest possible arrivals and highest for the latest.
    """

    algorithm = "token-bucket"
    scale_free = True
    fewest = 1.0
    whole_streams = True

    def _start(self) -> None:
        super()._start()
        self._level = np.zeros((2, len(self.low)))
        """The lower bound at ``_since[0]`` and the upper bound at ``_since[1]``."""
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
        if volley.rejected:  # less than one token was left
            least = np.maximum(least, self.least_n - 1)
        if self.count_rejected:  # the debt is at most the burst
            least, most = np.minimum(least, 2 * self.least_n), np.minimum(most, 2 * self.most_n)
        else:
            most = np.minimum(most, self.most_n)
        self._level, self._since = np.stack((least, most)), (volley.begin, volley.end)

    def nearest(self, documented: Limit) -> Ints:
        apart = np.abs(np.log((self.low + self.high) / 2 / documented.rate))
        return np.flatnonzero(apart < _NEAR / 2 + np.log(self.high / self.low) / 2)[:4]

    def share(self, cell: int, documented: Limit) -> float:
        """A cell's prior probability: half near the documented rate, half uniform in the logarithm of the rate."""
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
        documented: the documented limit; rates are considered within a factor of ``RATES``.
        windows: possible window lengths, in s.
        reach_s: maximum difference of the server's clock from ours.
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

    # First the algorithms that cannot count rejections, then all other algorithms without and with counting them.
    every = [(kind, counting) for kind in MODELS for counting in ALGORITHMS[kind.algorithm].variants]
    every.sort(key=lambda each: (ALGORITHMS[each[0].algorithm].can_count_rejected, each[1]))
    return [model(*each) for each in every]
