"""The request budget of a run: what it will send at least, counted from its schedule, against what an entry allows.

Every refusal comes before the first request. Pure.
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
from loadtest.targets.choose import ChosenTarget
from loadtest.targets.entry import TargetEntry
from loadtest.units import Limit

PREFLIGHT_KEYS: Final = 3
"""A preflight tries as many keys."""
_NS: Final = 1e9
_ROUNDING_NS: Final = 1000
_NONE: Final = np.zeros(0, np.int64)
_MOST_OPERATIONS: Final = 5_000_000
"""Arrivals of one traffic entry beyond which a scenario is taken for a mistake where a budget holds."""


@dataclass(frozen=True)
class MinimumLoad:
    """What a run or a preflight sends at least."""

    operations: int = 0
    executions: int = 0
    duration_s: float = 0.0
    """From the first request to the end of the drain."""
    due: dict[LimitName, Ints] = field(default_factory=dict)
    """When requests are due, by limit: ns since the epoch, ascending; 0 for those before the epoch."""

    @property
    def requests(self) -> int:
        """Requests of all kinds; each async run counts its submit and one poll."""
        return sum(map(len, self.due.values()))

    def peak(self, name: LimitName, limit: Limit, *together: LimitName) -> int:
        """Most requests on a limit within any of its windows, those of the names that it is shared with included."""
        times = np.sort(np.concatenate([self.due.get(each, _NONE) for each in {name, *together}]))
        if not len(times):
            return 0
        # An even schedule at exactly the limit has a request at both ends of a window: only one of them is inside.
        begins = times - int(limit.window * _NS) + _ROUNDING_NS
        inside = np.arange(1, len(times) + 1) - np.searchsorted(times, begins, side="left")
        return int(inside.max())


def minimum_load(scenario: Scenario, plans: Mapping[str, TrafficPlan], *, keys: int, preflight: bool) -> MinimumLoad:
    """Count what a run will send at least.

    Raises:
        InputError: if that is more than anybody can have meant.
    """
    counts = _preflight(scenario, keys) if preflight else Counter()
    for name, traffic in scenario.traffic.items():
        if traffic.operation in JOB_OPERATIONS and traffic.job_ids == "seeded":
            seeds = max(traffic.seed_jobs, plans[name].key_count)
            counts.update(dict.fromkeys(LIMITS_OF_OPERATION[Operation.ASYNC_RUN], seeds))
    parts: dict[LimitName, list[Ints]] = {name: [np.zeros(counts[name], np.int64)] for name in LIMIT_NAMES}
    operations = 0
    for schedule in schedules(plans, scenario.seed):
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
    """What a load sends at least that begins anew at each of several moments, in seconds from the first epoch.

    What is sent ``before`` all of them is sent once.
    """
    before = before or MinimumLoad()
    due = {}
    for name in {**load.due, **before.due}:
        each = [load.due.get(name, _NONE) + int(start * _NS) for start in starts_s]
        due[name] = np.sort(np.concatenate([before.due.get(name, _NONE), *each]))
    times = len(starts_s)
    return MinimumLoad(
        operations=load.operations * times + before.operations,
        executions=load.executions * times + before.executions,
        duration_s=max(starts_s) + load.duration_s,
        due=due,
    )


def preflight_load(scenario: Scenario, keys: int) -> MinimumLoad:
    """What a preflight sends."""
    counts = _preflight(scenario, keys)
    due = {name: np.zeros(count, np.int64) for name, count in counts.items()}
    return MinimumLoad(executions=sum(counts[name] for name in EXECUTING_LIMITS), due=due)


def first_workflow(scenario: Scenario) -> Traffic | None:
    """The entry whose workflow a preflight runs: the first that runs one, else the first whose jobs are seeded."""
    entries = scenario.traffic.values()
    runs = [each for each in entries if each.operation in EXECUTING_OPERATIONS]
    return next(iter([*runs, *(each for each in entries if each.workflow and each.job_ids == "seeded")]), None)


def workflow_operation(traffic: Traffic) -> Operation:
    """How a preflight runs an entry's workflow: a retrieval's as the job that it would ask for."""
    return Operation.SYNC_RUN if traffic.operation == Operation.SYNC_RUN else Operation.ASYNC_RUN


def _preflight(scenario: Scenario, keys: int) -> Counter[LimitName]:
    """At most five requests: one for each key that is tried, a run, or a submit and its retrieval."""
    counts: Counter[LimitName] = Counter({LimitName.RETRIEVAL: min(keys, PREFLIGHT_KEYS)})
    if (traffic := first_workflow(scenario)) is not None:
        counts.update(LIMITS_OF_OPERATION[workflow_operation(traffic)])
    return counts


def _times(schedule: TrafficSchedule) -> Ints:
    if sum(segment.arrivals for segment in schedule.segments) > _MOST_OPERATIONS:
        raise InputError(
            f"traffic.{schedule.traffic} plans more than {_MOST_OPERATIONS:,} operations, which are too many for any "
            "target but the embedded one",
            "Shorten its stages or lower their rates.",
        )
    return np.concatenate([times for _, times, _ in schedule.blocks()] or [_NONE])


_COUNTED: Final = " (a poll for each submit, preflight and seeding count)"


def check_request_budget(
    chosen: ChosenTarget, load: MinimumLoad, limits: Mapping[LimitName, Limit], *, keys: int, now: datetime
) -> BudgetInfo | None:
    """Check that a run stays within what its target's entry allows.

    Returns:
        The budget to keep while it runs; None for a target without an entry.

    Raises:
        InputError: if it would exceed it, with file, key, both numbers and a remedy.
    """
    entry = chosen.entry
    if entry is None:
        return None
    until = _check_times(chosen, entry, load, now)
    _check_counts(chosen, entry, load)
    for name, limit in limits.items():
        allowed = entry.max_share * limit.count * keys
        if (peak := load.peak(name, limit)) > allowed * (1 + 1e-9):
            raise InputError(
                f"{chosen.key('max_share')} allows {entry.max_share * 100:g} % of the {name} limit, {allowed:g} "
                f"requests per {limit.window:g} s with {keys} key{'s' if keys > 1 else ''}, and up to {peak} are "
                "planned" + (_COUNTED if name == LimitName.RETRIEVAL else ""),
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


def _check_counts(chosen: ChosenTarget, entry: TargetEntry, load: MinimumLoad) -> None:
    price, too_much = entry.price_per_execution or 0.0, ""
    cost = load.executions * price
    if entry.max_operations is not None and load.operations > entry.max_operations:
        too_much = f"{chosen.key('max_operations')} is {entry.max_operations:,}, and {load.operations:,} are planned"
    elif entry.max_requests is not None and load.requests > entry.max_requests:
        too_much = (
            f"{chosen.key('max_requests')} is {entry.max_requests:,}, and at least {load.requests:,} are planned "
            "(a poll for each submit, preflight and seeding included)"
        )
    elif entry.max_cost is not None and cost > entry.max_cost * (1 + 1e-9):
        too_much = (
            f"{chosen.key('max_cost')} is {entry.max_cost:g}, and the {load.executions:,} executions planned "
            f"cost {cost:g} at {price:g} each"
        )
    if too_much:
        raise InputError(too_much, "Shorten the stages or lower their rates with --set.")


def _check_times(chosen: ChosenTarget, entry: TargetEntry, load: MinimumLoad, now: datetime) -> float | None:
    """Check expiry and hours, and return the unix time at which sending must end."""
    ends = []
    if entry.expiry is not None:
        if now >= entry.expiry:
            raise InputError(
                f"{chosen.key('expires')} was {entry.expires}, and today is {now.astimezone(UTC):%Y-%m-%d}",
                f"Ask {entry.owner} again, and write a later date.",
            )
        ends.append(("expires", str(entry.expires), (entry.expiry - now).total_seconds()))
    if entry.allowed_hours is not None:
        left = entry.allowed_hours.seconds_left(now)
        local = now.astimezone(entry.allowed_hours.zone)
        if left is None:
            raise InputError(
                f"{chosen.key('allowed_hours')} are {entry.allowed_hours.text}, and there it is {local:%H:%M}",
                "Start the run within these hours.",
            )
        ends.append(("allowed_hours", entry.allowed_hours.text, left))
    for key, text, left in ends:
        if load.duration_s > left:
            raise InputError(
                f"{chosen.key(key)} ({text}) leaves {left:.0f} s, and the run may take {load.duration_s:.0f} s, its "
                "drain included",
                "Start earlier, or shorten the stages.",
            )
    return min((now.timestamp() + left for _, _, left in ends), default=None)
