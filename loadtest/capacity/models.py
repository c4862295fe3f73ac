"""Where each constraint is expected: limits from a forecast and from what levels sent, the service as a queue. Pure.

*Limits.* The forecast replays the scenario's schedule on the assumed limiters; a limit's guess is the highest
multiplier at which it refuses nothing in the judged stage, or no more than a threshold allows. A level that held
tells better: requests on a limit grow in proportion to the rate, as long as a job needs the same number of polls.

*The service* is a queue. Work arrives at rate λ and is done at most at rate μ. Above it (ρ = λ/μ > 1) the backlog of a
fluid queue grows by (ρ - 1) per second, so that who arrives t seconds into the stage waits t(ρ - 1), and the q-quantile
of arrivals, in a stage of T seconds, qT(ρ - 1) (Newell, "Applications of Queueing Theory", 1982, ch. 2). From the
median wait follows ρ, and from what a threshold lets one wait, the ρ that it allows. Jobs are seen to end at polls,
every I seconds: half an interval of what they seem to wait is that. Those that wait are polled, too: at the end of the
stage μD + (λ - μ)T jobs each ask 1/I times a second, which the retrieval limit L has to let through.

Polls also tell the mean time R in which a job is seen to end, even of jobs that nobody waited for: it is polled every
I seconds, so that R is its polls times I, without the steps of I that a median has. The mean wait of a fluid queue is
T(ρ - 1) / 2, too. Of these polls the limit refuses a part r. Then a job that ended is seen late: by Little's law, λR
jobs are polled at a time, and L polls/s find out about μ ends/s, so that Rμ/L seconds lie between the two. Where polls
are refused for a part of the stage only, r of that is taken: ρ = 1 + 2(R - D - rRλ/(ρL)) / T, a quadratic equation. In
24 queues drawn at random, at 1.5 times their rate, this ρ is 2 % off (median), that of the median response time 10 %.
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
"""Factors of two around the scenario's own rate, within which a limit is looked for."""
_HALVINGS: Final = 7
"""Of an octave: the guess is exact to 0.6 %."""
_TOLERATED: Final = ("throttled_rate", "requests.throttled_rate")
_FLAT: Final = 1.25
"""Times the smallest: a median of executionTime or response time up to it counts as unchanged."""
_DRAWN: Final = 1000
"""Durations from which a mean is taken."""
_OWN: Final = 0.97
"""Part of the rate at which a job's own polls spend the limit, below which it is the waiting that polls."""
_CLEARLY: Final = 1.1
"""ρ of a scout that held, from which it is more than noise."""
_WAITED: Final = ("response_time", "time_to_result")


def limit_guesses(question: Question, tolerances: Mapping[LimitName, float]) -> list[Guess]:
    """What the forecast expects of each limit that the scenario draws on.

    Args:
        question: the scenario with the judged stage alone, at its own rate; at the start of a window, since whole
            windows are judged, where the moment of the start changes no share.
        tolerances: part of the requests on a limit (0-1) that its thresholds let be refused; 0 where none says.
    """
    scenario = question.scenario
    drawn = {name for each in scenario.traffic.values() for name in LIMITS_OF_OPERATION[each.operation]}
    # Limits are looked for one by one, mostly at the same multipliers.
    shares = cache(lambda multiplier: _refused_shares(question, multiplier))
    highest = {name: _highest(shares, name, tolerances.get(name, 0.0)) for name in LIMIT_NAMES if name in drawn}
    return [
        Guess(multiplier=multiplier, constraint=kind_of(name, scenario), limit=name)
        for name, multiplier in highest.items()
        if multiplier is not None
    ]


def tolerances(scenario: Scenario) -> dict[LimitName, float]:
    """The part of the requests on each limit (0-1) that thresholds on 429 rates let be refused, the strictest of each.

    Args:
        scenario: with the judged stage alone.
    """
    found: dict[LimitName, float] = {}
    for threshold, names in _at_most(scenario):
        for operation in [scenario.traffic[name].operation for name in names] if threshold.metric in _TOLERATED else []:
            polls_too = threshold.metric.startswith("requests.")
            for limit in LIMITS_OF_OPERATION[operation] if polls_too else [LIMIT_OF_OPERATION[operation]]:
                found[limit] = min(found.get(limit, 1.0), threshold.value)
    return found


def _at_most(scenario: Scenario) -> list[tuple[Threshold, list[str]]]:
    """Thresholds that bound a metric from above, and the traffic entries that each is about."""
    return [
        (entry.parsed, [name for name, each in scenario.traffic.items() if entry.covers(name, each)])
        for entry in scenario.threshold
        if entry.parsed.operator in {"<", "<="}
    ]


