"""Comparison of a run's minimum load with a target's request budget. The load is counted from the run's schedule.

All checks precede the first request.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import numpy as np

from loadtest.arrays import Ints
from loadtest.contract import (
    EXECUTING_LIMITS,
    EXECUTING_OPERATIONS,
    JOB_OPERATIONS,
    LIMIT_NAMES,
    LIMITS_OF_OPERATION,
    LimitName,
    Operation,
)
from loadtest.errors import InputError
from loadtest.plan import schedules
from loadtest.record.run_info import BudgetInfo, TrafficPlan
from loadtest.scenario import Scenario, Traffic
from loadtest.schedule import TrafficSchedule
from loadtest.targets.choose import NamedEntry
from loadtest.targets.entry import TargetEntry
from loadtest.units import Limit

PREFLIGHT_KEYS: Final = 3
"""A preflight tries at most this many keys."""
_NS: Final = 1e9
_ROUNDING_NS: Final = 1000
_NONE: Final = np.zeros(0, np.int64)
_MOST_OPERATIONS: Final = 5_000_000
"""If arrivals are counted before a run, a traffic entry may have at most this many. More are rejected as a mistake."""


@dataclass(frozen=True)
class MinimumLoad:
    """The minimum load of a run, preflight or probe."""

    operations: int = 0
    executions: int = 0
    duration_s: float = 0.0
    """Seconds from the epoch to the end of the drain."""
    due: dict[LimitName, Ints] = field(default_factory=dict)
    """Times of requests by limit, in ns since the epoch and in ascending order. Requests before the epoch have 0."""
    included: str = " (including preflight, seeding and a poll for each submit)"
    """Text for messages: the requests that are counted besides those of the schedule."""
    remedy: str = "Shorten the scenario's stages or lower their rates"
    """Text for messages: a way to make the load smaller, without a full stop."""

    @property
    def requests(self) -> int:
        """Number of requests. Each async run counts as a submit and one poll."""
        return sum(map(len, self.due.values()))

    def peak(self, name: LimitName, limit: Limit, *together: LimitName) -> int:
        """Return the most requests in any window of a limit. Requests to the limits ``together`` count, too."""
        times = np.sort(np.concatenate([self.due.get(each, _NONE) for each in {name, *together}]))
        if not len(times):
            return 0
        # An even schedule at exactly the limit has a request at each end of a window. Only one of these two counts.
        begins = times - int(limit.window * _NS) + _ROUNDING_NS
        inside = np.arange(1, len(times) + 1) - np.searchsorted(times, begins, side="left")
        return int(inside.max())


def minimum_load(scenario: Scenario, plans: Mapping[str, TrafficPlan]) -> MinimumLoad:
    """Count the minimum load of a run without its preflight.

    Raises ``InputError`` if an entry has more than 5,000,000 arrivals.
    """
    counts: Counter[LimitName] = Counter()
    for name, traffic in scenario.traffic.items():
        if traffic.operation in JOB_OPERATIONS and traffic.job_ids == "seeded":
            seeds = max(traffic.seed_jobs, plans[name].key_count)
            counts.update(dict.fromkeys(LIMITS_OF_OPERATION[Operation.ASYNC_RUN], seeds))
    parts: dict[LimitName, list[Ints]] = {name: [np.zeros(counts[name], np.int64)] for name in LIMIT_NAMES}
    operations = 0
    for schedule in schedules(plans, scenario.seed, scenario.traffic):
        times = _times(schedule)
        operations += len(times)
        for limit in LIMITS_OF_OPERATION[plans[schedule.traffic].operation]:
            parts[limit].append(times)
    due = {name: np.sort(np.concatenate(each)) for name, each in parts.items()}
    return MinimumLoad(
        operations=operations,
        executions=sum(len(due[name]) for name in EXECUTING_LIMITS),
        duration_s=max(stage.end_s for plan in plans.values() for stage in plan.stages) + scenario.drain,
        due=due,
    )


def repeated(load: MinimumLoad, starts_s: Sequence[float], before: MinimumLoad | None = None) -> MinimumLoad:
    """Return the minimum load of several runs that start at ``starts_s`` (seconds from the first epoch).

    The load ``before`` is sent once, before the first run.
    """
    before = before or MinimumLoad()
    due = {}
    for name in {**load.due, **before.due}:
        each = [load.due.get(name, _NONE) + int(start * _NS) for start in starts_s]
        due[name] = np.sort(np.concatenate([before.due.get(name, _NONE), *each]))
    return MinimumLoad(
        operations=load.operations * len(starts_s) + before.operations,
        executions=load.executions * len(starts_s) + before.executions,
        duration_s=max(starts_s) + load.duration_s if starts_s else before.duration_s,
        due=due,
    )


def preflight_load(scenario: Scenario, keys: int) -> MinimumLoad:
    """Return the load of a preflight: a request for each tried key, then the scenario's first workflow, if any.

    Running the workflow takes a run request, or a submit and a retrieval.
    """
    counts: Counter[LimitName] = Counter({LimitName.RETRIEVAL: min(keys, PREFLIGHT_KEYS)})
    if (traffic := first_workflow(scenario)) is not None:
        counts.update(LIMITS_OF_OPERATION[workflow_operation(traffic)])
    due = {name: np.zeros(count, np.int64) for name, count in counts.items()}
    return MinimumLoad(executions=sum(counts[name] for name in EXECUTING_LIMITS), due=due)


def first_workflow(scenario: Scenario) -> Traffic | None:
    """Return the entry whose workflow a preflight runs: the first entry with runs, or else with seeded jobs."""
    entries = scenario.traffic.values()
    runs = [each for each in entries if each.operation in EXECUTING_OPERATIONS]
    runs += [each for each in entries if each.workflow and each.job_ids == "seeded"]
    return runs[0] if runs else None


def workflow_operation(traffic: Traffic) -> Operation:
    """Return the operation that runs an entry's workflow in a preflight. A retrieval's workflow runs as a job."""
    return Operation.SYNC_RUN if traffic.operation == Operation.SYNC_RUN else Operation.ASYNC_RUN


def _times(schedule: TrafficSchedule) -> Ints:
    if sum(stage.arrivals for stage in schedule.stages) > _MOST_OPERATIONS:
        raise InputError(
            f"traffic.{schedule.traffic} plans more than {_MOST_OPERATIONS:,} operations, too many to be "
            "checked before a run",
            "Shorten its stages or lower their rates.",
        )
    return np.concatenate([times for _, times, _ in schedule.blocks()] or [_NONE])


def check_request_budget(
    chosen: NamedEntry, load: MinimumLoad, limits: Mapping[LimitName, Limit], *, keys: int, now: datetime
) -> BudgetInfo | None:
    """Check that a run stays within its target's request budget.

    Returns:
        The budget to enforce during the run, or None if the target has no entry.

    Raises:
        InputError: if the run would exceed the budget. The message names key, planned and allowed load, and a remedy.
    """
    entry = chosen.entry
    if entry is None:
        return None
    until = _check_times(chosen, entry, load, now)
    _check_counts(chosen, entry, load)
    quotas = chosen.assumed.quotas(keys)
    whose = "for all keys together" if quotas < keys else f"with {keys} key{'s' if keys > 1 else ''}"
    for name, limit in limits.items():
        allowed = entry.max_share * limit.count * quotas
        if (peak := load.peak(name, limit)) > allowed * (1 + 1e-9):
            raise InputError(
                f"{chosen.key('max_share')} allows {entry.max_share * 100:g} % of the {name} limit, {allowed:g} "
                f"requests per {limit.window:g} s {whose}, but up to {peak} are "
                "planned" + (load.included if name == LimitName.RETRIEVAL else ""),
                f"{load.remedy}, or ask {entry.owner} to raise max_share.",
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


def _check_counts(chosen: NamedEntry, entry: TargetEntry, load: MinimumLoad) -> None:
    price = entry.price_per_execution or 0.0
    remedy = f"{load.remedy}."
    for key, most, planned, words in (
        ("max_operations", entry.max_operations, load.operations, f"{load.operations:,} are planned"),
        ("max_requests", entry.max_requests, load.requests, f"at least {load.requests:,} are planned{load.included}"),
    ):
        if most is not None and planned > most:
            raise InputError(f"{chosen.key(key)} is {most:,}, but {words}", remedy)
    cost = load.executions * price
    if entry.max_cost is not None and cost > entry.max_cost * (1 + 1e-9):
        raise InputError(
            f"{chosen.key('max_cost')} is {entry.max_cost:g}, but the {load.executions:,} planned executions "
            f"cost {cost:g} at {price:g} each",
            remedy,
        )


def _check_times(chosen: NamedEntry, entry: TargetEntry, load: MinimumLoad, now: datetime) -> float | None:
    """Check expiry and hours, and return the unix time at which the run must stop sending."""
    ends = []
    if entry.expiry is not None:
        if now >= entry.expiry:
            raise InputError(
                f"{chosen.key('expires')} was {entry.expires}, and today is {now.astimezone(UTC):%Y-%m-%d}",
                f"Ask {entry.owner} again, and set a later date.",
            )
        ends.append(("expires", str(entry.expires), (entry.expiry - now).total_seconds()))
    if entry.allowed_hours is not None:
        left = entry.allowed_hours.seconds_left(now)
        local = now.astimezone(entry.allowed_hours.zone)
        if left is None:
            raise InputError(
                f"{chosen.key('allowed_hours')} are {entry.allowed_hours.text}, and it is {local:%H:%M} there",
                "Start the run within these hours.",
            )
        ends.append(("allowed_hours", entry.allowed_hours.text, left))
    for key, text, left in ends:
        if load.duration_s > left:
            raise InputError(
                f"{chosen.key(key)} ({text}) leaves {left:.0f} s, but the load may take {load.duration_s:.0f} s"
                f"{', drain included' if load.operations else ''}",
                f"Start earlier. {load.remedy}.",
            )
    return min((now.timestamp() + left for _, _, left in ends), default=None)
