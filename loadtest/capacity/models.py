"""Models of a service's constraints, computed from the forecast and the levels. Pure.

The forecast replays the scenario's schedule through the assumed limiters. A limit's guess is the highest multiplier at
which the judged stage has no more 429s than the thresholds allow. Levels improve the guess, because their share of 429s
shows by how much a rate exceeds the real limit.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from operator import attrgetter
from statistics import median
from typing import Final

import msgspec

from loadtest.capacity.results import Constraint, Guess, Level, kind_of
from loadtest.capacity.search import HIGHEST, LOWEST
from loadtest.contract import LIMIT_NAMES, LIMIT_OF_OPERATION, LIMITS_OF_OPERATION, LimitName
from loadtest.plan import Question, forecast, traffic_plans
from loadtest.scenario import Scenario

_HALVINGS: Final = 7
"""An octave is bisected this many times, so the guess is exact to 0.6 %."""
_TOLERATED: Final = ("throttled_rate", "requests.throttled_rate")
_FLAT: Final = 1.25
"""A median time counts as flat if it exceeds the smallest median by at most this factor."""
_GROWTH_MS: Final = 5.0
"""Smaller growth of a median does not count, because other processes lengthen medians of 1 ms by several ms."""
_OWN: Final = 0.97
"""Share of the retrieval limit. If jobs that do not wait need less than this share, waiting exhausted the limit."""


class LimitForecast:
    """Forecasts each limit's share of 429s at multiples of a scenario's rate, and guesses the limits' multipliers.

    The scenario has only the judged stage. The forecast assumes that it starts together with a window. Another start
    gives the same shares, because whole windows are judged.
    """

    def __init__(self, question: Question) -> None:
        self._question = question
        scenario = question.scenario
        self._allowed = tolerances(scenario)
        drawn = {name for each in scenario.traffic.values() for name in LIMITS_OF_OPERATION[each.operation]}
        # A limit does not bound the rate if the thresholds allow it to reject everything.
        self._drawn = [name for name in LIMIT_NAMES if name in drawn and self._allowed.get(name, 0.0) < 1]
        # The searches for different limits mostly try the same multipliers.
        self._shares = cache(self._rejected_shares)

    def guesses(self, levels: Sequence[Level] = ()) -> list[Guess]:
        """Return a guess for each limit that the scenario uses. If the limit was a bottleneck, levels measure it."""
        scenario = self._question.scenario
        found = {name: self._measured(name, levels) or self._highest(name) for name in self._drawn}
        return [
            Guess(multiplier=multiplier, constraint=kind_of(name, scenario), limit=name)
            for name, multiplier in found.items()
            if multiplier is not None
        ]

    def _measured(self, name: LimitName, levels: Sequence[Level]) -> float | None:
        """Return the median multiplier from levels with this bottleneck; None if there is no such level.

        The forecast may reach a level's share of rejected first requests at another multiplier. The real limit then
        differs from the assumed limit by the ratio of both multipliers. The forecast of polls is less exact, because
        waiting jobs need more polls. While the retrieval limit rejects polls, it accepts its real rate. A level without
        rejections shows how many polls a job needs.
        """
        on = [(level, level.limits[name]) for level in levels if name in level.limits]
        calm = [seen.sent_rate / level.multiplier for level, seen in on if not seen.throttled_rate]
        needed = min(calm or [seen.sent_rate / level.multiplier for level, seen in on], default=0.0)
        foreseen = self._highest(name) if kind_of(name, self._question.scenario) == Constraint.LIMIT else None
        met = []
        for level, seen in on:
            if level.limit == name:
                alike = self._highest(name, seen.throttled_rate) if foreseen else None
                accepted = seen.accepted / needed / (1 - self._allowed.get(name, 0.0))
                met.append(level.multiplier * foreseen / alike if foreseen and alike else accepted)
        multiplier = median(met or [0.0])
        return multiplier if LOWEST <= multiplier <= HIGHEST else None

    def _highest(self, name: LimitName, tolerance: float | None = None) -> float | None:
        """Return the highest multiplier within a tolerance, by bisection in log-rate; None if all are within it.

        Thresholds set the default tolerance.
        """
        tolerance = self._allowed.get(name, 0.0) if tolerance is None else tolerance
        low = high = LOWEST
        while self._shares(high)[name] <= tolerance:
            low, high = high, high * 2
            if high > HIGHEST:
                return None
        for _ in range(_HALVINGS):
            middle = (low * high) ** 0.5
            low, high = (low, middle) if self._shares(middle)[name] > tolerance else (middle, high)
        return low

    def _rejected_shares(self, multiplier: float) -> dict[LimitName, float]:
        """The share of requests (0-1) that each limit rejects at a multiple of the scenario's rate."""
        question, assumed = self._question, self._question.assumed
        scenario = question.scenario
        faster = scenario.model_copy(update={"rate_multiplier": scenario.rate_multiplier * multiplier})
        keys = max(plan.keys.stop for plan in question.plans.values())
        # Only this schedule is forecast, because other seeds are not needed.
        asked = forecast(replace(question, scenario=faster, plans=traffic_plans(faster, assumed, keys)), most_seeds=0)
        seen = asked.phases[0] if asked.phases else None
        return {
            name: 0.0 if seen is None else float(seen.stretch_rejected[index].sum() / max(1, seen.asked[index].sum()))
            for index, name in enumerate(LIMIT_NAMES)
        }


