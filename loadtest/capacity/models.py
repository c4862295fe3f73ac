"""Models of the constraints: limits from a forecast and from measured levels, the service as a queue. Pure.

*Limits.* The forecast replays the scenario's schedule through the assumed limiters. A limit's guess is the highest
multiplier without rejections in the judged stage, or with as many as a threshold allows. A level that passed gives a
better guess: requests on a limit grow in proportion to the rate, as long as a job needs the same number of polls.

*The service* is a queue. Work arrives at rate λ and is done at rate μ at most. Above it (ρ = λ/μ > 1) the backlog of a
fluid queue grows by (ρ - 1) per second. An arrival t seconds into the stage waits t(ρ - 1), and the q-quantile of
arrivals in a stage of T seconds waits qT(ρ - 1) (Newell, "Applications of Queueing Theory", 1982, ch. 2). The median
wait therefore gives ρ, and the wait that a threshold allows gives the permitted ρ. The end of a job is seen by a poll,
every I seconds, so half an interval of the apparent wait is due to polling. Waiting jobs are polled too: at the end of
the stage μD + (λ - μ)T jobs each send 1/I polls a second, which the retrieval limit L has to accept.

Polls also give the mean time R until the end of a job is seen, even for jobs that were not followed to their end: R is
the number of polls times I, without the steps of I that a median has. The mean wait of a fluid queue is T(ρ - 1) / 2.
Of these polls the limit rejects a share r, so the end of a job is seen late. By Little's law, λR jobs are polled at a
time, and L polls/s discover μ ends/s, so Rμ/L seconds lie between the two. If polls are rejected in a part of the
stage only, r of that is subtracted: ρ = 1 + 2(R - D - rRλ/(ρL)) / T, a quadratic equation. For 24 random queues at 1.5
times their rate, the median error of this ρ is 2 %, that from the median response time 10 %.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from operator import attrgetter
from typing import Final

import msgspec
import numpy as np

from loadtest.assumed_limits import AssumedLimits
from loadtest.capacity.results import Constraint, EntryLevel, Guess, Level, kind_of
from loadtest.contract import LIMIT_NAMES, LIMIT_OF_OPERATION, LIMITS_OF_OPERATION, POLLED_OPERATIONS, LimitName
from loadtest.limits import ALGORITHMS
from loadtest.plan import Question, forecast, job_duration, traffic_plans
from loadtest.scenario import Scenario, Traffic
from loadtest.stats.order_statistics import QUANTILES
from loadtest.threshold import Threshold

_OCTAVES: Final = 6
"""Range of the search for a limit, in octaves around the scenario's own rate."""
_HALVINGS: Final = 7
"""Bisections of an octave: the guess is exact to 0.6 %."""
_TOLERATED: Final = ("throttled_rate", "requests.throttled_rate")
_FLAT: Final = 1.25
"""Maximum ratio of unchanged medians of executionTime or response time to the smallest."""
_DRAWN: Final = 1000
"""Number of drawn durations for a mean."""
_OWN: Final = 0.97
"""Share of the retrieval limit below which the jobs' own polls leave waiting as the cause."""
_CLEARLY: Final = 1.1
"""ρ of an exploratory run that passed, above which it is more than noise."""
_WAITED: Final = ("response_time", "time_to_result")


def limit_guesses(question: Question, tolerances: Mapping[LimitName, float]) -> list[Guess]:
    """Return the forecast's guess for each limit that the scenario uses.

    Args:
        question: the scenario with only the judged stage, at its own rate, from the start of a window. Whole windows
            are judged, so the start changes no share.
        tolerances: share of the requests on a limit (0-1) that thresholds allow to be rejected; 0 by default.
    """
    scenario = question.scenario
    drawn = {name for each in scenario.traffic.values() for name in LIMITS_OF_OPERATION[each.operation]}
    # The searches for the limits mostly try the same multipliers.
    shares = cache(lambda multiplier: _refused_shares(question, multiplier))
    highest = {name: _highest(shares, name, tolerances.get(name, 0.0)) for name in LIMIT_NAMES if name in drawn}
    return [
        Guess(multiplier=multiplier, constraint=kind_of(name, scenario), limit=name)
        for name, multiplier in highest.items()
        if multiplier is not None
    ]


