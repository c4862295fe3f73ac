"""Where each constraint is expected: limits from a forecast and from what levels sent, the service as a queue. Pure.

*Limits.* The forecast replays the scenario's schedule on the assumed limiters; a limit's guess is the highest
multiplier at which it refuses nothing in the judged stage, or no more than a threshold allows. A level that held
tells better: requests on a limit grow in proportion to the rate, as long as a job needs the same number of polls.
The service is a queue of its own: ``queue``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Final

from loadtest.assumed_limits import CONCURRENCY, AssumedLimits
from loadtest.capacity.queue import service_guess, stage_s
from loadtest.capacity.results import Constraint, Guess, Level
from loadtest.contract import LIMIT_NAMES, LIMIT_OF_OPERATION, LIMITS_OF_OPERATION, LimitName
from loadtest.limits import ALGORITHMS
from loadtest.plan import Question, traffic_plans
from loadtest.plan.forecast import forecast
from loadtest.scenario import Scenario

_OCTAVES: Final = 6
"""Factors of two around the scenario's own rate, within which a limit is looked for."""
_HALVINGS: Final = 7
"""Of an octave: the guess is exact to 0.6 %."""
_TOLERATED: Final = ("throttled_rate", "requests.throttled_rate")
_FLAT: Final = 1.25
"""Times the smallest: a median of executionTime or response time up to it counts as unchanged."""


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
    for entry in scenario.threshold:
        threshold = entry.parsed
        if threshold.metric not in _TOLERATED or threshold.operator not in {"<", "<="}:
            continue
        for name, each in scenario.traffic.items():
            if threshold.traffic not in {None, name} or threshold.operation not in {None, each.operation}:
                continue
            polls_too = threshold.metric.startswith("requests.")
            for limit in LIMITS_OF_OPERATION[each.operation] if polls_too else [LIMIT_OF_OPERATION[each.operation]]:
                found[limit] = min(found.get(limit, 1.0), threshold.value)
    return found


def kind_of(name: LimitName, scenario: Scenario) -> Constraint:
    """What it is called when a limit refuses: it is the poll budget where only polls draw on it."""
    begins = any(LIMIT_OF_OPERATION[each.operation] == name for each in scenario.traffic.values())
    return Constraint.POLL_BUDGET if name == LimitName.RETRIEVAL and not begins else Constraint.LIMIT


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
    keys = max(plan.key_start + plan.key_count for plan in question.plans.values())
    # Of this very schedule: what other seeds would do is not asked.
    asked = forecast(replace(question, scenario=faster, plans=traffic_plans(faster, assumed, keys)), most_seeds=0)
    seen = asked.phases[0] if asked.phases else None
    return {
        name: 0.0 if seen is None else float(seen.stretch_refused[index].sum() / max(1, seen.asked[index].sum()))
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
        for name, seen in highest.limits.items():
            through = assumed.rate_on(name) + _ahead(assumed, name) / stage_s(scenario)
            rate = through * assumed.quotas(keys) / (1 - allowed.get(name, 0.0))
            if seen.sent_rate > 0 and math.isfinite(rate):
                multiplier = highest.multiplier * rate / seen.sent_rate
                found.append(Guess(multiplier=multiplier, constraint=kind_of(name, scenario), limit=name))
    service = service_guess(levels, scenario, assumed, keys)
    return found if service is None else [*found, service]


def _ahead(assumed: AssumedLimits, name: LimitName) -> int:
    """Requests that a limiter lets through once, beyond its rate: the burst of those that have one."""
    spec = assumed.spec
    if spec.algorithm == CONCURRENCY or not ALGORITHMS[spec.algorithm].has_burst:
        return 0
    return spec.burst or (1 if spec.algorithm == "gcra" else assumed.limit_on(name).count)


def flat_until(levels: Sequence[Level]) -> float | None:
    """The highest multiplier up to which neither response time nor executionTime grew; None where nothing tells."""
    flat = None
    smallest: dict[tuple[str, str], float] = {}
    for level in sorted(levels, key=lambda level: level.multiplier):
        if level.constraint == Constraint.ERRORS:
            return flat
        if all(entry.response_p50_ms is None for entry in level.entries.values()):
            continue  # Where nothing was ok, nothing is known of times.
        for name, entry in level.entries.items():
            for what, value in (("response", entry.response_p50_ms), ("execution", entry.execution_p50_ms)):
                if value is None:
                    continue
                if value > _FLAT * smallest.setdefault((name, what), value):
                    return flat
        flat = level.multiplier
    return flat
