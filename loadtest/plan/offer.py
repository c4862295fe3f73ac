"""What will be offered, in order of time: every arrival of every entry, and what each of them will do. Pure."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from loadtest.assumed_limits import AssumedLimits
from loadtest.contract import LIMIT_NAMES, LIMIT_OF_OPERATION, LimitName
from loadtest.plan.demand import JobDuration
from loadtest.plan.stages import schedules
from loadtest.record.run_info import TrafficPlan
from loadtest.scenario import Traffic

RETRIEVAL: Final = LIMIT_NAMES.index(LimitName.RETRIEVAL)


@dataclass(frozen=True, slots=True)
class PlannedEntry:
    """A traffic entry, as a replay needs it.

    Attributes:
        traffic: as the scenario says it.
        plan: as it will be scheduled.
        stage_number: number of its first stage; its others follow.
        job: what is assumed of the workflows that it runs; None where it makes no jobs, or the answer to a run
            tells all that matters.
        pace: s between two of its polls at least; 0 where they are not paced.
    """

    name: str
    traffic: Traffic
    plan: TrafficPlan
    stage_number: int
    job: JobDuration | None
    pace: float

    @property
    def limit(self) -> int:
        """Index of the limit that its first requests draw on."""
        return LIMIT_NAMES.index(LIMIT_OF_OPERATION[self.plan.operation])


def entries(
    traffic: Mapping[str, Traffic],
    plans: Mapping[str, TrafficPlan],
    assumed: AssumedLimits,
    jobs: Mapping[str, JobDuration],
) -> list[PlannedEntry]:
    """Every entry of a scenario, all their stages numbered through."""
    made: list[PlannedEntry] = []
    stage_number = 0
    for name, plan in plans.items():
        pace = traffic[name].polling.pace
        limit, quotas = assumed.limits[LimitName.RETRIEVAL], assumed.quotas(plan.key_count)
        gap = 0.0 if pace is None else 1 / pace.per_second(limit, quotas)
        made.append(PlannedEntry(name, traffic[name], plan, stage_number, jobs.get(name), gap))
        stage_number += len(plan.stages)
    return made


@dataclass(frozen=True, slots=True)
class Offer:
    """All arrivals for one seed, in order of time. The lists are parallel."""

    seed: int
    times: list[float]
    """Seconds since the epoch."""
    entry: list[int]
    number: list[int]
    """Of the arrival within its entry."""
    stage_number: list[int]
    durations: list[list[float]]
    """By entry and arrival: how long its workflow takes, in seconds. Empty where that does not matter."""
    mistakes: list[dict[int, str]]
    """By entry: the arrivals that are wrong on purpose, and how."""


def offer(made: list[PlannedEntry], seed: int, drawn: int = 0) -> Offer:
    """What a run with a seed will offer: the very schedule that the load keeps to.

    Args:
        made: every entry.
        seed: of the scenario.
        drawn: of the durations, which no seed decides: another number gives others.
    """
    times, which, numbers, stage_numbers = [], [], [], []
    durations, mistakes = [], []
    plans = {entry.name: entry.plan for entry in made}
    for index, (entry, schedule) in enumerate(zip(made, schedules(plans, seed), strict=True)):
        count = 0
        for first, starts, where in schedule.blocks():
            times.append(starts / 1e9)
            which.append(np.full(len(starts), index))
            numbers.append(first + np.arange(len(starts)))
            stage_numbers.append(entry.stage_number + where)
            count = first + len(starts)
        random = np.random.Generator(np.random.PCG64([seed, zlib.crc32(entry.name.encode()), 1 + drawn]))
        durations.append(entry.job.draw(random, count).tolist() if entry.job else [])
        mistakes.append(_mistakes(entry, seed, count))
    if not times:
        return Offer(seed, [], [], [], [], durations, mistakes)
    joined = np.concatenate(times)
    order = np.argsort(joined, kind="stable")
    entry_of, number, stage_number = (np.concatenate(each)[order].tolist() for each in (which, numbers, stage_numbers))
    return Offer(seed, joined[order].tolist(), entry_of, number, stage_number, durations, mistakes)


def _mistakes(entry: PlannedEntry, seed: int, count: int) -> dict[int, str]:
    mistakes = entry.traffic.mistakes
    drawn = ((number, mistakes.pick(seed, entry.name, number)) for number in range(count if mistakes.shares else 0))
    return {number: kind for number, kind in drawn if kind is not None}
