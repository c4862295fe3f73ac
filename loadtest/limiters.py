"""Rate limiters as pure classes over a given time: no clock is read here.

The target asks a limiter about the present; the analysis replays recorded send times through a fresh one, with the
clock shifted by what is believed of the server's. A limiter says what it would do with a request at a given time;
a request that it rejects is not counted unless its algorithm says otherwise.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal, NamedTuple, Protocol, get_args

from loadtest.limits import Limit

Scope = Literal["key-and-name", "key", "name", "global"]
"""What one limiter counts: the requests of one key on one limit name, of one key, on one limit name, or all."""
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)


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


class Decision(NamedTuple):
    """What a limiter said about one request.

    Attributes:
        allowed: whether the request passes.
        remaining: how many more requests would pass at this same moment.
        reset_after: seconds until the limiter has its full allowance again.
    """

    allowed: bool
    remaining: int
    reset_after: float


class Limiter(Protocol):
    """Decides on requests, one call each, in order of time."""

    def decide(self, now: float) -> Decision:
        """Decide on a request at ``now`` (unix seconds, not before the last call's) and count it if it passes."""
        ...


class FixedWindow:
    """At most ``limit.count`` requests in each window of ``limit.window`` seconds.

    Over T seconds of even load at rate λ it accepts Σ over windows of min(N, λ · length of the window within T); up
    to 2N may pass in a short time across a boundary.

    Args:
        limit: count N and window W.
        aligned: True for windows that start at the multiples of W since the epoch, as a counter in a shared store
            does; False for a window that starts with the first request after the last one ended.
    """

    __slots__ = ("_aligned", "_count", "_end", "_left", "_start", "_window")

    def __init__(self, limit: Limit, *, aligned: bool = True) -> None:
        self._count = limit.count
        self._window = limit.window
        self._aligned = aligned
        self._left = limit.count
        self._start = self._end = float("-inf")

    def decide(self, now: float) -> Decision:
        """Decide on a request at ``now`` (unix seconds).

        A wall clock that is set back opens a new window, so that a server's limiter can't lock up on it.
        """
        if not self._start <= now < self._end:
            self._open(now)
        if self._left:
            self._left -= 1
            return Decision(True, self._left, self._end - now)
        return Decision(False, 0, self._end - now)

    def _open(self, now: float) -> None:
        # One multiplication each, so that neighbouring windows share their boundary to the last bit.
        index = now // self._window
        self._start = index * self._window if self._aligned else now
        self._end = (index + 1) * self._window if self._aligned else now + self._window
        if now >= self._end:  # floor and product can differ by one bit: now lies on the next boundary
            self._start, self._end = self._end, (index + 2) * self._window
        self._left = self._count


def _fixed_window(limit: Limit) -> Limiter:
    return FixedWindow(limit)


def _fixed_window_from_first(limit: Limit) -> Limiter:
    return FixedWindow(limit, aligned=False)


ALGORITHMS: Final[dict[str, Callable[[Limit], Limiter]]] = {
    "fixed-window": _fixed_window,
    "fixed-window-from-first": _fixed_window_from_first,
}
"""Every algorithm by the name that options and reports use."""


def make(name: str, limit: Limit) -> Limiter:
    """Make a fresh limiter of the algorithm ``name``.

    Raises:
        ValueError: if no algorithm has that name; the message gives the nearest one.
    """
    try:
        algorithm = ALGORITHMS[name]
    except KeyError:
        nearest = get_close_matches(name, ALGORITHMS, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(ALGORITHMS)}"
        raise ValueError(f"{name!r} is not a rate limiter: {hint}") from None
    return algorithm(limit)


def replay(limiter: Limiter, times: Iterable[float]) -> list[bool]:
    """Put recorded times through a fresh limiter.

    Args:
        limiter: a limiter that has decided nothing yet.
        times: send times in unix seconds of the limiter's clock, in ascending order.

    Returns:
        For each time, whether the request passes.
    """
    decide = limiter.decide
    return [decide(time).allowed for time in times]
