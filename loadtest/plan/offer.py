"""What will be offered, in order of time: every arrival of every entry, and what each of them will do. Pure."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from loadtest.contract import LIMIT_NAMES, LIMIT_OF_OPERATION, LimitName
from loadtest.draws import draw
from loadtest.plan.assumed_limits import Belief
from loadtest.plan.demand import JobDuration
from loadtest.plan.stages import schedules
from loadtest.record.run_info import TrafficPlan
from loadtest.scenario import Traffic

RETRIEVAL: Final = LIMIT_NAMES.index(LimitName.RETRIEVAL)


@dataclass(frozen=True, slots=True)
class Entry:
    """A traffic entry, as a replay needs it.

    Attributes:
        name: its name.
        traffic: as the scenario says it.
        plan: as it will be scheduled.
        cell: number of its first stage; its others follow.
        job: what is believed of the workflows that it runs; None where it makes no jobs, or the answer to a run
            tells all that matters.
        pace: s between two of its polls at least; 0 where they are not paced.
    """

    name: str
    traffic: Traffic
    plan: TrafficPlan
    cell: int
    job: JobDuration | None
    pace: float

    @property
    def limit(self) -> int:
        """Index of the limit that its first requests draw on."""
        return LIMIT_NAMES.index(LIMIT_OF_OPERATION[self.plan.operation])

    def retry_wait(self, attempt: int, drawn: float, told: float | None = None) -> float | None:
        """Seconds that its policy waits after the ``attempt``-th 429; None to give up.

        Args:
            attempt: requests sent so far, at least 1.
            drawn: from 0 to 1, for the jitter.
            told: what the 429's ``Retry-After`` says, in seconds.
        """
        retry = self.traffic.retry
        if retry.policy == "none" or attempt >= retry.max_attempts:
            return None
        if retry.policy == "retry_after" and told is not None:
            return min(told, retry.max)
        longest = min(retry.max, retry.initial * retry.factor ** min(attempt - 1, 64))
        return longest * drawn if retry.jitter else longest

    def poll_wait(self, number: int, drawn: float) -> float:
        """Seconds from the last answer to the ``number``-th poll."""
        polling = self.traffic.polling
        if polling.policy == "fixed":
            wait = polling.interval
        else:
            wait = min(polling.max, polling.interval * polling.factor ** min(number - 1, 64))
        return wait * (0.5 + drawn / 2) if polling.jitter else wait


def entries(
    traffic: Mapping[str, Traffic], plans: Mapping[str, TrafficPlan], belief: Belief, jobs: Mapping[str, JobDuration]
) -> list[Entry]:
    """Every entry of a scenario, its cells numbered through.

    Args:
        traffic: the scenario's.
        plans: how it will be scheduled.
        belief: whose limit of retrievals paces may refer to.
        jobs: what is believed of the workflows that are run, by entry.
    """
    made: list[Entry] = []
    cell = 0
    for name, plan in plans.items():
        pace = traffic[name].polling.pace
        limit, quotas = belief.limits[LimitName.RETRIEVAL], belief.quotas(plan.key_count)
        gap = 0.0 if pace is None else 1 / pace.per_second(limit, quotas)
        made.append(Entry(name, traffic[name], plan, cell, jobs.get(name), gap))
        cell += len(plan.stages)
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
    cell: list[int]
    durations: list[list[float]]
    """By entry and arrival: how long its workflow takes, in seconds. Empty where that does not matter."""
    mistakes: list[dict[int, str]]
    """By entry: the arrivals that are wrong on purpose, and how."""


def offer(made: list[Entry], seed: int, drawn: int = 0) -> Offer:
    """What a run with a seed will offer: the very schedule that the load keeps to.

    Args:
        made: every entry.
        seed: of the scenario.
        drawn: of the durations, which no seed decides: another number gives others.
    """
    times, which, numbers, cells = [], [], [], []
    durations, mistakes = [], []
    plans = {entry.name: entry.plan for entry in made}
    for index, (entry, schedule) in enumerate(zip(made, schedules(plans, seed), strict=True)):
        count = 0
        for first, starts, where in schedule.blocks():
            times.append(starts / 1e9)
            which.append(np.full(len(starts), index))
            numbers.append(first + np.arange(len(starts)))
            cells.append(entry.cell + where)
            count = first + len(starts)
        random = np.random.Generator(np.random.PCG64([seed, zlib.crc32(entry.name.encode()), 1 + drawn]))
        durations.append(entry.job.draw(random, count).tolist() if entry.job else [])
        mistakes.append(_mistakes(entry, seed, count))
    if not times:
        return Offer(seed, [], [], [], [], durations, mistakes)
    joined = np.concatenate(times)
    order = np.argsort(joined, kind="stable")
    entry_of, number, cell = (np.concatenate(each)[order].tolist() for each in (which, numbers, cells))
    return Offer(seed, joined[order].tolist(), entry_of, number, cell, durations, mistakes)


def _mistakes(entry: Entry, seed: int, count: int) -> dict[int, str]:
    """Drawn as the load draws them, so that they are the same arrivals."""
    shares = entry.traffic.mistakes.shares
    found: dict[int, str] = {}
    for number in range(count if shares else 0):
        left = draw(seed, entry.name, number, "mistake")
        for kind, share in shares.items():
            if left < share:
                found[number] = kind
                break
            left -= share
    return found
