"""What a scenario will ask of the limits, before anything is sent. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from loadtest.limits import DOCUMENTED, Limit, LimitName
from loadtest.runfile import StagePlan, TrafficPlan
from loadtest.scenario import LIMIT_OF, WARMUP, Scenario, Stage, Traffic
from loadtest.scenario.units import Rate
from loadtest.schedule import Segment, TrafficSchedule

DEFAULT_MAX_USERS: Final = 1000
_TOLERANCE: Final = 1 + 1e-9


def believed_limits(scenario: Scenario, *, embedded: bool) -> dict[LimitName, Limit]:
    """The limits to plan with: the documented ones, or those that an embedded target is told to enforce."""
    return {**DOCUMENTED, **(scenario.target.enforce if embedded else {})}


def traffic_plans(scenario: Scenario, limits: Mapping[LimitName, Limit], keys: int) -> dict[str, TrafficPlan]:
    """Resolve every traffic entry: its keys, its pool, its stages with their rates, and the limits they pass.

    Args:
        scenario: what to offer.
        limits: the believed limits, each per key.
        keys: how many keys there are; entries that name no key group share them all.
    """
    plans = {name: _traffic_plan(scenario, traffic, limits, keys) for name, traffic in scenario.traffic.items()}
    demand = _Demand(tuple(plans.values()), limits)
    for name, plan in plans.items():
        expected = {
            part for stage in scenario.traffic[name].stages if 429 in stage.expect for part, _, _ in stage.parts
        }
        for stage in plan.stages:
            stage.over = [limit for limit in _draws(plan.operation) if demand.passes(limit, plan, stage)]
            stage.expect_429 = bool(stage.over) or stage.name in expected
    return plans


def schedules(plans: Mapping[str, TrafficPlan], seed: int) -> list[TrafficSchedule]:
    """The schedule of every entry, from what ``run.json`` keeps of it and the seed."""
    return [
        TrafficSchedule(
            traffic=name,
            segments=tuple(
                Segment(stage.name, stage.start_s, stage.duration_s, stage.rate, stage.rate_to, stage.burst)
                for stage in plan.stages
            ),
            arrivals="poisson" if plan.arrivals == "poisson" else "even",
            seed=seed,
        )
        for name, plan in plans.items()
    ]


def pool_size(traffic: Traffic, segments: Iterable[StagePlan]) -> int:
    """Users that an entry needs so that none is missing even if every operation takes its whole deadline.

    Little's law at the highest rate, and a burst beside it; at most as many as there are arrivals, capped at
    ``DEFAULT_MAX_USERS`` unless the scenario says ``max_users``.
    """
    segments = tuple(segments)
    peak = max(max(segment.rate, segment.rate_to) for segment in segments)
    burst = max(segment.burst for segment in segments)
    deadline = operation_deadline(traffic)
    arrivals = math.ceil(sum(_arrivals(segment) for segment in segments))
    wanted = math.ceil(peak * deadline) + burst + 1
    return max(1, min(wanted, arrivals, traffic.max_users or DEFAULT_MAX_USERS))


def operation_deadline(traffic: Traffic) -> float:
    """Seconds after which an operation has ended, whatever happens: every try, wait and poll at its longest."""
    deadline = traffic.timeout * (1 if traffic.retry.policy == "none" else traffic.retry.max_attempts)
    deadline += traffic.retry.longest
    if traffic.operation == "async_run":
        deadline += traffic.polling.give_up + traffic.timeout
    return deadline


def key_range(scenario: Scenario, traffic: Traffic, keys: int) -> tuple[int, int]:
    """Index of the first key that an entry uses, and how many it uses."""
    if traffic.keys is None:
        return 0, keys
    start = 0
    for group, size in scenario.key_groups.items():
        if group == traffic.keys:
            return start, size
        start += size
    raise KeyError(traffic.keys)


def _traffic_plan(scenario: Scenario, traffic: Traffic, limits: Mapping[LimitName, Limit], keys: int) -> TrafficPlan:
    key_start, key_count = key_range(scenario, traffic, keys)
    stages = _stages(scenario, traffic, limits[LIMIT_OF[traffic.operation]], key_count)
    return TrafficPlan(
        operation=traffic.operation,
        workflow=traffic.workflow,
        arrivals=traffic.arrivals,
        users=pool_size(traffic, stages),
        key_start=key_start,
        key_count=key_count,
        stages=stages,
    )


def _stages(scenario: Scenario, traffic: Traffic, limit: Limit, keys: int) -> list[StagePlan]:
    def per_second(rate: Rate) -> float:
        return rate.per_second(limit, keys) * scenario.rate_multiplier

    plans: list[StagePlan] = []
    if scenario.warmup > 0:
        initial = per_second(traffic.stages[0].parts[0][1])
        plans.append(
            StagePlan(name=WARMUP, start_s=0.0, duration_s=scenario.warmup, rate=initial, rate_to=initial, warmup=True)
        )
    at = scenario.warmup
    for stage in traffic.stages:
        for name, rate, rate_to in stage.parts:
            plans.append(
                StagePlan(
                    name=name,
                    start_s=at,
                    duration_s=stage.duration,
                    rate=per_second(rate),
                    rate_to=per_second(rate_to),
                    burst=_burst(stage, limit, keys, scenario.rate_multiplier),
                )
            )
            at += stage.duration
    return plans


def _burst(stage: Stage, limit: Limit, keys: int, multiplier: float) -> int:
    if stage.burst is None:
        return 0
    size = stage.burst.value * limit.count * keys if isinstance(stage.burst, Rate) else stage.burst
    return max(1, round(size * multiplier))


def _draws(operation: str) -> tuple[LimitName, ...]:
    """The limits that an operation's requests draw on."""
    return {"sync_run": ("sync_run",), "async_run": ("async_submit", "retrieval")}.get(operation, ("retrieval",))  # type: ignore[return-value] # mypy widens the tuples' literals


