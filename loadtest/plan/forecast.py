"""A forecast of a run, from replays of its schedule through the assumed limiters, with retries and polls. Pure.

A replay assumes that answers come and jobs start at once, with two exceptions. A limiter that queues requests delays
their answers. Under a concurrency limit, a ``sync_run`` is answered when its workflow ends.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from typing import Final, Literal, NamedTuple

import numpy as np

from loadtest.arrays import Floats, Ints
from loadtest.contract import (
    JOB_OPERATIONS,
    LIMIT_NAMES,
    OPERATIONS,
    POLLED_OPERATIONS,
    LimitName,
    Operation,
    RequestKind,
)
from loadtest.limits import Decision, Limiter
from loadtest.plan.offer import Offer, PlannedEntry, Question, entries, job_duration, offer
from loadtest.record.run_info import TrafficPlan
from loadtest.seeded_random import seeded_random

PHASES: Final = 24
SEEDS: Final = 200
_BUDGET: Final = 600_000
"""More phases than ``_FEWEST_PHASES`` are replayed only if they have at most this many requests in all (about 1 s).

The same holds for other seeds and ``_FEWEST_SEEDS``."""
MAX_REPLAYED: Final = 1_500_000
"""If even the fewest phases and seeds would replay more arrivals than this (about 4 s), nothing is replayed."""
_FEWEST_PHASES, _FEWEST_SEEDS = 3, 4
_GOLDEN: Final = (math.sqrt(5) - 1) / 2
Over = Literal["start", "durations", "nothing"]
"""The variable that changes between the replays of a schedule: the run's start, or the durations of workflows."""
SETUP_S: Final = -0.5
"""Jobs are assumed to be seeded at this time, in s since the epoch."""
_LIMIT_COUNT: Final = len(LIMIT_NAMES)
_RETRIEVAL: Final = LIMIT_NAMES.index(LimitName.RETRIEVAL)


class _Operation(NamedTuple):
    entry: int
    number: int
    stage_number: int


_Due = tuple[float, int, _Operation, int, float | None]
"""Future retries and polls: the time, a serial number that orders equal times, the operation, its attempts or polls
so far, and the time when its submit was answered (None for a retry). They are tuples,
because a replay may create millions."""


@dataclass(frozen=True, slots=True)
class ReplayCounts:
    """The counts of a replay. Unless stated otherwise, an array has a value per stage and a last value for the set-up.

    Attributes:
        throttled: operations that ended in a 429.
        dropped: operations without a job to retrieve.
        rejected: 429s.
        asked: requests by limit, ``Stretch`` and key.
        stretch_rejected: 429s by limit and stretch.
        longest_delay: longest wait of a request in a limiter's queue, in s, by entry.
    """

    operations: Ints
    throttled: Ints
    dropped: Ints
    executions: Ints
    requests: Ints
    rejected: Ints
    asked: Ints
    stretch_rejected: Ints
    longest_delay: Floats


