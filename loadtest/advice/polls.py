"""The times to poll a job that cost least, found by dynamic programming over the observed execution times."""

import math
from itertools import pairwise
from typing import Final

import numpy as np

from loadtest.advice.work import Candidate, Limits, Work
from loadtest.arrays import Floats
from loadtest.contract import LimitName
from loadtest.limits import ALGORITHMS, CONCURRENCY, at_once

_POINTS: Final = 64
"""Number of quantiles of the execution time at which a poll may come."""
_MARGIN_S: Final = 0.001
"""Seconds from the job's expected end to the poll."""
_COSTS: Final = np.geomspace(0.01, 1000, 31)
"""Costs of a poll that are tried, as multiples of the median execution time."""
_DEVIATIONS: Final = 2.0
"""Margin for the mean number of polls, in standard deviations."""
_QUOTA: Final = 0.9
"""Share of the retrieval limit that polls of work without end may use."""


def poll_times(execution_s: Floats, cost_s: float) -> tuple[float, ...]:
    """Return the times of polls, in s since acceptance.

    The times minimise the mean time from a job's end to the poll that sees the end, plus ``cost_s`` for each poll.

    Args:
        execution_s: observed execution times in s, ascending.
        cost_s: the cost of a poll in s; infinite for a single poll.
    """
    ends = np.unique(np.quantile(execution_s, np.linspace(0, 1, _POINTS + 1), method="higher"))
    if math.isinf(cost_s):
        return (float(ends[-1]) + _MARGIN_S,)
    share = np.diff(np.searchsorted(execution_s, ends, side="right"), prepend=0) / len(execution_s)
    # For each point, two sums over the jobs that end until then: their share, and their share times their end.
    ended, moments = np.cumsum(share), np.cumsum(share * ends)
    before, earlier = np.concatenate([[0.0], ended]), np.concatenate([[0.0], moments])
    best, following = np.zeros(len(ends) + 1), np.zeros(len(ends), int)
    for k in range(len(ends) - 1, -1, -1):
        waits = ends[k:] * (ended[k:] - before[k]) - (moments[k:] - earlier[k])
        costs = waits + best[k + 1 :]
        following[k] = k + int(np.argmin(costs))
        best[k] = costs.min() + cost_s * (1 - before[k])
    times, place = [], 0
    while place < len(ends):
        place = int(following[place])
        times.append(float(ends[place]) + _MARGIN_S)
        place += 1
    return tuple(times)


def plan_polls(work: Work, limits: Limits) -> tuple[float, ...]:
    """Return the earliest times to poll at which the retrieval limit does not delay the end of the work."""
    needed = _time(limits, LimitName.RETRIEVAL, work.count, work.clients)
    available = max(needed, _time(limits, work.submit, work.count, work.clients))
    typical = float(np.median(work.execution_s)) or 1.0
    for cost in (*(_COSTS * typical), math.inf):
        times = poll_times(work.execution_s, cost)
        counts = 1 + np.searchsorted(times[:-1], work.executions)
        # The mean number of polls may be higher by chance, the more so for few jobs.
        polls = float(counts.mean() + _DEVIATIONS * counts.std() / math.sqrt(work.count))
        if work.rate is not None:
            if polls * work.rate <= _QUOTA * limits.rate(LimitName.RETRIEVAL):
                return times
        elif not limits.shared and _time(limits, LimitName.RETRIEVAL, work.count * polls, work.clients) <= available:
            return times
    return times


def next_poll(times: tuple[float, ...], elapsed: float) -> float:
    """Return the seconds from ``elapsed`` s after acceptance to the next poll. After the last time, the gaps grow."""
    for time in times:
        if time > elapsed:
            return time - elapsed
    gaps = [after - before for before, after in pairwise((0.0, *times))]
    return max(gaps[-1] / 2, elapsed / 4)


def _time(limits: Limits, name: LimitName, requests: float, clients: int) -> float:
    """Estimate the seconds that this many requests take under the slowest candidate."""
    return max(_seconds(each, requests, clients) for each in limits.candidates[name])


def _seconds(candidate: Candidate, requests: float, clients: int) -> float:
    limit, algorithm = candidate.limit, ALGORITHMS[candidate.algorithm]
    if algorithm.name == CONCURRENCY:
        return 0.0
    if clients > 1:  # They space their requests evenly.
        return requests / limit.rate
    if algorithm.windowed:
        return (math.ceil(requests / limit.count) - 1) * limit.window
    return max(0.0, requests - at_once(candidate.spec, limit)) / limit.rate
