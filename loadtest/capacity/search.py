"""Which rate to try next, and when the answer is known: models first, bracketing where they are wrong. Pure.

A model's guess is confirmed by two runs, one below it that holds and one above it that does not, if what stopped the
upper one is what the model says. Otherwise the bracket is halved (in log-rate) until its ends are 10 % apart, so that
its middle is known within 5 %.

Of a service of which nothing is known, scouts find the way where jobs are polled: runs of a part of the stage, each at
twice the rate of the one before, until one waits or a limit is near (and at half of it, where the first one breaks and
does not tell how much too fast it was). Overload is dear there: its polls grow with the square of its seconds. A scout
decides nothing; it tells how far to leap, and its waits where to look.

One run in which the load generator was late says little, and neither do two runs that contradict each other: such a
run is repeated once, and the last run of a multiplier counts. A service may get slower while it is measured: what held
before the run that its waits or errors stopped is repeated once, so that the lower end of the bracket is the newer one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple

from loadtest.capacity.results import Constraint, Guess, Level
from loadtest.contract import POLLED_OPERATIONS
from loadtest.scenario import Scenario

# Values that no derivation gives were tuned with bench/capacity_settings.py, on seeds 101 to 103 and 501 to 503; the
# table in docs/capacity.md ("How often it is right") was made with them, on seeds that nothing was tuned on.
LOWEST: Final = 1 / 64
HIGHEST: Final = 64.0
"""Multipliers of the scenario's own rate between which is searched: six octaves, as a limit's forecast."""
BELOW: Final = 0.9
ABOVE: Final = 1.1
"""Times a guess: the two runs that confirm it, each clear of a forecast that is 5 % off; tuned with the bench."""
CLOSE: Final = 1.1
"""Ratio of the ends of a bracket that is narrow enough: its middle, the geometric mean, is at most 4.9 % off."""
_CLOSER: Final = 1.05
"""Ratio of a step down from a service that was clearly near its capacity: half of ``CLOSE`` in log-rate, as what breaks
there may do so by chance."""
_STEP: Final = 2.0
"""Ratio of a step where nothing tells how far to go: an octave, as plain bisection of the bench takes it."""
_NEXT: Final = 1.2
"""Times a rate that held, where the service's capacity was guessed lower; tuned with the bench."""
_SCOUT: Final = 0.25
_SHORT: Final = 0.6
"""Parts of the judged stage: a scout is so long, and at most so long; tuned with the bench, by requests sent."""
_SCOUT_S: Final = 5.0
_SCOUT_OPERATIONS: Final = 20
"""Fewest seconds and operations of a scout, whose medians are noise below; tuned with the bench."""
_BROKEN: Final = 0.5
"""Part of the operations (0-1) that fail at two rates: most do, so that the service is out of order at any rate."""
_MOST_AT_ONE: Final = 2
"""Runs at one multiplier: one that contradicts another is repeated once (docs/capacity.md)."""
_NEAR: Final = 1.03
"""Ratio up to which a level serves as the end of a queue's bracket: below half of ``CLOSE``; tuned with the bench."""
_SAME: Final = 1e-6
"""Relative difference of multipliers that are one: far above rounding, far below any step."""


@dataclass(frozen=True, slots=True)
class Bracket:
    """Between which multipliers the answer lies."""

    low: Level | None
    """The level that holds with the highest multiplier below ``high``; None if none does."""
    high: Level | None
    """The level that does not hold with the lowest multiplier; None if all hold."""
    consistent: bool
    """Whether every level below one that holds holds, too, and none ever held clearly above ``high``."""

    @property
    def ends(self) -> tuple[float, float]:
        """The multipliers of both, 0 and infinity where there is no level."""
        return (self.low.multiplier if self.low else 0.0), (self.high.multiplier if self.high else math.inf)

    @property
    def narrow(self) -> bool:
        """Whether its middle is known within 5 %."""
        low, high = self.ends
        return high <= low * (CLOSE + _SAME)

    def holds(self, multiplier: float) -> bool:
        """Whether a multiplier lies within, its ends excluded."""
        low, high = self.ends
        return low * (1 + _SAME) < multiplier < high * (1 - _SAME)


def judged(levels: Sequence[Level]) -> list[Level]:
    """The levels that count as an answer: all but scouts."""
    return [level for level in levels if not level.scout]


class NextRun(NamedTuple):
    """The next run: its multiplier, and the seconds of its stage if it is a scout."""

    multiplier: float
    scout_s: int | None