def tolerances(scenario: Scenario) -> dict[LimitName, float]:
    """Return the share of requests on each limit (0-1) that thresholds on 429 rates allow, the strictest of each.

    Args:
        scenario: the scenario with only the judged stage.
    """
    found: dict[LimitName, float] = {}
    for threshold, names in _at_most(scenario):
        for operation in [scenario.traffic[name].operation for name in names] if threshold.metric in _TOLERATED else []:
            polls_too = threshold.metric.startswith("requests.")
            for limit in LIMITS_OF_OPERATION[operation] if polls_too else [LIMIT_OF_OPERATION[operation]]:
                found[limit] = min(found.get(limit, 1.0), threshold.value)
    return found


def _at_most(scenario: Scenario) -> list[tuple[Threshold, list[str]]]:
    """Thresholds with an upper bound, with the traffic entries that they apply to."""
    return [
        (entry.parsed, [name for name, each in scenario.traffic.items() if entry.covers(name, each)])
        for entry in scenario.threshold
        if entry.parsed.operator in {"<", "<="}
    ]


def _highest(shares: Callable[[float], Mapping[LimitName, float]], name: LimitName, tolerance: float) -> float | None:
    """Bisection in log-rate; None if no tried rate is rejected."""

    def refuses(octave: float) -> bool:
        return shares(2.0**octave)[name] > tolerance

    low, high = -float(_OCTAVES), -float(_OCTAVES)
    while not refuses(high):
        low, high = high, high + 1
        if high > _OCTAVES:
            return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if refuses(middle) else (middle, high)
    return float(2.0**low)


def _refused_shares(question: Question, multiplier: float) -> dict[LimitName, float]:
    """The share of the requests on each limit that it rejects at a multiplier of the scenario's rate, 0-1."""
    scenario, assumed = question.scenario, question.assumed
    faster = scenario.model_copy(update={"rate_multiplier": scenario.rate_multiplier * multiplier})
    keys = max(plan.keys.stop for plan in question.plans.values())
    # Only this schedule: other seeds are not needed.
    asked = forecast(replace(question, scenario=faster, plans=traffic_plans(faster, assumed, keys)), most_seeds=0)
    seen = asked.phases[0] if asked.phases else None
    return {
        name: 0.0 if seen is None else float(seen.stretch_rejected[index].sum() / max(1, seen.asked[index].sum()))
        for index, name in enumerate(LIMIT_NAMES)
    }


def learned_guesses(levels: Sequence[Level], assumed: AssumedLimits, keys: int, scenario: Scenario) -> list[Guess]:
    """Return guesses from measured levels, which are better than the forecast's.

    Args:
        levels: the levels so far.
        assumed: the assumed limits.
        keys: number of API keys that share the traffic.
        scenario: the scenario with only the judged stage.
    """
    found = []
    held = [level for level in levels if level.outcome == "holds"]
    allowed = tolerances(scenario)
    if held:
        # In an exploratory run, jobs may wait and be polled longer although all thresholds pass.
        highest = max(held, key=lambda level: (not level.scout, level.multiplier))
        has_burst = ALGORITHMS[assumed.spec.algorithm].has_burst
        for name, seen in highest.limits.items():
            # A burst is accepted once, in addition to the rate.
            through = assumed.rate_on(name) + has_burst * assumed.at_once(name) / scenario.duration
            rate = through * assumed.quotas(keys) / (1 - allowed.get(name, 0.0))
            if seen.sent_rate > 0 and math.isfinite(rate):
                multiplier = highest.multiplier * rate / seen.sent_rate
                found.append(Guess(multiplier=multiplier, constraint=kind_of(name, scenario), limit=name))
    service = _service_guess(levels, scenario, assumed, keys)
    return found if service is None else [*found, service]


def flat_until(levels: Sequence[Level]) -> float | None:
    """Return the highest multiplier without growth of response time or executionTime; None if unknown."""
    flat = None
    smallest: dict[tuple[str, str], float] = {}
    for level in sorted(levels, key=attrgetter("multiplier")):
        # Without ok operations, times are unknown.
        if level.constraint != Constraint.ERRORS and all(e.response_p50_ms is None for e in level.entries.values()):
            continue
        grew = [
            value > _FLAT * smallest.setdefault((name, what), value)
            for name, entry in level.entries.items()
            for what, value in (("response", entry.response_p50_ms), ("execution", entry.execution_p50_ms))
            if value is not None
        ]
        if level.constraint == Constraint.ERRORS or any(grew):
            return flat
        flat = level.multiplier
    return flat


