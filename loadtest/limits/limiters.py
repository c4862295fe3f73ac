"""Rate limiters as state machines.

A limit is N requests per W seconds. Windows are fixed, or slide, either exactly (a log) or approximately (a counter).
Buckets accept B requests at once and ρ = N/W per second thereafter. A concurrency limit counts requests in progress.
"""

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from loadtest.units import Limit

NEVER: Final = float("-inf")
GRAIN: Final = 5e-7
"""A request is accepted up to this many seconds before a limiter has room again.

The edges of aligned windows and of whole seconds have no such tolerance. Unix time as a float has a resolution of
2.4e-7 s, and a difference of two times may be wrong by one step. Without the tolerance, rounding errors would decide on
evenly spaced requests that arrive exactly when a limiter has room again.
"""


class Decision(NamedTuple):
    """A limiter's decision about one request. Times count from now and assume that no other request comes.

    Attributes:
        allowed: whether the request is accepted.
        remaining: number of further requests that would be accepted now.
        reset_after: seconds until the full allowance is available again.
        retry_after: seconds until one more request would be accepted; 0 if it would be accepted now.
        delay: seconds that a leaky queue holds the request before it is carried out.
    """

    allowed: bool
    remaining: int
    reset_after: float
    retry_after: float
    delay: float = 0.0


decided: Final[Callable[[tuple[bool, int, float, float, float]], Decision]] = partial(tuple.__new__, Decision)
"""Make a Decision from its five values, in less than half the time of ``Decision(...)``."""


class Limiter:
    """Base class of limiters. A limiter decides on requests one by one, in order of time.

    If the clock is set back, earlier requests still count. From that moment on, each counts at most as long as usual.
    """

    __slots__ = ()

    def decide(self, now: float) -> Decision:
        """Decide on a request at ``now`` (unix seconds), and count the request as the algorithm does."""
        raise NotImplementedError

    def release(self, now: float) -> None:
        """Record that an accepted request ended at ``now``. Only a concurrency limit needs this call."""


def slack(rate: float, most: int) -> float:
    """Return the tolerance, in requests, for the rounding of a count that changes with time.

    A time error of ``GRAIN`` changes the count by ``GRAIN · rate`` (``rate`` is its change per second). Sums of floats
    have a relative error, so the count's maximum, ``most``, matters too. The result is at most 0.5, so that no
    additional request is accepted.
    """
    return min(max(GRAIN * rate, most * 1e-14), 0.5)


def window_of(now: float, window: float, phase: float) -> tuple[float, float]:
    """Return the start and the end of the window that contains ``now``. Both are ``phase`` s after a multiple of W.

    One formula gives both, so that neighbouring windows share their boundary exactly.
    """
    index = (now - phase) // window
    # Because of rounding, ``now`` can lie just outside the window with this index.
    if now >= (index + 1) * window + phase:
        index += 1
    elif now < index * window + phase:
        index -= 1
    return index * window + phase, (index + 1) * window + phase


class FixedWindow(Limiter):
    """At most ``limit.count`` requests in each window of ``limit.window`` seconds.

    Over a period of even load at rate λ it accepts min(N, λt) in each window that contains t seconds of the period.
    Across a boundary it may accept up to 2N in a short time. Counting rejected requests would change nothing.

    Args:
        aligned: whether windows follow a fixed grid. If False, a window starts with the first request after the
            previous window.
        phase: seconds from a multiple of W in unix time to the start of an aligned window.
    """

    __slots__ = ("_aligned", "_count", "_end", "_left", "_over", "_phase", "_start", "_window")

    def __init__(self, limit: Limit, *, aligned: bool = True, phase: float = 0.0) -> None:
        self._count = limit.count
        self._window = limit.window
        self._aligned = aligned
        self._phase = phase
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
        if now >= self._over:  # else the clock was set back: the window moves, but keeps its count
            self._left = self._count
        if self._aligned:
            self._start, self._end = window_of(now, self._window, self._phase)
            self._over = self._end
        else:
            self._start, self._end = now, now + self._window
            self._over = self._end - GRAIN


