"""A lower bound of the time that any client needs for its work, by replay of the limiters in virtual time."""

from typing import Final

import numpy as np

from loadtest.advice.work import Candidate, Limits, Work, World
from loadtest.contract import LimitName
from loadtest.limits import ALGORITHMS, CONCURRENCY

_PLACES: Final = 25
"""Jobs that the bound is evaluated for; each alone gives a valid bound."""
_GRAIN_S: Final = 1e-6


def let_through(candidate: Candidate, count: int, epoch: float) -> list[float]:
    """Return the earliest times, in s from ``epoch``, when a new limiter lets each of ``count`` requests through.

    Sending when it admits is optimal for windows, logs, counters and buckets. A queue lets a request through when it
    releases it. A concurrency limit needs ends, and is left out.
    """
    if candidate.algorithm == CONCURRENCY:
        return [0.0] * count
    decide, now = candidate.limiter().decide, 0.0
    times: list[float] = []
    while len(times) < count:
        allowed, _, _, wait, delay = decide(epoch + now)
        if allowed:
            times.append(now + delay)
        now += wait if allowed else max(wait, _GRAIN_S)
    return times


def bound(work: Work, limits: Limits, world: World) -> float:
    """Return a time in s before which no client can have finished the work."""
    first = world[work.submit]
    shortest, longest = min(work.executions), max(work.executions)
    if first.algorithm == CONCURRENCY and not work.polled:
        return max(sum(work.executions) / first.limit.count, longest)
    through = let_through(first, work.count, work.epoch)
    least = max(through[0] + longest, through[-1] + shortest)
    if not work.polled:
        return least
    if limits.shared:
        return max(least, let_through(first, 2 * work.count, work.epoch)[-1])
    for place in np.unique(np.linspace(0, work.count - 1, _PLACES).astype(int)).tolist():
        least = max(least, _retrieved(work, world, through[0], through[place] + shortest, work.count - place))
    return least


def _retrieved(work: Work, world: World, opened: float, since: float, count: int) -> float:
    """The earliest time when ``count`` retrievals sent from ``since`` on have passed."""
    candidate = world[LimitName.RETRIEVAL]
    algorithm = ALGORITHMS[candidate.algorithm]
    if not algorithm.windowed or algorithm.aligned or candidate.algorithm == "sliding-log":
        return since + let_through(candidate, count, work.epoch + since)[-1]
    # An earlier request may have opened the first window, so that it ends at once, but none before the first job.
    windows = -(-count // candidate.limit.count) - 2
    earliest = opened + let_through(candidate, count, work.epoch + opened)[-1]
    return max(since + max(0, windows) * candidate.limit.window, earliest)
