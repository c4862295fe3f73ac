"""What those who watch a run see over time, in memory that does not grow with the run.

Buckets are a second wide at first, and twice as wide whenever they would be too many. Percentiles are of the times of a
window that slides on.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Final

from loadtest.stats import LogHistogram

MOST_BUCKETS: Final = 1200
TIME_BOUNDS_MS: Final = (
    1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0,
)  # fmt: skip
"""Upper bounds of what an exporter counts times in; the last count is of those above."""
_SLICES: Final = 60
_LEAST_WINDOW_S: Final = 10.0


def _later(first: float | None, second: float | None) -> float | None:
    return first if second is None else second


def _sum(first: float | None, second: float | None) -> float | None:
    return (first or 0) + (second or 0)


class Track:
    """One figure by bucket: a count, or a gauge that is None where nothing was noted.

    Args:
        counts: whether buckets add up; of a gauge, the later value stays.
    """

    __slots__ = ("_empty", "_fold", "values")

    def __init__(self, *, counts: bool) -> None:
        self.values: list[float | None] = []
        self._empty: float | None = 0 if counts else None
        self._fold: Callable[[float | None, float | None], float | None] = _sum if counts else _later

    def extend(self, length: int) -> None:
        """Have at least so many buckets."""
        self.values.extend([self._empty] * (length - len(self.values)))

    def fold(self) -> None:
        """Make one bucket of each two."""
        self.extend(len(self.values) + len(self.values) % 2)
        self.values = [self._fold(*pair) for pair in zip(self.values[::2], self.values[1::2], strict=True)]


class LiveSeries:
    """The tracks of a run: buckets from the epoch on, of one width for all."""

    def __init__(self) -> None:
        self.width_s = 1
        self.tracks: dict[tuple[str, ...], Track] = {}
        self.changed_from: int | None = None
        """First bucket that has changed since somebody set this to None."""

    def track(self, *name: str, counts: bool) -> Track:
        """The track of a name, which is made where it is new."""
        if (track := self.tracks.get(name)) is None:
            track = self.tracks[name] = Track(counts=counts)
        return track

    def count(self, since_epoch_ns: int, *tracks: Track, count: int = 1) -> None:
        """Count something that happened at a moment, in each track. What was before the epoch is left out."""
        if since_epoch_ns < 0:
            return
        index = self._index(since_epoch_ns)
        for track in tracks:
            if index >= len(track.values):
                track.extend(index + 1)
            track.values[index] += count  # type: ignore[operator] # a count is a number

    def note(self, track: Track, elapsed_s: float, value: float | None) -> None:
        """Note what a gauge shows at a moment."""
        if elapsed_s >= 0:
            index = self._index(int(elapsed_s * 1e9))
            track.extend(index + 1)
            track.values[index] = value

    def _index(self, since_epoch_ns: int) -> int:
        while (index := since_epoch_ns // (self.width_s * 1_000_000_000)) >= MOST_BUCKETS:
            self.width_s *= 2
            for track in self.tracks.values():
                track.fold()
            self.changed_from = 0
        if self.changed_from is None or index < self.changed_from:
            self.changed_from = index
        return index


class RecentTimes:
    """Times in ms: percentiles of those of the last window, and counts of all for an exporter.

    Args:
        window_s: how long the window is; at least 10 s, as percentiles of less are noise.
    """

    def __init__(self, window_s: float) -> None:
        self.counts = [0] * (len(TIME_BOUNDS_MS) + 1)
        """Of all: up to each of ``TIME_BOUNDS_MS``, but above the one before."""
        self.total_ms = 0.0
        self.window_s = max(window_s, _LEAST_WINDOW_S)
        self._slice_s = max(1.0, self.window_s / _SLICES)
        self._slice = LogHistogram()
        self._begun_s = 0.0
        self._slices: deque[LogHistogram] = deque()
        self._window = LogHistogram()

    def add(self, ms: float) -> None:
        """Take one time into account."""
        self._slice.add(ms)
        self.counts[bisect_left(TIME_BOUNDS_MS, ms)] += 1
        self.total_ms += ms

    def slide(self, elapsed_s: float) -> None:
        """Let the window end now; called about once a second.

        Args:
            elapsed_s: since the epoch.
        """
        passed = int((elapsed_s - self._begun_s) / self._slice_s + 0.1)
        for _ in range(min(passed, _SLICES)):
            self._window += self._slice
            self._slices.append(self._slice)
            self._slice = LogHistogram()
            if len(self._slices) > math.ceil(self.window_s / self._slice_s):
                self._window -= self._slices.popleft()
        self._begun_s += passed * self._slice_s

    def quantile(self, share: float) -> float | None:
        """Of the window; None where it has no times."""
        return self._window.quantile(share)

    def quantile_of_last(self, seconds: float, share: float) -> float | None:
        """Likewise of about so many seconds at the window's end, and of what came after it."""
        recent = LogHistogram()
        recent += self._slice
        for each in list(self._slices)[-math.ceil(seconds / self._slice_s) :]:
            recent += each
        return recent.quantile(share)
