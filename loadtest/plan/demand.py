"""What traffic asks of a target: requests on each limit over time, and the time that workflows take. Pure."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from loadtest.arrays import Floats
from loadtest.assumed_limits import AssumedLimits
from loadtest.contract import LIMITS_OF_OPERATION, POLLED_OPERATIONS, LimitName
from loadtest.record.run_info import StagePlan, TrafficPlan
from loadtest.scenario import Traffic

_TOLERANCE: Final = 1 + 1e-9


class StageTimeline:
    """The stages of an entry, which follow each other, by time."""

    def __init__(self, plan: TrafficPlan) -> None:
        self.plan = plan
        self._starts = [stage.start_s for stage in plan.stages]

    def at(self, time: float) -> StagePlan | None:
        """The stage that a moment is in, if it is in any."""
        place = bisect_right(self._starts, time) - 1
        return self.plan.stages[place] if place >= 0 and time < _end(self.plan.stages[place]) else None


class LimitDemand:
    """What all entries together draw on a limit, over time, for each of its limiters."""

    def __init__(self, plans: tuple[TrafficPlan, ...], assumed: AssumedLimits) -> None:
        self.plans = plans
        self.assumed = assumed
        self._timelines = [StageTimeline(plan) for plan in plans]
        self._all_edges = sorted({edge for plan in plans for stage in plan.stages for edge in self._edges(plan, stage)})

    def passes(self, limit: str, plan: TrafficPlan, stage: StagePlan) -> bool:
        """Whether some limiter that an entry draws on is asked for more than it allows, at some moment of a stage.

        Rates are piecewise linear, so it is enough to look at both ends of every piece. A burst is compared with
        what passes at once. A limit on concurrency is none on rates: only bursts are compared with it.
        """
        end = stage.start_s + stage.duration_s
        edges = self._all_edges
        within = edges[bisect_right(edges, stage.start_s) : bisect_left(edges, end)]
        cuts = sorted({stage.start_s, *within, end})
        names = self.assumed.together(limit)
        at_once, rate = self.assumed.at_once(limit), self.assumed.rate_on(limit)
        return any(
            self._asked(names, key, at, (left + right) / 2) > rate * _TOLERANCE
            or self._burst(names, key, (left + right) / 2) > at_once
            for key in self._keys(plan)
            for left, right in pairwise(cuts)
            for at in (left, right)
        )

    def _edges(self, plan: TrafficPlan, stage: StagePlan) -> list[float]:
        """Moments at which an entry's draw starts, ends, or has a bend."""
        edges = [stage.start_s, _end(stage)]
        if plan.operation in POLLED_OPERATIONS and stage.rate != stage.rate_to:
            # Submits beyond their own limit are refused, and have no polls: the draw on retrieval bends there.
            accepted = self._accepted(plan)
            edges.append(stage.start_s + stage.duration_s * (accepted - stage.rate) / (stage.rate_to - stage.rate))
        return edges

    def _accepted(self, plan: TrafficPlan) -> float:
        """Submits/s of an entry that are accepted at most."""
        return self.assumed.rate_on(LimitName.ASYNC_SUBMIT) * self.assumed.quotas(plan.key_count)

    def _keys(self, plan: TrafficPlan) -> set[int]:
        """One key of each kind among those that an entry uses: keys that the same entries use are alike."""
        if not self.assumed.per_key:
            return {plan.key_start}
        starts = {each.key_start for each in self.plans}
        return {max(start, plan.key_start) for start in starts if start < plan.key_start + plan.key_count}

    def _part(self, plan: TrafficPlan, key: int) -> float:
        """The part of what an entry draws that falls on the limiter of a key."""
        if not self.assumed.per_key:
            return 1.0
        return 1 / plan.key_count if plan.key_start <= key < plan.key_start + plan.key_count else 0.0

    def _asked(self, names: tuple[LimitName, ...], key: int, at: float, inside: float) -> float:
        return sum(
            self._drawn(name, each.plan, stage, at) * part
            for each in self._timelines
            if (part := self._part(each.plan, key)) and (stage := each.at(inside)) is not None
            for name in names
        )

    def _burst(self, names: tuple[LimitName, ...], key: int, inside: float) -> float:
        return sum(
            stage.burst * self._part(each.plan, key)
            for each in self._timelines
            # The request that begins an operation, or its polls, which come as a burst where it does.
            if any(name in LIMITS_OF_OPERATION[each.plan.operation] for name in names)
            and (stage := each.at(inside)) is not None
        )

    def _drawn(self, limit: LimitName, plan: TrafficPlan, stage: StagePlan, at: float) -> float:
        """Requests/s that an entry draws on a limit at ``at``, in one of its stages.

        An async run draws on the retrieval limit by its polls: at least one for each accepted submit.
        """
        if limit not in LIMITS_OF_OPERATION[plan.operation]:
            return 0.0
        rate = stage.rate + (stage.rate_to - stage.rate) * (at - stage.start_s) / stage.duration_s
        if plan.operation in POLLED_OPERATIONS and limit == LimitName.RETRIEVAL:
            return min(rate, self._accepted(plan))
        return rate