def next_run(
    levels: Sequence[Level], guesses: Sequence[Guess], scenario: Scenario, rates: Mapping[str, float]
) -> NextRun | None:
    """The next run, a scout if that is cheaper; None when there is nothing left to try.

    Args:
        levels: so far, in the order of their runs.
        guesses: of the models, which may have learned from the levels.
        scenario: with the judged stage alone.
        rates: operations/s of each traffic entry at its own rate.
    """
    polled = any(each.operation in POLLED_OPERATIONS for each in scenario.traffic.values())
    if polled and (multiplier := _next_scout(levels, guesses)) is not None:
        whole_s = scenario.duration
        seconds = max(whole_s * _SCOUT, _SCOUT_S, _SCOUT_OPERATIONS / (min(rates.values()) * multiplier))
        if seconds <= whole_s * _SHORT:
            return NextRun(multiplier, math.ceil(seconds))
    multiplier = next_multiplier(levels, guesses)
    return None if multiplier is None else NextRun(multiplier, None)


def _next_scout(levels: Sequence[Level], guesses: Sequence[Guess]) -> float | None:
    """The multiplier of the next scout; None where none is needed: a run that is judged comes next."""
    if judged(levels) or any(each.constraint == Constraint.SERVICE for each in guesses):
        return None
    last = levels[-1].multiplier if levels else 0.0
    if levels and all(each.outcome == "breaks" and each.constraint != Constraint.ERRORS for each in levels):
        # Nothing tells how much too fast the last one was: slower, until one holds.
        return last / _STEP if last / _STEP >= LOWEST else None
    if not all(map(_calm, levels)):
        return None
    nearest = min((guess.multiplier * BELOW for guess in guesses), default=HIGHEST)
    step = min(last * _STEP if last else 1.0, nearest)
    return step if LOWEST <= step <= HIGHEST and step > last * CLOSE else None


def _calm(level: Level) -> bool:
    """Whether it stayed within what is known: a short run has too few values for some thresholds."""
    refused = any(each.throttled_rate for each in level.limits.values())
    return level.outcome in {"holds", "inconclusive"} and not refused


def _leap(between: Bracket, scouts: Sequence[Level]) -> float:
    """The fastest run after the highest rate that was carried, if only by a scout: not so fast as one that broke."""
    calm = max((level.multiplier for level in scouts if _calm(level)), default=0.0)
    reached = calm if between.low is None else between.low.multiplier
    broke = [each.multiplier for each in scouts if each.outcome == "breaks" and each.multiplier > reached * CLOSE]
    return min([reached * _STEP, *(math.sqrt(reached * each) for each in broke)]) if reached else 1.0


def bracket(levels: Sequence[Level]) -> Bracket:
    """What the levels so far leave possible, in the order of their runs."""
    levels = judged(levels)
    last = list({level.multiplier: level for level in levels}.values())
    failed = [level for level in last if level.outcome in {"breaks", "invalid"}]
    high = min(failed, key=attrgetter("multiplier"), default=None)
    held = [level for level in last if level.outcome == "holds"]
    below = [level for level in held if high is None or level.multiplier < high.multiplier]
    before = [level for level in levels if level.outcome == "holds"]
    # A run near the answer may hold by chance; one that is far above it did so because the service was faster.
    faster = high is not None and any(each.multiplier > high.multiplier * CLOSE + _SAME for each in before)
    low = max(below, key=attrgetter("multiplier"), default=None)
    return Bracket(low, high, len(below) == len(held) and not faster)


def next_multiplier(levels: Sequence[Level], guesses: Sequence[Guess]) -> float | None:
    """The multiplier of the next run, as ``next_run`` says; None when there is nothing left to try."""
    scouts, levels = [level for level in levels if level.scout], judged(levels)
    # Every run is as long, and slower ones have even fewer values.
    if any(level.outcome == "inconclusive" for level in levels) or _out_of_order(levels):
        return None
    between = bracket(levels)
    if between.high is not None and (between.high.outcome == "invalid" or not between.consistent):
        again = between.high.multiplier
        if sum(level.multiplier == again for level in levels) < _MOST_AT_ONE:
            return again
    if not between.consistent:
        return None
    if between.narrow or confirmed(between, guesses) is not None:
        return older_low(between, levels)
    # A service of which nothing is known may take less than its limits allow: no great leap into overload.
    served = [each.multiplier for each in guesses if each.constraint == Constraint.SERVICE]
    low, high = between.ends
    step = math.inf if served else _leap(between, scouts)
    if served and low > max(served):
        # What was guessed too low is near: the further it was passed, the less so.
        step = low * min(_STEP, _NEXT * low / max(served))
    guess = _tightest(between, guesses)
    if guess is not None and (multiplier := _beside(guess, between, step)) is not None:
        return multiplier
    if between.high is None:
        first = min(step if math.isfinite(step) else low * _STEP or 1.0, HIGHEST)
        return first if first > low * (1 + _SAME) else None
    near = between.high.constraint == Constraint.SERVICE and any(high / _STEP < each for each in served)
    # From a service that is near its capacity a small step down, and a larger one each time that it was not enough.
    broken = sum(level.outcome == "breaks" for level in levels)
    lower = high / (min(_CLOSER**broken, _STEP) if near else _STEP)
    if between.low is None:
        return lower if lower >= LOWEST else None
    return math.sqrt(low * high)