class _Replay:
    """A replay of an offer. Call ``run`` only once. ``epoch`` (unix s) sets the phase of the limiters' windows."""

    def __init__(self, question: Question, entries: list[PlannedEntry], offer: Offer, epoch: float) -> None:
        self._question = question
        self._entries = entries
        self._offer = offer
        self._epoch = epoch
        self._end = question.end + question.scenario.drain
        """No request is sent after this time, in s since the epoch."""
        self._keys = max(entry.plan.keys.stop for entry in entries)
        self._stage_count = sum(len(entry.plan.stages) for entry in entries)
        self._limiters = question.assumed.limiters(self._keys)
        self._held = question.held
        self._releases: list[tuple[float, int, Limiter]] = []
        self._delays = [0.0] * len(entries)
        self._times: list[float] = []
        self._codes: list[int] = []
        """Stage, limit, rejection and key of each request, encoded in one number."""
        counts = ([0] * (self._stage_count + 1) for _ in range(4))
        self._throttled, self._dropped, self._executions, self._unlimited = counts
        self._made = [0] * self._keys
        self._due: list[_Due] = []
        self._serial = 0
        self._next_slot = [0.0] * len(entries)
        pollings = [entry.traffic.polling for entry in entries]
        self._intervals = [None if each.jitter or each.policy != "fixed" else each.wait(1, 1.0) for each in pollings]
        """Seconds between two polls of a job, by entry. None if the interval varies."""

    def run(self, edges: list[float]) -> ReplayCounts:
        """Run the replay. ``edges`` are the boundaries of the stretches in ascending order."""
        self._set_up()
        due, offer = self._due, self._offer
        for time, *operation in zip(offer.times, offer.entry, offer.number, offer.stage_number, strict=True):
            while due and due[0][0] <= time:
                self._wake(heappop(due))
            self._first(time, _Operation(*operation), 1)
        while due:
            self._wake(heappop(due))
        return self._seen(edges)

    def _set_up(self) -> None:
        for entry in self._entries:
            if entry.plan.operation in JOB_OPERATIONS and entry.traffic.job_ids == "seeded":
                for number in range(max(entry.traffic.seed_jobs, entry.plan.key_count)):
                    key = entry.plan.keys[number % entry.plan.key_count]
                    for limit in (LIMIT_NAMES.index(LimitName.ASYNC_SUBMIT), _RETRIEVAL):
                        self._release(limit, key, SETUP_S, self._ask(limit, key, SETUP_S, self._stage_count))
                    self._executions[self._stage_count] += 1

    def _ask(self, limit: int, key: int, time: float, stage_number: int) -> Decision:
        while self._releases and self._releases[0][0] <= time:
            at, _, limiter = heappop(self._releases)
            limiter.release(self._epoch + at)
        decision = self._limiters[limit][key].decide(self._epoch + time)
        self._times.append(time)
        code = (stage_number * _LIMIT_COUNT + limit) * 2 + (not decision.allowed)
        self._codes.append(code * self._keys + key)
        return decision

    def _release(self, limit: int, key: int, time: float, decision: Decision) -> None:
        if self._held and decision.allowed:
            self._serial += 1
            heappush(self._releases, (time, self._serial, self._limiters[limit][key]))

    def _key(self, operation: _Operation) -> int:
        entry = self._entries[operation.entry]
        return entry.plan.key_start + entry.traffic.key_number(operation.number) % entry.plan.key_count

    def _first(self, time: float, operation: _Operation, attempt: int) -> None:
        index, number, stage_number = operation
        entry, key = self._entries[index], self._key(operation)
        about_job = entry.plan.operation in JOB_OPERATIONS
        mistake = self._offer.mistakes[index].get(number)
        if mistake == "bad_key" or (mistake is not None and self._question.assumed.draws == "valid"):
            self._unlimited[stage_number] += 1
        elif about_job and mistake is None and entry.traffic.job_ids == "run" and not self._made[key]:
            self._dropped[stage_number] += 1
        elif not (decision := self._ask(entry.limit, key, time, stage_number)).allowed:
            self._again(time, operation, attempt, decision)
        else:
            self._accepted(time, operation, key, decision, runs=mistake is None and not about_job)

    def _again(self, time: float, operation: _Operation, attempt: int, decision: Decision) -> None:
        entry = self._entries[operation.entry]
        drawn = self._draw(operation, "backoff", attempt) if entry.traffic.retry.jitter else 1.0
        wait = entry.traffic.retry.wait(attempt, drawn, self._retry_after_s(time, decision))
        if wait is None:
            self._throttled[operation.stage_number] += 1
        else:
            self._push(time + wait, operation, attempt, None)

    def _retry_after_s(self, time: float, decision: Decision) -> float | None:
        """Return the whole seconds that a 429's ``Retry-After`` states, or None if it has no such header."""
        if self._question.retry_after is None:
            return None
        # A concurrency limit does not know the wait. The reference server then states one second.
        wait = (decision.retry_after or 1.0) * self._question.retry_after
        now = self._epoch + time
        # From a date, a client subtracts the response's ``Date`` header, which is rounded down to the second.
        return float(math.ceil(now + wait) - math.floor(now)) if self._question.as_date else float(math.ceil(wait))

    def _accepted(self, time: float, operation: _Operation, key: int, decision: Decision, *, runs: bool) -> None:
        entry, durations = self._entries[operation.entry], self._offer.durations[operation.entry]
        sync = entry.plan.operation == Operation.SYNC_RUN
        takes = durations[operation.number] if runs and sync and durations else 0.0
        self._release(entry.limit, key, time + min(takes, entry.traffic.timeout), decision)
        # A client gives up a request that waits in a limiter's queue for longer than the time-out.
        if self._waits(operation, decision) and runs:
            self._executions[operation.stage_number] += 1
            if not sync:
                self._made[key] += 1
            if RequestKind.POLL in OPERATIONS[entry.plan.operation]:
                self._poll_later(time + decision.delay, operation, 0, time + decision.delay)

    def _waits(self, operation: _Operation, decision: Decision) -> bool:
        """Record a limiter's delay, and return whether it is within the client's time-out."""
        self._delays[operation.entry] = max(self._delays[operation.entry], decision.delay)
        return decision.delay <= self._entries[operation.entry].traffic.timeout

    def _poll_later(self, now: float, operation: _Operation, polled: int, accepted: float) -> None:
        entry = self._entries[operation.entry]
        polling = entry.traffic.polling
        if (wait := self._intervals[operation.entry]) is None:
            wait = polling.wait(polled + 1, self._draw(operation, "poll", polled + 1) if polling.jitter else 1.0)
        time = now + wait
        last = accepted + polling.give_up
        if entry.pace and time <= last:
            time = max(time, self._next_slot[operation.entry])
            self._next_slot[operation.entry] = time + entry.pace
        # A poll at the last moment is still sent, although rounding may put it slightly later.
        if time <= last + 1e-9:
            self._push(time, operation, polled, accepted)

    def _draw(self, operation: _Operation, what: str, number: int) -> float:
        return seeded_random(self._offer.seed, self._entries[operation.entry].name, operation.number, what, number)

    def _push(self, time: float, operation: _Operation, tried: int, accepted: float | None) -> None:
        if time <= self._end:
            self._serial += 1
            heappush(self._due, (time, self._serial, operation, tried, accepted))

    def _wake(self, due: _Due) -> None:
        time, _, operation, tried, accepted = due
        if accepted is None:
            self._first(time, operation, tried + 1)
            return
        index, number, stage_number = operation
        entry, key = self._entries[index], self._key(operation)
        decision = self._ask(_RETRIEVAL, key, time, stage_number)
        if self._held:
            self._release(_RETRIEVAL, key, time, decision)
        answered = time + min(decision.delay, entry.traffic.timeout) if decision.delay else time
        done = decision.allowed and (not decision.delay or self._waits(operation, decision))
        if not (done and answered >= accepted + self._offer.durations[index][number]):
            self._poll_later(answered, operation, tried + 1, accepted)

    def _seen(self, edges: list[float]) -> ReplayCounts:
        names, stage_numbers, stretches = _LIMIT_COUNT, self._stage_count + 1, len(edges) - 1
        codes, keys = np.divmod(np.array(self._codes, np.int64), self._keys)
        times = np.array(self._times)
        by_stage = np.bincount(codes, minlength=stage_numbers * names * 2).reshape(stage_numbers, names, 2)
        stretch = np.searchsorted(edges, times, side="right") - 1
        inside = (stretch >= 0) & (stretch < stretches) & (codes < self._stage_count * names * 2)
        limit, rejected = codes // 2 % names, codes % 2 == 1
        place = (limit * stretches + stretch) * self._keys + keys
        asked = np.bincount(place[inside], minlength=names * stretches * self._keys)
        stopped = np.bincount(place[inside & rejected] // self._keys, minlength=names * stretches)
        return ReplayCounts(
            operations=np.bincount(np.array(self._offer.stage_number, np.int64), minlength=stage_numbers),
            throttled=np.array(self._throttled),
            dropped=np.array(self._dropped),
            executions=np.array(self._executions),
            requests=by_stage.sum(axis=(1, 2)) + np.array(self._unlimited),
            rejected=by_stage[:, :, 1].sum(axis=1),
            asked=asked.reshape(names, stretches, self._keys),
            stretch_rejected=stopped.reshape(names, stretches),
            longest_delay=np.array(self._delays),
        )


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
        operations: number of arrivals by stage; the expected number if no replay was possible.
        phases: replays with the scenario's seed. Empty if no replay was possible.
        over: the variable that changes between the ``phases``.
        others: replays with other seeds. Empty unless arrivals are random.
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


def forecast(question: Question, most_seeds: int = SEEDS) -> Forecast:
    """Replay a run. Random arrivals are also replayed with at most ``most_seeds`` other seeds.

    The phase of the server's windows is unknown before a run. The schedule is therefore replayed at many phases, which
    are spread evenly over the longest window. If the start is given, or does not matter, one replay suffices.
    Under a concurrency limit, the replays change the random durations of workflows instead.
    """
    scenario = question.scenario
    durations = {
        name: job_duration(each, question.job_s)
        for name, each in scenario.traffic.items()
        if each.operation in POLLED_OPERATIONS or (each.operation == Operation.SYNC_RUN and question.held)
    }
    made = entries(scenario.traffic, question.plans, question.assumed, durations)
    stretches = _stretches(question.plans)
    if why_not := _unforeseeable(question, made):
        counted = [round(stage.arrivals) for entry in made for stage in entry.plan.stages]
        return Forecast(made, stretches, counted, [], [], why_not=why_not)
    edges = [stretches[0].start, *(each.end for each in stretches)]
    longest = max(question.assumed.limit_on(name).window for name in LIMIT_NAMES)

    def replayed(offered: Offer, number: int) -> ReplayCounts:
        # Steps by the golden ratio spread any number of phases evenly over the longest window, and over shorter ones.
        phase = longest * (1 + (0.5 + number * _GOLDEN) % 1)
        return _Replay(question, made, offered, phase if question.start is None else question.start).run(edges)

    offered = offer(made, scenario.seed)
    phases = [replayed(offered, 0)]
    affordable = _BUDGET // max(1, int(phases[0].requests.sum()))
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


def _unforeseeable(question: Question, made: list[PlannedEntry]) -> str:
    """Return a sentence that says why no replay is possible; empty if a replay is possible."""
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
        under_way = [plan.stage_at((start + end) / 2) for plan in plans.values()]
        on = dict.fromkeys(stage.name for stage in under_way if stage is not None and not stage.warmup)
        found.append(Stretch(" + ".join(on), start, end))
    return found
