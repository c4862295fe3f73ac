"""Bayesian bisection. It chooses the next rate and estimates the range that contains the true rate.

The true rate θ is the rate at which half of the runs with fresh seeds pass. A run at rate x passes with probability
1 / (1 + (x/θ)^(1/s)), a logistic curve over log-rate with the width s. The result of a small share of runs, the lapses,
does not depend on the rate. A grid holds the posterior of θ and s. Each level runs near the median of θ, so that a pass
and a failure are equally likely (Waeber, Frazier and Henderson, "Bisection search with noisy responses", 2013). The
answer is a credible interval of θ.

*Prior of θ.* Guesses from rate limits have up to half of the weight. The rest is highest at the scenario's own rate and
halves whenever the rate doubles or halves. Without guesses, the median of θ is twice the scenario's rate after a pass
at this rate, and half of it after a failure.

*Prior of s.* If n random arrivals are expected, their number has the relative standard deviation 1/√n, so s = k/√n with
a factor k. Simulated queues have k between 0.5 and 2. If arrivals are even, only the service varies, and k is usually
smaller.

*Guesses.* The forecast replays the scenario's schedule through the assumed limiters. A limit's guess is the highest
multiplier at which the judged stage has no more 429s than the thresholds allow. Levels improve the guess, because their
share of 429s shows by how much a rate exceeds the real limit.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from operator import attrgetter
from statistics import median
from typing import Final, NamedTuple

import msgspec
import numpy as np

from loadtest.arrays import Bools, Floats
from loadtest.capacity.results import Constraint, Guess, Level, kind_of
from loadtest.contract import LIMIT_NAMES, LIMIT_OF_OPERATION, LIMITS_OF_OPERATION, LimitName
from loadtest.plan import Question, forecast, traffic_plans
from loadtest.scenario import Scenario

_OCTAVES: Final = 6
"""The highest multiplier doubles the scenario's rate this many times; the lowest halves it as often."""
LOWEST: Final = 2.0**-_OCTAVES
HIGHEST: Final = 2.0**_OCTAVES
_FINE: Final = 0.005
"""Step of the grid in log-rate: far below any wanted width."""
_LOGS: Final = np.arange(-int(_OCTAVES * math.log(2) / _FINE), int(_OCTAVES * math.log(2) / _FINE) + 1) * _FINE
RATES: Final = np.exp(_LOGS)
"""The multipliers that levels may have, ascending."""
_FACTORS: Final = np.geomspace(0.05, 4, 14)
"""Grid of k."""
_RANDOM: Final = (1.3, 0.4)
"""Median of k and standard deviation of log k for Poisson arrivals, fitted to simulated queues (bench)."""
_EVEN: Final = (0.3, 1.0)
"""Median of k and standard deviation of log k for even arrivals, fitted to simulated queues (bench)."""
_LAPSES: Final = 0.01
"""Share of runs that pass regardless of the rate. The same share fails regardless of the rate."""
_OFF: Final = 0.03
"""Relative standard error of a limit's guess. The error comes from requests at the edges of a window (bench)."""
_TAIL: Final = 0.04
"""Posterior probability beyond each end of the range. More than 90 of 100 ranges contain the true rate (bench)."""
_APART: Final = 0.025
"""Unequal rates of two levels differ by at least this share, a quarter of the default width of the range."""
_STEP: Final = 2.0
"""The next rate is at most this multiple of the fastest rate that passed or had too few values, to limit overload."""
_BETTER: Final = 1.1
"""A failure does not depend on the rate if halving the rate improves the result by less than this factor."""
_HALVINGS: Final = 7
"""An octave is bisected this many times, so the guess is exact to 0.6 %."""
_TOLERATED: Final = ("throttled_rate", "requests.throttled_rate")
_FLAT: Final = 1.25
"""A median time is flat if it is at most this multiple of the median at the slowest level."""
_GROWTH_MS: Final = 5.0
"""A median is also flat if it grew by at most this, because other processes lengthen medians of 1 ms by several ms."""
_OWN: Final = 0.97
"""If jobs that do not wait would need less than this share of the accepted polls, waiting jobs exhausted the retrieval
limit."""


class StageCounts(NamedTuple):
    """The judged stage: operations at multiplier 1 (mean over the entries), and whether any arrivals are random."""

    operations: float
    random: bool


class Precision(NamedTuple):
    """The wanted precision: the relative width of the range, and whether a rate may run again with a fresh seed."""

    width: float = 0.1
    repeats: bool = False


class RateRange(NamedTuple):
    """Multipliers: the ends of the credible interval, and its median."""

    low: float
    middle: float
    high: float

    @property
    def width(self) -> float:
        """Width of the range, relative to its low end."""
        return self.high / self.low - 1


