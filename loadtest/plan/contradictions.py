"""Contradictions in a plan. Each names the scenario's key, the problem and a remedy. Pure."""

import math
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
import numpy as np

from loadtest.contract import (
    LIMIT_NAMES,
    LIMIT_OF_OPERATION,
    LIMITS_OF_OPERATION,
    POLLED_OPERATIONS,
    ErrorCode,
    LimitName,
    Outcome,
)
from loadtest.plan.forecast import Forecast
from loadtest.plan.offer import Question
from loadtest.plan.stages import MAX_USERS, operation_deadline, rate_at, traffic_plans, wanted_users
from loadtest.reference_settings import BUILT_IN_WORKFLOWS
from loadtest.scenario import Scenario
from loadtest.stats.order_statistics import QUANTILES, needed
from loadtest.threshold import Threshold
from loadtest.words import duration_ms, limited, nearest, times_as

_SENT_LAGS: Final = ("start_lag", "dispatch_lag")
"""These times exist for every operation that was sent. All other times exclude throttled operations."""
_OF_DURATION: Final = frozenset({"window", "percentile", "threshold"})
_GONE: Final = ErrorCode.UNKNOWN_WORKFLOW.status
_DRAWS: Final = 1001
"""An entry's median job duration is computed from this many random durations."""
_SAME: Final = 0.01
"""``_windows`` skips entries within the limits if the run's start changes their share of 429s by at most this."""
_OF_PROCESS: Final = 8_000
"""Requests/s that one process can send on one core (docs/scale.md)."""
_OF_MASTER: Final = 28_000
"""Requests/s that a master can record for its workers (docs/scale.md)."""
_BEFORE_S: Final = 1e-6
"""A stage's final rate is taken this many seconds before its end, because at its end the next stage begins."""
_REFUSALS: Final[dict[str, tuple[str, str | None]]] = {
    "throttled_rate": (Outcome.THROTTLED, "operations"),
    "operations.throttled": (Outcome.THROTTLED, None),
    "requests.throttled_rate": ("rejected", "requests"),
    "requests.throttled": ("rejected", None),
}
"""Metrics that 429s determine. The values name the metric's count in ``ReplayCounts`` and, for a share, its divisor."""


class Contradiction(msgspec.Struct, frozen=True, kw_only=True):
    """A problem of a plan: two of its parts do not fit together."""

    kind: str
    """``workflow``, ``retrievals``, ``polls``, ``retry``, ``percentile``, ``pool``, ``window``, ``threshold``,
    ``multiplier``, ``wait``, ``polling``, ``generator``, ``budget``."""
    key: str
    """Dotted key in the scenario. Stages have their names in the plan, and thresholds their numbers (from 0)."""
    message: str
    remedy: str


def contradictions(question: Question, forecast: Forecast) -> list[Contradiction]:
    """Return all contradictions of a plan, without duplicates."""
    found = [
        *unknown_workflows(question.scenario),
        *_multiplier(question),
        *_generator(question),
        *_pools(question),
        *_retries(question),
    ]
    if forecast.phases:
        found += [*_waits(forecast), *_read_back(question, forecast), *_seldom_polled(forecast)]
        # With a throttle fault, the limits alone do not determine the 429s.
        throttles = any(fault.kind == "throttle" for fault in question.scenario.target.settings.fault)
        for number, entry in enumerate(question.scenario.threshold):
            threshold, key = entry.parsed, f"threshold.{number}"
            numbers = forecast.stage_numbers(threshold.traffic, threshold.operation, threshold.stage)
            found += _windows(question, forecast, threshold)
            found += _percentiles(forecast, threshold, numbers, key)
            found += [] if throttles else _decided(forecast, threshold, numbers, key)
    return list(dict.fromkeys(found))


def spoilt_by_duration(found: Iterable[Contradiction]) -> list[Contradiction]:
    """Return the contradictions that may come from stages that are too short."""
    return [each for each in found if each.kind in _OF_DURATION]


