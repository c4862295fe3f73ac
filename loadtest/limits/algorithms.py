"""Registry of rate-limiting algorithms, with functions that make limiters and replay known times through them."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from operator import attrgetter
from typing import Final, Literal, get_args

from loadtest.errors import WrongValueError
from loadtest.limits.limiters import (
    ConcurrencyLimit,
    FixedWindow,
    Gcra,
    LeakyQueue,
    Limiter,
    SlidingCounter,
    SlidingLog,
    SteppedBucket,
    TokenBucket,
)
from loadtest.units import Limit
from loadtest.words import joined, nearest

AlgorithmName = Literal[
    "fixed-window",
    "fixed-window-from-first",
    "sliding-log",
    "sliding-counter",
    "sliding-counter-from-first",
    "token-bucket",
    "gcra",
    "leaky-queue",
    "concurrency",
]
"""The keys of ``ALGORITHMS``, for type checkers."""
CONCURRENCY: Final = "concurrency"
"""The only algorithm that limits requests in progress instead of arrivals."""
Scope = Literal["key-and-name", "key", "name", "global"]
"""The requests that a limiter counts: of one key and limit name, of one key, of one limit name, or all."""
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
SHARED_SCOPES: Final[tuple[Scope, ...]] = ("key", "global")
"""Scopes whose limiters count requests of all limit names together."""


@dataclass(frozen=True, slots=True)
class LimiterSpec:
    """A rate limiter's specification. W is the limit's window.

    Attributes:
        burst: requests accepted at once. None stands for the algorithm's default, or for an algorithm without a burst.
        count_rejected: whether rejected requests count against the limit too.
        scope: the requests that one limiter counts.
        phase: seconds from a multiple of W on the server's clock to the start of an aligned window.
        round_down: whether a sliding counter rounds the previous window's weighted count down to whole requests, or a
            token bucket the time to whole seconds.
    """

    algorithm: str = "fixed-window"
    burst: int | None = None
    count_rejected: bool = False
    scope: Scope = "key-and-name"
    phase: float = 0.0
    round_down: bool = False

    @property
    def on_clock(self) -> bool:
        """Whether decisions depend on the server's clock itself, not only on the time between requests."""
        algorithm = ALGORITHMS[self.algorithm]
        return algorithm.aligned or (self.round_down and algorithm.has_burst)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The properties of a rate-limiting algorithm.

    Attributes:
        called: its name in a sentence.
        build: makes a limiter from a limit and a checked spec.
        default_burst: returns the burst for specs that give none; None for algorithms without a burst.
        can_count_rejected: whether counting rejected requests changes its decisions.
        can_round_down: whether some of its implementations round down.
        aligned: whether its windows start at multiples of W on the server's wall clock, plus a phase.
        decides_as: another algorithm that makes the same decisions with the same burst; None if there is none.
        holds: whether accepted requests wait in a queue.
        counted_windows: number of windows during which a request can affect later decisions; 1 for buckets, which
            refill N tokens in one window.
    """

    name: AlgorithmName
    called: str
    build: Callable[[Limit, LimiterSpec], Limiter] = field(repr=False)
    default_burst: Callable[[Limit], int] | None = field(default=None, repr=False)
    can_count_rejected: bool = False
    can_round_down: bool = False
    aligned: bool = False
    decides_as: AlgorithmName | None = None
    holds: bool = False
    counted_windows: int = 1

    @property
    def has_burst(self) -> bool:
        return self.default_burst is not None

    @property
    def windowed(self) -> bool:
        """Whether it counts requests in windows. Other algorithms accept a steady rate, or limit concurrency."""
        return not self.has_burst and self.name != CONCURRENCY

    @property
    def variants(self) -> tuple[bool, ...]:
        """The permitted values of ``count_rejected``."""
        return (False, True) if self.can_count_rejected else (False,)

    @property
    def roundings(self) -> tuple[bool, ...]:
        """The permitted values of ``round_down``."""
        return (False, True) if self.can_round_down else (False,)


_ALL: Final = (
    Algorithm(
        "fixed-window",
        "a fixed window, aligned with the wall clock",
        lambda limit, spec: FixedWindow(limit, phase=spec.phase),
        aligned=True,
    ),
    Algorithm(
        "fixed-window-from-first",
        "a fixed window that begins with a request",
        lambda limit, _: FixedWindow(limit, aligned=False),
    ),
    Algorithm(
        "sliding-log",
        "a sliding log",
        lambda limit, spec: SlidingLog(limit, count_rejected=spec.count_rejected),
        can_count_rejected=True,
    ),
    Algorithm(
        "sliding-counter",
        "a sliding-window counter, aligned with the wall clock",
        lambda limit, spec: SlidingCounter(
            limit, count_rejected=spec.count_rejected, phase=spec.phase, round_down=spec.round_down
        ),
        can_count_rejected=True,
        can_round_down=True,
        aligned=True,
        counted_windows=2,
    ),
    Algorithm(
        "sliding-counter-from-first",
        "a sliding-window counter that begins with a request",
        lambda limit, spec: SlidingCounter(
            limit, count_rejected=spec.count_rejected, aligned=False, round_down=spec.round_down
        ),
        can_count_rejected=True,
        can_round_down=True,
        counted_windows=2,
    ),
    Algorithm(
        "token-bucket",
        "a token bucket",
        lambda limit, spec: (SteppedBucket if spec.round_down else TokenBucket)(
            limit, at_once(spec, limit), count_rejected=spec.count_rejected
        ),
        default_burst=attrgetter("count"),
        can_count_rejected=True,
        can_round_down=True,
    ),
    Algorithm(
        "gcra",
        "a GCRA",
        lambda limit, spec: Gcra(limit, at_once(spec, limit), count_rejected=spec.count_rejected),
        default_burst=lambda _: 1,
        can_count_rejected=True,
        decides_as="token-bucket",
    ),
    Algorithm(
        "leaky-queue",
        "a leaky queue",
        lambda limit, spec: LeakyQueue(limit, at_once(spec, limit)),
        default_burst=attrgetter("count"),
        decides_as="token-bucket",
        holds=True,
    ),
    Algorithm(
        CONCURRENCY,
        "a limit on requests at the same time",
        lambda limit, _: ConcurrencyLimit(limit),
        counted_windows=0,
    ),
)
ALGORITHMS: Final[dict[str, Algorithm]] = {each.name: each for each in _ALL}
"""All algorithms, by their name in options and reports."""


def at_once(spec: LimiterSpec, limit: Limit) -> int:
    """Return how many requests are accepted at once after a long silence.

    This is the spec's burst or, if None, the algorithm's default. For an algorithm without a
    burst, it is the limit's count.
    """
    default = ALGORITHMS[spec.algorithm].default_burst
    return limit.count if default is None else spec.burst or default(limit)


def in_words(spec: LimiterSpec) -> str:
    """Describe a limiter with a noun phrase."""
    algorithm = ALGORITHMS[spec.algorithm]
    called, _, begins = algorithm.called.partition(" that ")
    if spec.phase:
        called = called.replace("aligned with the wall clock", f"offset by {spec.phase:.3g} s from the wall clock")
    if spec.burst is not None:
        called += f" of {spec.burst} at once"
    habits = {
        begins: bool(begins),
        "refills in whole seconds" if algorithm.has_burst else "rounds down": spec.round_down,
        "counts rejected requests too": spec.count_rejected,
    }
    found = [habit for habit, has in habits.items() if has]
    return f"{called} that {joined(found)}" if found else called


def check_spec(spec: LimiterSpec) -> Algorithm:
    """Check a spec and return its algorithm.

    Raises ``WrongValueError`` if the algorithm is unknown, or a parameter is out of range or not used by the algorithm.
    """
    algorithm = ALGORITHMS.get(spec.algorithm)
    if algorithm is None:
        near = nearest(spec.algorithm, ALGORITHMS, cutoff=0.4)
        hint = f"Did you mean {near!r}?" if near else f"Choose one of {', '.join(ALGORITHMS)}."
        raise WrongValueError(f"{spec.algorithm!r} is not a rate limiter", hint, key="algorithm")
    for key, given, ability, problem in (
        ("burst", spec.burst is not None, "has_burst", "{} has no burst"),
        ("count_rejected", spec.count_rejected, "can_count_rejected", "counting rejected requests does not change {}"),
        ("round_down", spec.round_down, "can_round_down", "rounding down does not change {}"),
        ("phase", spec.phase, "aligned", "{} has no phase"),
    ):
        if given and not getattr(algorithm, ability):
            able = ", ".join(each.name for each in ALGORITHMS.values() if getattr(each, ability))
            raise WrongValueError(problem.format(algorithm.name), f"Leave it out, or choose one of {able}.", key=key)
    if spec.burst is not None and spec.burst < 1:
        raise WrongValueError(f"a burst of {spec.burst} accepts nothing", "Give at least 1.", key="burst")
    if not 0 <= spec.phase < math.inf:
        raise WrongValueError(f"a phase of {spec.phase:g} s is not possible", "Give 0 s or more.", key="phase")
    return algorithm


def make(spec: LimiterSpec, limit: Limit) -> Limiter:
    """Make a fresh limiter. Raises ``WrongValueError`` if the spec is wrong."""
    return check_spec(spec).build(limit, spec)


def replay(limiter: Limiter, times: Iterable[float], ends: Iterable[float] | None = None) -> list[bool]:
    """Return whether a fresh limiter accepts each request.

    ``times`` are ascending, in unix seconds of the limiter's clock. ``ends`` are the requests' ends on the same clock;
    None if requests take no time. Only a concurrency limit uses ``ends``.
    """
    if ends is None:
        ends = times = list(times)
    decide, release = limiter.decide, limiter.release
    running: list[float] = []
    passed = []
    for time, end in zip(times, ends, strict=True):
        while running and running[0] <= time:
            release(heappop(running))
        allowed = decide(time).allowed
        if allowed:
            heappush(running, end)
        passed.append(allowed)
    return passed
