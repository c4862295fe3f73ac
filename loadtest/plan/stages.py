"""A scenario resolved: its stages with their rates, its pools and keys, and which limits it is planned above. Pure."""

import math
from collections.abc import Iterable, Mapping
from typing import Final

from loadtest.assumed_limits import AssumedLimits
from loadtest.contract import LIMIT_OF_OPERATION, LIMITS_OF_OPERATION, POLLED_OPERATIONS, THROTTLED_STATUS
from loadtest.plan.demand import LimitDemand
from loadtest.record.run_info import StagePlan, TrafficPlan
from loadtest.scenario import WARMUP, Scenario, Stage, Traffic
from loadtest.schedule import Segment, TrafficSchedule
from loadtest.units import Limit, Rate

DEFAULT_SIZE: Final = 5_000
"""Users that a pool is meant to have, at most, unless the scenario says ``max_users``."""
MAX_USERS: Final = 20_000
"""Users that a pool may grow to unless the scenario says ``max_users``."""
FIRST_USERS: Final = 1_000
"""Users that a pool starts with, at most: each takes 50 µs and 14 KB to make, before the epoch or when it is needed."""


def traffic_plans(scenario: Scenario, assumed: AssumedLimits, keys: int) -> dict[str, TrafficPlan]:
    """Resolve every traffic entry: its keys, its pool, its stages with their rates, and the limits they pass.

    Args:
        scenario: what to offer.
        assumed: what is assumed of the limits.
        keys: how many keys there are; entries that name no key group share them all.
    """
    plans = {name: _traffic_plan(scenario, traffic, assumed, keys) for name, traffic in scenario.traffic.items()}
    demand = LimitDemand(tuple(plans.values()), assumed)
    for name, plan in plans.items():
        expected = {
            part
            for stage in scenario.traffic[name].stages
            if THROTTLED_STATUS in stage.expect
            for part, _, _ in stage.parts
        }
        for stage in plan.stages:
            drawn = dict.fromkeys(assumed.drawn_on(limit) for limit in LIMITS_OF_OPERATION[plan.operation])
            stage.over = [limit for limit in drawn if demand.passes(limit, plan, stage)]
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


def wanted_users(traffic: Traffic, segments: Iterable[StagePlan]) -> int:
    """Users that an entry needs so that none is missing even if every operation takes its whole deadline.

    Little's law at the highest rate, and a burst beside it; at most as many as there are arrivals.
    """
    segments = tuple(segments)
    peak = max(max(segment.rate, segment.rate_to) for segment in segments)
    # Poisson arrivals may be more than their mean: by more than four of its roots less than once in 10,000 times.
    spread = 4.0 if traffic.arrivals == "poisson" else 0.0
    busy = peak * operation_deadline(traffic)
    wanted = math.ceil(busy + spread * math.sqrt(busy)) + _largest_burst(segments) + 1
    return max(1, min(wanted, _most_arrivals(traffic, segments)))


def pool_size(traffic: Traffic, segments: Iterable[StagePlan]) -> tuple[int, int]:
    """Users that an entry's pool starts with, and the most that it may grow to when few of them are idle.

    It is meant to have ``wanted_users``, at most ``DEFAULT_SIZE``, and starts with all of them if they are few:
    ``FIRST_USERS``, or the largest burst. It never has more than the scenario's ``max_users``.
    """
    segments = tuple(segments)
    cap = min(traffic.max_users or MAX_USERS, _most_arrivals(traffic, segments))
    first = max(FIRST_USERS, min(_largest_burst(segments) + 1, DEFAULT_SIZE))
    return min(wanted_users(traffic, segments), first, cap), cap


def operation_deadline(traffic: Traffic) -> float:
    """Seconds after which an operation has ended, whatever happens: every try, wait and poll at its longest."""
    deadline = traffic.timeout * (1 if traffic.retry.policy == "none" else traffic.retry.max_attempts)
    deadline += traffic.retry.longest
    if traffic.operation in POLLED_OPERATIONS:
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


def _traffic_plan(scenario: Scenario, traffic: Traffic, assumed: AssumedLimits, keys: int) -> TrafficPlan:
    key_start, key_count = key_range(scenario, traffic, keys)
    stages = _stages(
        scenario, traffic, assumed.limits[LIMIT_OF_OPERATION[traffic.operation]], assumed.quotas(key_count)
    )
    users, max_users = pool_size(traffic, stages)
    return TrafficPlan(
        operation=traffic.operation,
        workflow=traffic.workflow,
        arrivals=traffic.arrivals,
        users=users,
        max_users=max_users,
        key_start=key_start,
        key_count=key_count,
        stages=stages,
    )


def _stages(scenario: Scenario, traffic: Traffic, limit: Limit, quotas: int) -> list[StagePlan]:
    def per_second(rate: Rate) -> float:
        return rate.per_second(limit, quotas) * scenario.rate_multiplier

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
                    burst=_burst(stage, limit, quotas, scenario.rate_multiplier),
                )
            )
            at += stage.duration
    return plans


def _burst(stage: Stage, limit: Limit, quotas: int, multiplier: float) -> int:
    if stage.burst is None:
        return 0
    size = stage.burst.value * limit.count * quotas if isinstance(stage.burst, Rate) else stage.burst
    return max(1, round(size * multiplier))


def _arrivals(stage: StagePlan) -> float:
    return stage.burst + (stage.rate + stage.rate_to) / 2 * stage.duration_s


def _largest_burst(stages: Iterable[StagePlan]) -> int:
    return max(stage.burst for stage in stages)


def _most_arrivals(traffic: Traffic, stages: Iterable[StagePlan]) -> int:
    mean = sum(_arrivals(stage) for stage in stages)
    spread = 4.0 if traffic.arrivals == "poisson" else 0.0
    return max(1, math.ceil(mean + spread * math.sqrt(mean)))
