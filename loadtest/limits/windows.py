"""Limiters that count requests in a window of time: fixed, sliding exactly, or sliding by an estimate."""

from collections import deque
from typing import Final

from loadtest.limits.model import GRAIN, Decision, RateLimiter, decided, slack
from loadtest.units import Limit

NEVER: Final = float("-inf")


def window_of(now: float, window: float) -> tuple[float, float]:
    """Start and end of the wall-aligned window that holds ``now``, both multiples of ``window``.

    One multiplication each, so that neighbouring windows share their boundary to the last bit.
    """
    index = now // window
    if now >= (index + 1) * window:  # floor and product can differ by one bit: now lies on the next boundary
        index += 1
    return index * window, (index + 1) * window


class FixedWindow(RateLimiter):
    """At most ``limit.count`` requests in each window of ``limit.window`` seconds.

    Over T seconds of even load at rate λ it accepts Σ over windows of min(N, λ · length of the window within T); up
    to 2N may pass in a short time across a boundary. Counting rejected requests would change nothing.

    Args:
        limit: count N and window W.
        aligned: True for windows that start at the multiples of W since the epoch, as a counter in a shared store
            does; False for a window that starts with the first request after the last one ended.
    """

    __slots__ = ("_aligned", "_count", "_end", "_left", "_over", "_start", "_window")

    def __init__(self, limit: Limit, *, aligned: bool = True) -> None:
        self._count = limit.count
        self._window = limit.window
        self._aligned = aligned
        self._left = limit.count
        self._start = self._end = self._over = NEVER

    def decide(self, now: float) -> Decision:
        if not self._start <= now < self._over:
            self._open(now)
        until = self._end - now
        if self._left:
            self._left -= 1
            return decided((True, self._left, until, 0.0 if self._left else until, 0.0))
        return decided((False, 0, until, until, 0.0))

    def _open(self, now: float) -> None:
        if now >= self._over:  # else the clock was set back: the window moves, and keeps its count
            self._left = self._count
        if self._aligned:
            self._start, self._end = window_of(now, self._window)
            self._over = self._end
        else:
            self._start, self._end = now, now + self._window
            self._over = self._end - GRAIN


class SlidingLog(RateLimiter):
    """At most ``limit.count`` requests in any ``limit.window`` seconds, by the time of each one.

    Over T seconds of even load at r ≥ 1 times the limit it accepts N⌊T/W⌋ + min(N, λ(T mod W)). Counting the rejected
    ones as well, it accepts N and then none while r > 1. It remembers at most N times, and none before they come.

    Args:
        limit: count N and window W.
        count_rejected: whether rejected requests fill the log, too.
    """

    __slots__ = ("_count", "_count_rejected", "_kept", "_last", "_log", "_lost", "_window")

    def __init__(self, limit: Limit, *, count_rejected: bool = False) -> None:
        self._count = limit.count
        self._window = limit.window
        self._kept = limit.window - GRAIN
        self._count_rejected = count_rejected
        self._log: deque[float] = deque()
        self._last = NEVER
        self._lost = 0.0
        """Seconds by which the clock was set back, in all: the log's own time has only ever run forward."""

    def decide(self, now: float) -> Decision:
        now += self._lost
        if now < self._last:
            self._lost += self._last - now
            now = self._last
        self._last = now
        log, window = self._log, self._window
        while log and log[0] + self._kept <= now:
            log.popleft()
        left = self._count - len(log)
        if left:
            log.append(now)
            return decided((True, left - 1, window, 0.0 if left > 1 else log[0] + window - now, 0.0))
        if self._count_rejected:  # the newest N decide alone: older ones need not be kept
            log.popleft()
            log.append(now)
        return decided((False, 0, log[-1] + window - now, log[0] + window - now, 0.0))


class SlidingCounter(RateLimiter):
    """At most ``limit.count`` by an estimate: this window's count and what is left of the last one's.

    With f the part of the wall-aligned window that has passed, p requests in the window before and c in this one, a
    request passes if p(1 − f) + c + 1 ≤ N. In each window of even load it accepts min(λL, N − p(1 − f_end)):
    saturated, N and then N − 1. Counting the rejected ones as well, about none after the first N while r > 1.

    Some take the whole part of p(1 − f) first, and so let up to one request more pass (the ``limits`` package does).

    Args:
        limit: count N and window W.
        count_rejected: whether rejected requests are in p and c, too.
    """

    __slots__ = ("_before", "_count", "_count_rejected", "_end", "_most", "_now", "_start", "_window")

    def __init__(self, limit: Limit, *, count_rejected: bool = False) -> None:
        self._count = limit.count
        self._most = float(limit.count)
        self._window = limit.window
        self._count_rejected = count_rejected
        self._start = self._end = NEVER
        self._before = self._now = 0

    def decide(self, now: float) -> Decision:
        if not self._start <= now < self._end:
            self._open(now)
        until = self._end - now
        room = self._most - self._before * until / self._window - self._now
        if room >= 1:
            self._now += 1
            left = int(room) - 1
            return decided((True, left, until + self._window, 0.0 if left else self._wait(until), 0.0))
        if self._count_rejected:
            self._now += 1
        reset = until + self._window if self._now else until
        return decided((False, 0, reset, self._wait(until), 0.0))

    def _open(self, now: float) -> None:
        start, end = window_of(now, self._window)
        if start >= self._end:  # else the clock was set back: the window moves, and keeps its counts
            self._before = self._now if start == self._end else 0
            self._now = 0
        self._start, self._end = start, end
        self._most = self._count + slack(self._before / self._window, self._count)

    def _wait(self, until: float) -> float:
        """Seconds until p(1 − f) + c + 1 ≤ N: in this window, or in the next, where this one's count is p."""
        spare = self._count - self._now - 1
        if spare >= 0:
            return max(0.0, until - spare * self._window / self._before) if self._before else 0.0
        return until + self._window * (1 - (self._count - 1) / self._now)
