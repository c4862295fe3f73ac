"""What a scenario will ask of the limits, before anything is sent. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from loadtest.limits import DOCUMENTED, Limit, LimitName
from loadtest.runfile import StagePlan, TrafficPlan
from loadtest.scenario import LIMIT_OF, WARMUP, Scenario, Traffic
from loadtest.schedule import Segment, TrafficSchedule

DEFAULT_MAX_USERS: Final = 1000
_TOLERANCE: Final = 1 + 1e-9


def believed_limits(scenario: Scenario, *, embedded: bool) -> dict[LimitName, Limit]:
    """The limits to plan with: the documented ones, or those that an embedded target is told to enforce."""
    return {**DOCUMENTED, **(scenario.target.enforce if embedded else {})}


def traffic_plans(scenario: Scenario, limits: Mapping[LimitName, Limit], keys: int) -> dict[str, TrafficPlan]:
    """Resolve every traffic entry: its pool, its stages with their rates, and the limits they pass.

    Args:
        scenario: what to offer.
        limits: the believed limits, each per key.
        keys: how many keys share the traffic.
    """
    plans = {}
    for name, traffic in scenario.traffic.items():
        segments = _segments(scenario, traffic, limits[LIMIT_OF[traffic.operation]], keys)
        plans[name] = TrafficPlan(
            operation=traffic.operation,
            workflow=traffic.workflow,
            arrivals=traffic.arrivals,
            users=pool_size(traffic, segments),
            stages=[
                StagePlan(
                    name=segment.stage,
                    start_s=segment.start,
                    duration_s=segment.duration,
                    rate=segment.rate,
                    rate_to=segment.rate_to,
                    warmup=segment.stage == WARMUP,
                )
                for segment in segments
            ],
        )
    demand = _Demand(tuple(plans.values()), limits, keys)
    for name, plan in plans.items():
        expected = {stage.name for stage in scenario.traffic[name].stages if 429 in stage.expect}
        for stage in plan.stages:
            stage.over = [limit for limit in _draws(plan.operation) if demand.passes(limit, stage)]
            stage.expect_429 = bool(stage.over) or stage.name in expected
    return plans


def schedules(plans: Mapping[str, TrafficPlan], seed: int) -> list[TrafficSchedule]:
    """The schedule of every entry, from what ``run.json`` keeps of it and the seed."""
    return [
        TrafficSchedule(
            traffic=name,
            segments=tuple(
                Segment(stage.name, stage.start_s, stage.duration_s, stage.rate, stage.rate_to) for stage in plan.stages
            ),
            arrivals="poisson" if plan.arrivals == "poisson" else "even",
            seed=seed,
        )
        for name, plan in plans.items()
    ]


def pool_size(traffic: Traffic, segments: Iterable[Segment]) -> int:
    """Users that an entry needs so that none is missing even if every operation takes its whole deadline.

    Little's law at the highest rate, at most as many as there are arrivals, capped at ``DEFAULT_MAX_USERS``
    unless the scenario says ``max_users``.
    """
    segments = tuple(segments)
    peak = max(max(segment.rate, segment.rate_to) for segment in segments)
    deadline = traffic.timeout
    if traffic.operation == "async_run":
        deadline += traffic.polling.give_up + traffic.timeout
    arrivals = math.ceil(sum(segment.arrivals for segment in segments))
    return max(1, min(math.ceil(peak * deadline) + 1, arrivals, traffic.max_users or DEFAULT_MAX_USERS))


def _segments(scenario: Scenario, traffic: Traffic, limit: Limit, keys: int) -> list[Segment]:
    segments: list[Segment] = []
    at = 0.0
    if scenario.warmup > 0:
        initial = traffic.stages[0].rate.per_second(limit, keys)
        segments.append(Segment(WARMUP, 0.0, scenario.warmup, initial, initial))
        at = scenario.warmup
    for stage in traffic.stages:
        rate = stage.rate.per_second(limit, keys)
        rate_to = rate if stage.ramp_to is None else stage.ramp_to.per_second(limit, keys)
        segments.append(Segment(stage.name, at, stage.duration, rate, rate_to))
        at += stage.duration
    return segments


def _draws(operation: str) -> tuple[LimitName, ...]:
    """The limits that an operation's requests draw on."""
    return {"sync_run": ("sync_run",), "async_run": ("async_submit", "retrieval")}.get(operation, ("retrieval",))  # type: ignore[return-value] # mypy widens the tuples' literals


@dataclass(frozen=True, slots=True)
class _Demand:
    """What all entries together draw on a limit, over time."""

    plans: tuple[TrafficPlan, ...]
    limits: Mapping[LimitName, Limit]
    keys: int

    def passes(self, limit: LimitName, stage: StagePlan) -> bool:
        """Whether all traffic together passes a limit at some moment of a stage.

        Rates are piecewise linear, so it is enough to look at both ends of every piece.
        """
        end = stage.start_s + stage.duration_s
        edges = {edge for plan in self.plans for each in plan.stages for edge in (each.start_s, _end(each))}
        cuts = sorted({stage.start_s, end, *(edge for edge in edges if stage.start_s < edge < end)})
        allowed = self.limits[limit].rate * self.keys * _TOLERANCE
        return any(
            sum(self._drawn(limit, plan, at, (left + right) / 2) for plan in self.plans) > allowed
            for left, right in pairwise(cuts)
            for at in (left, right)
        )

    def _drawn(self, limit: LimitName, plan: TrafficPlan, at: float, inside: float) -> float:
        """Requests/s that an entry draws on a limit at ``at``, in the stage that holds ``inside``.

        An async run draws on the retrieval limit by its polls: at least one for each accepted submit.
        """
        if limit not in _draws(plan.operation):
            return 0.0
        for stage in plan.stages:
            if stage.start_s <= inside < _end(stage):
                rate = stage.rate + (stage.rate_to - stage.rate) * (at - stage.start_s) / stage.duration_s
                if plan.operation == "async_run" and limit == "retrieval":
                    return min(rate, self.limits["async_submit"].rate * self.keys)
                return rate
        return 0.0


def _end(stage: StagePlan) -> float:
    return stage.start_s + stage.duration_s
