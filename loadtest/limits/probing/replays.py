"""Limiters that are asked by the volley, many at once: one for each row of numbers and each column of cases.

They count as ``loadtest.limits`` does, to which tests compare them. The requests of a volley come at one moment.
"""

from typing import Final

import numpy as np

from loadtest.arrays import Floats, Ints
from loadtest.limits.model import GRAIN

_TINY: Final = 1e-6
_LOGGED: Final = 50
"""Volleys that are remembered of a log."""


class Replay:
    """Limiters of one kind.

    Args:
        counts: of each, N, or the burst of a bucket: an array of rows and columns, as the others.
        windows: of each: W, or of a bucket the seconds in which one request's room comes back.
        shifts: of each, by how many seconds the server's clock is ahead.
        rejected: whether refused requests count.
    """

    def __init__(self, counts: Floats, windows: Floats, shifts: Floats, *, rejected: bool) -> None:
        self.counts, self.windows, self.shifts = counts, windows, shifts
        self._rejected = rejected
        self._used = np.zeros(counts.shape)
        self._mark = np.full(counts.shape, -np.inf)
        """Number or end of the present window, or when the last request came."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        """Ask for so many requests in each column, at a moment of each, and return how many pass."""
        raise NotImplementedError

    def idle(self) -> float:
        """Seconds after the last request in which everything is unused again, at most."""
        return float(self.windows.max())

    def taken(self, rows: Ints, columns: Ints) -> "Replay":
        """A copy of some: of each row and column that are given, in a column, to be asked at many moments each."""
        other = object.__new__(type(self))
        vars(other).update({name: _part(value, rows[:, None], columns[:, None]) for name, value in vars(self).items()})
        return other

    def choose(self, columns: Ints) -> None:
        """Go on with some columns of each row."""
        rows = np.arange(len(columns))[:, None]
        vars(self).update({name: _part(value, rows, columns) for name, value in vars(self).items()})

    def _counted(self, room: Floats, count: Floats | int) -> Floats:
        passing = np.minimum(np.maximum(room, 0.0), count)
        self._used = self._used + (count if self._rejected else passing)
        return passing


def _part(value: object, rows: Ints, columns: Ints) -> object:
    return value[rows, columns] if isinstance(value, np.ndarray) else value


class AlignedReplay(Replay):
    """At most N in each window of the server's clock."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        """Begin a new window where its number is another one."""
        number = np.floor((now + self.shifts) / self.windows)
        self._used = self._used * (number == self._mark)
        self._mark = number
        return self._counted(self.counts - self._used, count)


class CounterReplay(Replay):
    """The same, where the window before counts as well, weighted."""

    def __init__(self, counts: Floats, windows: Floats, shifts: Floats, *, rejected: bool) -> None:
        super().__init__(counts, windows, shifts, rejected=rejected)
        self._before = np.zeros(counts.shape)

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        """Weigh what was counted in the window before by what is left of this one."""
        place = (now + self.shifts) / self.windows
        number = np.floor(place)
        new = number != self._mark
        if new.any():
            self._before = np.where(new, self._used * (number == self._mark + 1), self._before)
            self._used = self._used * ~new
            self._mark = number
        room = self.counts - self._before * (1 - (place - number)) - self._used
        return self._counted(np.floor(room + _TINY), count)

    def idle(self) -> float:
        """What was counted in a window counts in the next one as well."""
        return 2 * super().idle()


class FromFirstReplay(Replay):
    """At most N in a window that the first request begins."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        """Begin a new window where the last one ended."""
        new = now >= self._mark
        self._used = self._used * ~new
        self._mark = np.where(new & (np.asarray(count) > 0), now + self.windows - GRAIN, self._mark)
        return self._counted(self.counts - self._used, count)


class LogReplay(Replay):
    """At most N in any W."""

    def __init__(self, counts: Floats, windows: Floats, shifts: Floats, *, rejected: bool) -> None:
        super().__init__(counts, windows, shifts, rejected=rejected)
        self._size = int(counts.max())
        self._times = np.full((*counts.shape, self._size), -np.inf)
        """Of the newest that counted, in a ring."""

    def taken(self, rows: Ints, columns: Ints) -> Replay:
        """A copy that keeps its log by the volley."""
        return _Volleys(super().taken(rows, columns), np.sort(self._times[rows, columns], axis=1))

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        """Let pass what leaves no more than N within W."""
        return np.asarray(sum(self._one(now) for _ in range(int(count))))

    def _one(self, now: Floats) -> Floats:
        rows, columns = np.ogrid[: self.counts.shape[0], : self.counts.shape[1]]
        oldest = self._times[rows, columns, ((self._used - self.counts) % self._size).astype(int)]
        slots = (self._used % self._size).astype(int)
        room = (oldest <= now - self.windows + GRAIN).astype(float)
        counted = np.ones_like(room) if self._rejected else room
        self._times[rows, columns, slots] = np.where(counted > 0, now, self._times[rows, columns, slots])
        return self._counted(room, 1)


class _Volleys(Replay):
    """The same, with a log of volleys; of a long one before, several requests are taken for one volley."""

    def __init__(self, log: Replay, times: Floats) -> None:
        vars(self).update(vars(log))
        size = -(-times.shape[1] // _LOGGED)
        newest = range(times.shape[1] - 1, -1, -size)
        self._log: list[tuple[Floats, Floats | float]] = [
            (times[:, None, at], float(min(size, at + 1))) for at in newest
        ]
        """When each of them was, and how many it counted."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        """Let pass what leaves no more than N within W."""
        young = sum((times > now - self.windows + GRAIN) * counted for times, counted in self._log)
        before = self._used
        passing = self._counted(self.counts - np.minimum(young, self.counts), count)
        self._log = [*self._log, (now, self._used - before)]
        return passing


class BucketReplay(Replay):
    """B at once, and one every so many seconds."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        """Let pass what there is room for."""
        self._used = np.maximum(self._used - (now - self._mark) / self.windows, 0.0)
        self._mark = np.broadcast_to(now, self._used.shape)
        passing = self._counted(np.floor(self.counts - self._used + _TINY), count)
        if self._rejected:
            self._used = np.minimum(self._used, 2 * self.counts)
        return passing

    def idle(self) -> float:
        """In which a bucket fills up, out of a debt as well where refused requests count."""
        return float((self.counts * self.windows).max()) * (1 + self._rejected)


class ConcurrencyReplay(Replay):
    """At most N at the same time: a volley that comes alone finds it empty."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        """Let N pass."""
        same = now == self._mark
        self._used = self._used * same
        self._mark = np.broadcast_to(now, self._used.shape)
        return self._counted(self.counts - self._used, count)

    def idle(self) -> float:
        """At once."""
        return 0.0