def unknown_workflows(scenario: Scenario) -> Iterator[Contradiction]:
    """Yield a contradiction for each entry whose workflow the reference API does not have.

    Entries that expect a status, or a 404 in a stage, are skipped. Nothing is yielded if the scenario names modules of
    workflows, because only the target knows the workflows in these modules.
    """
    if scenario.target.settings.workflows:
        return
    for name, traffic in scenario.traffic.items():
        meant = traffic.expect.status is not None or any(_GONE in stage.expect for stage in traffic.stages)
        if traffic.workflow is None or traffic.workflow in BUILT_IN_WORKFLOWS or meant:
            continue
        near = nearest(traffic.workflow, BUILT_IN_WORKFLOWS)
        hint = f"Did you mean {near}?" if near else f"It has {', '.join(BUILT_IN_WORKFLOWS)}."
        yield Contradiction(
            kind="workflow",
            key=f"traffic.{name}.workflow",
            message=f"the reference API has no workflow {traffic.workflow!r}: it would respond with {_GONE}",
            remedy=f"{hint} List other workflows' modules in target.workflows. Another target may have this workflow.",
        )


def _multiplier(question: Question) -> Iterator[Contradiction]:
    scenario = question.scenario
    if scenario.rate_multiplier <= 1:
        return
    keys = max(plan.keys.stop for plan in question.plans.values())
    plain = traffic_plans(scenario.model_copy(update={"rate_multiplier": 1.0}), question.assumed, keys)
    for name, plan in question.plans.items():
        for stage, before in zip(plan.stages, plain[name].stages, strict=True):
            if not stage.warmup and (pushed := sorted(set(stage.over) - set(before.over))):
                limits = " and ".join(f"the limit of {limited(limit)}" for limit in pushed)
                yield Contradiction(
                    kind="multiplier",
                    key="rate_multiplier",
                    message=f"at {scenario.rate_multiplier:g} times its rate, {name} / {stage.name} exceeds "
                    f"{limits}; without the multiplier, it does not",
                    remedy="Lower rate_multiplier, or the stage's rate.",
                )


def _generator(question: Question) -> Iterator[Contradiction]:
    """Yield a contradiction if the plan has more arrivals/s than one process can send."""

    def arrivals(at: float) -> float:
        stages = [plan.stage_at(at) for plan in question.plans.values()]
        return sum(rate_at(stage, at) for stage in stages if stage is not None)

    peak, key = max(
        (max(arrivals(stage.start_s), arrivals(stage.end_s - _BEFORE_S)), f"traffic.{name}.stages.{stage.name}")
        for name, plan in question.plans.items()
        for stage in plan.stages
    )
    if peak > _OF_PROCESS:
        also = f", and a master takes in about {_OF_MASTER:,}/s" if peak > _OF_MASTER else ""
        yield Contradiction(
            kind="generator",
            key=key,
            message=f"up to {times_as(peak)} arrivals/s are planned, but a process sends about {_OF_PROCESS:,}/s{also}",
            remedy=f"Use --processes {math.ceil(peak / _OF_PROCESS)} or more on a machine with as many idle cores, or "
            "lower the rates.",
        )


def _pools(question: Question) -> Iterator[Contradiction]:
    for name, plan in question.plans.items():
        traffic = question.scenario.traffic[name]
        wanted, most = wanted_users(traffic, plan.stages), plan.max_users or plan.users
        if wanted > most:
            peak = times_as(max(max(stage.rate, stage.rate_to) for stage in plan.stages))
            remedy = "timeout or polling.give_up" if plan.operation in POLLED_OPERATIONS else "timeout"
            yield Contradiction(
                kind="pool",
                key=f"traffic.{name}.max_users",
                message=f"at {peak}/s and up to {operation_deadline(traffic):g} s each, {wanted:,} operations may "
                f"be in flight, but the pool holds {most:,}: with a slow target, arrivals would wait for a user",
                remedy=f"Set max_users = {wanted}, or a shorter {remedy}."
                if wanted <= MAX_USERS
                else f"Set a shorter {remedy}.",
            )


def _retries(question: Question) -> Iterator[Contradiction]:
    if not question.assumed.windowed:
        return
    for name, plan in question.plans.items():
        retry = question.scenario.traffic[name].retry
        limit = LIMIT_OF_OPERATION[plan.operation]
        window = question.assumed.limit_on(limit).window
        if retry.policy != "none" and retry.longest < window:
            yield Contradiction(
                kind="retry",
                key=f"traffic.{name}.retry",
                message=f"its waits add up to at most {retry.longest:g} s, but a window of "
                f"{limited(question.assumed.drawn_on(limit))} lasts {window:g} s: an operation rejected early in a "
                "window stays rejected",
                remedy="Raise max_attempts, or initial and max, until the waits exceed the window.",
            )


