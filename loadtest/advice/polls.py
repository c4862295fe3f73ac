"""The paced policy. Dynamic programming over observed execution times finds the times of polls that cost least."""

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np

from loadtest.advice.gates import gates
from loadtest.advice.policies import PACED, Policy, give_up
from loadtest.advice.simulator import Simulation
from loadtest.advice.work import Limits, Work
from loadtest.arrays import Floats
from loadtest.contract import LimitName

_POINTS: Final = 64
"""A poll may come at each of this many quantiles of the execution time."""
_MARGIN_S: Final = 0.001
"""Seconds from the job's expected end to the poll."""
_COSTS: Final = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, math.inf)
"""Costs of a poll that are tried, as multiples of the median execution time."""
_SIMULATED: Final = 10_000
"""Plans are simulated for at most this many jobs. In longer work, one window more or less matters little."""
_EQUAL: Final = 1.005
"""Two times count as equal if their ratio is at most this."""
_QUOTA: Final = 0.9
"""Polls may use this share of the retrieval limit if plans are not simulated."""


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
    # Two sums over the jobs that have ended by each point: their share, and their share times their end.
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


def paced(work: Work, limits: Limits, *, told: bool = True) -> Policy:
    """Return the paced policy. It follows the limiters that may be in force and polls at the times that cost least.

    If ``told`` is False, the clients do not know that other clients share the limits.
    """
    policy = Policy(
        PACED,
        "sends as fast as every limiter that may be in force accepts",
        give_up,
        lambda *_: 0.0,
        gates=partial(gates, work, limits, None, told=told),
    )
    return _with_polls(policy, _plan_polls(work, limits, policy)) if work.polled else policy


def _with_polls(policy: Policy, times: tuple[float, ...]) -> Policy:
    return replace(policy, poll=lambda _number, elapsed, _draw: next_poll(times, elapsed), poll_times=times)


def _plan_polls(work: Work, limits: Limits, policy: Policy) -> tuple[float, ...]:
    """Return the plan with the most polls for which the retrieval limit does not delay the end of the work."""
    typical = float(np.median(work.execution_s)) or 1.0
    plans = list(dict.fromkeys(poll_times(work.execution_s, cost * typical) for cost in _COSTS))
    if work.rate is None and work.count <= _SIMULATED:
        # The pace depends on all limiters that may be in force, so their combinations differ little.
        world = limits.worlds[0]
        ends = [Simulation(work, limits, world, _with_polls(policy, each)).run().seconds for each in plans]
        return next(times for times, end in zip(plans, ends, strict=True) if end <= _EQUAL * min(ends))
    rate, most = work.rate or limits.rate(work.submit), limits.rate(LimitName.RETRIEVAL)
    if not limits.shared:
        for times in plans:
            if (1 + np.searchsorted(times[:-1], work.executions).mean()) * rate <= _QUOTA * most:
                return times
    return plans[-1]


def next_poll(times: tuple[float, ...], elapsed: float) -> float:
    """Return the seconds from ``elapsed`` s after acceptance to the next poll. After the last time, the gaps grow."""
    for time in times:
        if time > elapsed:
            return time - elapsed
    gaps = [after - before for before, after in pairwise((0.0, *times))]
    return max(gaps[-1] / 2, elapsed / 4)