def outcomes(levels: Sequence[Level]) -> list[tuple[Level, bool]]:
    """Return the levels that count, and whether each passed.

    Another process may delay the generator by chance. An invalid run therefore counts only if it is one of several that
    were faster than every valid run. An inconclusive run had too few values. It counts, as a failure, only if a slower
    run passed.
    """
    kept_up = max((level.multiplier for level in levels if level.outcome != "invalid"), default=0.0)
    late = [level for level in levels if level.outcome == "invalid" and level.multiplier > kept_up]
    slowest = min((level.multiplier for level in levels if level.outcome == "holds"), default=math.inf)
    return [
        (level, level.outcome == "holds")
        for level in levels
        if not (level.outcome == "invalid" and (len(late) == 1 or level not in late))
        and not (level.outcome == "inconclusive" and level.multiplier <= slowest)
    ]


def _unjudged(levels: Sequence[Level]) -> list[Level]:
    """Return the inconclusive levels that ``outcomes`` leaves out. Faster runs follow them, and have more values."""
    counted = [level for level, _ in outcomes(levels)]
    return [level for level in levels if level.outcome == "inconclusive" and level not in counted]


def bounded(levels: Sequence[Level]) -> bool:
    """Whether some levels passed and some failed. Only then does the range have two ends."""
    return len({passed for _, passed in outcomes(levels)}) > 1


def estimate(levels: Sequence[Level], guesses: Sequence[Guess], stage: StageCounts) -> RateRange:
    """Return the range of the true rate."""
    cumulated = np.cumsum(_posterior(levels, guesses, stage))
    places = np.searchsorted(cumulated / cumulated[-1], (_TAIL, 0.5, 1 - _TAIL))
    return RateRange(*map(float, RATES[places]))


def _posterior(levels: Sequence[Level], guesses: Sequence[Guess], stage: StageCounts) -> Floats:
    """Return the unnormalised posterior of θ on its grid."""
    prior: Floats = np.exp(-np.abs(_LOGS)) / 2
    slowest = min((level.multiplier for level, passed in outcomes(levels) if not passed), default=math.inf)
    # A guess above twice a failed rate is left out: if it were right, this rate would hardly have failed.
    for guess in (each for each in guesses if each.multiplier <= slowest * _STEP):
        deviates = (_LOGS - math.log(guess.multiplier)) / _OFF
        prior += np.exp(-(deviates**2) / 2) / (_OFF * math.sqrt(2 * math.pi) * len(guesses))
    middle, deviation = _RANDOM if stage.random else _EVEN
    weights = np.exp(-((np.log(_FACTORS / middle) / deviation) ** 2) / 2)
    spread = _FACTORS[:, None] / np.sqrt(np.maximum(1, stage.operations * RATES))
    joint: Floats = prior * weights[:, None]
    for level, passed in [*outcomes(levels), *((each, True) for each in _unjudged(levels))]:
        above = np.clip((math.log(level.multiplier) - _LOGS) / spread, -50, 50)
        passes = _LAPSES + (1 - 2 * _LAPSES) / (1 + np.exp(above))
        joint *= passes if passed else 1 - passes
    return np.asarray(joint.sum(axis=0))


def next_multiplier(
    levels: Sequence[Level], guesses: Sequence[Guess], stage: StageCounts, precision: Precision, most: float = HIGHEST
) -> float | None:
    """Return the multiplier of the next level; None if the search is at its end.

    ``most`` is the highest multiplier that the request budget allows.
    """
    if hopeless(levels):
        return None
    found = estimate(levels, guesses, stage)
    if bounded(levels) and found.width <= precision.width:
        return None
    free = _free(levels, repeats=precision.repeats) & (most * (1 + _FINE / 2) >= RATES)
    # If all rates of the range are too fast for the next step, the nearest allowed rate is next.
    if free.any() and found.low <= RATES[free].max():
        free &= (found.low <= RATES) & (found.high >= RATES)
    if not free.any():
        return None
    distances = np.where(free, np.abs(_LOGS - math.log(found.middle)), math.inf)
    return float(RATES[distances.argmin()])


def _free(levels: Sequence[Level], *, repeats: bool) -> Bools:
    """Return which rates may run next. They are not too fast, not too slow to be judged, and not near a level's rate.

    If ``repeats``, a level's own rate may run again.
    """
    passed = [level.multiplier for level, passed in outcomes(levels) if passed]
    unjudged = [level.multiplier for level in _unjudged(levels)]
    fastest = _STEP * max([*passed, *unjudged], default=1 / _STEP)
    # Until a rate has failed, only a rate above all passed rates adds information.
    slowest = max(unjudged if bounded(levels) else [*unjudged, *passed], default=0.0)
    free: Bools = (fastest * (1 + _FINE / 2) >= RATES) & (slowest < RATES)
    for rate in [*unjudged, *(level.multiplier for level, _ in outcomes(levels))]:
        free &= (np.abs(_LOGS - math.log(rate)) >= _APART) | (repeats & (np.abs(_LOGS - math.log(rate)) < _FINE / 2))
    return free


