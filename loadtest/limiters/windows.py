"""Limiters that count in fixed windows."""

from typing import Final

from loadtest.limiters.model import GRAIN, Decision, Timed, decided
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


class FixedWindow(Timed):
    """At most ``limit.count`` requests in each window of ``limit.window`` seconds.

    Over T seconds of even load at rate λ it accepts Σ over windows of min(N, λ · length of the window within T); up
    to 2N may pass in a short time across a boundary. Whether it counts rejected requests can't be told.

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
        """Decide on a request at ``now`` (unix seconds)."""
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
