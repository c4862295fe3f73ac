"""Rate limiters as state machines: windows of time, and stocks of permits.

Windows are fixed, slide exactly, or slide by an estimate. Stocks are refilled by time or, for a limit on concurrency,
by the end of a request. Time refills them in two forms of one rule, B requests at once and ρ = N/W a second thereafter:
a bucket of tokens, and a time that runs ahead (GCRA, and a queue that holds requests until their turn). Each remembers
how much is used up *at the last request* and not a time of its own, which would drown in the digits of the unix clock.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from loadtest.units import Limit

NEVER: Final = float("-inf")
GRAIN: Final = 5e-7
"""Seconds by which two times may differ and still be the same.

Today's unix time as a float comes in steps of 2.4e-7 s, and a time difference is off by up to one of them: without
this, evenly spaced requests that meet a limiter's edge exactly would be decided on by the rounding of their times.
"""


class Decision(NamedTuple):
    """What a limiter decided about one request. Times count from now, and assume that nothing else comes.

    Attributes:
        allowed: whether the request passes.
        remaining: how many more requests would pass at this same moment.
        reset_after: seconds until the limiter has its full allowance again.
        retry_after: seconds until one more request would pass; 0 while some remain.
        delay: seconds that the request is held before it is carried out; a leaky queue's only.
    """

    allowed: bool
    remaining: int
    reset_after: float
    retry_after: float
    delay: float = 0.0


decided: Final[Callable[[tuple[bool, int, float, float, float]], Decision]] = partial(tuple.__new__, Decision)
"""Makes a Decision of its five values, in less than half the time of ``Decision(...)``."""


class Limiter:
    """Decides on requests, one call each, in order of time.

    For a limiter, a clock that is set back stands still: what was counted stays counted, and from then on for no longer
    than usual.
    """

    __slots__ = ()

    def decide(self, now: float) -> Decision:
        """Decide on a request at ``now`` (unix seconds), and count it if it passes."""
        raise NotImplementedError

    def release(self, now: float) -> None:
        """Note that a request that passed ended at ``now``. Only to a concurrency limit it makes a difference."""


def slack(rate: float, most: int) -> float:
    """Requests by which a count that changes with time may be off and still be whole.

    Args:
        rate: at which the count changes, per second: by so much it is off after ``GRAIN``.
        most: how large it gets: sums of floats are off by a part of it.

    Returns:
        Never so much that a whole request more could pass.
    """
    return min(max(GRAIN * rate, most * 1e-14), 0.5)


def window_of(now: float, window: float) -> tuple[float, float]:
    """Start and end of the wall-aligned window that holds ``now``, both multiples of ``window``.

    One multiplication each, so that neighbouring windows share their boundary to the last bit.
    """
    index = now // window
    if now >= (index + 1) * window:  # floor and product can differ by one bit: now lies on the next boundary
        index += 1
    return index * window, (index + 1) * window


class FixedWindow(Limiter):
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


class SlidingLog(Limiter):
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


class SlidingCounter(Limiter):
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


class TokenBucket(Limiter):
    """A bucket of B tokens, filled at ρ = N/W tokens a second; a request takes one.

    Over T seconds of even load at rate λ it accepts min(λT, B + ρT), starting full.

    Args:
        limit: count N and window W.
        burst: B.
        count_rejected: whether rejected requests take tokens, too: down to a debt of B, so that silence heals it.
    """

    __slots__ = ("_burst", "_count_rejected", "_last", "_least", "_rate", "_slack", "_tokens")

    def __init__(self, limit: Limit, burst: int, *, count_rejected: bool = False) -> None:
        self._burst = float(burst)
        self._rate = limit.rate
        self._slack = slack(limit.rate, burst)
        self._least = 1 - self._slack
        self._count_rejected = count_rejected
        self._tokens = self._burst
        self._last = NEVER

    def decide(self, now: float) -> Decision:
        tokens, burst, rate = self._tokens, self._burst, self._rate
        if now > self._last:
            tokens += (now - self._last) * rate
            if tokens > burst:  # noqa: PLR1730 - a call of min() takes as long as all the rest
                tokens = burst
        self._last = now
        allowed = tokens >= self._least
        if allowed:
            tokens -= 1
        elif self._count_rejected:
            tokens = max(tokens - 1, -burst)
        self._tokens = tokens
        if allowed and (left := int(tokens + self._slack)):
            return decided((True, left, (burst - tokens) / rate, 0.0, 0.0))
        return decided((allowed, 0, (burst - tokens) / rate, (1 - tokens) / rate, 0.0))


class Gcra(Limiter):
    """The generic cell rate algorithm (ITU-T I.371): the time at which the next request is due may run B − 1 ahead.

    A theoretical arrival time moves on by T₁ = W/N with each request that passes; one that comes more than (B − 1)T₁
    before it is rejected. The same decisions as a token bucket of B tokens; with B = 1 an even load at r times the
    limit is accepted to 1/⌈r⌉.

    Args:
        limit: count N and window W.
        burst: B.
        count_rejected: whether rejected requests move the time on, too: up to 2B·T₁, so that silence heals it.
    """

    __slots__ = ("_ahead", "_count_rejected", "_full", "_last", "_most", "_spacing", "_tolerance")
    _holds = False

    def __init__(self, limit: Limit, burst: int, *, count_rejected: bool = False) -> None:
        self._spacing = limit.window / limit.count
        self._tolerance = (burst - 1) * self._spacing
        self._most = self._tolerance + slack(limit.rate, burst) * self._spacing
        self._full = 2 * burst * self._spacing
        self._count_rejected = count_rejected
        self._ahead = 0.0
        """Seconds from the last request to the theoretical arrival time of the next."""
        self._last = NEVER

    def decide(self, now: float) -> Decision:
        ahead, spacing = self._ahead, self._spacing
        if now > self._last:
            ahead -= now - self._last
            if ahead < 0:
                ahead = 0.0
        self._last = now
        allowed, delay = ahead <= self._most, 0.0
        if allowed:
            if self._holds:
                delay = ahead
            ahead += spacing
        elif self._count_rejected:
            ahead = min(ahead + spacing, self._full)
        self._ahead = ahead
        if allowed and ahead <= self._most:
            return decided((True, int((self._most - ahead) / spacing) + 1, ahead, 0.0, delay))
        return decided((allowed, 0, ahead, ahead - self._tolerance, delay))


class LeakyQueue(Gcra):
    """A queue for B requests from which one is let out every T₁ = W/N; what finds it full is rejected.

    The decisions of a GCRA: of an even load it accepts min(λT, B + ρT), and holds each request until its turn, for
    ``delay``. Latency rises to about B·T₁. An idle queue lets the first request out at once.

    Args:
        limit: count N and window W.
        burst: B, the one that is let out at once included.
    """

    __slots__ = ()
    _holds = True

    def __init__(self, limit: Limit, burst: int) -> None:
        super().__init__(limit, burst)


class ConcurrencyLimit(Limiter):
    """At most ``limit.count`` requests at the same time; each must be released when it ends. The window is unused.

    When there is room again depends on the requests under way, so the times of its decisions are 0.

    Args:
        limit: its count is N.
    """

    __slots__ = ("_free", "_total")

    def __init__(self, limit: Limit) -> None:
        self._total = self._free = limit.count

    def decide(self, now: float) -> Decision:
        if self._free:
            self._free -= 1
            return decided((True, self._free, 0.0, 0.0, 0.0))
        return decided((False, 0, 0.0, 0.0, 0.0))

    def release(self, now: float) -> None:
        """Make room: a request that passed has ended. One release too many makes no room for more than N."""
        if self._free < self._total:
            self._free += 1
