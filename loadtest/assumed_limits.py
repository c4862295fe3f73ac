"""The assumed limits of a target, with their algorithm and scope. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast

from loadtest import words
from loadtest.contract import ALL, LIMIT_NAMES, LimitName
from loadtest.errors import WrongValueError
from loadtest.limits import (
    ALGORITHMS,
    CONCURRENCY,
    SCOPES,
    SHARED_SCOPES,
    Limiter,
    LimiterSpec,
    at_once,
    check_spec,
    in_words,
    make,
)
from loadtest.record.run_info import TargetInfo
from loadtest.units import Limit

if TYPE_CHECKING:  # reports do not need the scenario, whose import takes a third of their start-up time
    from loadtest.scenario import Scenario

__all__ = ["CONCURRENCY", "AssumedLimits"]

_WHOSE: Final = {
    "key-and-name": "for each key and limit name",
    "key": "for each key, over all its requests",
    "name": "for each limit name, over all keys",
    "global": "over all requests of all keys",
}


@dataclass(frozen=True, slots=True)
class AssumedLimits:
    """Assumptions about one target's rate limits. The API's documentation does not specify the algorithm.

    Attributes:
        limits: the limit of each limit name. Rates such as ``2x limit`` refer to these limits, even if
            requests count against ``limit_all``.
        spec: the algorithm with its parameters, and the scope of one limiter.
        limit_all: the limit of all requests together. Only the scopes ``key`` and ``global`` use it.
        draws: whether all requests with a valid key count against the limit, or only valid requests.
    """

    limits: Mapping[LimitName, Limit]
    spec: LimiterSpec = field(default_factory=LimiterSpec)
    limit_all: Limit | None = None
    draws: Literal["all", "valid"] = "all"

    @classmethod
    def of_embedded(cls, scenario: "Scenario") -> Self:
        """Return the limits of a scenario's embedded target."""
        settings = scenario.target.settings
        return cls(settings.limits, settings.limiter, settings.enforce.get(ALL), settings.draws)

    @classmethod
    def recorded(cls, target: TargetInfo) -> Self:
        """Return the assumptions that ``run.json`` records. Raises ``ValueError`` if no limiter can be made of them."""
        if target.limit_scope not in SCOPES:
            raise ValueError(f"{target.limit_scope!r} is not a limit scope")
        if target.limit_scope in SHARED_SCOPES and target.limit_all is None:
            raise ValueError("the limit of all requests together is not known")
        # Old records spell algorithm names with underscores.
        algorithm = target.limiter.replace("_", "-")
        scope = cast("Any", target.limit_scope)
        spec = LimiterSpec(algorithm, target.burst, target.count_rejected, scope, target.phase, target.round_down)
        try:
            check_spec(spec)
        except WrongValueError as error:
            raise ValueError(error.problem) from None
        return cls(
            {LimitName(name): limit for name, limit in target.limits.items()},
            spec,
            target.limit_all,
            "valid" if target.draws == "valid" else "all",
        )

    @property
    def one_for_all(self) -> bool:
        return self.spec.scope in SHARED_SCOPES

    @property
    def per_key(self) -> bool:
        return self.spec.scope in ("key-and-name", "key")

    @property
    def windowed(self) -> bool:
        """Whether the algorithm counts requests in windows. Rejections may then last until the window ends."""
        return ALGORITHMS[self.spec.algorithm].windowed

    @property
    def words(self) -> str:
        """The algorithm and scope as a noun phrase."""
        return f"{in_words(self.spec)}, {_WHOSE[self.spec.scope]}"

    def limit_on(self, name: str) -> Limit:
        """Return the assumed limit on requests of a limit name, or on ``ALL`` requests."""
        if self.one_for_all and self.limit_all is not None:
            return self.limit_all
        return self.limits[LimitName(name)]

    def counted_s(self, name: str) -> float:
        """Return for how many seconds a request counts against a limit; 0 for a concurrency limit."""
        return ALGORITHMS[self.spec.algorithm].counted_windows * self.limit_on(name).window

    def rate_on(self, name: str) -> float:
        """Return the requests/s that one limiter accepts in the long run. Infinite if only concurrency is limited."""
        return math.inf if self.spec.algorithm == CONCURRENCY else self.limit_on(name).rate

    def rate_of_keys(self, name: str, keys: int) -> float:
        """Return the requests/s that a limit accepts in the long run from ``keys`` keys together."""
        return self.rate_on(name) * self.quotas(keys)

    def drawn_on(self, name: LimitName) -> str:
        """Return the name of the limit that requests of ``name`` count against: ``ALL``, or the name itself."""
        return ALL if self.one_for_all else name

    def together(self, name: str) -> tuple[LimitName, ...]:
        """Return the limit names whose requests count against the same limit as requests of ``name``."""
        return LIMIT_NAMES if self.one_for_all else tuple(each for each in LIMIT_NAMES if each == name)

    def limit_text(self, limit: Limit) -> str:
        """Format a limit for the assumed algorithm: ``100 per minute``, ``10 at the same time``."""
        if self.spec.algorithm == CONCURRENCY:
            return f"{words.count(limit.count)} at the same time"
        return words.limit(limit.count, limit.window)

    def quotas(self, keys: int) -> int:
        return keys if self.per_key else 1

    def limiters(self, keys: int) -> list[list[Limiter]]:
        """Return new limiters by limit name (in the order of ``LIMIT_NAMES``) and key. A shared limiter is repeated."""
        made = cache(lambda drawn_on, _: make(self.spec, self.limit_on(drawn_on)))
        return [[made(self.drawn_on(name), key * self.per_key) for key in range(keys)] for name in LIMIT_NAMES]

    def at_once(self, name: str) -> int:
        return at_once(self.spec, self.limit_on(name))
