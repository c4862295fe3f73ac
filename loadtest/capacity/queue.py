"""The service as a queue: how overloaded a level was, how much overload its thresholds allow, and where that is. Pure.

Work arrives at rate λ and is done at most at rate μ. Above it (ρ = λ/μ > 1) the backlog of a fluid queue grows by
(ρ - 1) per second, so that who arrives t seconds into the stage waits t(ρ - 1), and the q-quantile of arrivals, in a
stage of T seconds, qT(ρ - 1) (Newell, "Applications of Queueing Theory", 1982, ch. 2). From the median wait follows ρ,
and from what a threshold lets one wait, the ρ that it allows. Jobs are seen to end at polls, every I seconds: half an
interval of what they seem to wait is that. Those that wait are polled, too: at the end of the stage μD + (λ - μ)T jobs
each ask 1/I times a second, which the retrieval limit L has to let through.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from loadtest.assumed_limits import AssumedLimits
from loadtest.capacity.results import Constraint, Guess, Level
from loadtest.contract import LimitName, Operation
from loadtest.plan.demand import job_duration
from loadtest.scenario import Scenario
from loadtest.stats import QUANTILES

_DRAWN: Final = 1000
"""Durations from which a mean is taken."""
_OWN: Final = 0.97
"""Part of the rate at which a job's own polls spend the limit, below which it is the waiting that polls."""
_WAITED: Final = ("response_time", "time_to_result")


def workers_guess(scenario: Scenario, rates: Mapping[str, float], assumed: AssumedLimits, keys: int) -> Guess | None:
    """Where jobs keep all workers of an embedded target busy; None where there are none, or nothing tells their time.

    Args:
        scenario: with the judged stage alone.
        rates: operations/s of each entry at its own rate.
        assumed: what is assumed of the limits.
        keys: API keys that share the traffic.
    """
    jobs = [(name, each) for name, each in scenario.traffic.items() if each.operation == Operation.ASYNC_RUN]
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


def service_guess(levels: Sequence[Level], scenario: Scenario, assumed: AssumedLimits, keys: int) -> Guess | None:
    """Where the slowest level that was stopped by waiting, which is the nearest, says that thresholds are met."""
    stopped = [level for level in levels if level.constraint == Constraint.SERVICE]
    level = min(stopped, key=lambda level: level.multiplier, default=None)
    if level is None or (load := overload(level, levels, scenario)) is None:
        return None
    times = {name: (entry.execution_p50_ms or 0.0) / 1e3 for name, entry in level.entries.items()}
    done = {name: entry.offered_rate / load for name, entry in level.entries.items()}
    allowed = _allowed_load(scenario, times, done, assumed, keys)
    return Guess(multiplier=level.multiplier / load * allowed, constraint=Constraint.SERVICE)


def overload(level: Level, levels: Sequence[Level], scenario: Scenario) -> float | None:
    """ρ of a level whose requests waited for each other, from the largest median wait; None where it is unknown."""
    waits = []
    for name, wait in _beyond_execution(level).items():
        calm = [_beyond_execution(each).get(name) for each in levels if each.outcome == "holds"]
        usual = min((each for each in calm if each is not None), default=_interval(scenario, name) / 2)
        waits.append(wait - usual)
    if not waits or max(waits) <= 0:
        return None
    return 1 + 2 * max(waits) / level.stage_s


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
    limit = assumed.rate_on(LimitName.RETRIEVAL) * assumed.quotas(keys) * _OWN
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
        if traffic.operation == Operation.ASYNC_RUN:
            if entry.execution_p50_ms is None or traffic.polling.policy != "fixed":
                return math.inf
            polls = max(1, math.ceil(entry.execution_p50_ms / 1e3 / _interval(scenario, name)))
            asked += polls * entry.offered_rate / level.multiplier
    return asked


def _beyond_execution(level: Level) -> dict[str, float]:
    """Seconds of the median response time beyond the median executionTime, of each entry where both are known."""
    return {
        name: (entry.response_p50_ms - entry.execution_p50_ms) / 1e3
        for name, entry in level.entries.items()
        if entry.response_p50_ms is not None and entry.execution_p50_ms is not None
    }


def _interval(scenario: Scenario, name: str) -> float:
    """Seconds between the first polls of an entry's jobs; 0 where it has none."""
    traffic = scenario.traffic[name]
    return traffic.polling.wait(1, 1.0) if traffic.operation == Operation.ASYNC_RUN else 0.0


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
    stage_s = max(sum(stage.duration for stage in each.stages) for each in scenario.traffic.values())
    loads = []
    for threshold in (entry.parse() for entry in scenario.threshold):
        metric, _, statistic = threshold.metric.partition(".")
        if metric not in _WAITED or statistic not in QUANTILES or threshold.operator not in {"<", "<="}:
            continue
        for name, traffic in scenario.traffic.items():
            about = threshold.traffic in {None, name} and threshold.operation in {None, traffic.operation}
            if about and name in times:
                reach, interval = threshold.value / 1e3, _interval(scenario, name)
                # Half a millisecond: an end seen at the last poll within the threshold.
                reach = (reach + 5e-4) // interval * interval if interval else reach
                loads.append(1 + (reach - times[name]) / (QUANTILES[statistic] * stage_s))
    limit = assumed.rate_on(LimitName.RETRIEVAL) * assumed.quotas(keys)
    for name, rate in done.items():
        if (interval := _interval(scenario, name)) and rate > 0:
            loads.append(1 + (limit * interval / rate - times[name]) / stage_s)
    return max(1.0, min(loads, default=1.0))