class SlidingLog(Limiter):
    """At most ``limit.count`` requests in any ``limit.window`` seconds. Their times are in a log.

    Over T seconds of even load at rate λ ≥ N/W it accepts N⌊T/W⌋ + min(N, λ(T mod W)). If rejected requests count
    (``count_rejected``), it accepts N and then none while λ > N/W. The log grows as needed, up to N entries.
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
        """Sum of the clock's backward steps in s. The log's own time never goes back."""

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
        if self._count_rejected:  # only the newest N matter
            log.popleft()
            log.append(now)
        return decided((False, 0, log[-1] + window - now, log[0] + window - now, 0.0))


class SlidingCounter(Limiter):
    """At most ``limit.count`` requests per window, estimated from the counts of this window and the previous window.

    Let f be the elapsed part of the window, p the requests in the previous window and c those in this window. A request
    is accepted if p(1 − f) + c + 1 ≤ N. In each window of even load at rate λ it accepts min(λW, N − p(1 − f)), with
    f at the last accepted request. If λ is far above N/W, it accepts N in its first window and, unless it rounds down,
    N − 1 in each later window. If rejected requests count, it accepts almost none after the first N while λ > N/W.

    Args:
        count_rejected: whether p and c include rejected requests.
        aligned: whether windows follow a fixed grid. If False, windows start with the first request, and again with the
            first request after a whole window without requests (HAProxy's ``http_req_rate``).
        phase: as in ``FixedWindow``.
        round_down: whether p(1 − f) is rounded down, as in PyPI's ``limits``. Rounding accepts up to one more request.
    """

    __slots__ = (
        "_aligned", "_before", "_count", "_count_rejected", "_end", "_most", "_now", "_phase", "_round_down", "_slack",
        "_start", "_window",
    )  # fmt: skip

    def __init__(
        self,
        limit: Limit,
        *,
        count_rejected: bool = False,
        aligned: bool = True,
        phase: float = 0.0,
        round_down: bool = False,
    ) -> None:
        self._count = limit.count
        self._window = limit.window
        self._most = float(limit.count)
        self._count_rejected = count_rejected
        self._aligned = aligned
        self._phase = phase
        self._round_down = round_down
        self._start = self._end = NEVER
        self._before = self._now = 0
        self._slack = 0.0

    def decide(self, now: float) -> Decision:
        if not self._start <= now < self._end:
            self._open(now)
        until = self._end - now
        if self._round_down:
            room = float(self._count - int(self._before * until / self._window + self._slack) - self._now)
        else:
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
        if self._aligned:
            start, end = window_of(now, self._window, self._phase)
        else:
            start = self._end if self._end <= now < self._end + self._window else now
            end = start + self._window
        if start >= self._end:  # else the clock was set back: the window moves, but keeps its counts
            self._before = self._now if start == self._end else 0
            self._now = 0
        self._start, self._end = start, end
        self._slack = slack(self._before / self._window, self._count)
        self._most = self._count + self._slack

    def _wait(self, until: float) -> float:
        """Return the seconds until p(1 − f) + c + 1 ≤ N in this window or in the next window, where c becomes p."""
        spare = self._count - self._now - 1
        # If p(1 − f) is rounded down, p(1 − f) + c < N is enough.
        more, later = (1, 2 * GRAIN) if self._round_down else (0, 0.0)
        if spare >= 0:
            return max(0.0, until - (spare + more) * self._window / self._before + later) if self._before else 0.0
        return until + self._window * (1 - (self._count - 1 + more) / self._now) + later


class TokenBucket(Limiter):
    """A bucket of B tokens. It is refilled with ρ = N/W tokens per second, and each accepted request takes a token.

    A bucket that is full at the start accepts min(λT, B + ρT) over T seconds of even load at rate λ.

    If rejected requests take tokens too (``count_rejected``), the number of tokens stays at or above −B, so that a
    pause restores the bucket.
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


class SteppedBucket(TokenBucket):
    """A token bucket whose clock shows whole seconds, as in many Redis scripts. It refills when a second begins."""

    __slots__ = ()

    def decide(self, now: float) -> Decision:
        whole = math.floor(now)
        allowed, left, reset, retry, _ = super().decide(whole)
        reset, retry = (max(0.0, whole + math.ceil(wait - GRAIN) - now) if wait else 0.0 for wait in (reset, retry))
        return decided((allowed, left, reset, retry, 0.0))


class Gcra(Limiter):
    """The generic cell rate algorithm (ITU-T I.371).

    Each accepted request advances a theoretical arrival time by T₁ = W/N. A request that comes more than (B − 1)T₁
    before this time is rejected. A token bucket of B tokens decides alike. With B = 1, a GCRA accepts a share of
    1/⌈r⌉ of an even load at r times the limit.

    If rejected requests advance this time too (``count_rejected``), it is at most 2B·T₁ after the last request, so that
    a pause restores the limiter.
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
        """Seconds from the last request to the theoretical arrival time. As a unix time, it would be less precise."""
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
    """A queue for B requests. It releases a request every T₁ = W/N, and rejects requests when it is full.

    It decides as a GCRA does. It holds each accepted request for ``delay`` until its turn, so that latency may rise
    by about B·T₁. B includes a request that an idle queue releases immediately.
    """

    __slots__ = ()
    _holds = True


class ConcurrencyLimit(Limiter):
    """At most ``limit.count`` requests at the same time. Call ``release`` when a request ends. The window is not used.

    The times in its decisions are 0, because the limiter does not know when requests in progress will end.
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
        """Free the slot of an accepted request that ended. Surplus releases never raise the limit above N."""
        if self._free < self._total:
            self._free += 1
