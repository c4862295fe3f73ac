"""What will be offered, in order of time: every arrival of every entry, and what each of them will do. Pure."""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from loadtest.arrays import Floats
from loadtest.assumed_limits import AssumedLimits
from loadtest.contract import LIMIT_NAMES, LIMIT_OF_OPERATION, POLLED_OPERATIONS, LimitName
from loadtest.plan.stages import schedules
from loadtest.record.run_info import TrafficPlan
from loadtest.scenario import Traffic

RETRIEVAL: Final = LIMIT_NAMES.index(LimitName.RETRIEVAL)
Draw = Callable[[np.random.Generator, int], Floats]
_MS: Final = 0.001


@dataclass(frozen=True, slots=True)
class JobDuration:
    """An assumption about the workflows that an entry runs, in ``words`` that end a sentence."""

    words: str
    draw: Draw
    """Draws so many durations, in seconds."""
    known: bool = True
    """Whether anything tells, or it is a mere assumption."""
    varies: bool = False
    """Whether one may take longer than another."""


def job_duration(traffic: Traffic, given_s: float | None = None) -> JobDuration:
    """What the workflows of an entry that runs them are assumed to take: ``given_s`` seconds, where that is known.

    Otherwise the parameters of the reference server's ``sleep`` and ``cpu`` tell, and of all other workflows it is
    assumed that one poll is enough.
    """
    what = "jobs" if traffic.operation in POLLED_OPERATIONS else "runs"
    if given_s is not None:
        return JobDuration(f"its {what} last {given_s:g} s, as given", _constant(given_s))
    parameters = traffic.parameters
    try:
        if traffic.workflow == "sleep":
            return _sleep(parameters, f"its {what}")
        if traffic.workflow == "cpu":
            ms = float(parameters.get("ms", 10))
            return JobDuration(f"its {what} take {ms:g} ms, as its parameters say", _constant(ms * _MS))
    except (TypeError, ValueError):
        pass  # The server will refuse them; no job comes of it that could be polled.
    words = f"its {what} are assumed to be done at once"
    if traffic.operation in POLLED_OPERATIONS:
        words = "its jobs are assumed to be done at their first poll; longer ones are polled more often"
    return JobDuration(words, _constant(0.0), known=False)


def _sleep(parameters: dict[str, Any], what: str) -> JobDuration:
    """The distributions of the reference server's ``sleep``, with its defaults."""

    def ms(name: str, default: float) -> float:
        return float(parameters.get(name, default))

    kind = parameters.get("distribution", "constant")
    longest = ms("max_ms", 60_000) * _MS
    if kind == "uniform":
        low, high = ms("min_ms", 0) * _MS, ms("max_ms", 200) * _MS
        words = f"{what} take {low:g} to {high:g} s"
        return JobDuration(
            f"{words}, as its parameters say", lambda random, n: low + (high - low) * random.random(n), varies=True
        )
    if kind == "exponential":
        mean = ms("mean_ms", 100) * _MS
        return JobDuration(
            f"{what} take {mean:g} s on average, as its parameters say",
            lambda random, n: np.minimum(-mean * np.log1p(-random.random(n)), longest),
            varies=True,
        )
    if kind == "lognormal":
        middle, sigma = math.log(ms("median_ms", 100) * _MS), ms("sigma", 0.5)
        return JobDuration(
            f"{what} have a median of {math.exp(middle):g} s, as its parameters say",
            lambda random, n: np.minimum(np.exp(middle + sigma * random.standard_normal(n)), longest),
            varies=True,
        )
    seconds = ms("ms", 100) * _MS
    return JobDuration(f"{what} take {seconds:g} s, as its parameters say", _constant(seconds))


def _constant(seconds: float) -> Draw:
    return lambda _random, n: np.full(n, seconds)


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

    No seed decides how long workflows take: another number of ``drawn`` gives other durations.
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
