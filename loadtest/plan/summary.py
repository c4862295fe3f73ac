"""The plan of a run. ``loadtest plan`` prints it, and ``--json`` writes it. Pure."""

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
from loadtest.stats.order_statistics import QUANTILES, needed

SCHEMA_VERSION = 1


class Spread(msgspec.Struct, frozen=True):
    """The mean, minimum and maximum of a value over the replays of a forecast."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Floats) -> Self:
        return cls(float(values.mean()), float(values.min()), float(values.max()))


class StageRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stage of a traffic entry. Rates are per minute, and shares are 0-1. Forecasts are null without a replay."""

    traffic: str
    operation: str
    stage: str
    warmup: bool
    start_s: float
    duration_s: float
    rate_per_min: float
    """Rate at the start of the stage."""
    rate_to_per_min: float
    """Rate at the end of the stage."""
    burst: int
    operations: int
    """Number of operations for this seed; without a replay, the expected number."""
    requests: Spread | None
    """Requests of the stage's operations. Retries and polls are included, even if they are sent after the stage."""
    throttled_rate: Spread | None
    """Share of operations that end in a 429."""
    requests_throttled_rate: Spread | None
    """Share of requests that get a 429."""
    executions: Spread | None
    samples: int | None
    """Number of operations with a response time, in the replay with the fewest."""
    percentiles: list[str]
    """Percentiles that have enough ``samples``."""
    over: list[str]
    """Limits that count the entry's requests and that the planned demand of all traffic exceeds."""
    expect_429: bool


class LimitRow(msgspec.Struct, frozen=True, kw_only=True):
    """The use of a limit by all traffic between two stage boundaries. Retries and polls are included."""

    limit: str
    """The limit's name, or ``all`` if one limit applies to all requests."""
    stage: str
    start_s: float
    end_s: float
    asked_per_min: float
    """Requests/min of all keys."""
    allowed_per_min: float | None
    """Requests/min that the limit accepts from all keys in use. Null for a concurrency limit."""
    busiest_key_per_min: float
    share: float | None
    """Demand on the busiest limiter ÷ its limit. Null for a concurrency limit."""
    throttled_rate: Spread
    """Share of requests that get a 429, in the replays with this seed."""
    chance: float
    """Share of replays with at least one 429. If arrivals are random, these are the replays with other seeds."""


class Wall(msgspec.Struct, frozen=True, kw_only=True):
    """Durations of a run's parts in seconds. Seeding jobs takes additional time before the epoch."""

    warmup_s: float
    stages_s: float
    drain_at_most_s: float


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario's expected demand on its limits, and the expected results."""

    schema: int = SCHEMA_VERSION
    scenario: str
    title: str
    hash: str
    seed: int
    keys: int
    limits: dict[str, str]
    """Limits by name. Rates in units of a limit refer to them. ``all`` is a limit on all requests, if there is one."""
    limiter: str
    """The assumed algorithm."""
    limiter_burst: int | None
    """Number of requests accepted at once. Null for the algorithm's default."""
    limiter_counts_rejected: bool
    limiter_phase_s: float
    """Aligned windows start this many seconds after multiples of a limit's window."""
    limiter_rounds_down: bool
    limit_scope: str
    """The requests that share a limiter, such as those of one key for one limit (``key-and-name``)."""
    start: float | None
    """Start of the run in seconds since midnight UTC, if given."""
    phases: int
    """Number of replays with this seed."""
    replayed_over: Over
    """The variable that replays change: the ``start`` of the run, the ``durations`` of workflows, or ``nothing``."""
    schedules: int
    """Number of replays with other seeds. 0 unless arrivals are random."""
    wall: Wall
    operations: int
    """Number of operations, including the warm-up."""
    requests: Spread | None
    """Number of requests, including set-up, warm-up and drain."""
    executions: Spread | None
    """Number of executed workflows. Each may cost money."""
    price_per_execution: float | None
    cost: Spread | None
    stages: list[StageRow]
    limit_use: list[LimitRow]
    assumptions: list[str]
    warnings: list[Contradiction]
    faults: list[str] = []
    """The embedded target's faults, in words. The forecast ignores them."""


def make_plan(question: Question, name: str, keys: int, price: float | None = None) -> Plan:
    """Plan a run of a scenario with ``keys`` API keys. ``price`` is the price of one execution."""
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
        limiter_phase_s=question.assumed.spec.phase,
        limiter_rounds_down=question.assumed.spec.round_down,
        limit_scope=question.assumed.spec.scope,
        start=question.start,
        phases=len(found.phases),
        replayed_over=found.over,
        schedules=len(found.others),
        wall=Wall(warmup_s=scenario.warmup, stages_s=question.end - scenario.warmup, drain_at_most_s=scenario.drain),
        operations=sum(found.operations),
        requests=_spread([seen.requests.sum() for seen in found.phases]),
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
        percentiles=[name for name, quantile in QUANTILES.items() if (n or 0) >= needed(quantile)],
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
        allowed = assumed.rate_on(name) * 60  # of one limiter
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
                chance=float(np.mean([seen.stretch_rejected[on, at].any() for seen in found.others or found.phases])),
            )
        )
    return rows


def _assumptions(question: Question, found: Forecast) -> list[str]:
    assumed = question.assumed
    only_runs = "submits and retrievals take no time, so only sync runs occupy the limit"
    times = only_runs if assumed.spec.algorithm == CONCURRENCY else "responses take no time"
    notes = [f"Assumed: the limiter is {assumed.words}, and {times}. The documentation specifies neither."]
    if assumed.one_for_all:
        notes.append(
            f"All requests share one limit, {assumed.limit_all}. Rates in units of a limit refer to the named limits."
        )
    notes += [f"{entry.name}: {entry.job.words}." for entry in found.made if entry.job is not None]
    delays = {
        e.name: max((seen.longest_delay[i] for seen in found.phases), default=0) for i, e in enumerate(found.made)
    }
    if waits := [f"those of {name} up to {longest:.3g} s" for name, longest in delays.items() if longest > 0]:
        notes.append(f"The limiter may delay accepted requests: {', '.join(waits)}.")
    retries = [each.retry.policy for each in question.scenario.traffic.values()]
    if "retry_after" in retries and question.retry_after is None:
        notes.append("Assumed: no 429 has a Retry-After, so the policy backs off exponentially.")
    elif "retry_after" in retries and question.retry_after != 1:
        notes.append(f"Assumed: Retry-After is {question.retry_after:g} times the true wait.")
    if found.why_not:
        notes.append(found.why_not)
    elif any(each.user for each in question.scenario.traffic.values()):
        notes.append("Assumed: the scenario's user classes send the same requests as the built-in classes.")
    return notes


def _spread(values: Floats | list[Any]) -> Spread | None:
    return Spread.of(np.asarray(values)) if len(values) else None
