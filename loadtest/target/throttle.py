"""Limits as requests draw on them: who shares which limiter, what an answer says of it, and who has to wait."""

import math
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from types import MappingProxyType
from typing import Final

from loadtest.contract import LimitName
from loadtest.limiters import SHARED_SCOPES, Decision, Limiter, make
from loadtest.target.answers import ApiError, Header, Scope
from loadtest.target.config import ServerConfig
from loadtest.target.hangup import wait
from loadtest.units import Limit

Limiters = Mapping[LimitName, Limiter]
Clock = Callable[[], float]

DRAWN: Final = "loadtest.limit"
"""Key of a request's scope: the name of the limit that it drew on, whether it passed or not."""

_TOLD: Final = "loadtest.rate_headers"
_HELD: Final = "loadtest.limiter"
"""Keys of a request's scope: what its answer says of the limit, and the limiter that waits for its end."""


class Throttle:
    """The limits of one server.

    Args:
        config: limits, how they are counted, and what is said of them.
        clock: gives unix seconds.

    Attributes:
        first: whether requests draw before their bodies are looked at; else only those that would be carried out.
        tells: whether answers have headers that tell of the limit.
        releases: whether the end of a request has to be told.
        allowed: requests that passed, by limit name.
        rejected: requests that were refused, by limit name.
    """

    def __init__(self, config: ServerConfig, clock: Clock = time.time) -> None:
        self.first = config.draws == "all"
        self.tells = config.rate_headers != "none"
        self.releases = config.limiter.algorithm == "concurrency"
        self.allowed = dict.fromkeys(config.limits, 0)
        self.rejected = dict.fromkeys(config.limits, 0)
        self._spec = config.limiter
        self._limits = limits_in_force(config)
        self._shared = self._make() if self._spec.scope in ("name", "global") else None
        self._clock = clock
        self._retry_after = config.retry_after
        self._factor = config.retry_after_factor
        tell = _ietf if config.rate_headers == "ietf" else _x_ratelimit
        self._tell = _ietf_concurrency if self.releases and tell is _ietf else tell

    def limiters(self) -> Limiters:
        """What the requests of one more key draw on, by limit name: limiters of its own, or shared ones."""
        return self._make() if self._shared is None else self._shared

    def _make(self) -> Limiters:
        if self._spec.scope in SHARED_SCOPES:
            one = make(self._spec, next(iter(self._limits.values())))
            return MappingProxyType(dict.fromkeys(self._limits, one))
        return MappingProxyType({name: make(self._spec, limit) for name, limit in self._limits.items()})

    def draw(self, limiters: Limiters, name: LimitName, scope: Scope) -> float:
        """Draw on a limit.

        Args:
            limiters: those of the request's key.
            name: the request's limit name.
            scope: the request's; it remembers what is to be told, and what is to be released.

        Returns:
            Seconds that the request is to be held before it is carried out.

        Raises:
            ApiError: 429 ``rate_limit_exceeded``.
        """
        limiter, now = limiters[name], self._clock()
        decision = limiter.decide(now)
        scope[DRAWN] = name
        if self.tells:
            scope[_TOLD] = self._tell(self._limits[name], decision)
        if not decision.allowed:
            self.rejected[name] += 1
            raise self._rejection(name, decision, now)
        self.allowed[name] += 1
        if self.releases:
            scope[_HELD] = limiter
        return decision.delay

    async def enter(self, limiters: Limiters, name: LimitName, scope: Scope) -> bool:
        """Draw on a limit and wait for the request's turn; gives whether it had to.

        Raises:
            ApiError: 429 ``rate_limit_exceeded``.
            DisconnectedError: if the client went away while it was waiting.
        """
        delay = self.draw(limiters, name, scope)
        if delay:
            await wait(delay, scope)
        return delay > 0

    def release(self, scope: Scope) -> None:
        """Tell the limiter that a request has ended, if it drew on one and passed."""
        limiter: Limiter | None = scope.pop(_HELD, None)
        if limiter is not None:
            limiter.release(self._clock())

    @staticmethod
    def told(scope: Scope) -> tuple[Header, ...]:
        """Headers that tell of the limit that a request drew on; none if it drew on none."""
        told: tuple[Header, ...] = scope.get(_TOLD, ())
        return told

    def _rejection(self, name: LimitName, decision: Decision, now: float) -> ApiError:
        headers: tuple[Header, ...] = ()
        if self._retry_after != "none":
            # When a concurrency limit has room again is not known: a second is a guess.
            told = (decision.retry_after or 1.0) * self._factor
            value = b"%d" % math.ceil(told)
            if self._retry_after == "date":
                value = formatdate(math.ceil(now + told), usegmt=True).encode()
            headers = ((b"retry-after", value),)
        limit = "all" if self._spec.scope in SHARED_SCOPES else name
        details = {"limit": limit, "allowed": str(self._limits[name])}
        return ApiError(429, "rate_limit_exceeded", "The rate limit is exceeded", details, headers)


def limits_in_force(config: ServerConfig) -> Mapping[LimitName, Limit]:
    """The limit that a request draws on, by its limit name: the same for all where they share one.

    Raises:
        ValueError: if they share one, and none is given.
    """
    if config.limiter.scope not in SHARED_SCOPES:
        return config.limits
    if config.limit_all is None:
        raise ValueError(f"scope {config.limiter.scope} without limit_all")
    return MappingProxyType(dict.fromkeys(config.limits, config.limit_all))


def _x_ratelimit(limit: Limit, decision: Decision) -> tuple[Header, ...]:
    """What many services send: limit, remaining requests, seconds until all is whole."""
    return (
        (b"x-ratelimit-limit", b"%d" % limit.count),
        (b"x-ratelimit-remaining", b"%d" % decision.remaining),
        (b"x-ratelimit-reset", b"%d" % math.ceil(decision.reset_after)),
    )


def _ietf(limit: Limit, decision: Decision) -> tuple[Header, ...]:
    """The pair of draft-ietf-httpapi-ratelimit-headers-11: its windows and times are whole seconds."""
    return (
        (b"ratelimit-policy", b'"default";q=%d;w=%d' % (limit.count, math.ceil(limit.window))),
        (b"ratelimit", b'"default";r=%d;t=%d' % (decision.remaining, math.ceil(decision.reset_after))),
    )


def _ietf_concurrency(limit: Limit, decision: Decision) -> tuple[Header, ...]:
    """The same for a limit that has no window, in the draft's own unit."""
    return (
        (b"ratelimit-policy", b'"default";q=%d;qu="concurrent-requests"' % limit.count),
        (b"ratelimit", b'"default";r=%d' % decision.remaining),
    )
