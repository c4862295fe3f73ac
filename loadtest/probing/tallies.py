"""Limiters asked by the volley instead of by the request, to foresee quickly what an experiment would show.

They count as ``loadtest.limiters`` does, to which tests compare them; a volley comes at one moment.
"""

import math
from collections import deque
from typing import Protocol, Self


class Tally(Protocol):
    """Foresees one limiter, with numbers. Times are in seconds of our clock."""

    window: float
    """In which it has its full allowance again, about."""

    def volley(self, at: float, count: int) -> int:
        """Count a volley, and return how many of it pass."""
        ...

    def room(self, now: float) -> float:
        """When one more request may pass."""
        ...

    def full(self, now: float) -> float:
        """When nothing that was counted matters any more."""
        ...


class LogTally:
    """At most N in any W."""

    def __init__(self, most: float, window: float, *, rejected: bool = False) -> None:
        self.most, self.window, self.rejected = most, window, rejected
        self._counted: deque[tuple[float, float]] = deque()
        self._used = 0.0

    def __copy__(self) -> Self:
        """One that goes on by itself."""
        other = type(self)(self.most, self.window, rejected=self.rejected)
        vars(other).update(vars(self), _counted=self._counted.copy())
        return other

    def volley(self, at: float, count: int) -> int:
        """Count a volley, and return how many of it pass."""
        while self._counted and self._counted[0][0] + self.window <= at:
            self._used -= self._counted.popleft()[1]
        passed = int(min(count, max(0.0, self.most - self._used)))
        if counted := (count if self.rejected else passed):
            self._counted.append((at, counted))
            self._used += counted
        return passed

    def room(self, now: float) -> float:
        """When one more request may pass."""
        used = self._used
        for at, count in self._counted:
            if used < self.most:
                break
            used -= count
            now = max(now, at + self.window)
        return now

    def full(self, now: float) -> float:
        """When nothing that was counted matters any more."""
        return max(now, self._counted[-1][0] + self.window) if self._counted else now


class FromFirstTally:
    """At most N in a window that the first request begins."""

    def __init__(self, most: float, window: float) -> None:
        self.most, self.window = most, window
        self._end, self._used = -math.inf, 0.0

    def volley(self, at: float, count: int) -> int:
        """Count a volley, and return how many of it pass."""
        if at >= self._end:
            self._end, self._used = at + self.window, 0.0
        passed = int(min(count, max(0.0, self.most - self._used)))
        self._used += passed
        return passed

    def room(self, now: float) -> float:
        """When one more request may pass."""
        return now if self._used < self.most else max(now, self._end)

    def full(self, now: float) -> float:
        """When nothing that was counted matters any more."""
        return max(now, self._end)


class AlignedTally:
    """At most N in each window of the server's clock; with ``sliding`` the window before counts as well, weighted."""

    def __init__(
        self, most: float, window: float, shift: float, *, sliding: bool = False, rejected: bool = False
    ) -> None:
        self.most, self.window, self.shift = most, window, shift
        self.sliding, self.rejected = sliding, rejected
        self._number, self._before, self._used = -math.inf, 0.0, 0.0

    def volley(self, at: float, count: int) -> int:
        """Count a volley, and return how many of it pass."""
        place = (at + self.shift) / self.window
        number = math.floor(place)
        if number != self._number:
            self._before = self._used if self.sliding and number == self._number + 1 else 0.0
            self._number, self._used = number, 0.0
        used = self._used + self._before * (1 - (place - number))
        passed = int(min(count, max(0.0, self.most - used)))
        self._used += count if self.rejected else passed
        return passed

    def _closes(self, now: float) -> float:
        return (math.floor((now + self.shift) / self.window) + 1) * self.window - self.shift

    def room(self, now: float) -> float:
        """When one more request may pass."""
        if math.floor((now + self.shift) / self.window) != self._number or self._used + self._before < self.most:
            return now
        spare = self.most - 1 - self._used
        closes = self._closes(now)
        if self.sliding and spare >= 0 and self._before:
            return max(now, closes - spare * self.window / self._before)
        return closes + (self.window * (1 - (self.most - 1) / max(self._used, 1.0)) if self.sliding else 0.0)

    def full(self, now: float) -> float:
        """When nothing that was counted matters any more."""
        return self._closes(now) + (self.window if self.sliding else 0.0)


class BucketTally:
    """B at once, and one every so many seconds."""

    def __init__(self, most: float, spacing: float, *, rejected: bool = False) -> None:
        self.most, self.spacing, self.rejected = most, spacing, rejected
        self.window = most * spacing
        self._last, self._used = 0.0, 0.0

    def _at(self, now: float) -> float:
        return max(0.0, self._used - (now - self._last) / self.spacing)

    def volley(self, at: float, count: int) -> int:
        """Count a volley, and return how many of it pass."""
        used = self._at(at)
        passed = int(min(count, max(0.0, self.most - used + 1e-6)))
        self._last, self._used = at, min(2 * self.most, used + (count if self.rejected else passed))
        return passed

    def room(self, now: float) -> float:
        """When one more request may pass."""
        return now + max(0.0, self._at(now) - self.most + 1) * self.spacing

    def full(self, now: float) -> float:
        """When nothing that was counted matters any more."""
        return now + self._at(now) * self.spacing


class ConcurrencyTally:
    """At most N at the same time: a volley that comes alone finds it empty."""

    def __init__(self, most: float) -> None:
        self.most, self.window = most, 0.0

    def volley(self, at: float, count: int) -> int:
        """Count a volley, and return how many of it pass."""
        return int(min(count, self.most))

    def room(self, now: float) -> float:
        """At once."""
        return now

    def full(self, now: float) -> float:
        """At once."""
        return now
