"""What a run will send at the very least, before anything is sent: counted from its exact schedule. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.errors import InputError
from loadtest.limits import LIMIT_NAMES, Limit, LimitName
from loadtest.plan import schedules
from loadtest.runfile import TrafficPlan
from loadtest.scenario import Scenario, Traffic
from loadtest.schedule import TrafficSchedule

PREFLIGHT_KEYS: Final = 3
"""Keys that a preflight tries."""
_NS: Final = 1e9
_ROUNDING_NS: Final = 1000
MOST_OPERATIONS: Final = 5_000_000
"""Arrivals of one entry beyond which a scenario is taken for a mistake where a leash holds."""


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
        if operation == "async_run":
            sends["async_submit"].append(times)
        sends["sync_run" if operation == "sync_run" else "retrieval"].append(times)
    for name, count in _before_epoch(scenario, plans, preflight_keys=keys if preflight else 0).items():
        sends[name].append(np.zeros(count, np.int64))
    merged = {name: np.sort(np.concatenate(parts)) for name, parts in sends.items() if parts}
    counts = {name: len(times) for name, times in merged.items()}
    return Demand(
        operations=operations,
        requests=sum(counts.values()),
        executions=counts.get("sync_run", 0) + counts.get("async_submit", 0),
        duration_s=max(s.start_s + s.duration_s for plan in plans.values() for s in plan.stages) + scenario.drain,
        sends=merged,
    )


def preflight_alone(scenario: Scenario, keys: int) -> Demand:
    """What a preflight sends."""
    counts = _preflight(scenario, keys)
    executions = sum(count for name, count in counts.items() if name != "retrieval")
    sends = {name: np.zeros(count, np.int64) for name, count in counts.items()}
    return Demand(requests=sum(counts.values()), executions=executions, sends=sends)


def first_workflow(scenario: Scenario) -> Traffic | None:
    """The entry whose workflow a preflight runs once: the first that runs one; else one whose jobs are seeded."""
    runs = [each for each in scenario.traffic.values() if each.operation != "retrieval"]
    seeded = [each for each in scenario.traffic.values() if each.workflow and each.job_ids == "seeded"]
    return next(iter([*runs, *seeded]), None)


def _preflight(scenario: Scenario, keys: int) -> dict[LimitName, int]:
    """At most five requests: one for each key that is tried, a run, or a submit and its retrieval."""
    counts: dict[LimitName, int] = {"retrieval": min(keys, PREFLIGHT_KEYS)}
    traffic = first_workflow(scenario)
    if traffic is not None and traffic.operation == "sync_run":
        counts["sync_run"] = 1
    elif traffic is not None:
        counts["async_submit"] = 1
        counts["retrieval"] += 1
    return counts


def _before_epoch(scenario: Scenario, plans: Mapping[str, TrafficPlan], *, preflight_keys: int) -> dict[LimitName, int]:
    counts = _preflight(scenario, preflight_keys) if preflight_keys else {}
    seeded: tuple[LimitName, ...] = ("async_submit", "retrieval")
    for name, traffic in scenario.traffic.items():
        if traffic.operation == "retrieval" and traffic.job_ids == "seeded":
            seeds = max(traffic.seed_jobs, plans[name].key_count)
            for limit in seeded:
                counts[limit] = counts.get(limit, 0) + seeds
    return counts


def _times(schedule: TrafficSchedule) -> NDArray[np.int64]:
    if sum(segment.arrivals for segment in schedule.segments) > MOST_OPERATIONS:
        raise InputError(
            f"traffic.{schedule.traffic} is planned with more than {MOST_OPERATIONS:,} operations, more than may be "
            "asked of any host that is not the embedded target",
            "Shorten its stages or lower their rates.",
        )
    return np.concatenate([times for _, times, _ in schedule.blocks()] or [np.zeros(0, np.int64)])
