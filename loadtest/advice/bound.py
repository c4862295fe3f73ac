"""A lower bound on the time that any client needs for its work. A replay of the limiters in virtual time gives it."""

from collections.abc import Iterable
from typing import Final

import numpy as np

from loadtest.advice.work import Candidate, Limits, Work, World
from loadtest.contract import LimitName
from loadtest.limits import ALGORITHMS, CONCURRENCY

_GRAIN_S: Final = 1e-6


def let_through(candidate: Candidate, ready: Iterable[float], epoch: float) -> list[float]:
    """Return the earliest times at which a new limiter lets requests through. All times are in s from ``epoch``.

    No request is sent before its time in ``ready``. For windows, logs, counters and buckets, it is optimal to send as
    soon as the limiter accepts. A queue holds the requests that it accepts.
    For a concurrency limit, the result is ``ready``.
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
    """Return a time in s before which no client can finish the work.

    Jobs are submitted in the given order, because no client knows beforehand which jobs take long.
    """
    first, executions = world[work.submit], np.array(work.executions)
    if first.algorithm == CONCURRENCY and not work.polled:
        return float(max(executions.sum() / first.limit.count, executions.max()))
    through = np.array(let_through(first, [0.0] * work.count, work.epoch))
    # No client has k + 1 ended jobs before the time in element k.
    ended = np.sort(through + executions)
    if not work.polled:
        return float(ended[-1])
    if limits.shared:
        return max(float(ended[-1]), let_through(first, [0.0] * 2 * work.count, work.epoch)[-1])
    candidate = world[LimitName.RETRIEVAL]
    algorithm = ALGORITHMS[candidate.algorithm]
    if not algorithm.windowed or algorithm.aligned or candidate.algorithm == "sliding-log":
        return let_through(candidate, ended.tolist(), work.epoch)[-1]
    # The first window may end at once, if an earlier request opened it. But no retrieval precedes the first job.
    windows = np.maximum(0, -(-np.arange(work.count, 0, -1) // candidate.limit.count) - 2)
    earliest = let_through(candidate, [float(through[0])] * work.count, work.epoch)[-1]
    return max(float((ended + windows * candidate.limit.window).max()), earliest)