def workers_guess(scenario: Scenario, rates: Mapping[str, float], assumed: AssumedLimits, keys: int) -> Guess | None:
    """Return the guess of when jobs occupy all workers of an embedded target; None without jobs of known duration.

    Args:
        scenario: with the judged stage alone.
        rates: operations/s of each entry at its own rate.
        assumed: what is assumed of the limits.
        keys: API keys that share the traffic.
    """
    jobs = [(name, each) for name, each in scenario.traffic.items() if each.operation in POLLED_OPERATIONS]
    durations = {name: job_duration(each) for name, each in jobs}
    if not jobs or not all(each.known for each in durations.values()):
        return None
    random = np.random.default_rng(0)
    means = {name: float(np.mean(each.draw(random, _DRAWN))) for name, each in durations.items()}
    busy = sum(rates[name] * mean for name, mean in means.items())
    if busy <= 0:
        return None
    full = scenario.target.settings.workers / busy
    load = _allowed_load(scenario, means, {name: rate * full for name, rate in rates.items()}, assumed, keys)
    return Guess(multiplier=full * load, constraint=Constraint.SERVICE)


def _service_guess(levels: Sequence[Level], scenario: Scenario, assumed: AssumedLimits, keys: int) -> Guess | None:
    """The guess from the slowest level stopped by waiting, or from an exploratory run with waits."""
    limit = assumed.rate_of_keys(LimitName.RETRIEVAL, keys)
    rising = sorted(levels, key=attrgetter("multiplier"))
    stopped = [level for level in rising if level.constraint == Constraint.SERVICE and not level.scout]
    # An exploratory run with rejected operations was not a queue of all operations.
    scouts = [level for level in rising if level.scout and not any(e.throttled_rate for e in level.entries.values())]
    for level in stopped[:1] or scouts:
        load = overload(level, levels, scenario, limit)
        if load is not None and (load >= _CLEARLY or level.constraint == Constraint.SERVICE):
            times = {name: entry.execution_s for name, entry in level.entries.items()}
            done = {name: entry.offered_rate / load for name, entry in level.entries.items()}
            allowed = _allowed_load(scenario, times, done, assumed, keys)
            return Guess(multiplier=level.multiplier / load * allowed, constraint=Constraint.SERVICE)
    return None


def overload(level: Level, levels: Sequence[Level], scenario: Scenario, limit: float) -> float | None:
    """Return ρ of an overloaded level, from the entry with the longest wait; None if unknown.

    Args:
        level: an overloaded level.
        levels: all levels.
        scenario: the scenario with only the judged stage.
        limit: accepted retrievals/s.
    """
    held = [each for each in levels if each.outcome == "holds" and each.multiplier < level.multiplier]
    loads = []
    for name, entry in level.entries.items():
        traffic = scenario.traffic[name]
        if (beyond := _beyond_execution(entry, traffic)) is None:
            continue
        # A waiting job ends at any time between two polls, a job without wait always at the same time.
        calm = [_beyond_execution(each.entries[name], traffic) for each in held if name in each.entries]
        usual = max(min((each for each in calm if each is not None), default=0.0), _interval(traffic) / 2)
        load = _growth(beyond - usual, 0.0, entry.execution_s, level.stage_s)
        polls = level.limits.get(LimitName.RETRIEVAL)
        if polls is not None and (seen_s := _polled_s(entry, traffic)) is not None:
            unseen_s = polls.throttled_rate * seen_s * entry.offered_rate / limit
            load = min(load, _growth(beyond, unseen_s, entry.execution_s, level.stage_s))
        loads.append(load)
    return max(loads) if loads and max(loads) > 1 else None


def _growth(beyond_s: float, unseen_s: float, time_s: float, stage_s: float) -> float:
    """ρ of a queue: the larger root of (ρ - 1)(T - D/ρ) = 2(R - D - u/ρ)."""
    linear = stage_s + time_s + 2 * beyond_s
    return (linear + math.sqrt(max(0.0, linear**2 - 4 * stage_s * (time_s + 2 * unseen_s)))) / (2 * stage_s)


