"""A forecast of a run. Its schedule is replayed at several phases of the limits' windows. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np

from loadtest.arrays import Floats
from loadtest.contract import LIMIT_NAMES, POLLED_OPERATIONS, Operation
from loadtest.plan.offer import JobDuration, Offer, PlannedEntry, Question, entries, job_duration, offer
from loadtest.plan.replay import OfferReplay, ReplayCounts
from loadtest.plan.stages import stage_at
from loadtest.record.run_info import TrafficPlan

PHASES: Final = 24
SEEDS: Final = 200
_BUDGET: Final = 600_000
"""All phases together replay at most this many requests (about a second). The same holds for all seeds together."""
MAX_REPLAYED: Final = 1_500_000
"""If even the smallest useful set of replays has more arrivals than this (about 4 s), they are only counted."""
_FEWEST_PHASES, _FEWEST_SEEDS = 3, 4
_GOLDEN: Final = (math.sqrt(5) - 1) / 2
Over = Literal["start", "durations", "nothing"]
"""What differs between the replays of a schedule: the start of the run, or the durations of its workflows."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A period between two stage boundaries, in s since the epoch. Its name joins the names of its stages."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """The replays of a scenario.

    Attributes:
        stretches: the periods between stage boundaries, without the warm-up.
        operations: exact number of arrivals by stage.
        phases: replays of this schedule, which differ in ``over``. Empty if no replay was possible.
        others: replays with other seeds. Empty unless arrivals are random.
        over: the variable that differs between the phases.
        why_not: a sentence that says why no replay was possible. Empty otherwise.
    """

    made: list[PlannedEntry]
    stretches: list[Stretch]
    operations: list[int]
    phases: list[ReplayCounts]
    others: list[ReplayCounts]
    over: Over = "nothing"
    why_not: str = ""

    def stage_numbers(
        self, traffic: str | None = None, operation: str | None = None, stage: str | None = None
    ) -> list[int]:
        return [
            entry.stage_number + index
            for entry in self.made
            for index, each in enumerate(entry.plan.stages)
            if traffic in (None, entry.name)
            and operation in (None, entry.plan.operation)
            and stage in (None, each.name)
            and not each.warmup
        ]

    def counts(self, name: str, stage_numbers: list[int]) -> Floats:
        """Sum a count of ``ReplayCounts`` over some stages, for each phase."""
        return np.array([getattr(seen, name)[stage_numbers].sum() for seen in self.phases], float)

    def share(self, part: str, whole: str, stage_numbers: list[int]) -> Floats:
        """Divide a count by another for each phase. The share is 0 if ``whole`` is 0."""
        return self.counts(part, stage_numbers) / np.maximum(self.counts(whole, stage_numbers), 1)

    def chance(self, limits: list[int], stretch: int) -> float:
        """Return the share of replays in which one of ``limits`` (indices) rejects a request in a stretch."""
        seen = self.others or self.phases
        return float(np.mean([each.stretch_rejected[limits, stretch].any() for each in seen]))


def forecast(question: Question, most_seeds: int = SEEDS) -> Forecast:
    """Replay a run. Random arrivals are also replayed with at most ``most_seeds`` other seeds.

    The phase of the server's windows is unknown before a run. The schedule is therefore replayed at many phases, which
    are spread evenly over the longest window. If the start is given, or if there are no windows, one replay suffices.
    If only concurrency is limited, the replays change the unknown durations of workflows instead.
    """
    scenario = question.scenario
    made = entries(scenario.traffic, question.plans, question.assumed, _durations(question))
    stretches = _stretches(question.plans)
    if why_not := _unforeseeable(question, made):
        counted = [round(stage.arrivals) for entry in made for stage in entry.plan.stages]
        return Forecast(made, stretches, counted, [], [], why_not=why_not)
    edges = [stretches[0].start, *(each.end for each in stretches)]
    longest = max(question.assumed.limit_on(name).window for name in LIMIT_NAMES)

    def replayed(offered: Offer, number: int) -> ReplayCounts:
        # A low-discrepancy sequence covers the longest window evenly, and also the shorter windows within it.
        phase = longest * (1 + (0.5 + number * _GOLDEN) % 1)
        return OfferReplay(question, made, offered, phase if question.start is None else question.start).run(edges)

    offered = offer(made, scenario.seed)
    phases = [replayed(offered, 0)]
    affordable = _BUDGET // max(1, phases[0].total)
    over: Over = "start" if question.phased and question.start is None else "nothing"
    if question.held and any(entry.job.varies for entry in made if entry.job is not None):
        over = "durations"
    phases += [
        replayed(offer(made, scenario.seed, number) if over == "durations" else offered, number)
        for number in range(1, min(PHASES, max(_FEWEST_PHASES, affordable)) if over != "nothing" else 1)
    ]
    # These seeds are far from the seeds that users choose, so no schedule is replayed twice.
    seeds = range(2**40, 2**40 + (min(most_seeds, max(_FEWEST_SEEDS, affordable)) if question.random else 0))
    others = [replayed(offer(made, seed), number) for number, seed in enumerate(seeds)]
    return Forecast(made, stretches, phases[0].operations[:-1].tolist(), phases, others, over)


def _durations(question: Question) -> dict[str, JobDuration]:
    return {
        name: job_duration(each, question.job_s)
        for name, each in question.scenario.traffic.items()
        if each.operation in POLLED_OPERATIONS or (each.operation == Operation.SYNC_RUN and question.held)
    }


def _unforeseeable(question: Question, made: list[PlannedEntry]) -> str:
    """Return a sentence that says why no replay is possible. It is empty if a replay is possible."""
    fewest = _FEWEST_PHASES + (_FEWEST_SEEDS if question.random else 0)
    arrivals = sum(stage.arrivals for plan in question.plans.values() for stage in plan.stages)
    if arrivals * fewest > MAX_REPLAYED:
        return "There are too many arrivals to replay, so they were only counted."
    unknown = [e.name for e in made if e.plan.operation == Operation.SYNC_RUN and e.job is not None and not e.job.known]
    if unknown:
        return (
            "Rejections by a concurrency limit depend on the duration of requests, which is unknown for the runs of "
            f"{' and '.join(unknown)}: arrivals were only counted. Use --job-duration."
        )
    return ""


def _stretches(plans: Mapping[str, TrafficPlan]) -> list[Stretch]:
    stages = [stage for plan in plans.values() for stage in plan.stages if not stage.warmup]
    edges = sorted({edge for stage in stages for edge in (stage.start_s, stage.end_s)})
    found = []
    for start, end in pairwise(edges):
        under_way = [stage_at(plan, (start + end) / 2) for plan in plans.values()]
        on = dict.fromkeys(stage.name for stage in under_way if stage is not None and not stage.warmup)
        found.append(Stretch(" + ".join(on), start, end))
    return found
