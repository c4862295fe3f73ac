"""A lower bound of the time that any client needs for its work, by replay of the limiters in virtual time."""

from collections.abc import Iterable
from typing import Final

import numpy as np

from loadtest.advice.work import Candidate, Limits, Work, World
from loadtest.contract import LimitName
from loadtest.limits import ALGORITHMS, CONCURRENCY

_GRAIN_S: Final = 1e-6


def let_through(candidate: Candidate, ready: Iterable[float], epoch: float) -> list[float]:
    """Return the earliest times, in s from ``epoch``, when a new limiter lets requests through that are ready then.

    Sending when it admits is optimal for windows, logs, counters and buckets. A queue lets a request through when it
    releases it. A concurrency limit needs ends, and is left out.
    """
    if candidate.algorithm == CONCURRENCY:
        return [*ready]
    decide, now = candidate.limiter().decide, 0.0
    times: list[float] = []
    for earliest in ready:
        now, allowed = max(now, earliest), False
        while not allowed:
            allowed, _, _, wait, delay = decide(epoch + now)
            admitted = now + delay
            now += wait if allowed else max(wait, _GRAIN_S)
        times.append(admitted)
    return times


def bound(work: Work, limits: Limits, world: World) -> float:
    """Return a time in s before which no client can have finished the work."""
    first, executions = world[work.submit], np.sort(work.executions)
    if first.algorithm == CONCURRENCY and not work.polled:
        return float(max(executions.sum() / first.limit.count, executions[-1]))
    through = np.array(let_through(first, [0.0] * work.count, work.epoch))
    # Before this time, no client has so many jobs that have ended, in whatever order they came.
    ended = np.maximum(through + executions[0], through[0] + executions)
    if not work.polled:
        return float(ended[-1])
    if limits.shared:
        return max(float(ended[-1]), let_through(first, [0.0] * 2 * work.count, work.epoch)[-1])
    candidate = world[LimitName.RETRIEVAL]
    algorithm = ALGORITHMS[candidate.algorithm]
    if not algorithm.windowed or algorithm.aligned or candidate.algorithm == "sliding-log":
        return let_through(candidate, ended.tolist(), work.epoch)[-1]
    # An earlier request may have opened the first window, so that it ends at once, but none before the first job.
    windows = np.maximum(0, -(-np.arange(work.count, 0, -1) // candidate.limit.count) - 2)
    earliest = let_through(candidate, [float(through[0])] * work.count, work.epoch)[-1]
    return max(float((ended + windows * candidate.limit.window).max()), earliest)
