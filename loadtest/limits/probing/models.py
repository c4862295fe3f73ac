"""The limiters that may still be in force: cells of their parameters, set aside where the answers contradict them.

What is known of a volley is when it began, when the last of its requests had been decided, and how many passed. A
model's parameter (window, rate, or the offset of the server's clock) is divided into cells. For each cell the least and
the greatest load before a volley follow from what was seen to pass; they bound the count N (or the burst B): k passed,
so N ≥ least + k; some were refused, so N < most + k + 1. A cell without any N left is contradicted, whatever the true
value inside it. Cells that stand are divided further (set inversion by intervals: Jaulin and Walter, Automatica 1993).
"""

from typing import ClassVar, Final

import numpy as np

from loadtest.arrays import Bools, Floats, Ints
from loadtest.limits import AlgorithmName
from loadtest.limits.probing.past import Past, Volley
from loadtest.limits.probing.replays import (
    AlignedReplay,
    ConcurrencyReplay,
    CounterReplay,
    FromFirstReplay,
    LogReplay,
    Replay,
)
from loadtest.units import Limit

_SLACK: Final = 1e-6
_CELLS_MOST: Final = 240
"""Cells of one model beyond which none is divided."""
MANY: Final = 1e9
GRAIN_S: Final = 0.002
"""Cells of a time are not divided below it: less cannot be seen over a network."""


class Model:
    """One algorithm: the cells of its parameter that stand, and what N each leaves.

    Args:
        algorithm: its name.
        low: least value of the parameter of each cell.
        high: greatest value.
        windows: of each cell, where the parameter is not the window itself.
        rejected: whether refused requests count.
        grain: a cell that is no wider is not divided.
    """

    kind: ClassVar[type[Replay]]
    """How it is replayed."""
    windowed = True
    """Whether it has windows."""
    scale_free = False
    fewest = 2.0
    """The least N that is looked for: a window for one request is a bucket of one."""
    whole_streams = False
    """Whether it sees a stream as one volley: it keeps its load from one volley to the next."""

    def __init__(
        self,
        algorithm: AlgorithmName,
        low: Floats,
        high: Floats,
        windows: Floats | None = None,
        *,
        rejected: bool = False,
        grain: float = GRAIN_S,
    ) -> None:
        self.algorithm: AlgorithmName = algorithm
        self.rejected = rejected
        self.grain = grain
        self.low, self.high = low, high
        self.aligned = windows is not None
        self.windows: Floats = low if windows is None else windows
        """Of each cell, the length of its windows, where these are aligned."""
        self.floor_n, self.ceiling_n = np.full(len(low), self.fewest), np.full(len(low), MANY)
        """What N may be for other reasons than bounds."""
        number = len(np.unique(self.windows if windows is not None else low))
        self._first = number, float((high - low).sum()) / number
        """How many windows there were at first, and the mean width of an offset's range."""
        self._start()

    @property
    def key(self) -> tuple[str, bool]:
        """What tells it from other models."""
        return self.algorithm, self.rejected

    @property
    def stands(self) -> bool:
        """Whether any cell is not contradicted."""
        return len(self.low) > 0

    def _start(self) -> None:
        self.bounds: list[tuple[float, float]] = []
        """When something was refused, and what N may be at most for it."""
        self.least_n, self.most_n = self.floor_n.copy(), self.ceiling_n.copy()

    def _keep(self, kept: Bools) -> None:
        for name in ("low", "high", "windows", "least_n", "most_n", "floor_n", "ceiling_n"):
            setattr(self, name, getattr(self, name)[kept])

    def loads(self, past: Past, place: int) -> tuple[Floats, Floats]:
        """The least and the greatest load of each cell at the volley in a place, its own requests not counted."""
        raise NotImplementedError

    def _after(self, volley: Volley) -> None:
        """Count a volley, where a model keeps its load from one volley to the next."""

    def see(self, past: Past, place: int) -> None:
        """Set aside what the volley in a place contradicts."""
        if not self.stands:
            return
        volley = past.wholes[place] if self.whole_streams else past.volleys[place]
        if volley is None:
            return
        least, most = self.loads(past, place)
        if volley.passed:
            self.least_n = np.maximum(self.least_n, np.ceil(least + volley.passed - _SLACK))
        if volley.refused:
            bound = np.ceil(most + volley.passed + 1 - _SLACK) - 1
            self.bounds.append((volley.begin, float(bound.min())))
            self.most_n = np.minimum(self.most_n, bound)
        self._after(volley)
        kept = self.least_n <= self.most_n
        if not kept.all():
            self._keep(kept)

    def divide(self, past: Past) -> None:
        """Divide cells that stand, as far as their number allows, and see what is left."""
        while 0 < len(self.low) < _CELLS_MOST:
            wide = self._wide()
            if not wide.any():
                return
            before = len(self.low), float((self.high - self.low).sum())
            middle = (self.low + self.high) / 2
            lows, highs = (self.low, middle[wide]), (np.where(wide, middle, self.high), self.high[wide])
            for name in ("windows", "floor_n", "ceiling_n"):
                setattr(self, name, np.concatenate((getattr(self, name), getattr(self, name)[wide])))
            self.low, self.high = np.concatenate(lows), np.concatenate(highs)
            self._start()
            for place in range(len(past.volleys)):
                self.see(past, place)
            if len(self.low) >= 2 * before[0] and float((self.high - self.low).sum()) >= before[1] * 0.999:
                return  # nothing that was seen tells the halves apart

    def _wide(self) -> Bools:
        return (self.high - self.low) > self.grain * (self.low if self.scale_free else 1.0)

    def narrow(self, least: Floats, most: Floats) -> None:
        """Keep, of each cell, what N is not less or more than given: none where the least is above the most."""
        self.floor_n, self.ceiling_n = np.maximum(self.floor_n, least), np.minimum(self.ceiling_n, most)
        self.least_n, self.most_n = np.maximum(self.least_n, least), np.minimum(self.most_n, most)
        self._keep(self.least_n <= self.most_n)

    def nearest(self, documented: Limit) -> Ints:
        """Cells that are worth a look whatever else is looked at."""
        return np.zeros(0, int)

    def share(self, cell: int, documented: Limit) -> float:
        """How likely a cell was at first: half for the documented window, and the same for each other one together."""
        same = self.windows[cell] if self.aligned else (self.low[cell] + self.high[cell]) / 2
        wanted = abs(same - documented.window) < 0.01 * documented.window
        other = max(1.0, self._first[0] - 1)
        part = (self.high[cell] - self.low[cell]) / self._first[1] if self.aligned else 1.0
        return float(part) * (0.5 if wanted else 0.5 / other)

    def replay(self, counts: Floats, values: Floats, cells: Ints) -> Replay:
        """Limiters with some counts and values of the parameter, of some cells."""
        none = np.zeros_like(values)
        if self.aligned:
            return self.kind(counts, self.windows[cells, None] + none, values, rejected=self.rejected)
        return self.kind(counts, values, none, rejected=self.rejected)

    def set_aside(self) -> None:
        """Set aside all of it."""
        self._keep(np.zeros(len(self.low), bool))

    def order(self) -> Ints:
        """Cells by window, then by parameter."""
        return np.lexsort((self.low, self.windows if self.aligned else self.low))

    def window(self) -> tuple[float, float]:
        """The least and the greatest window that stands, in s."""
        if self.aligned:
            return float(self.windows.min()), float(self.windows.max())
        return float(self.low.min()), float(self.high.max())

    def agreeing(self, apart: float) -> int:
        """How often, so many seconds apart, something was refused by the greatest N that stands."""
        times: list[float] = []
        for time, bound in self.bounds:
            if bound <= 1.01 * float(self.most_n.max()) + 1 and (not times or time >= times[-1] + apart):
                times.append(time)
        return len(times)

    def count(self) -> tuple[int, int]:
        """The least and the greatest N (or B) that stands."""
        return int(self.least_n.min()), int(self.most_n.max())