def _beside(guess: Guess, between: Bracket, step: float) -> float | None:
    """One of the two multipliers that confirm a guess, or a step on the way; None if both ran."""
    low, high = between.ends
    below, above = _around(guess)
    if guess.constraint == Constraint.SERVICE:
        # A level that is near enough to an end serves as that end.
        above = min(above, low * CLOSE) if low * _NEAR >= below else above
        below = max(below, high / CLOSE) if high <= above * _NEAR else below
        below, above = low if low * _NEAR >= below else below, high if high <= above * _NEAR else above
    if between.high is None and below > step:
        return step
    tries = [each for each in (below, above) if between.holds(each) and LOWEST <= each <= HIGHEST]
    # Of a service the lower one comes last: it has to hold after the upper one did not.
    last = guess.constraint == Constraint.SERVICE
    return tries[-1 if last else 0] if tries else None


def _out_of_order(levels: Sequence[Level]) -> bool:
    """Whether most operations failed in the last two runs, the second one's rate being at most half of the first's."""
    last = levels[-2:]
    failing = all(entry.error_rate > _BROKEN for level in last for entry in level.entries.values())
    return len(last) > 1 and failing and last[1].multiplier * _STEP <= last[0].multiplier * (1 + _SAME)


def older_low(between: Bracket, levels: Sequence[Level]) -> float | None:
    """The lower end, if the service may have become slower since it ran; None if nothing has to be repeated."""
    low, high = between.low, between.high
    if low is None or high is None or high.constraint not in {Constraint.SERVICE, Constraint.ERRORS}:
        return None
    runs = [level.multiplier for level in levels]
    last = len(runs) - 1 - runs[::-1].index(high.multiplier)
    older = low.multiplier not in runs[last:] and runs.count(low.multiplier) < _MOST_AT_ONE
    return low.multiplier if older else None


def _around(guess: Guess) -> tuple[float, float]:
    """The two multipliers that confirm a guess: of a queue, whose times are noisy, so near that they are a bracket."""
    if guess.constraint == Constraint.SERVICE:
        return guess.multiplier / math.sqrt(CLOSE), guess.multiplier * math.sqrt(CLOSE)
    return guess.multiplier * BELOW, guess.multiplier * ABOVE


def _tightest(between: Bracket, guesses: Sequence[Guess]) -> Guess | None:
    """The lowest guess that the levels leave possible: it is what would stop first."""
    possible = [guess for guess in guesses if between.holds(guess.multiplier)]
    # What stopped the level above is what the answer is about.
    fitting = [guess for guess in possible if between.high is not None and _agree(guess, between.high)]
    return min(fitting or possible, key=attrgetter("multiplier"), default=None)


def _agree(guess: Guess, level: Level) -> bool:
    return guess.constraint == level.constraint and guess.limit in (None, level.limit)


def confirmed(between: Bracket, guesses: Sequence[Guess]) -> Guess | None:
    """The guess that a run below and a run above it confirm; None if there is none."""
    if between.low is None or between.high is None:
        return None
    for guess in sorted(guesses, key=attrgetter("multiplier")):
        below, above = _around(guess)
        near = below * (1 - _SAME) <= between.low.multiplier and between.high.multiplier <= above * (1 + _SAME)
        if near and between.holds(guess.multiplier) and _agree(guess, between.high):
            return guess
    return None


def estimate(levels: Sequence[Level], guesses: Sequence[Guess]) -> float | None:
    """The highest multiplier that holds; None where the levels do not tell it within 5 %."""
    levels, between = judged(levels), bracket(levels)
    if not between.consistent or between.low is None or between.high is None:
        return None
    if older_low(between, levels) is not None:
        return None
    if (guess := confirmed(between, guesses)) is not None:
        return guess.multiplier
    return math.sqrt(between.low.multiplier * between.high.multiplier) if between.narrow else None