@dataclass(frozen=True, slots=True)
class _Demand:
    """What all entries together draw on a limit, over time, for each key."""

    plans: tuple[TrafficPlan, ...]
    limits: Mapping[LimitName, Limit]

    def passes(self, limit: LimitName, plan: TrafficPlan, stage: StagePlan) -> bool:
        """Whether some key that an entry uses is asked for more than a limit allows, at some moment of a stage.

        Rates are piecewise linear, so it is enough to look at both ends of every piece. A burst is held against
        the whole quota of a window.
        """
        end = stage.start_s + stage.duration_s
        edges = {edge for each in self.plans for part in each.stages for edge in (part.start_s, _end(part))}
        cuts = sorted({stage.start_s, end, *(edge for edge in edges if stage.start_s < edge < end)})
        allowed = self.limits[limit]
        return any(
            self._asked(limit, key, at, (left + right) / 2) > allowed.rate * _TOLERANCE
            or self._burst(limit, key, (left + right) / 2) > allowed.count
            for key in self._keys(plan)
            for left, right in pairwise(cuts)
            for at in (left, right)
        )

    def _keys(self, plan: TrafficPlan) -> set[int]:
        """One key of each kind among those that an entry uses: keys that the same entries use are alike."""
        starts = {each.key_start for each in self.plans}
        return {max(start, plan.key_start) for start in starts if start < plan.key_start + plan.key_count}

    def _asked(self, limit: LimitName, key: int, at: float, inside: float) -> float:
        return sum(self._drawn(limit, plan, at, inside) / plan.key_count for plan in self.plans if _uses(plan, key))

    def _burst(self, limit: LimitName, key: int, inside: float) -> float:
        stages = (
            (plan, stage)
            for plan in self.plans
            if limit in _draws(plan.operation) and _uses(plan, key)
            for stage in plan.stages
        )
        return sum(stage.burst / plan.key_count for plan, stage in stages if stage.start_s <= inside < _end(stage))

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
                    return min(rate, self.limits["async_submit"].rate * plan.key_count)
                return rate
        return 0.0


def _uses(plan: TrafficPlan, key: int) -> bool:
    return plan.key_start <= key < plan.key_start + plan.key_count


def _arrivals(stage: StagePlan) -> float:
    return stage.burst + (stage.rate + stage.rate_to) / 2 * stage.duration_s


def _end(stage: StagePlan) -> float:
    return stage.start_s + stage.duration_s
