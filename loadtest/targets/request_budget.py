"""The request budget of a run: what it will send at least, by its exact schedule, and what its target's entry allows.

Every refusal comes before the first request. Pure.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.contract import EXECUTING_LIMITS, LIMIT_NAMES, LIMITS_OF_OPERATION, LimitName, Operation
from loadtest.errors import InputError
from loadtest.plan import schedules
from loadtest.record.run_info import BudgetInfo, TrafficPlan
from loadtest.scenario import Scenario, Traffic
from loadtest.schedule import TrafficSchedule
from loadtest.targets.choose import Chosen
from loadtest.units import Limit

PREFLIGHT_KEYS: Final = 3
"""Keys that a preflight tries."""
_NS: Final = 1e9
_ROUNDING_NS: Final = 1000
MOST_OPERATIONS: Final = 5_000_000
"""Arrivals of one entry beyond which a scenario is taken for a mistake where a request budget holds."""


@dataclass(frozen=True)
class Demand:
    """What will be sent at least.

    Attributes:
        operations: arrivals.
        requests: of all kinds: each async run counts its submit and one poll.
        executions: runs and submits.
        duration_s: from the first request to the end of the drain.
        sends: by limit name, when requests that draw on it are due: ns since the epoch, ascending; what comes before
            the epoch is at zero.
    """

    operations: int = 0
    requests: int = 0
    executions: int = 0
    duration_s: float = 0.0
    sends: dict[LimitName, NDArray[np.int64]] = field(default_factory=dict)

    def peak(self, name: LimitName, limit: Limit) -> int:
        """Most requests on a limit within any of its windows."""
        times = self.sends.get(name, np.zeros(0, np.int64))
        if not len(times):
            return 0
        # An even schedule at exactly the limit has a request at both ends of a window: only one of them is inside.
        begins = times - int(limit.window * _NS) + _ROUNDING_NS
        inside = np.arange(1, len(times) + 1) - np.searchsorted(times, begins, side="left")
        return int(inside.max())


def demand_of(scenario: Scenario, plans: Mapping[str, TrafficPlan], *, keys: int, preflight: bool) -> Demand:
    """Count what a scenario will send.

    Args:
        scenario: what is offered.
        plans: its traffic, as planned.
        keys: how many API keys there are.
        preflight: whether one is made before it.

    Raises:
        InputError: if there is more to send than anybody can have meant.
    """
    sends: dict[LimitName, list[NDArray[np.int64]]] = {name: [] for name in LIMIT_NAMES}
    operations = 0
    for schedule in schedules(plans, scenario.seed):
        times = _times(schedule)
        operations += len(times)
        operation = plans[schedule.traffic].operation
        for limit in LIMITS_OF_OPERATION[operation]:
            sends[limit].append(times)
    for name, count in _before_epoch(scenario, plans, preflight_keys=keys if preflight else 0).items():
        sends[name].append(np.zeros(count, np.int64))
    merged = {name: np.sort(np.concatenate(parts)) for name, parts in sends.items() if parts}
    counts = {name: len(times) for name, times in merged.items()}
    return Demand(
        operations=operations,
        requests=sum(counts.values()),
        executions=_executions(counts),
        duration_s=max(s.start_s + s.duration_s for plan in plans.values() for s in plan.stages) + scenario.drain,
        sends=merged,
    )


def preflight_alone(scenario: Scenario, keys: int) -> Demand:
    """What a preflight sends."""
    counts = _preflight(scenario, keys)
    sends = {name: np.zeros(count, np.int64) for name, count in counts.items()}
    return Demand(requests=sum(counts.values()), executions=_executions(counts), sends=sends)


def first_workflow(scenario: Scenario) -> Traffic | None:
    """The entry whose workflow a preflight runs once: the first that runs one; else one whose jobs are seeded."""
    runs = [each for each in scenario.traffic.values() if each.operation != Operation.RETRIEVAL]
    seeded = [each for each in scenario.traffic.values() if each.workflow and each.job_ids == "seeded"]
    return next(iter([*runs, *seeded]), None)


def workflow_operation(traffic: Traffic) -> Operation:
    """How a preflight runs the workflow of an entry: a retrieval's is run as the job that it would ask for."""
    return Operation.SYNC_RUN if traffic.operation == Operation.SYNC_RUN else Operation.ASYNC_RUN


def _executions(counts: Mapping[LimitName, int]) -> int:
    return sum(counts.get(name, 0) for name in EXECUTING_LIMITS)


def _preflight(scenario: Scenario, keys: int) -> Counter[LimitName]:
    """At most five requests: one for each key that is tried, a run, or a submit and its retrieval."""
    counts: Counter[LimitName] = Counter({LimitName.RETRIEVAL: min(keys, PREFLIGHT_KEYS)})
    if (traffic := first_workflow(scenario)) is not None:
        counts.update(LIMITS_OF_OPERATION[workflow_operation(traffic)])
    return counts