class Log(Model):
    """At most N in any W: what passed within W of a volley."""

    kind = LogReplay

    def loads(self, past: Past, place: int) -> tuple[Floats, Floats]:
        """Count what is certainly, and what is possibly, younger than W."""
        begin, end, few, many = past.until(place, rejected=self.rejected)
        now = past.volleys[place]
        certain = (now.end - begin)[None, :] < self.low[:, None] - _SLACK
        possible = (now.begin - end)[None, :] < self.high[:, None]
        return certain @ few, possible @ many


class Aligned(Model):
    """At most N in each window that begins at a multiple of W on the server's clock; the cells are of its offset."""

    kind: ClassVar[type[Replay]] = AlignedReplay

    def numbers(self, begin: Floats, end: Floats) -> tuple[Floats, Floats]:
        """Of each cell and volley, the number of the window in which it may have begun, and have ended."""
        wide = self.windows[:, None]
        first = np.floor((begin[None, :] + self.low[:, None]) / wide + 1e-12)
        return first, np.floor((end[None, :] + self.high[:, None]) / wide + 1e-12)

    def loads(self, past: Past, place: int) -> tuple[Floats, Floats]:
        """Count what certainly, and what possibly, lies in the same window."""
        begin, end, few, many = past.until(place, rejected=False)
        now = past.volleys[place]
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

    kind = CounterReplay

    def loads(self, past: Past, place: int) -> tuple[Floats, Floats]:
        """Bound p, c and the part of the window that is left."""
        begin, end, few, many = past.until(place, rejected=self.rejected)
        now = past.volleys[place]
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

    kind = FromFirstReplay

    whole_streams = True

    def _start(self) -> None:
        super()._start()
        n = len(self.low)
        self._opened = np.full((2, n), -np.inf)
        """The earliest and the latest moment at which the present window may have begun."""
        self._counted = np.zeros((2, n))
        self._inside = np.zeros((2, n), bool)

    def _keep(self, kept: Bools) -> None:
        super()._keep(kept)
        self._opened, self._counted = self._opened[:, kept], self._counted[:, kept]
        self._inside = self._inside[:, kept]

    def loads(self, past: Past, place: int) -> tuple[Floats, Floats]:
        """What was counted in the present window, where a volley lies in it for certain, or possibly."""
        now = past.wholes[place] or past.volleys[place]
        certain = now.end < self._opened[0] + self.low - _SLACK
        possible = now.begin < self._opened[1] + self.high
        if not now.passed:  # a new window would have let one pass
            certain = certain | possible
        full = self._counted[0] >= self.most_n
        mixed = possible & ~certain & full  # refused by the old window, and let pass by a new one
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

    def see(self, past: Past, place: int) -> None:
        """Set aside what a volley contradicts, and what is not renewed as a stream shows it."""
        super().see(past, place)
        if self.stands and past.wholes[place] not in {None, past.volleys[place]}:
            count, span = past.renewals(place)
            self.most_n = np.minimum(self.most_n, count)
            self._keep((self.least_n <= self.most_n) & (self.low <= span))


class Concurrency(Model):
    """At most N at the same time: volleys do not overlap, so each finds it empty."""

    kind = ConcurrencyReplay

    def loads(self, past: Past, place: int) -> tuple[Floats, Floats]:
        """Nothing is under way before a volley."""
        none = np.zeros(len(self.low))
        return none, none
