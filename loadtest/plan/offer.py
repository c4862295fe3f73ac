"""The arrivals of all entries in order of time, with durations and mistakes. Pure."""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from loadtest.arrays import Floats, Ints
from loadtest.assumed_limits import CONCURRENCY, AssumedLimits
from loadtest.contract import LIMIT_NAMES, LIMIT_OF_OPERATION, POLLED_OPERATIONS, LimitName
from loadtest.plan.stages import schedules
from loadtest.record.run_info import TrafficPlan
from loadtest.scenario import Scenario, Traffic
from loadtest.units import Limit

Draw = Callable[[np.random.Generator, int], Floats]
"""Draws durations in seconds. The second argument is their number."""
_MS: Final = 0.001


@dataclass(frozen=True, slots=True)
class Question:
    """The input of a forecast.

    Attributes:
        retry_after: ratio of a 429's ``Retry-After`` to the true wait. None if 429s do not have this header.
        as_date: whether ``Retry-After`` is a date instead of seconds.
        start: seconds from midnight UTC to the epoch. None if the start is unknown.
        job_s: duration of each workflow in s. If None, ``job_duration`` derives a duration for each entry.
    """

    scenario: Scenario
    plans: Mapping[str, TrafficPlan]
    assumed: AssumedLimits
    retry_after: float | None = None
    as_date: bool = False
    start: float | None = None
    job_s: float | None = None

    @property
    def limits(self) -> Mapping[LimitName, Limit]:
        return self.assumed.limits

    @property
    def phased(self) -> bool:
        """Whether it matters when in a window the run starts (or in a second, if ``Retry-After`` is a date)."""
        return self.assumed.spec.on_clock or (self.retry_after is not None and self.as_date)

    @property
    def held(self) -> bool:
        """Whether the limiters limit concurrency, so that the duration of sync runs matters."""
        return self.assumed.spec.algorithm == CONCURRENCY

    @property
    def end(self) -> float:
        """Seconds from the epoch to the end of the longest entry."""
        return max(plan.stages[-1].end_s for plan in self.plans.values())

    @property
    def random(self) -> bool:
        return any(plan.arrivals == "poisson" for plan in self.plans.values())


@dataclass(frozen=True, slots=True)
class JobDuration:
    """An assumption about the duration of an entry's workflows. ``words`` states it as a clause."""

    words: str
    draw: Draw
    known: bool = True
    """Whether the duration was given or follows from the workflow's parameters. Otherwise it is a guess."""
    varies: bool = False


def job_duration(traffic: Traffic, given_s: float | None = None) -> JobDuration:
    """Return the assumed duration of an entry's workflows.

    ``given_s`` (s) sets the duration. Without it, the parameters of the reference server's ``sleep`` and ``cpu``
    determine the duration. All other workflows are assumed to end at once.
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
        pass  # The server will reject these parameters, so there is no job to poll.
    words = f"its {what} are assumed to be done at once"
    if traffic.operation in POLLED_OPERATIONS:
        words = "its jobs are assumed to be done at their first poll; longer jobs need more polls"
    return JobDuration(words, _constant(0.0), known=False)


def _sleep(parameters: dict[str, Any], what: str) -> JobDuration:
    """Return the duration of the reference server's ``sleep``, with the server's distributions and defaults."""

    def seconds(name: str, default: float) -> float:
        return float(parameters.get(name, default)) * _MS

    def varying(words: str, draw: Draw) -> JobDuration:
        return JobDuration(f"{what} {words}, as its parameters say", draw, varies=True)

    longest = seconds("max_ms", 60_000)
    match parameters.get("distribution"):
        case "uniform":
            low, high = seconds("min_ms", 0), seconds("max_ms", 200)
            return varying(f"take {low:g} to {high:g} s", lambda random, n: low + (high - low) * random.random(n))
        case "exponential":
            mean = seconds("mean_ms", 100)
            return varying(
                f"take {mean:g} s on average",
                lambda random, n: np.minimum(-mean * np.log1p(-random.random(n)), longest),
            )
        case "lognormal":
            middle, sigma = math.log(seconds("median_ms", 100)), float(parameters.get("sigma", 0.5))
            return varying(
                f"have a median of {math.exp(middle):g} s",
                lambda random, n: np.minimum(np.exp(middle + sigma * random.standard_normal(n)), longest),
            )
        case _:
            always = seconds("ms", 100)
            return JobDuration(f"{what} take {always:g} s, as its parameters say", _constant(always))


def _constant(seconds: float) -> Draw:
    return lambda _random, n: np.full(n, seconds)


@dataclass(frozen=True, slots=True)
class PlannedEntry:
    """A traffic entry in the form that a replay needs.

    Attributes:
        stage_number: number of the entry's first stage. Its other stages have the next numbers.
        job: the assumed duration of the entry's workflows. None if the duration does not matter.
        pace: minimum seconds between two polls of the entry. 0 without pacing.
    """

    name: str
    traffic: Traffic
    plan: TrafficPlan
    stage_number: int
    job: JobDuration | None
    pace: float

    @property
    def limit(self) -> int:
        """Index of the limit that the first request of an operation counts against."""
        return LIMIT_NAMES.index(LIMIT_OF_OPERATION[self.plan.operation])


def entries(
    traffic: Mapping[str, Traffic],
    plans: Mapping[str, TrafficPlan],
    assumed: AssumedLimits,
    jobs: Mapping[str, JobDuration],
) -> list[PlannedEntry]:
    """Return all entries of a scenario, with their stages numbered consecutively."""
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
    """All arrivals for one seed, in order of time. A list has an element per arrival unless stated otherwise."""

    seed: int
    times: list[float]
    """Seconds since the epoch."""
    entry: list[int]
    number: list[int]
    """Number of the arrival within its entry."""
    stage_number: list[int]
    durations: list[list[float]]
    """For each entry, the workflow durations of its arrivals in seconds. Empty if they do not matter."""
    mistakes: list[dict[int, str]]
    """For each entry, the numbers of its deliberately wrong arrivals, with the kind of mistake."""


def offer(made: list[PlannedEntry], seed: int, drawn: int = 0) -> Offer:
    """Return the arrivals of a run with the seed ``seed``.

    A run's seed does not determine how long workflows take, so each value of ``drawn`` gives other random durations.
    """
    durations = []
    mistakes = list[dict[int, str]]()
    parts: list[Ints] = [np.zeros((4, 0), np.int64)]
    plans = {entry.name: entry.plan for entry in made}
    traffic = {entry.name: entry.traffic for entry in made}
    for index, (entry, schedule) in enumerate(zip(made, schedules(plans, seed, traffic), strict=True)):
        count = 0
        for first, starts_ns, where in schedule.blocks():
            count = first + len(starts_ns)
            which = np.full(len(starts_ns), index)
            parts.append(np.stack([starts_ns, which, np.arange(first, count), entry.stage_number + where]))
        random = np.random.Generator(np.random.PCG64([seed, zlib.crc32(entry.name.encode()), 1 + drawn]))
        durations.append(entry.job.draw(random, count).tolist() if entry.job else [])
        numbers = range(count if entry.traffic.mistakes.shares else 0)
        kinds = ((number, entry.traffic.mistakes.pick(seed, entry.name, number)) for number in numbers)
        mistakes.append({number: kind for number, kind in kinds if kind is not None})
    arrivals = np.concatenate(parts, axis=1)
    arrivals = arrivals[:, np.argsort(arrivals[0], kind="stable")]
    entry_of, number, stage_number = arrivals[1:].tolist()
    return Offer(seed, (arrivals[0] / 1e9).tolist(), entry_of, number, stage_number, durations, mistakes)