def hopeless(levels: Sequence[Level]) -> tuple[Level, Level] | None:
    """Return two failed levels whose failure does not depend on the rate; None if there are none, or a level passed.

    The slower level has at most 0.55 of the faster level's rate, or 0.78 of it if slower runs cannot be judged. Its
    result is less than 10 % better. The results are response times if the service was the bottleneck, and otherwise
    the shares of operations that succeeded.
    """
    counted = outcomes(levels)
    failed = sorted((level for level, passed in counted if not passed), key=attrgetter("multiplier"))
    if len(failed) < len(counted) or len(failed) < 2:
        return None
    slower = failed[0]
    # If slower runs have too few values to be judged, a smaller distance must suffice.
    apart = math.sqrt(_STEP) if _unjudged(levels) else _STEP
    for faster in failed[1:]:
        halved = slower.multiplier * apart <= faster.multiplier * _BETTER
        if halved and slower.constraint == faster.constraint != Constraint.GENERATOR and _alike(slower, faster):
            return slower, faster
    return None


def _alike(slower: Level, faster: Level) -> bool:
    if slower.constraint == Constraint.SERVICE:
        pairs = [(faster.entries[name].typical_ms, entry.typical_ms) for name, entry in slower.entries.items()]
        return all(before is not None and now is not None and before < now * _BETTER for before, now in pairs)
    return all(entry.served < faster.entries[name].served * _BETTER for name, entry in slower.entries.items())


class LimitForecast:
    """Forecasts limits' shares of 429s at multiples of a scenario's rate, and guesses the highest permitted multiple.

    The scenario has only the judged stage. The forecast assumes that this stage and a window of the limiter start
    together. If windows start at other times, the guess hardly changes, because the stage contains a whole window.
    """

    def __init__(self, question: Question) -> None:
        self._question = question
        traffic = question.scenario.traffic
        self._allowed = tolerances(question.scenario)
        drawn = {name for each in traffic.values() for name in LIMITS_OF_OPERATION[each.operation]}
        # A limit does not bound the rate if the thresholds allow it to reject everything.
        self._drawn = [name for name in LIMIT_NAMES if name in drawn and self._allowed.get(name, 0.0) < 1]
        # Cached, because the searches for different limits mostly try the same multipliers.
        self._shares = cache(self._rejected_shares)

    def guesses(self, levels: Sequence[Level] = ()) -> list[Guess]:
        """Return guesses for the limits that the scenario uses. A limit that no multiplier reaches has no guess.

        If a limit was the bottleneck of some ``levels``, its guess is computed from these levels.
        """
        found = {name: self._measured(name, levels) or self._highest(name) for name in self._drawn}
        return [
            Guess(multiplier=multiplier, constraint=kind_of(name, self._question.scenario), limit=name)
            for name, multiplier in found.items()
            if multiplier is not None
        ]

    def _measured(self, name: LimitName, levels: Sequence[Level]) -> float | None:
        """Return the multiplier that the real limit permits: the median over the levels whose bottleneck it was.

        It is None if there is no such level, or if the multiplier is out of range.

        *First requests.* At another multiplier, the forecast has the same share of 429s as the level. The level's
        multiplier ÷ this other multiplier is real limit ÷ assumed limit. The forecast's guess is multiplied by this.

        *Polls.* Waiting jobs need more polls than the forecast has. While a limit rejects polls, it accepts requests
        at its real rate. The guess is this rate ÷ (requests/s ÷ multiplier of a level without 429s).
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
        """Return the highest multiplier whose share of 429s is tolerated; None if it exceeds ``HIGHEST``.

        If ``LOWEST`` has too many 429s, it is returned. The thresholds give the default of ``tolerance`` (0-1).
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
        """Return the share of requests (0-1) that each limit rejects at a multiple of the scenario's rate."""
        question = self._question
        scenario = self._question.scenario
        faster = scenario.model_copy(update={"rate_multiplier": scenario.rate_multiplier * multiplier})
        keys = max(plan.keys.stop for plan in question.plans.values())
        plans = traffic_plans(faster, question.assumed, keys)
        # One seed suffices for a guess.
        seen = next(iter(forecast(replace(question, scenario=faster, plans=plans), most_seeds=0).phases), None)
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
    smallest = dict[tuple[str, str], float]()
    for level in sorted(levels, key=attrgetter("multiplier")):
        # Without ok operations, times are unknown, so the level is skipped.
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
    """Correct the constraints of levels: if waiting jobs exhausted the poll budget, the constraint is the service.

    The passed level with the fewest polls per unit of load shows how many polls jobs need if they do not wait. If more
    polls than that were accepted at a level, its jobs waited.
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
