"""A resolved scenario: stages with rates, pools, keys, and the limits that each stage exceeds. Pure."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from loadtest.assumed_limits import AssumedLimits
from loadtest.contract import LIMIT_OF_OPERATION, LIMITS_OF_OPERATION, POLLED_OPERATIONS, THROTTLED_STATUS, LimitName
from loadtest.record.run_info import RECORDED, StagePlan, TrafficPlan
from loadtest.scenario import WARMUP, Recording, Scenario, Stage, Traffic
from loadtest.schedule import TrafficSchedule
from loadtest.units import Limit, Rate

DEFAULT_SIZE: Final = 5_000
"""A pool for a large burst starts with at most this many users."""
MAX_USERS: Final = 20_000
"""A pool grows to at most this many users, unless the scenario sets a lower ``max_users``."""
FIRST_USERS: Final = 1_000
"""A pool without a large burst starts with at most this many users. Creating a user takes 50 µs and 14 KB."""
_TOLERANCE: Final = 1 + 1e-9


def traffic_plans(scenario: Scenario, assumed: AssumedLimits, keys: int) -> dict[str, TrafficPlan]:
    """Resolve all traffic entries: keys, pools, stages with rates, and the limits that stages exceed.

    Entries without a key group share all of the ``keys``.
    """
    plans = {name: _traffic_plan(scenario, traffic, assumed, keys) for name, traffic in scenario.traffic.items()}
    demand = LimitDemand(tuple(plans.values()), assumed)
    for name, plan in plans.items():
        drawn = dict.fromkeys(assumed.drawn_on(limit) for limit in LIMITS_OF_OPERATION[plan.operation])
        for stage in plan.stages:
            recording = scenario.traffic[name].recording
            stage.over = [
                limit
                for limit in drawn
                if demand.passes(limit, plan, stage)
                or (recording is not None and _peaks_above(recording, plan, limit, assumed))
            ]
            stage.expect_429 = stage.expect_429 or bool(stage.over)
    return plans


def schedules(
    plans: Mapping[str, TrafficPlan], seed: int, traffic: Mapping[str, Traffic] | None = None
) -> list[TrafficSchedule]:
    """Return the schedule of each entry. The plan in ``run.json``, the seed and recorded arrivals determine it."""
    recordings = {name: each.recording for name, each in (traffic or {}).items()}
    return [
        TrafficSchedule(
            traffic=name,
            stages=plan.stages,
            arrivals="poisson" if plan.arrivals == "poisson" else "even",
            seed=seed,
            recorded_s=None if (recording := recordings.get(name)) is None else recording.offsets_s,
        )
        for name, plan in plans.items()
    ]


def _peaks_above(recording: Recording, plan: TrafficPlan, limit: str, assumed: AssumedLimits) -> bool:
    """Whether an entry's recorded arrivals alone exceed a limit in some period as long as the limit's window."""
    if math.isinf(assumed.rate_on(limit)):
        return False
    allowed, keys = assumed.limit_on(limit), assumed.quotas(plan.key_count)
    return any(recording.most_within(allowed.window, key=key, keys=keys) > allowed.count for key in range(keys))


def wanted_users(traffic: Traffic, stages: Sequence[StagePlan]) -> int:
    """Return the number of users that an entry needs if every operation takes its whole deadline.

    Without a recording, by Little's law: highest rate × deadline + largest burst, but at most the number of arrivals.
    """
    if traffic.recording is not None:
        return traffic.recording.most_within(operation_deadline(traffic))
    peak = max(max(stage.rate, stage.rate_to) for stage in stages)
    wanted = _most(traffic, peak * operation_deadline(traffic)) + _largest_burst(stages) + 1
    return min(wanted, _most_arrivals(traffic, stages))


def pool_size(traffic: Traffic, stages: Sequence[StagePlan]) -> tuple[int, int]:
    """Return the initial and the maximum number of users in an entry's pool.

    The pool starts with ``wanted_users``, at most ``FIRST_USERS``. A larger burst raises this bound to its own size, up
    to ``DEFAULT_SIZE``. The pool never exceeds the scenario's ``max_users``.
    """
    cap = min(traffic.max_users or MAX_USERS, _most_arrivals(traffic, stages))
    first = max(FIRST_USERS, min(_largest_burst(stages) + 1, DEFAULT_SIZE))
    return min(wanted_users(traffic, stages), first, cap), cap


def operation_deadline(traffic: Traffic) -> float:
    """Return the duration of an operation in s if every attempt, wait and poll takes its longest time."""
    deadline = traffic.timeout * (1 if traffic.retry.policy == "none" else traffic.retry.max_attempts)
    deadline += traffic.retry.longest
    if traffic.operation in POLLED_OPERATIONS:
        deadline += traffic.polling.give_up + traffic.timeout
    return deadline


def _traffic_plan(scenario: Scenario, traffic: Traffic, assumed: AssumedLimits, keys: int) -> TrafficPlan:
    key_start = 0
    if traffic.keys is not None:
        groups = list(scenario.key_groups)
        key_start = sum(scenario.key_groups[group] for group in groups[: groups.index(traffic.keys)])
        keys = scenario.key_groups[traffic.keys]
    limit = assumed.limits[LIMIT_OF_OPERATION[traffic.operation]]
    stages = _stages(scenario, traffic, limit, assumed.quotas(keys))
    users, max_users = pool_size(traffic, stages)
    return TrafficPlan(
        operation=traffic.operation,
        workflow=traffic.workflow,
        arrivals=traffic.arrivals if traffic.recording is None else RECORDED,
        users=users,
        max_users=max_users,
        key_start=key_start,
        key_count=keys,
        stages=stages,
    )


def _stages(scenario: Scenario, traffic: Traffic, limit: Limit, quotas: int) -> list[StagePlan]:
    def per_second(rate: Rate) -> float:
        return rate.per_second(limit, quotas) * scenario.rate_multiplier

    initial, at = per_second(traffic.stages[0].parts[0][1]), scenario.warmup
    warmup = StagePlan(name=WARMUP, start_s=0.0, duration_s=at, rate=initial, rate_to=initial, warmup=True)
    plans = [warmup] if at > 0 else []
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
                    expect_429=THROTTLED_STATUS in stage.expect,
                )
            )
            at += stage.duration
    if traffic.recording is not None:
        # An entry with recorded arrivals has one stage, without a rate, and no warm-up.
        plans[0].rate = plans[0].rate_to = len(traffic.recording.keys) / plans[0].duration_s
    return plans


def _burst(stage: Stage, limit: Limit, quotas: int, multiplier: float) -> int:
    if stage.burst is None:
        return 0
    size = stage.burst.value * limit.count * quotas if isinstance(stage.burst, Rate) else stage.burst
    return max(1, round(size * multiplier))


def _largest_burst(stages: Sequence[StagePlan]) -> int:
    return max(stage.burst for stage in stages)


def _most_arrivals(traffic: Traffic, stages: Sequence[StagePlan]) -> int:
    return max(1, _most(traffic, sum(stage.arrivals for stage in stages)))


def _most(traffic: Traffic, mean: float) -> int:
    """Return the ``mean``, rounded up. For Poisson arrivals, four standard deviations are added to the mean."""
    return math.ceil(mean + (4.0 if traffic.arrivals == "poisson" else 0.0) * math.sqrt(mean))


def rate_at(stage: StagePlan, time: float) -> float:
    """Return the arrivals/s of a stage at a time (s since the epoch)."""
    return stage.rate + (stage.rate_to - stage.rate) * (time - stage.start_s) / stage.duration_s


class LimitDemand:
    """The demand of all entries on each limiter of a limit, over time."""

    def __init__(self, plans: tuple[TrafficPlan, ...], assumed: AssumedLimits) -> None:
        self.plans = plans
        self.assumed = assumed
        self._all_edges = sorted({edge for plan in plans for stage in plan.stages for edge in self._edges(plan, stage)})

    def passes(self, limit: str, plan: TrafficPlan, stage: StagePlan) -> bool:
        """Whether the demand on any limiter of an entry exceeds the limit during a stage.

        Rates are piecewise linear, so it is enough to check both ends of every piece. A burst is compared with the
        number of requests that a limiter accepts at once. A concurrency limit restricts only bursts, not rates.
        """
        edges = self._all_edges
        within = edges[bisect_right(edges, stage.start_s) : bisect_left(edges, stage.end_s)]
        at_once, most = self.assumed.at_once(limit), self.assumed.rate_on(limit) * _TOLERANCE
        pieces = list(pairwise([stage.start_s, *within, stage.end_s]))
        ends = [(at, (left + right) / 2) for left, right in pieces for at in (left, right)]
        asked = (self._asked(limit, key, *end) for key in self._keys(plan) for end in ends)
        return any(rate > most or burst > at_once for rate, burst in asked)

    def _edges(self, plan: TrafficPlan, stage: StagePlan) -> list[float]:
        """Return the times at which the slope of an entry's demand changes because of a stage."""
        edges = [stage.start_s, stage.end_s]
        if plan.operation in POLLED_OPERATIONS and stage.rate != stage.rate_to:
            # Submits above their limit are rejected and cause no polls. Where the rate passes this limit, the demand
            # for retrievals changes its slope.
            accepted = self.assumed.rate_of_keys(LimitName.ASYNC_SUBMIT, plan.key_count)
            edges.append(stage.start_s + stage.duration_s * (accepted - stage.rate) / (stage.rate_to - stage.rate))
        return edges

    def _keys(self, plan: TrafficPlan) -> set[int]:
        """Return one key of each range of keys that the same entries use, because these keys have the same demand."""
        if not self.assumed.per_key:
            return {plan.key_start}
        starts = {each.key_start for each in self.plans}
        return {max(start, plan.key_start) for start in starts if start < plan.keys.stop}

    def _asked(self, limit: str, key: int, at: float, inside: float) -> tuple[float, float]:
        """Return the demand on a key's limiter: requests/s at ``at``, and the requests that arrive at once.

        Only stages that are under way at ``inside`` count, because ``at`` may be a boundary between stages.
        """
        names = self.assumed.together(limit)
        rate = burst = 0.0
        for plan in self.plans:
            stage = plan.stage_at(inside)
            # A limit counts an operation's first request, its polls, or both. A burst's polls come as a burst, too.
            drawn = [name for name in names if name in LIMITS_OF_OPERATION[plan.operation]]
            if stage is None or not drawn or (self.assumed.per_key and key not in plan.keys):
                continue
            arrivals = polls = rate_at(stage, at)
            if plan.operation in POLLED_OPERATIONS:
                # Each accepted submit needs at least one poll.
                polls = min(arrivals, self.assumed.rate_of_keys(LimitName.ASYNC_SUBMIT, plan.key_count))
            quotas = self.assumed.quotas(plan.key_count)
            rate += sum(polls if name == LimitName.RETRIEVAL else arrivals for name in drawn) / quotas
            burst += stage.burst / quotas
        return rate, burst
