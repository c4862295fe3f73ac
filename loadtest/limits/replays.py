"""Replays with numpy: known times through one limiter, and volleys through many limiters at once.

The many are an array: a row for each set of numbers, a column for each case. The requests of a volley come at one
moment. All decide as the state machines of this room do, to which tests compare them.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from loadtest import limits
from loadtest.arrays import Bools, Floats, Ints
from loadtest.limits import CONCURRENCY, AlgorithmName, LimiterSpec
from loadtest.limits.limiters import GRAIN
from loadtest.units import Limit

_TINY: Final = 1e-6
_LOGGED: Final = 50
"""Volleys that are remembered of a log."""


VECTORISED: Final = "fixed-window"
"""The algorithm whose decisions follow from counts by window, so that no request is looked at alone."""


def replay(spec: LimiterSpec, limit: Limit, times: Floats, ends: Floats | None = None) -> Bools:
    """Return whether each request passes a fresh limiter; the same as ``limits.replay``, and fast for fixed windows.

    Args:
        spec: of the limiter.
        limit: the limit.
        times: unix seconds of the server's clock, ascending.
        ends: when each ended; used by a limit on concurrency only.
    """
    if spec.algorithm != VECTORISED:
        held = ends.tolist() if ends is not None and spec.algorithm == CONCURRENCY else None
        return np.asarray(limits.replay(limits.make(spec, limit), times.tolist(), held), bool)
    window = np.floor_divide(times, limit.window)
    # As in the state machine: where floor and product differ by one bit, the time lies on the next boundary.
    window = np.where(times >= (window + 1) * limit.window, window + 1, window)
    first = np.concatenate(([True], window[1:] != window[:-1])) if len(times) else np.zeros(0, bool)
    position = np.arange(len(times))
    return position - np.maximum.accumulate(np.where(first, position, 0)) < limit.count


class LimiterReplay:
    """Limiters of one kind.

    Args:
        counts: of each, N, or the burst of a bucket: an array of rows and columns, as the others.
        windows: of each: W, or of a bucket the seconds in which one request's room comes back.
        shifts: of each, by how many seconds the server's clock is ahead.
        count_rejected: whether rejected requests count.
    """

    def __init__(self, counts: Floats, windows: Floats, shifts: Floats, *, count_rejected: bool) -> None:
        self.counts, self.windows, self.shifts = counts, windows, shifts
        self._count_rejected = count_rejected
        self._used = np.zeros(counts.shape)
        self._mark = np.full(counts.shape, -np.inf)
        """Number or end of the present window, or when the last request came."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        """Ask for so many requests in each column, at a moment of each, and return how many pass."""
        raise NotImplementedError

    def idle(self) -> float:
        """Seconds after the last request in which everything is unused again, at most."""
        return float(self.windows.max())

    def taken(self, rows: Ints, columns: Ints) -> "LimiterReplay":
        """A copy of some: of each row and column that are given, in a column, to be asked at many moments each."""
        other = object.__new__(type(self))
        vars(other).update({name: _part(value, rows[:, None], columns[:, None]) for name, value in vars(self).items()})
        return other

    def choose(self, columns: Ints) -> None:
        rows = np.arange(len(columns))[:, None]
        vars(self).update({name: _part(value, rows, columns) for name, value in vars(self).items()})

    def _counted(self, room: Floats, count: Floats | int) -> Floats:
        passing = np.minimum(np.maximum(room, 0.0), count)
        self._used = self._used + (count if self._count_rejected else passing)
        return passing


def _part(value: object, rows: Ints, columns: Ints) -> object:
    return value[rows, columns] if isinstance(value, np.ndarray) else value


class AlignedReplay(LimiterReplay):
    """At most N in each window of the server's clock."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        number = np.floor((now + self.shifts) / self.windows)
        self._used = self._used * (number == self._mark)
        self._mark = number
        return self._counted(self.counts - self._used, count)