def _highest(shares: Callable[[float], Mapping[LimitName, float]], name: LimitName, tolerance: float) -> float | None:
    """By halving, in log-rate; None where no rate that is tried is refused."""

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
    """The part of the requests on each limit that it refuses at a multiplier of the scenario's rate, 0-1."""
    scenario, assumed = question.scenario, question.assumed
    faster = scenario.model_copy(update={"rate_multiplier": scenario.rate_multiplier * multiplier})
    keys = max(plan.keys.stop for plan in question.plans.values())
    # Of this very schedule: what other seeds would do is not asked.
    asked = forecast(replace(question, scenario=faster, plans=traffic_plans(faster, assumed, keys)), most_seeds=0)
    seen = asked.phases[0] if asked.phases else None
    return {
        name: 0.0 if seen is None else float(seen.stretch_rejected[index].sum() / max(1, seen.asked[index].sum()))
        for index, name in enumerate(LIMIT_NAMES)
    }


def learned_guesses(levels: Sequence[Level], assumed: AssumedLimits, keys: int, scenario: Scenario) -> list[Guess]:
    """What the levels themselves tell of each constraint, better than a forecast.

    Args:
        levels: so far.
        assumed: what is assumed of the limits.
        keys: API keys that share the traffic.
        scenario: with the judged stage alone.
    """
    found = []
    held = [level for level in levels if level.outcome == "holds"]
    allowed = tolerances(scenario)
    if held:
        # In a scout, jobs may wait and be polled for longer, and all thresholds hold.
        highest = max(held, key=lambda level: (not level.scout, level.multiplier))
        has_burst = ALGORITHMS[assumed.spec.algorithm].has_burst
        for name, seen in highest.limits.items():
            # A burst passes once, beyond the rate.
            through = assumed.rate_on(name) + has_burst * assumed.at_once(name) / scenario.duration
            rate = through * assumed.quotas(keys) / (1 - allowed.get(name, 0.0))
            if seen.sent_rate > 0 and math.isfinite(rate):
                multiplier = highest.multiplier * rate / seen.sent_rate
                found.append(Guess(multiplier=multiplier, constraint=kind_of(name, scenario), limit=name))
    service = _service_guess(levels, scenario, assumed, keys)
    return found if service is None else [*found, service]


def flat_until(levels: Sequence[Level]) -> float | None:
    """The highest multiplier up to which neither response time nor executionTime grew; None where nothing tells."""
    flat = None
    smallest: dict[tuple[str, str], float] = {}
    for level in sorted(levels, key=attrgetter("multiplier")):
        # Where nothing was ok, nothing is known of times.
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
    """Where jobs keep all workers of an embedded target busy; None where there are none, or nothing tells their time.

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
    """Where the slowest level that was stopped by waiting, or a scout that waited, says that thresholds hold."""
    limit = assumed.rate_of_keys(LimitName.RETRIEVAL, keys)
    rising = sorted(levels, key=attrgetter("multiplier"))
    stopped = [level for level in rising if level.constraint == Constraint.SERVICE and not level.scout]
    # Of a scout where operations were refused, it was no queue of all of them.
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
    """ρ of a level whose requests waited for each other, from the entry that waited longest; None where it is unknown.

    Args:
        level: with an overload.
        levels: all of them.
        scenario: with the judged stage alone.
        limit: retrievals/s that are let through.
    """
    held = [each for each in levels if each.outcome == "holds" and each.multiplier < level.multiplier]
    loads = []
    for name, entry in level.entries.items():
        traffic = scenario.traffic[name]
        if (beyond := _beyond_execution(entry, traffic)) is None:
            continue
        # A job that waits ends at any moment between two polls, one that does not always at the same.
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
    """The levels, those of jobs that were polled for longer only because they waited put down to the service.

    What jobs ask on their own is what the calmest level that holds shows; without one, what executionTime tells.
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
    """Polls/s at multiplier 1 of jobs that never wait; endless where executionTime or the interval is unknown."""
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
    """Seconds of an entry's response time beyond its median executionTime: the mean where polls tell it, or the median.

    None where it is unknown.
    """
    seen = _polled_s(entry, traffic)
    if seen is None and entry.response_p50_ms is not None:
        seen = entry.response_p50_ms / 1e3
    return None if seen is None or entry.execution_p50_ms is None else seen - entry.execution_s


def _polled_s(entry: EntryLevel, traffic: Traffic) -> float | None:
    """Seconds in which a job is polled, on average; None where the polls do not tell it."""
    begun = 1 - entry.throttled_rate
    polled = traffic.operation in POLLED_OPERATIONS and traffic.polling.policy == "fixed"
    if not polled or not entry.requests_per_operation or begun <= 0:
        return None
    return (entry.requests_per_operation - 1) / begun * _interval(traffic)


def _interval(traffic: Traffic) -> float:
    """Seconds between the first polls of an entry's jobs; 0 where it has none."""
    return traffic.polling.wait(1, 1.0) if traffic.operation in POLLED_OPERATIONS else 0.0


def _allowed_load(
    scenario: Scenario, times: Mapping[str, float], done: Mapping[str, float], assumed: AssumedLimits, keys: int
) -> float:
    """The ρ up to which every threshold on the time that one waits holds, and the polls of who waits are let through.

    Args:
        scenario: with the judged stage alone.
        times: executionTime of each entry that waits for workers, s.
        done: operations/s of each entry when all are busy, at ρ = 1.
        assumed: what is assumed of the limits.
        keys: API keys that share the traffic.
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