def _end(stage: StagePlan) -> float:
    return stage.start_s + stage.duration_s


Draw = Callable[[np.random.Generator, int], Floats]
_MS: Final = 0.001


@dataclass(frozen=True, slots=True)
class JobDuration:
    """An assumption about the workflows that an entry runs.

    Attributes:
        words: what is assumed, as a sentence's end.
        draw: draws so many durations, in seconds.
        known: whether anything tells, or it is a mere assumption.
        varies: whether one may take longer than another.
    """

    words: str
    draw: Draw
    known: bool = True
    varies: bool = False


def job_duration(traffic: Traffic, given_s: float | None = None) -> JobDuration:
    """What an entry's workflows are assumed to take.

    Args:
        traffic: an ``async_run`` or ``sync_run`` entry.
        given_s: seconds, where somebody knows; otherwise the parameters of the reference server's ``sleep`` and ``cpu``
            tell, and of all other workflows it is assumed that one poll is enough.
    """
    what = "jobs" if traffic.operation in POLLED_OPERATIONS else "runs"
    if given_s is not None:
        return JobDuration(f"its {what} last {given_s:g} s, as given", _constant(given_s))
    parameters = traffic.parameters
    try:
        if traffic.workflow == "sleep":
            return _sleep(parameters, f"its {what}")
        if traffic.workflow == "cpu":
            ms = float(parameters.get("ms", 10))
            return JobDuration(f"its {what} take {ms:g} ms, as its parameters say", _constant(ms * _MS))
    except (TypeError, ValueError):
        pass  # The server will refuse them; no job comes of it that could be polled.
    words = f"its {what} are assumed to be done at once"
    if traffic.operation in POLLED_OPERATIONS:
        words = "its jobs are assumed to be done at their first poll; longer ones are polled more often"
    return JobDuration(words, _constant(0.0), known=False)


def _sleep(parameters: dict[str, Any], what: str) -> JobDuration:
    """The distributions of the reference server's ``sleep``, with its defaults."""

    def ms(name: str, default: float) -> float:
        return float(parameters.get(name, default))

    kind = parameters.get("distribution", "constant")
    longest = ms("max_ms", 60_000) * _MS
    if kind == "uniform":
        low, high = ms("min_ms", 0) * _MS, ms("max_ms", 200) * _MS
        words = f"{what} take {low:g} to {high:g} s"
        return JobDuration(
            f"{words}, as its parameters say", lambda random, n: low + (high - low) * random.random(n), varies=True
        )
    if kind == "exponential":
        mean = ms("mean_ms", 100) * _MS
        return JobDuration(
            f"{what} take {mean:g} s on average, as its parameters say",
            lambda random, n: np.minimum(-mean * np.log1p(-random.random(n)), longest),
            varies=True,
        )
    if kind == "lognormal":
        middle, sigma = math.log(ms("median_ms", 100) * _MS), ms("sigma", 0.5)
        return JobDuration(
            f"{what} have a median of {math.exp(middle):g} s, as its parameters say",
            lambda random, n: np.minimum(np.exp(middle + sigma * random.standard_normal(n)), longest),
            varies=True,
        )
    seconds = ms("ms", 100) * _MS
    return JobDuration(f"{what} take {seconds:g} s, as its parameters say", _constant(seconds))


def _constant(seconds: float) -> Draw:
    return lambda _random, n: np.full(n, seconds)