def _waits(forecast: Forecast) -> Iterator[Contradiction]:
    """Yield a contradiction for each entry whose requests a limiter's queue would delay beyond ``timeout``."""
    for index, entry in enumerate(forecast.made):
        longest = max(float(seen.longest_delay[index]) for seen in forecast.phases)
        if longest > entry.traffic.timeout:
            yield Contradiction(
                kind="wait",
                key=f"traffic.{entry.name}.timeout",
                message=f"the assumed limiter delays requests by up to {longest:.3g} s, but clients give up after "
                f"{entry.traffic.timeout:g} s: such requests waste quota",
                remedy=f"Set a timeout of {math.ceil(longest)} s or more, or lower the rate.",
            )


def _read_back(question: Question, forecast: Forecast) -> Iterator[Contradiction]:
    """Yield a contradiction for each stretch with more jobs, or more polls, than the retrieval limit allows."""
    assumed = question.assumed
    keys = {key for plan in question.plans.values() for key in plan.keys}
    allowed = assumed.rate_of_keys(LimitName.RETRIEVAL, len(keys)) * 60
    draws_of_job = 1
    kind = "retrievals"
    others = "retrievals"
    quota = f"{allowed:,.0f} a minute"
    if assumed.one_for_all:
        # A job counts against the limit of all requests at least twice: with its submit and with a retrieval.
        draws_of_job = 2
        kind = "requests of all kinds"
        others = "requests"
        quota = f"{allowed:,.0f} requests a minute, submits and retrievals together,"
    polled = [(name, plan) for name, plan in question.plans.items() if plan.operation in POLLED_OPERATIONS]
    for at, stretch in enumerate(forecast.stretches):
        middle = (stretch.start + stretch.end) / 2
        on = [(name, stage) for name, plan in polled if (stage := plan.stage_at(middle)) is not None]
        if not on:
            continue
        made, asked = _jobs_made(question, forecast, at)
        key = f"traffic.{on[0][0]}.stages.{on[0][1].name}"
        if made * draws_of_job > allowed * 1.02:
            yield Contradiction(
                kind="retrievals",
                key=key,
                message=f"{made:,.0f} accepted submits a minute need at least one retrieval each, but only {quota} are "
                "allowed: results cannot be read back as fast as jobs are made",
                remedy=f"Submit at most {allowed / draws_of_job:,.0f} a minute, minus other {others}.",
            )
        elif asked > allowed * 1.02 and not any(assumed.drawn_on(LimitName.RETRIEVAL) in stage.over for _, stage in on):
            yield Contradiction(
                kind="polls",
                key=key,
                message=f"with {made:,.0f} jobs a minute and their polls, there are {asked:,.0f} {kind} a minute, but "
                f"only {allowed:,.0f} are allowed",
                remedy="Lengthen polling.interval, set polling.pace, or lower the rate.",
            )


def _seldom_polled(forecast: Forecast) -> Iterator[Contradiction]:
    """Yield a contradiction for each entry whose polling interval exceeds the known median duration of its jobs."""
    for entry in forecast.made:
        interval = entry.traffic.polling.interval
        polled = entry.plan.operation in POLLED_OPERATIONS
        if entry.job is None or not entry.job.known or entry.traffic.inputs or not polled:
            continue
        takes = float(np.median(entry.job.draw(np.random.default_rng(0), _DRAWS)))
        if interval > takes:
            yield Contradiction(
                kind="polling",
                key=f"traffic.{entry.name}.polling.interval",
                message=f"jobs are polled every {duration_ms(interval * 1e3)} but expected to take "
                f"{duration_ms(takes * 1e3)}: their response time mostly shows the interval",
                remedy="Shorten the interval, or judge jobs by executionTime and time_to_result.",
            )


