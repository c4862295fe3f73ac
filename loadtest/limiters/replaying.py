"""A limiter asked about times that are known beforehand."""

from collections.abc import Iterable
from heapq import heappop, heappush

from loadtest.limiters.model import Limiter


def replay(limiter: Limiter, times: Iterable[float], ends: Iterable[float] | None = None) -> list[bool]:
    """Put recorded times through a fresh limiter.

    Args:
        limiter: a limiter that has decided nothing yet.
        times: send times in unix seconds of the limiter's clock, in ascending order.
        ends: when each request ended, on the same clock, for a concurrency limit; None if they take no time.

    Returns:
        For each time, whether the request passes.
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
