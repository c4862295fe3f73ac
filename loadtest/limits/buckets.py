"""Limiters that hold a stock of permits: time refills it, or, for a limit on concurrency, the end of a request does.

Time refills it in three forms of one rule, B requests at once and ρ = N/W a second thereafter: a bucket of tokens, a
time that runs ahead (GCRA), and a queue that holds requests until their turn. Each remembers how much is used up *at
the last request* and not a time of its own, which would drown in the digits of the unix clock.
"""

from loadtest.limits.model import Decision, RateLimiter, decided, slack
from loadtest.limits.windows import NEVER
from loadtest.units import Limit


class TokenBucket(RateLimiter):
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


class Gcra(RateLimiter):
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


class ConcurrencyLimit:
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