def _jobs_made(question: Question, forecast: Forecast, at: int) -> tuple[float, float]:
    """Return a stretch's accepted submits per minute, and its requests per minute on the retrieval limit."""
    submit, stretch = LIMIT_NAMES.index(LimitName.ASYNC_SUBMIT), forecast.stretches[at]
    on = [LIMIT_NAMES.index(name) for name in question.assumed.together(LimitName.RETRIEVAL)]
    minutes = (stretch.end - stretch.start) / 60 * len(forecast.phases)
    asked = sum(int(seen.asked[on, at].sum()) for seen in forecast.phases)
    made = sum(int(seen.asked[submit, at].sum() - seen.stretch_rejected[submit, at]) for seen in forecast.phases)
    return made / minutes, asked / minutes


def _windows(question: Question, forecast: Forecast, threshold: Threshold) -> Iterator[Contradiction]:
    """Yield a contradiction for each entry whose judged stages are together shorter than a window.

    Entries are skipped if their rates stay within the limits and their 429s do not depend on the run's start.
    """
    if threshold.metric not in _REFUSALS or not question.assumed.windowed:
        return
    for name, plan in question.plans.items():
        stages = [s for s in plan.stages if not s.warmup and threshold.covers(name, plan.operation, s.name)]
        seconds = sum(stage.duration_s for stage in stages)
        window = max(question.assumed.limit_on(limit).window for limit in LIMITS_OF_OPERATION[plan.operation])
        if not stages or seconds >= window:
            continue
        refused = forecast.share("rejected", "requests", forecast.stage_numbers(name, None, threshold.stage))
        above = any(stage.over and not stage.burst for stage in stages)
        if above or refused.max() - refused.min() > _SAME:
            yield Contradiction(
                kind="window",
                key=f"traffic.{name}.stages.{stages[0].name}.duration",
                message=f"{seconds:g} s is shorter than a window of {window:g} s, and {threshold.text!r} judges "
                f"429s: expect {_range(refused.min(), refused.max(), '.0%')}",
                remedy=f"Use {window:g} s or more; {2 * window:g} s always contain a whole window.",
            )


def _percentiles(forecast: Forecast, threshold: Threshold, stages: list[int], key: str) -> Iterator[Contradiction]:
    name, _, statistic = threshold.metric.partition(".")
    if statistic not in QUANTILES:
        return
    n = samples(forecast, stages, sent=name in _SENT_LAGS)
    least = needed(QUANTILES[statistic])
    if n < least:
        longer = math.ceil(least / n * 10) / 10 if n else 0
        yield Contradiction(
            kind="percentile",
            key=f"{key}.require",
            message=f"{threshold.metric} needs {least} values, but {threshold.scope} may give only {n}: "
            "the threshold would be inconclusive",
            remedy=(f"Make the stages {longer:g} times as long" if n else "Lower the rate until requests are accepted")
            + ", or use a lower percentile.",
        )


def _decided(forecast: Forecast, threshold: Threshold, stages: list[int], key: str) -> Iterator[Contradiction]:
    """Yield a contradiction if a threshold on 429s fails in at least one replay."""
    if threshold.metric not in _REFUSALS or threshold.operator == "within":
        return
    part, whole = _REFUSALS[threshold.metric]
    values = forecast.share(part, whole, stages) if whole else forecast.counts(part, stages)
    held = [threshold.holds(float(value)) for value in values]
    if all(held):
        return
    expected = _range(values.min(), values.max(), ".1%" if whole else ",.0f")
    verb = "may fail" if any(held) else "can't hold"
    yield Contradiction(
        kind="threshold",
        key=f"{key}.require",
        message=f"{threshold.text!r} in {threshold.scope} {verb}: the assumed limiter gives {expected}",
        remedy="Change the stage's rate or duration, or require 'within 5% of expected'.",
    )


def samples(forecast: Forecast, stage_numbers: list[int], *, sent: bool = False) -> int:
    """Return how many operations of some stages have a response time, in the replay with the fewest.

    With ``sent``, throttled operations count, too.
    """
    values = forecast.counts("operations", stage_numbers) - forecast.counts(Outcome.DROPPED, stage_numbers)
    if not sent:
        values -= forecast.counts(Outcome.THROTTLED, stage_numbers)
    return int(values.min()) if len(values) else 0


def _range(low: float, high: float, form: str) -> str:
    first, last = format(low, form), format(high, form)
    return first if first == last else f"{first} to {last}, depending on when in a window the run starts"
