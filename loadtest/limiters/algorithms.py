"""Every algorithm by name, and limiters made of a spec."""

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final, Literal

from loadtest.limiters.buckets import Gcra, LeakyQueue, TokenBucket
from loadtest.limiters.concurrency import ConcurrencyLimit
from loadtest.limiters.model import Limiter, LimiterSpec, SpecError
from loadtest.limiters.sliding import SlidingCounter, SlidingLog
from loadtest.limiters.windows import FixedWindow
from loadtest.units import Limit

AlgorithmName = Literal[
    "fixed-window",
    "fixed-window-from-first",
    "sliding-log",
    "sliding-counter",
    "token-bucket",
    "gcra",
    "leaky-queue",
    "concurrency",
]
"""The keys of ``ALGORITHMS``, for those who check types."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One way of counting.

    Attributes:
        name: as options and reports spell it.
        summary: what it does, in one line.
        build: makes a limiter of a limit and a spec that was checked.
        has_burst: whether the spec's ``burst`` says something to it.
        can_count_rejected: whether it decides otherwise when rejected requests are counted.
        aligned: whether its windows begin at the multiples of their length on the server's wall clock.
    """

    name: AlgorithmName
    summary: str
    build: Callable[[Limit, LimiterSpec], Limiter] = field(repr=False)
    has_burst: bool = False
    can_count_rejected: bool = False
    aligned: bool = False


_ALL: Final = (
    Algorithm(
        "fixed-window",
        "At most N in each window that begins at a multiple of W on the wall clock.",
        lambda limit, _: FixedWindow(limit),
        aligned=True,
    ),
    Algorithm(
        "fixed-window-from-first",
        "At most N in a window that the first request begins.",
        lambda limit, _: FixedWindow(limit, aligned=False),
    ),
    Algorithm(
        "sliding-log",
        "At most N in any W, by the time of each request.",
        lambda limit, spec: SlidingLog(limit, count_rejected=spec.count_rejected),
        can_count_rejected=True,
    ),
    Algorithm(
        "sliding-counter",
        "At most N in any W, estimated from the counts of this wall-aligned window and the one before.",
        lambda limit, spec: SlidingCounter(limit, count_rejected=spec.count_rejected),
        can_count_rejected=True,
        aligned=True,
    ),
    Algorithm(
        "token-bucket",
        "A burst (N by default) at once, then N/W a second.",
        lambda limit, spec: TokenBucket(limit, spec.burst, count_rejected=spec.count_rejected),
        has_burst=True,
        can_count_rejected=True,
    ),
    Algorithm(
        "gcra",
        "One every W/N, with a burst (1 by default) ahead of time.",
        lambda limit, spec: Gcra(limit, spec.burst, count_rejected=spec.count_rejected),
        has_burst=True,
        can_count_rejected=True,
    ),
    Algorithm(
        "leaky-queue",
        "One let out every W/N; the others wait in a queue for a burst (N by default).",
        lambda limit, spec: LeakyQueue(limit, spec.burst),
        has_burst=True,
    ),
    Algorithm(
        "concurrency",
        "At most N at the same time, however many in W.",
        lambda limit, _: ConcurrencyLimit(limit),
    ),
)
ALGORITHMS: Final[dict[str, Algorithm]] = {algorithm.name: algorithm for algorithm in _ALL}
"""Every algorithm by the name that options and reports use."""


def check_spec(spec: LimiterSpec) -> Algorithm:
    """Check that a spec describes a limiter; gives its algorithm.

    Raises:
        SpecError: (a ValueError) if there is no such algorithm, or it has no burst or no variant that counts rejected
            requests; the message says what to write instead.
    """
    algorithm = ALGORITHMS.get(spec.algorithm)
    if algorithm is None:
        nearest = get_close_matches(spec.algorithm, ALGORITHMS, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(ALGORITHMS)}"
        raise SpecError("algorithm", f"{spec.algorithm!r} is not a rate limiter", hint)
    if spec.burst is not None and not algorithm.has_burst:
        having = ", ".join(name for name, each in ALGORITHMS.items() if each.has_burst)
        raise SpecError("burst", f"{algorithm.name} has no burst", f"leave it out, or choose one of {having}")
    if spec.burst is not None and spec.burst < 1:
        raise SpecError("burst", f"a burst of {spec.burst} lets nothing pass", "give at least 1")
    if spec.count_rejected and not algorithm.can_count_rejected:
        having = ", ".join(name for name, each in ALGORITHMS.items() if each.can_count_rejected)
        raise SpecError(
            "count_rejected",
            f"it makes no difference to {algorithm.name} whether rejected requests are counted",
            f"leave it out, or choose one of {having}",
        )
    return algorithm


def make(spec: LimiterSpec, limit: Limit) -> Limiter:
    """Make a fresh limiter.

    Raises:
        SpecError: as ``check_spec`` does.
    """
    return check_spec(spec).build(limit, spec)
