"""Which rate to try next, and when the answer is known: models first, bracketing where they are wrong. Pure.

A model's guess is confirmed by two runs, one below it that holds and one above it that does not, if what stopped the
upper one is what the model says. Otherwise the bracket is halved (in log-rate) until its ends are 10 % apart, so that
its middle is known within 5 %.

One run in which the load generator was late says little, and neither do two runs that contradict each other: such a
run is repeated once, and the last run of a multiplier counts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.capacity.results import Constraint, Guess, Level

LOWEST: Final = 1 / 64
HIGHEST: Final = 64.0
"""Multipliers of the scenario's own rate between which is searched."""
BELOW: Final = 0.9
ABOVE: Final = 1.1
"""Times a guess: the two runs that confirm it."""
CLOSE: Final = 1.1
"""Ratio of the ends of a bracket that is narrow enough."""
_STEP: Final = 2.0
_MOST_AT_ONE: Final = 2
"""Runs at one multiplier."""
_NEAR: Final = 1.03
_SAME: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Bracket:
    """Between which multipliers the answer lies.

    Attributes:
        low: the level that holds with the highest multiplier below ``high``; None if none does.
        high: the level that does not hold with the lowest multiplier; None if all hold.
        consistent: whether every level below one that holds holds, too.
    """

    low: Level | None
    high: Level | None
    consistent: bool

    @property
    def narrow(self) -> bool:
        """Whether its middle is known within 5 %."""
        if self.low is None or self.high is None:
            return False
        return self.high.multiplier / self.low.multiplier <= CLOSE + _SAME

    def holds(self, multiplier: float) -> bool:
        """Whether a multiplier lies within, its ends excluded."""
        above = self.low is None or multiplier > self.low.multiplier * (1 + _SAME)
        return above and (self.high is None or multiplier < self.high.multiplier * (1 - _SAME))


def bracket(levels: Sequence[Level]) -> Bracket:
    """What the levels so far leave possible."""
    levels = list({level.multiplier: level for level in levels}.values())
    failed = [level for level in levels if level.outcome in {"breaks", "invalid"}]
    high = min(failed, key=lambda level: level.multiplier, default=None)
    held = [level for level in levels if level.outcome == "holds"]
    below = [level for level in held if high is None or level.multiplier < high.multiplier]
    return Bracket(max(below, key=lambda level: level.multiplier, default=None), high, len(below) == len(held))


def next_multiplier(levels: Sequence[Level], guesses: Sequence[Guess]) -> float | None:
    """The multiplier of the next run; None when there is nothing left to try.

    Args:
        levels: so far, in any order.
        guesses: of the models, which may have learned from the levels.
    """
    if any(level.outcome == "inconclusive" for level in levels):
        return None  # Every run is as long, and slower ones have even fewer values.
    between = bracket(levels)
    if between.high is not None and (between.high.outcome == "invalid" or not between.consistent):
        again = between.high.multiplier
        if sum(level.multiplier == again for level in levels) < _MOST_AT_ONE:
            return again
    if between.narrow or confirmed(between, guesses) is not None or not between.consistent:
        return None
    guess = _tightest(between, guesses)
    low = 0.0 if between.low is None else between.low.multiplier
    high = math.inf if between.high is None else between.high.multiplier
    if guess is not None:
        below, above = _around(guess)
        if guess.constraint == Constraint.SERVICE:
            # A level that is near enough to an end serves as that end.
            above = min(above, low * CLOSE) if low * _NEAR >= below else above
            below = max(below, high / CLOSE) if high <= above * _NEAR else below
            below = low if low * _NEAR >= below else below
        careful = low * _STEP if low else 1.0
        # A service of which nothing is known may take less than its limits allow: no great leap into overload.
        known = any(each.constraint == Constraint.SERVICE for each in guesses)
        if between.high is None and below > careful and not known:
            return careful
        if between.holds(below) and low < below and _in_range(below):
            return below
        if between.holds(above) and high > above and _in_range(above):
            return above
    if between.high is None:
        return _first(low * _STEP if low else 1.0, low)
    if between.low is None:
        lower = between.high.multiplier / _STEP
        return lower if lower >= LOWEST else None
    return math.sqrt(low * high)


def _around(guess: Guess) -> tuple[float, float]:
    """The two multipliers that confirm a guess: of a queue, whose times are noisy, so near that they are a bracket."""
    if guess.constraint == Constraint.SERVICE:
        return guess.multiplier / math.sqrt(CLOSE), guess.multiplier * math.sqrt(CLOSE)
    return guess.multiplier * BELOW, guess.multiplier * ABOVE


def _in_range(multiplier: float) -> bool:
    return LOWEST <= multiplier <= HIGHEST


def _first(multiplier: float, low: float) -> float | None:
    multiplier = min(multiplier, HIGHEST)
    return multiplier if multiplier > low * (1 + _SAME) else None


def _tightest(between: Bracket, guesses: Sequence[Guess]) -> Guess | None:
    """The lowest guess that the levels leave possible: it is what would stop first."""
    possible = [guess for guess in guesses if between.holds(guess.multiplier)]
    if between.high is not None:
        # What stopped the level above is what the answer is about.
        possible = [guess for guess in possible if _agree(guess, between.high)] or possible
    return min(possible, key=lambda guess: guess.multiplier, default=None)


def _agree(guess: Guess, level: Level) -> bool:
    return guess.constraint == level.constraint and guess.limit in (None, level.limit)


def confirmed(between: Bracket, guesses: Sequence[Guess]) -> Guess | None:
    """The guess that a run below and a run above it confirm; None if there is none.

    Args:
        between: what the levels leave possible.
        guesses: of the models.
    """
    if between.low is None or between.high is None:
        return None
    for guess in sorted(guesses, key=lambda guess: guess.multiplier):
        below, above = _around(guess)
        near = below * (1 - _SAME) <= between.low.multiplier and between.high.multiplier <= above * (1 + _SAME)
        if near and between.holds(guess.multiplier) and _agree(guess, between.high):
            return guess
    return None


def estimate(levels: Sequence[Level], guesses: Sequence[Guess]) -> float | None:
    """The highest multiplier that holds; None where the levels do not tell it within 5 %."""
    between = bracket(levels)
    if not between.consistent or between.low is None or between.high is None:
        return None
    if (guess := confirmed(between, guesses)) is not None:
        return guess.multiplier
    return math.sqrt(between.low.multiplier * between.high.multiplier) if between.narrow else None