def tolerances(scenario: Scenario) -> dict[LimitName, float]:
    """Return the share of 429s (0-1) that thresholds allow on each limit. The strictest threshold counts.

    The scenario must have only the judged stage.
    """
    found: dict[LimitName, float] = {}
    for entry in scenario.threshold:
        threshold = entry.parsed
        if threshold.operator not in {"<", "<="} or threshold.metric not in _TOLERATED:
            continue
        for operation in [each.operation for name, each in scenario.traffic.items() if entry.covers(name, each)]:
            polls_too = threshold.metric.startswith("requests.")
            for limit in LIMITS_OF_OPERATION[operation] if polls_too else [LIMIT_OF_OPERATION[operation]]:
                found[limit] = min(found.get(limit, 1.0), threshold.value)
    return found


def flat_until(levels: Sequence[Level]) -> float | None:
    """Return the highest multiplier at which response time and executionTime had not grown; None if unknown."""
    flat = None
    smallest: dict[tuple[str, str], float] = {}
    for level in sorted(levels, key=attrgetter("multiplier")):
        # Without ok operations, times are unknown.
        if level.constraint != Constraint.ERRORS and all(e.response_p50_ms is None for e in level.entries.values()):
            continue
        grew = [
            value > max(_FLAT * (least := smallest.setdefault((name, what), value)), least + _GROWTH_MS)
            for name, entry in level.entries.items()
            for what, value in (("response", entry.response_p50_ms), ("execution", entry.execution_p50_ms))
            if value is not None
        ]
        if level.constraint == Constraint.ERRORS or any(grew):
            return flat
        flat = level.multiplier
    return flat


def with_causes(levels: Sequence[Level]) -> list[Level]:
    """Return the levels with their causes. If waiting jobs exhausted the poll budget, the cause is the service.

    Jobs that do not wait need, for each unit of load, as few polls as in the passed level with the fewest. If the limit
    accepts that many polls, waiting is the cause.
    """
    name = LimitName.RETRIEVAL
    held = [level for level in levels if level.outcome == "holds" and name in level.limits]
    own = min((level.limits[name].sent_rate / level.multiplier for level in held), default=float("inf"))
    return [
        msgspec.structs.replace(level, constraint=Constraint.SERVICE, limit=None)
        if level.constraint == Constraint.POLL_BUDGET and level.multiplier * own < _OWN * level.limits[name].accepted
        else level
        for level in levels
    ]
