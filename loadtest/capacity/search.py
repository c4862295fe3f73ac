"""Which rate to try next, and when the answer is known: models first, bracketing where they are wrong. Pure.

A model's guess is confirmed by two runs, one below it that holds and one above it that does not, if what stopped the
upper one is what the model says. Otherwise the bracket is halved (in log-rate) until its ends are 10 % apart, so that
its middle is known within 5 %.

One run in which the load generator was late says little, and neither do two runs that contradict each other: such a
run is repeated once, and the last run of a multiplier counts. A service may get slower while it is measured: what held
before the run that its waits or errors stopped is repeated once, so that the lower end of the bracket is the newer one.
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
_BROKEN: Final = 0.5
"""Part of the operations that fail at any rate: the service is out of order, and no lower rate would help."""
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
        consistent: whether every level below one that holds holds, too, and none ever held clearly above ``high``.
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
    """What the levels so far leave possible.

    Args:
        levels: in the order of their runs.
    """
    last = list({level.multiplier: level for level in levels}.values())
    failed = [level for level in last if level.outcome in {"breaks", "invalid"}]
    high = min(failed, key=lambda level: level.multiplier, default=None)
    held = [level for level in last if level.outcome == "holds"]
    below = [level for level in held if high is None or level.multiplier < high.multiplier]
    before = [level for level in levels if level.outcome == "holds"]
    # A run near the answer may hold by chance; one that is far above it did so because the service was faster.
    faster = high is not None and any(each.multiplier > high.multiplier * CLOSE + _SAME for each in before)
    low = max(below, key=lambda level: level.multiplier, default=None)
    return Bracket(low, high, len(below) == len(held) and not faster)


def next_multiplier(levels: Sequence[Level], guesses: Sequence[Guess]) -> float | None:
    """The multiplier of the next run; None when there is nothing left to try.

    Args:
        levels: so far, in the order of their runs.
        guesses: of the models, which may have learned from the levels.
    """
    if any(level.outcome == "inconclusive" for level in levels):
        return None  # Every run is as long, and slower ones have even fewer values.
    if _out_of_order(levels):
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
    known = any(each.constraint == Constraint.SERVICE for each in guesses)
    guess = _tightest(between, guesses)
    if guess is not None and (multiplier := _beside(guess, between, careful=not known)) is not None:
        return multiplier
    low = 0.0 if between.low is None else between.low.multiplier
    if between.high is None:
        return _first(low * _STEP if low else 1.0, low)
    if between.low is None:
        lower = between.high.multiplier / _STEP
        return lower if lower >= LOWEST else None
    return math.sqrt(low * between.high.multiplier)


def _beside(guess: Guess, between: Bracket, *, careful: bool) -> float | None:
    """One of the two multipliers that confirm a guess, or, if careful, a step on the way; None if both ran."""
    low = 0.0 if between.low is None else between.low.multiplier
    high = math.inf if between.high is None else between.high.multiplier
    below, above = _around(guess)
    if guess.constraint == Constraint.SERVICE:
        # A level that is near enough to an end serves as that end.
        above = min(above, low * CLOSE) if low * _NEAR >= below else above
        below = max(below, high / CLOSE) if high <= above * _NEAR else below
        below, above = low if low * _NEAR >= below else below, high if high <= above * _NEAR else above
    step = low * _STEP if low else 1.0
    if careful and between.high is None and below > step:
        return step
    tries = [each for each in (below, above) if between.holds(each) and LOWEST <= each <= HIGHEST]
    # Of a service the lower one comes last: it has to hold after the upper one did not.
    last = guess.constraint == Constraint.SERVICE and between.high is not None
    return tries[-1 if last else 0] if tries else None


def _out_of_order(levels: Sequence[Level]) -> bool:
    """Whether most operations failed in the last two runs, the second one's rate being at most half of the first's."""
    last = levels[-2:]
    failing = all(entry.error_rate > _BROKEN for level in last for entry in level.entries.values())
    return len(last) > 1 and failing and last[1].multiplier * _STEP <= last[0].multiplier * (1 + _SAME)


def older_low(between: Bracket, levels: Sequence[Level]) -> float | None:
    """The lower end, if the service may have become slower since it ran; None if nothing has to be repeated.

    Args:
        between: what the levels leave possible.
        levels: in the order of their runs.
    """
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
    if older_low(between, levels) is not None:
        return None
    if (guess := confirmed(between, guesses)) is not None:
        return guess.multiplier
    return math.sqrt(between.low.multiplier * between.high.multiplier) if between.narrow else None
