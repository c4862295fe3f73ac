"""A plan as a finished value: what ``loadtest plan`` prints and ``--json`` holds. Pure."""

import itertools
import math
from typing import Any, Self

import msgspec
import numpy as np

from loadtest.arrays import Floats
from loadtest.assumed_limits import CONCURRENCY
from loadtest.contract import ALL, LIMIT_NAMES, LIMITS_OF_OPERATION, Outcome
from loadtest.plan.contradictions import Contradiction, contradictions, samples
from loadtest.plan.forecast import Forecast, Over, forecast
from loadtest.plan.offer import PlannedEntry, Question
from loadtest.scenario import scenario_hash
from loadtest.stats.order_statistics import carried

SCHEMA_VERSION = 1


class Spread(msgspec.Struct, frozen=True):
    """A figure over the phases of the server's windows: its mean, and its extremes."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Floats) -> Self:
        """The figure of each phase."""
        return cls(float(values.mean()), float(values.min()), float(values.max()))


class StageRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stage of a traffic entry. Rates are per minute, shares 0-1; null where nothing could be replayed."""

    traffic: str
    operation: str
    stage: str
    warmup: bool
    start_s: float
    duration_s: float
    rate_per_min: float
    """At its start."""
    rate_to_per_min: float
    """At its end."""
    burst: int
    operations: int
    """Exactly those that will be offered, for this seed."""
    requests: Spread | None
    """Retries and polls included, whenever they are sent."""
    throttled_rate: Spread | None
    """Operations that end in a 429 ÷ operations."""
    requests_throttled_rate: Spread | None
    """429s ÷ requests."""
    executions: Spread | None
    samples: int | None
    """Latencies: the fewest over all phases."""
    percentiles: list[str]
    """Those that so many samples can carry."""
    over: list[str]
    """Limits that all traffic together is planned to pass in it."""
    expect_429: bool


class LimitRow(msgspec.Struct, frozen=True, kw_only=True):
    """A limit in a stretch between two stage boundaries: all traffic together, retries and polls included."""

    limit: str
    """Its name; ``all`` where one limit holds for all requests."""
    stage: str
    start_s: float
    end_s: float
    asked_per_min: float
    """By all keys together."""
    allowed_per_min: float | None
    """To all keys that ask, together; null where no rate is limited, but concurrency."""
    busiest_key_per_min: float
    share: float | None
    """What the busiest limiter is asked ÷ what it allows: by one key where each has its own, else by all together."""
    throttled_rate: Spread
    """429s ÷ requests, of this very schedule."""
    chance: float
    """Of any 429: over the phases of the windows that were replayed, and where arrivals are random over other seeds."""