class CounterReplay(LimiterReplay):
    """The same, where the window before counts as well, weighted."""

    def __init__(self, counts: Floats, windows: Floats, shifts: Floats, *, count_rejected: bool) -> None:
        super().__init__(counts, windows, shifts, count_rejected=count_rejected)
        self._before = np.zeros(counts.shape)

    def volley(self, now: Floats, count: Floats | int) -> Floats:
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


class FromFirstReplay(LimiterReplay):
    """At most N in a window that the first request begins."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        new = now >= self._mark
        self._used = self._used * ~new
        self._mark = np.where(new & (np.asarray(count) > 0), now + self.windows - GRAIN, self._mark)
        return self._counted(self.counts - self._used, count)


class LogReplay(LimiterReplay):
    """At most N in any W."""

    def __init__(self, counts: Floats, windows: Floats, shifts: Floats, *, count_rejected: bool) -> None:
        super().__init__(counts, windows, shifts, count_rejected=count_rejected)
        self._size = int(counts.max())
        self._times = np.full((*counts.shape, self._size), -np.inf)
        """Of the newest that counted, in a ring."""

    def taken(self, rows: Ints, columns: Ints) -> LimiterReplay:
        """A copy that keeps its log by the volley."""
        return _Volleys(super().taken(rows, columns), np.sort(self._times[rows, columns], axis=1))

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        return np.asarray(sum(self._one(now) for _ in range(int(count))))

    def _one(self, now: Floats) -> Floats:
        rows, columns = np.ogrid[: self.counts.shape[0], : self.counts.shape[1]]
        oldest = self._times[rows, columns, ((self._used - self.counts) % self._size).astype(int)]
        slots = (self._used % self._size).astype(int)
        room = (oldest <= now - self.windows + GRAIN).astype(float)
        counted = np.ones_like(room) if self._count_rejected else room
        self._times[rows, columns, slots] = np.where(counted > 0, now, self._times[rows, columns, slots])
        return self._counted(room, 1)


class _Volleys(LimiterReplay):
    """The same, with a log of volleys; of a long one before, several requests are taken for one volley."""

    def __init__(self, log: LimiterReplay, times: Floats) -> None:
        vars(self).update(vars(log))
        size = -(-times.shape[1] // _LOGGED)
        newest = range(times.shape[1] - 1, -1, -size)
        self._log: list[tuple[Floats, Floats | float]] = [
            (times[:, None, at], float(min(size, at + 1))) for at in newest
        ]
        """When each of them was, and how many it counted."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        young = sum((times > now - self.windows + GRAIN) * counted for times, counted in self._log)
        before = self._used
        passing = self._counted(self.counts - np.minimum(young, self.counts), count)
        self._log = [*self._log, (now, self._used - before)]
        return passing


class BucketReplay(LimiterReplay):
    """B at once, and one every so many seconds."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        self._used = np.maximum(self._used - (now - self._mark) / self.windows, 0.0)
        self._mark = np.broadcast_to(now, self._used.shape)
        passing = self._counted(np.floor(self.counts - self._used + _TINY), count)
        if self._count_rejected:
            self._used = np.minimum(self._used, 2 * self.counts)
        return passing

    def idle(self) -> float:
        """In which a bucket fills up, out of a debt as well where rejected requests count."""
        return float((self.counts * self.windows).max()) * (1 + self._count_rejected)


class ConcurrencyReplay(LimiterReplay):
    """At most N at the same time: a volley that comes alone finds it empty."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        same = now == self._mark
        self._used = self._used * same
        self._mark = np.broadcast_to(now, self._used.shape)
        return self._counted(self.counts - self._used, count)

    def idle(self) -> float:
        return 0.0


REPLAYS: Final[Mapping[AlgorithmName, type[LimiterReplay]]] = {
    "fixed-window": AlignedReplay,
    "fixed-window-from-first": FromFirstReplay,
    "sliding-log": LogReplay,
    "sliding-counter": CounterReplay,
    "token-bucket": BucketReplay,
    CONCURRENCY: ConcurrencyReplay,
}
"""By algorithm, those that decide as another does left out."""