def _before_epoch(scenario: Scenario, plans: Mapping[str, TrafficPlan], *, preflight_keys: int) -> Counter[LimitName]:
    counts = _preflight(scenario, preflight_keys) if preflight_keys else Counter()
    for name, traffic in scenario.traffic.items():
        if traffic.operation == Operation.RETRIEVAL and traffic.job_ids == "seeded":
            seeds = max(traffic.seed_jobs, plans[name].key_count)
            counts.update(dict.fromkeys(LIMITS_OF_OPERATION[Operation.ASYNC_RUN], seeds))
    return counts


def _times(schedule: TrafficSchedule) -> NDArray[np.int64]:
    if sum(segment.arrivals for segment in schedule.segments) > MOST_OPERATIONS:
        raise InputError(
            f"traffic.{schedule.traffic} is planned with more than {MOST_OPERATIONS:,} operations, more than may be "
            "asked of any host that is not the embedded target",
            "Shorten its stages or lower their rates.",
        )
    return np.concatenate([times for _, times, _ in schedule.blocks()] or [np.zeros(0, np.int64)])


_COUNTED: Final = " (a poll for each submit counts, and so do preflight and seeding)"


def check_request_budget(
    chosen: Chosen, demand: Demand, limits: Mapping[LimitName, Limit], *, keys: int, now: datetime
) -> BudgetInfo | None:
    """Check that a run stays within the request budget of its target's entry.

    Args:
        chosen: the target.
        demand: what will be sent at least.
        limits: the assumed limits, each per key.
        keys: how many API keys share the traffic.
        now: the moment at which it would start.

    Returns:
        The budget that has to hold while it runs; None for a target without an entry.

    Raises:
        InputError: if it would exceed it: file, key, both numbers, and what to do.
    """
    entry = chosen.entry
    if entry is None:
        return None
    until = _check_times(chosen, demand, now)
    _check_counts(chosen, demand)
    for name, limit in limits.items():
        allowed = entry.max_share * limit.count * keys
        if (peak := demand.peak(name, limit)) > allowed * (1 + 1e-9):
            raise InputError(
                f"{chosen.key('max_share')} allows {_share(entry.max_share)} of the {name} limit, {allowed:g} requests "
                f"per {limit.window:g} s with {keys} key{'s' if keys > 1 else ''}, and up to {peak} are planned"
                + (_COUNTED if name == LimitName.RETRIEVAL else ""),
                f"Lower the rates (--set traffic.NAME.stages.STAGE.rate=…), or have max_share raised by {entry.owner}.",
            )
    return BudgetInfo(
        name=chosen.name or "",
        environment=entry.environment,
        owner=entry.owner,
        max_share=entry.max_share,
        max_operations=entry.max_operations,
        max_requests=entry.max_requests,
        price_per_execution=entry.price_per_execution,
        max_cost=entry.max_cost,
        until_unix_s=until,
    )


def _check_counts(chosen: Chosen, demand: Demand) -> None:
    entry = chosen.entry
    if entry is None:
        return
    if entry.max_operations is not None and demand.operations > entry.max_operations:
        raise InputError(
            f"{chosen.key('max_operations')} is {entry.max_operations:,}, and {demand.operations:,} are planned",
            "Shorten the stages or lower their rates with --set.",
        )
    if entry.max_requests is not None and demand.requests > entry.max_requests:
        raise InputError(
            f"{chosen.key('max_requests')} is {entry.max_requests:,}, and at least {demand.requests:,} are planned "
            "(a poll for each submit, preflight and seeding included)",
            "Shorten the stages or lower their rates with --set.",
        )
    if entry.max_cost is not None and entry.price_per_execution is not None:
        cost = demand.executions * entry.price_per_execution
        if cost > entry.max_cost * (1 + 1e-9):
            raise InputError(
                f"{chosen.key('max_cost')} is {entry.max_cost:g}, and the {demand.executions:,} executions planned "
                f"cost {cost:g} at {entry.price_per_execution:g} each",
                "Shorten the stages or lower their rates with --set.",
            )


def _check_times(chosen: Chosen, demand: Demand, now: datetime) -> float | None:
    """Check expiry and hours; gives the unix time from which nothing may be sent."""
    entry = chosen.entry
    if entry is None:
        return None
    ends = []
    if entry.expiry is not None:
        if now >= entry.expiry:
            raise InputError(
                f"{chosen.key('expires')} was {entry.expires}, and today is {now.astimezone(UTC):%Y-%m-%d}",
                f"Have {entry.owner} agree anew, and write a later date.",
            )
        ends.append(("expires", str(entry.expires), (entry.expiry - now).total_seconds()))
    if entry.allowed_hours is not None:
        left = entry.allowed_hours.seconds_left(now)
        local = now.astimezone(entry.allowed_hours.zone)
        if left is None:
            raise InputError(
                f"{chosen.key('allowed_hours')} are {entry.allowed_hours.text}, and there it is {local:%H:%M}",
                "Come back then.",
            )
        ends.append(("allowed_hours", entry.allowed_hours.text, left))
    for key, text, left in ends:
        if demand.duration_s > left:
            raise InputError(
                f"{chosen.key(key)} ({text}) leaves {left:.0f} s, and the run may take {demand.duration_s:.0f} s, its "
                "drain included",
                "Start earlier, or shorten the stages.",
            )
    return min((now.timestamp() + left for _, _, left in ends), default=None)


def _share(share: float) -> str:
    return f"{share * 100:g} %"
