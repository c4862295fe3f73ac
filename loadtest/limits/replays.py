"""Replays with NumPy. Known times are replayed through one limiter, and bursts through many limiters at once.

The many limiters are an array with a row for each case (a draw of arrival times) and a column for each set of
parameters. All requests of one ``volley`` arrive at one moment. Tests compare the decisions with the state machines of
``limiters``.
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
VECTORISED: Final = "fixed-window"
"""The only algorithm whose ``replay`` is vectorised."""


def replay(spec: LimiterSpec, limit: Limit, times: Floats, ends: Floats | None = None) -> Bools:
    """Return whether a fresh limiter accepts each request. This is ``limits.replay``, vectorised for fixed windows.

    ``times`` are unix seconds of the server's clock, ascending. Only a concurrency limit uses the requests' ``ends``.
    """
    if spec.algorithm != VECTORISED:
        held = ends.tolist() if ends is not None and spec.algorithm == CONCURRENCY else None
        return np.asarray(limits.replay(limits.make(spec, limit), times.tolist(), held), bool)
    window = np.floor_divide(times - spec.phase, limit.window)
    # Because of rounding, a time at a boundary can get the previous window's number. It belongs to the next window.
    window = np.where(times >= (window + 1) * limit.window + spec.phase, window + 1, window)
    first = np.concatenate(([True], window[1:] != window[:-1])) if len(times) else np.zeros(0, bool)
    position = np.arange(len(times))
    return position - np.maximum.accumulate(np.where(first, position, 0)) < limit.count


class LimiterReplay:
    """An array of limiters of one kind. The three arrays have the same shape (cases, limiters).

    Args:
        counts: N of each limiter. For buckets, this is the burst.
        windows: W of each limiter in s. For buckets, these are the seconds per refilled request.
        shifts: the server's clock minus ours, minus the windows' phase, in s.
    """

    def __init__(
        self, counts: Floats, windows: Floats, shifts: Floats, *, count_rejected: bool, round_down: bool = False
    ) -> None:
        self.counts, self.windows, self.shifts = counts, windows, shifts
        self._count_rejected, self._round_down = count_rejected, round_down
        self._used = np.zeros(counts.shape)
        self._mark = np.full(counts.shape, -np.inf)
        """The current window: its number or its end. For buckets, the time of the last request."""
        self._start()

    def _start(self) -> None:
        """Initialise the state that only this algorithm has."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        """Send ``count`` requests to each limiter at ``now`` and return how many are accepted."""
        raise NotImplementedError

    def idle(self) -> float:
        """Return the seconds that all limiters need to recover completely after the last request."""
        return float(self.windows.max())

    def taken(self, cases: Ints, limiters: Ints) -> "LimiterReplay":
        """Return a copy of the limiters at pairs of case and limiter.

        The copy has the shape (pairs, 1), so that a burst can be tried at many times at once.
        """
        other = object.__new__(type(self))
        other.__dict__ = {
            name: value[..., cases, limiters, None] if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }
        return other

    def choose(self, cases: Ints, limiters: Ints) -> None:
        """Replace the state of limiter ``limiters[j]`` in each case i by its state in case ``cases[i, j]``."""
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray) and name not in {"counts", "windows"}:
                value[..., limiters] = value[..., cases, limiters]

    def _counted(self, room: Floats, count: Floats | int) -> Floats:
        passing = np.minimum(np.maximum(room, 0.0), count)
        self._used = self._used + (count if self._count_rejected else passing)
        return passing


class AlignedReplay(LimiterReplay):
    """Limiters that accept at most N in each window of the server's clock."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        number = np.floor((now + self.shifts) / self.windows)
        self._used = self._used * (number == self._mark)
        self._mark = number
        return self._counted(self.counts - self._used, count)


class CounterReplay(LimiterReplay):
    """Limiters that keep this window's count plus the previous window's weighted count at or below N."""

    def _start(self) -> None:
        self._before = np.zeros(self.counts.shape)

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        place = (now + self.shifts) / self.windows
        number = np.floor(place)
        new = number != self._mark
        if new.any():
            self._before = np.where(new, self._used * (number == self._mark + 1), self._before)
            self._used = self._used * ~new
            self._mark = number
        weighed = self._before * (1 - (place - number))
        room = self.counts - (np.floor(weighed + _TINY) if self._round_down else weighed) - self._used
        return self._counted(np.floor(room + _TINY), count)

    def idle(self) -> float:
        return 2 * super().idle()


class CounterFromFirstReplay(CounterReplay):
    """Counters whose windows begin with a request. After an empty window, the next request begins a window."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        fresh = (now + self.shifts >= (self._mark + 2) * self.windows) & (np.asarray(count) > 0)
        self.shifts = np.where(fresh, np.ceil(now / self.windows) * self.windows - now + GRAIN, self.shifts)
        return super().volley(now, count)


class FromFirstReplay(LimiterReplay):
    """Limiters that accept at most N per window. A request outside a window starts a window."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        new = now >= self._mark
        self._used = self._used * ~new
        self._mark = np.where(new & (np.asarray(count) > 0), now + self.windows - GRAIN, self._mark)
        return self._counted(self.counts - self._used, count)


class LogReplay(LimiterReplay):
    """Limiters that accept at most N in any W seconds."""

    _old: tuple[Floats, Floats] | None = None
    """The values of ``_times`` and ``_sizes`` before ``taken`` copied the limiters."""

    def _start(self) -> None:
        self._times = self._sizes = np.empty((0, *self.counts.shape))
        """Time and counted requests of each burst."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        now = np.broadcast_to(now, np.broadcast_shapes(now.shape, self.counts.shape))
        if self._times.shape[1:] != now.shape:  # just copied by ``taken``
            counted = self._sizes.any(axis=(1, 2))
            self._old = self._times[counted], self._sizes[counted]
            self._times = self._sizes = np.empty((0, *now.shape))
        edge = now - self.windows + GRAIN
        young = (self._sizes * (self._times > edge)).sum(axis=0)
        if self._old is not None:
            young += (self._old[1] * (self._old[0] > edge)).sum(axis=0)
        before = self._used
        passing = self._counted(self.counts - np.minimum(young, self.counts), count)
        self._times = np.concatenate((self._times, now[None]))
        self._sizes = np.concatenate((self._sizes, (self._used - before)[None]))
        return passing


class BucketReplay(LimiterReplay):
    """Limiters that accept B at once, and a further request per refill time."""

    def volley(self, now: Floats, count: Floats | int) -> Floats:
        now = np.floor(now + self.shifts) if self._round_down else now
        self._used = np.maximum(self._used - (now - self._mark) / self.windows, 0.0)
        self._mark = np.maximum(self._mark, now)
        passing = self._counted(np.floor(self.counts - self._used + _TINY), count)
        if self._count_rejected:
            self._used = np.minimum(self._used, 2 * self.counts)
        return passing

    def idle(self) -> float:
        """Return the seconds to fill an empty bucket, or a bucket at −B tokens if rejected requests count."""
        return float((self.counts * self.windows).max()) * (1 + self._count_rejected) + self._round_down


REPLAYS: Final[Mapping[AlgorithmName, type[LimiterReplay]]] = {
    "fixed-window": AlignedReplay,
    "fixed-window-from-first": FromFirstReplay,
    "sliding-log": LogReplay,
    "sliding-counter": CounterReplay,
    "sliding-counter-from-first": CounterFromFirstReplay,
    "token-bucket": BucketReplay,
}
"""Classes by algorithm. Concurrency limits, and algorithms that decide like another algorithm, have no class."""
