"""Rate limits of the server: accounts, their limiters, and response headers."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from types import MappingProxyType
from typing import Final

from loadtest.contract import ErrorCode, LimitName
from loadtest.limits import CONCURRENCY, SHARED_SCOPES, Decision, Limiter, make
from loadtest.reference_api.messages import ApiError, AsgiScope, Header, wait
from loadtest.reference_settings import ServerConfig
from loadtest.units import Limit

Limiters = Mapping[LimitName, Limiter]

DRAWN: Final = "loadtest.limit"
"""Key of an ASGI scope. Its value names the limit that the request, accepted or rejected, counted against."""

STATE_HEADERS: Final = "loadtest.rate_headers"
"""Key of an ASGI scope. Its value is the headers that report the limit's state."""
_HELD: Final = "loadtest.limiter"
"""Key of an ASGI scope. Its value is the limiter whose slot the request occupies until it ends."""


class RateLimits:
    """The limits of one server."""

    def __init__(self, config: ServerConfig, clock: Callable[[], float] = time.time) -> None:
        self.first = config.draws == "all"
        """Whether requests are counted before their bodies are checked. Otherwise only valid requests count."""
        self.shows_state = config.rate_headers != "none"
        """Whether responses have headers that report the limit's state."""
        self.releases = config.limiter.algorithm == CONCURRENCY
        """Whether a request occupies a slot until it ends."""
        self.allowed = dict.fromkeys(config.limits, 0)
        self.rejected = dict.fromkeys(config.limits, 0)
        self._spec = config.limiter
        self._limits = config.limits_in_force
        self._shared = self._make() if self._spec.scope in ("name", "global") else None
        self._clock = clock
        self._retry_after = config.retry_after
        self._factor = config.retry_after_factor
        self._form = config.rate_headers

    def limiters(self) -> Limiters:
        """Return the limiters of a new key, by limit name. Some scopes share them among keys."""
        return self._make() if self._shared is None else self._shared

    def _make(self) -> Limiters:
        if self._spec.scope in SHARED_SCOPES:
            one = make(self._spec, next(iter(self._limits.values())))
            return MappingProxyType(dict.fromkeys(self._limits, one))
        return MappingProxyType({name: make(self._spec, limit) for name, limit in self._limits.items()})

    def draw(self, limiters: Limiters, name: LimitName, scope: AsgiScope) -> float:
        """Count a request against a limit, and return how many seconds the request must wait.

        The limit's name, the headers about its state and the occupied limiter are stored in the scope.

        Raises:
            ApiError: 429 ``rate_limit_exceeded``.
        """
        limiter, now = limiters[name], self._clock()
        decision = limiter.decide(now)
        scope[DRAWN] = name
        if self.shows_state:
            scope[STATE_HEADERS] = self._state_headers(self._limits[name], decision)
        if not decision.allowed:
            self.rejected[name] += 1
            raise self._rejection(name, decision, now)
        self.allowed[name] += 1
        if self.releases:
            scope[_HELD] = limiter
        return decision.delay

    async def enter(self, limiters: Limiters, name: LimitName, scope: AsgiScope) -> bool:
        """Count a request against a limit, wait if the limiter delays it, and return whether it waited.

        Raises:
            ApiError: 429 ``rate_limit_exceeded``.
            DisconnectedError: if the client hung up while waiting.
        """
        delay = self.draw(limiters, name, scope)
        if delay:
            await wait(delay, scope)
        return delay > 0

    def release(self, scope: AsgiScope) -> None:
        limiter: Limiter | None = scope.pop(_HELD, None)
        if limiter is not None:
            limiter.release(self._clock())

    def _state_headers(self, limit: Limit, decision: Decision) -> tuple[Header, ...]:
        reset_after = math.ceil(decision.reset_after)
        if self._form == "x-ratelimit":  # used by many services
            return (
                (b"x-ratelimit-limit", b"%d" % limit.count),
                (b"x-ratelimit-remaining", b"%d" % decision.remaining),
                (b"x-ratelimit-reset", b"%d" % reset_after),
            )
        # draft-ietf-httpapi-ratelimit-headers-11. Windows and times are in whole seconds.
        policy, state = b'"default";q=%d' % limit.count, b'"default";r=%d' % decision.remaining
        if self.releases:
            policy += b';qu="concurrent-requests"'
        else:
            policy, state = policy + b";w=%d" % math.ceil(limit.window), state + b";t=%d" % reset_after
        return (b"ratelimit-policy", policy), (b"ratelimit", state)

    def _rejection(self, name: LimitName, decision: Decision, now: float) -> ApiError:
        headers: tuple[Header, ...] = ()
        if self._retry_after != "none":
            # A concurrency limit cannot tell when a slot becomes free, so one second is a guess.
            seconds = (decision.retry_after or 1.0) * self._factor
            value = b"%d" % math.ceil(seconds)
            if self._retry_after == "date":
                value = formatdate(math.ceil(now + seconds), usegmt=True).encode()
            headers = ((b"retry-after", value),)
        limit = "all" if self._spec.scope in SHARED_SCOPES else name
        details = {"limit": limit, "allowed": str(self._limits[name])}
        return ApiError(ErrorCode.RATE_LIMIT_EXCEEDED, "The rate limit is exceeded", details, headers)


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """The limiters of an API key. The account is also the owner of the key's jobs."""

    limiters: Limiters


class Accounts:
    """All accounts of a server, by API key."""

    def __init__(self, config: ServerConfig, limits: RateLimits) -> None:
        self.by_key = {key.encode(): Account(limits.limiters()) for key in config.keys}
        self._endpoint = config.endpoint.encode() if config.endpoint else None

    def find(self, headers: list[Header]) -> Account:
        """Return the account of a request. The values of a repeated header are joined with commas.

        Raises:
            ApiError: 401 ``missing_api_key`` or ``invalid_api_key``, 400 ``missing_endpoint``, 404
                ``unknown_endpoint``.
        """
        key = endpoint = None
        for name, value in headers:
            if name == b"x-api-key":
                key = value if key is None else key + b", " + value
            elif name == b"x-wf-endpoint":
                endpoint = value if endpoint is None else endpoint + b", " + value
        if not key:
            raise ApiError(ErrorCode.MISSING_API_KEY, "The API key is missing", {"header": "x-api-key"})
        # The parser keeps white space at the end of values.
        account = self.by_key.get(key) or self.by_key.get(key.strip())
        if account is None:
            raise ApiError(ErrorCode.INVALID_API_KEY, "The API key is not valid", {"header": "x-api-key"})
        if not endpoint:
            raise ApiError(ErrorCode.MISSING_ENDPOINT, "The endpoint header is missing", {"header": "x-wf-endpoint"})
        if self._endpoint is not None and endpoint.strip() != self._endpoint:
            raise ApiError(ErrorCode.UNKNOWN_ENDPOINT, "There is no such endpoint", {"header": "x-wf-endpoint"})
        return account