def with_causes(levels: Sequence[Level], scenario: Scenario, assumed: AssumedLimits, keys: int) -> list[Level]:
    """Return the levels, with the service as the cause where jobs were polled longer only because they waited.

    The jobs' own demand is that of the calmest level that passed; without one, it follows from executionTime.
    """
    calm = [
        level.limits[LimitName.RETRIEVAL].sent_rate / level.multiplier
        for level in levels
        if level.outcome == "holds" and LimitName.RETRIEVAL in level.limits
    ]
    own = min(calm) if calm else min((_own_polls(level, scenario) for level in levels), default=0.0)
    limit = assumed.rate_of_keys(LimitName.RETRIEVAL, keys) * _OWN
    return [
        msgspec.structs.replace(level, constraint=Constraint.SERVICE, limit=None)
        if level.constraint == Constraint.POLL_BUDGET and level.multiplier * own < limit
        else level
        for level in levels
    ]


def _own_polls(level: Level, scenario: Scenario) -> float:
    """Polls/s at multiplier 1 of jobs that never wait; infinite if executionTime or the interval is unknown."""
    asked = 0.0
    for name, entry in level.entries.items():
        traffic = scenario.traffic[name]
        if traffic.operation in POLLED_OPERATIONS:
            if entry.execution_p50_ms is None or traffic.polling.policy != "fixed":
                return math.inf
            polls = max(1, math.ceil(entry.execution_s / _interval(traffic)))
            asked += polls * entry.offered_rate / level.multiplier
    return asked


def _beyond_execution(entry: EntryLevel, traffic: Traffic) -> float | None:
    """Seconds of an entry's response time beyond its median executionTime: the mean if polls give it, else the median.

    None if it is unknown.
    """
    seen = _polled_s(entry, traffic)
    if seen is None and entry.response_p50_ms is not None:
        seen = entry.response_p50_ms / 1e3
    return None if seen is None or entry.execution_p50_ms is None else seen - entry.execution_s


def _polled_s(entry: EntryLevel, traffic: Traffic) -> float | None:
    """Mean time in s during which a job is polled; None if the polls do not give it."""
    begun = 1 - entry.throttled_rate
    polled = traffic.operation in POLLED_OPERATIONS and traffic.polling.policy == "fixed"
    if not polled or not entry.requests_per_operation or begun <= 0:
        return None
    return (entry.requests_per_operation - 1) / begun * _interval(traffic)


def _interval(traffic: Traffic) -> float:
    """Seconds between the first polls of an entry's jobs; 0 without polls."""
    return traffic.polling.wait(1, 1.0) if traffic.operation in POLLED_OPERATIONS else 0.0


def _allowed_load(
    scenario: Scenario, times: Mapping[str, float], done: Mapping[str, float], assumed: AssumedLimits, keys: int
) -> float:
    """The highest ρ that meets all thresholds on waits and the limit on polls of waiting jobs.

    Args:
        scenario: the scenario with only the judged stage.
        times: executionTime in s of each entry that waits for workers.
        done: operations/s of each entry with all workers busy, at ρ = 1.
        assumed: the assumed limits.
        keys: number of API keys that share the traffic.
    """
    seconds = scenario.duration
    loads = []
    for threshold, names in _at_most(scenario):
        metric, _, statistic = threshold.metric.partition(".")
        for name in times if metric in _WAITED and statistic in QUANTILES else ():
            if name in names:
                reach, interval = threshold.value / 1e3, _interval(scenario.traffic[name])
                # Half a millisecond: an end seen at the last poll within the threshold.
                reach = (reach + 5e-4) // interval * interval if interval else reach
                loads.append(1 + (reach - times[name]) / (QUANTILES[statistic] * seconds))
    limit = assumed.rate_of_keys(LimitName.RETRIEVAL, keys)
    for name, rate in done.items():
        if (interval := _interval(scenario.traffic[name])) and rate > 0:
            loads.append(1 + (limit * interval / rate - times[name]) / seconds)
    return max(1.0, min(loads, default=1.0))
