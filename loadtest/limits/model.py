"""What limiters have in common: the spec that describes one, its interface, and its decisions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, NamedTuple, Protocol, get_args

Scope = Literal["key-and-name", "key", "name", "global"]
"""What one limiter counts: the requests of one key on one limit name, of one key, on one limit name, or all."""
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
SHARED_SCOPES: Final[tuple[Scope, ...]] = ("key", "global")
"""Those in which requests of every limit name draw on one limit."""

GRAIN: Final = 5e-7
"""Seconds by which two times may differ and still be the same.

Today's unix time as a float comes in steps of 2.4e-7 s, and a time difference is off by up to one of them: without
this, evenly spaced requests that meet a limiter's edge exactly would be decided on by the rounding of their times.
"""


@dataclass(frozen=True, slots=True)
class LimiterSpec:
    """How limits are counted.

    Attributes:
        algorithm: a name from ``ALGORITHMS``.
        burst: requests that may pass at once, for the algorithms that have a burst; None for their own default.
        count_rejected: whether rejected requests are counted, too.
        scope: what one limiter counts.
    """

    algorithm: str = "fixed-window"
    burst: int | None = None
    count_rejected: bool = False
    scope: Scope = "key-and-name"


class SpecError(ValueError):
    """A spec that describes no limiter.

    Args:
        field: of ``LimiterSpec``, that is wrong.
        problem: what is wrong with it, whoever wrote it where.
        remedy: what to write instead.
    """

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}")
        self.field = field
        self.problem = problem
        self.remedy = remedy


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


class Limiter(Protocol):
    """Decides on requests, one call each, in order of time.

    For a limiter, a clock that is set back stands still: what was counted stays counted, and from then on for no longer
    than usual.
    """

    def decide(self, now: float) -> Decision:
        """Decide on a request at ``now`` (unix seconds), and count it if it passes."""
        ...

    def release(self, now: float) -> None:
        """Note that a request that passed ended at ``now``. Only a concurrency limit uses it."""
        ...


class RateLimiter:
    """A limiter to which the time that requests take makes no difference."""

    __slots__ = ()

    def release(self, now: float) -> None:
        """Do nothing."""


def slack(rate: float, most: int) -> float:
    """Requests by which a count that changes with time may be off and still be whole.

    Args:
        rate: at which the count changes, per second: by so much it is off after ``GRAIN``.
        most: how large it gets: sums of floats are off by a part of it.

    Returns:
        Never so much that a whole request more could pass.
    """
    return min(max(GRAIN * rate, most * 1e-14), 0.5)