class Wall(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that a run takes, from its epoch; seeding jobs comes before it."""

    warmup_s: float
    stages_s: float
    drain_at_most_s: float


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of a scenario will ask of its limits, and what is to be expected of them."""

    schema: int = SCHEMA_VERSION
    scenario: str
    title: str
    hash: str
    seed: int
    keys: int
    limits: dict[str, str]
    """By limit name; rates in units of a limit refer to these. ``all``: the one in force, where it is one for all."""
    limiter: str
    """The assumed algorithm."""
    limiter_burst: int | None
    """Requests that may pass at once; null for the algorithm's own default."""
    limiter_counts_rejected: bool
    limit_scope: str
    """What one limiter counts."""
    start: float | None
    """Seconds since midnight UTC, where it was told."""
    phases: int
    """Replays of this schedule."""
    replayed_over: Over
    """What these differ in: the moment at which a run ``start``s, the ``durations`` of its runs, or ``nothing``."""
    schedules: int
    """Replays of schedules of other seeds; 0 where no arrival is random."""
    wall: Wall
    operations: int
    """Warm-up included."""
    requests: Spread | None
    """Set-up, warm-up and drain included."""
    executions: Spread | None
    """Workflows that will be run: these may cost money."""
    price_per_execution: float | None
    cost: Spread | None
    stages: list[StageRow]
    limit_use: list[LimitRow]
    assumptions: list[str]
    warnings: list[Contradiction]
    faults: list[str] = []
    """How the embedded target will misbehave, in words; the forecast is of one that doesn't."""


def make_plan(question: Question, name: str, keys: int, price: float | None = None) -> Plan:
    """Plan a scenario of a name and so many keys, without sending anything; ``price`` is that of one execution."""
    found = forecast(question)
    scenario = question.scenario
    executions = _spread([seen.executions.sum() for seen in found.phases])
    return Plan(
        scenario=name,
        title=scenario.title,
        hash=scenario_hash(scenario),
        seed=scenario.seed,
        keys=keys,
        limits={limit: str(question.limits[limit]) for limit in LIMIT_NAMES}
        | ({ALL: str(question.assumed.limit_all)} if question.assumed.limit_all else {}),
        limiter=question.assumed.spec.algorithm,
        limiter_burst=question.assumed.spec.burst,
        limiter_counts_rejected=question.assumed.spec.count_rejected,
        limit_scope=question.assumed.spec.scope,
        start=question.start,
        phases=len(found.phases),
        replayed_over=found.over,
        schedules=len(found.others),
        wall=Wall(warmup_s=scenario.warmup, stages_s=question.end - scenario.warmup, drain_at_most_s=scenario.drain),
        operations=sum(found.operations),
        requests=_spread([seen.total for seen in found.phases]),
        executions=executions,
        price_per_execution=price,
        cost=None
        if executions is None or price is None
        else Spread(executions.mean * price, executions.low * price, executions.high * price),
        stages=[_stage_row(found, entry, index) for entry in found.made for index in range(len(entry.plan.stages))],
        limit_use=_limit_use(question, found),
        assumptions=_assumptions(question, found),
        warnings=contradictions(question, found),
    )


def _stage_row(found: Forecast, entry: PlannedEntry, index: int) -> StageRow:
    stage = entry.plan.stages[index]
    stage_numbers = [entry.stage_number + index]
    n = samples(found, stage_numbers) if found.phases else None
    return StageRow(
        traffic=entry.name,
        operation=entry.plan.operation,
        stage=stage.name,
        warmup=stage.warmup,
        start_s=stage.start_s,
        duration_s=stage.duration_s,
        rate_per_min=stage.rate * 60,
        rate_to_per_min=stage.rate_to * 60,
        burst=stage.burst,
        operations=found.operations[stage_numbers[0]],
        requests=_spread(found.counts("requests", stage_numbers)),
        throttled_rate=_spread(found.share(Outcome.THROTTLED, "operations", stage_numbers)),
        requests_throttled_rate=_spread(found.share("rejected", "requests", stage_numbers)),
        executions=_spread(found.counts("executions", stage_numbers)),
        samples=n,
        percentiles=carried(n or 0),
        over=list(stage.over),
        expect_429=stage.expect_429,
    )


def _limit_use(question: Question, found: Forecast) -> list[LimitRow]:
    assumed, rows = question.assumed, []
    names = dict.fromkeys(assumed.drawn_on(name) for name in LIMIT_NAMES)
    places = itertools.product(enumerate(found.stretches), names if found.phases else ())
    for (at, stretch), name in places:
        counted, minutes = assumed.together(name), (stretch.end - stretch.start) / 60
        on = [LIMIT_NAMES.index(each) for each in counted]
        asked = np.array([seen.asked[on, at].sum(axis=0) for seen in found.phases])
        if not asked.any():
            continue
        rejected = np.array([seen.stretch_rejected[on, at].sum() for seen in found.phases])
        drawing = [plan for plan in question.plans.values() if {*counted} & {*LIMITS_OF_OPERATION[plan.operation]}]
        # Of one limiter, a minute.
        allowed = assumed.rate_on(name) * 60
        busiest, total = float(asked.mean(axis=0).max()) / minutes, float(asked.sum(axis=1).mean()) / minutes
        limited = math.isfinite(allowed)
        quotas = assumed.quotas(len({key for plan in drawing for key in plan.keys}))
        rows.append(
            LimitRow(
                limit=name,
                stage=stretch.name,
                start_s=stretch.start,
                end_s=stretch.end,
                asked_per_min=total,
                allowed_per_min=allowed * quotas if limited else None,
                busiest_key_per_min=busiest,
                share=(busiest if assumed.per_key else total) / allowed if limited else None,
                throttled_rate=Spread.of(rejected / np.maximum(asked.sum(axis=1), 1)),
                chance=found.chance(on, at),
            )
        )
    return rows


def _assumptions(question: Question, found: Forecast) -> list[str]:
    assumed = question.assumed
    notes = [f"Assumed: the limiter is {assumed.words}, and answers come at once. The documentation says neither."]
    if assumed.one_for_all:
        notes.append(f"One limit holds, {assumed.limit_all}; rates in units of a limit still refer to the named ones.")
    notes += [f"{entry.name}: {entry.job.words}." for entry in found.made if entry.job is not None]
    if assumed.spec.algorithm == CONCURRENCY:
        notes.append("Assumed: submits and retrievals are answered at once, so that only runs occupy the limit.")
    delays = {
        e.name: max((seen.longest_delay[i] for seen in found.phases), default=0) for i, e in enumerate(found.made)
    }
    if waits := [f"those of {name} up to {longest:.3g} s" for name, longest in delays.items() if longest > 0]:
        notes.append(f"The limiter may delay accepted requests: {', '.join(waits)}.")
    retries = [each.retry.policy for each in question.scenario.traffic.values()]
    if "retry_after" in retries and question.retry_after is None:
        notes.append("Assumed: no 429 has a Retry-After, so that the policy backs off exponentially.")
    elif "retry_after" in retries and question.retry_after != 1:
        notes.append(f"Assumed: Retry-After is {question.retry_after:g} times the true wait.")
    if found.why_not:
        notes.append(found.why_not)
    elif any(each.user for each in question.scenario.traffic.values()):
        notes.append("Assumed: the scenario's own user classes send what the built-in ones send.")
    return notes


def _spread(values: Floats | list[Any]) -> Spread | None:
    """None where nothing was replayed."""
    return Spread.of(np.asarray(values)) if len(values) else None
