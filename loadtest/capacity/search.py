"""The choice of the next rate and the end of the search: models first, bisection where they are wrong. Pure.

Two runs confirm a model's guess: one below it that passes and one above it that does not, if the upper one has the
model's bottleneck. Otherwise the bracket is halved (in log-rate) until its ends are 10 % apart, so that its middle is
known within 5 %.

For an unknown service with polled jobs, exploratory runs come first: runs of a part of the stage, each at twice the
previous rate, until one waits or a limit is near. If the first one fails, which does not show how much too fast it was,
the next runs at half the rate. Overload is expensive: its polls grow with the square of its seconds. An exploratory run
decides nothing; it shows how far to go, and its waits show where to search.

A run with a late load generator says little, as do two runs that contradict each other: such a run is repeated once,
and the last run at a multiplier counts. A service may become slower during the search. A pass before the run that waits
or errors stopped is therefore repeated once, so that the lower end of the bracket is the newer result.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple

from loadtest.capacity.results import Constraint, Guess, Level
from loadtest.contract import POLLED_OPERATIONS
from loadtest.scenario import Scenario

# Values without a derivation were tuned with bench/capacity_settings.py, on seeds 101 to 103 and 501 to 503. The table
# of accuracy in bench/README.md was made with them, on seeds not used for tuning.
LOWEST: Final = 1 / 64
HIGHEST: Final = 64.0
"""Range of multipliers of the scenario's own rate: six octaves, as for a limit's forecast."""
BELOW: Final = 0.9
ABOVE: Final = 1.1
"""Ratios to a guess of the two runs that confirm it, each valid for a forecast that is 5 % off; tuned with the bench.
"""
CLOSE: Final = 1.1
"""Maximum ratio of the ends of a bracket: its middle, the geometric mean, is then at most 4.9 % off."""
_CLOSER: Final = 1.05
"""Ratio of a step down from a service that was near its capacity: half of ``CLOSE`` in log-rate, because failures there
may be chance."""
_STEP: Final = 2.0
"""Ratio of a step without a guess: an octave, as for the bench's plain bisection."""
_NEXT: Final = 1.2
"""Ratio to a rate that passed above the guessed capacity of the service; tuned with the bench."""
_SCOUT: Final = 0.25
_SHORT: Final = 0.6
"""Standard and maximum length of an exploratory run, as a part of the judged stage; tuned with the bench, by requests
sent."""
_SCOUT_S: Final = 5.0
_SCOUT_OPERATIONS: Final = 20
"""Minimum seconds and operations of an exploratory run, below which medians are noise; tuned with the bench."""
_BROKEN: Final = 0.5
"""Share of failing operations (0-1) at two rates that shows that the service is out of order."""
_MOST_AT_ONE: Final = 2
"""Maximum number of runs at one multiplier: a contradiction is repeated once (docs/capacity.md)."""
_NEAR: Final = 1.03
"""Ratio within which a level serves as the end of a queue's bracket: below half of ``CLOSE``; tuned with the bench."""
_SAME: Final = 1e-6
"""Relative difference of equal multipliers: far above rounding, far below any step."""


@dataclass(frozen=True, slots=True)
class Bracket:
    """The range of multipliers that contains the answer."""

    low: Level | None
    """The passing level with the highest multiplier below ``high``; None if there is none."""
    high: Level | None
    """The failing level with the lowest multiplier; None if all pass."""
    consistent: bool
    """Whether all levels below a passing level pass too, and none ever passed clearly above ``high``."""

    @property
    def ends(self) -> tuple[float, float]:
        """The multipliers of both ends, 0 and infinity without a level."""
        return (self.low.multiplier if self.low else 0.0), (self.high.multiplier if self.high else math.inf)

    @property
    def narrow(self) -> bool:
        """Whether its middle is known within 5 %."""
        low, high = self.ends
        return high <= low * (CLOSE + _SAME)

    def holds(self, multiplier: float) -> bool:
        """Whether a multiplier lies inside, excluding the ends."""
        low, high = self.ends
        return low * (1 + _SAME) < multiplier < high * (1 - _SAME)


def judged(levels: Sequence[Level]) -> list[Level]:
    """Return the levels that count as an answer: all except exploratory runs."""
    return [level for level in levels if not level.scout]


class NextRun(NamedTuple):
    """The next run: its multiplier, and the seconds of its stage if it is exploratory."""

    multiplier: float
    scout_s: int | None


def next_run(
    levels: Sequence[Level], guesses: Sequence[Guess], scenario: Scenario, rates: Mapping[str, float]
) -> NextRun | None:
    """Return the next run, exploratory if that is cheaper; None if nothing is left to try.

    Args:
        levels: the levels so far, in the order of their runs.
        guesses: the models' guesses, including those from the levels.
        scenario: the scenario with only the judged stage.
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
    """The multiplier of the next exploratory run; None if a judged run is next."""
    if judged(levels) or any(each.constraint == Constraint.SERVICE for each in guesses):
        return None
    last = levels[-1].multiplier if levels else 0.0
    if levels and all(each.outcome == "breaks" and each.constraint != Constraint.ERRORS for each in levels):
        # It is unknown how much too fast the last one was: go slower until one passes.
        return last / _STEP if last / _STEP >= LOWEST else None
    if not all(map(_calm, levels)):
        return None
    nearest = min((guess.multiplier * BELOW for guess in guesses), default=HIGHEST)
    step = min(last * _STEP if last else 1.0, nearest)
    return step if LOWEST <= step <= HIGHEST and step > last * CLOSE else None


def _calm(level: Level) -> bool:
    """Whether a run stayed within the known limits; a short run has too few values for some thresholds."""
    refused = any(each.throttled_rate for each in level.limits.values())
    return level.outcome in {"holds", "inconclusive"} and not refused


def _leap(between: Bracket, scouts: Sequence[Level]) -> float:
    """The maximum of the next rate after the highest one that passed, even if only in an exploratory run."""
    calm = max((level.multiplier for level in scouts if _calm(level)), default=0.0)
    reached = calm if between.low is None else between.low.multiplier
    broke = [each.multiplier for each in scouts if each.outcome == "breaks" and each.multiplier > reached * CLOSE]
    return min([reached * _STEP, *(math.sqrt(reached * each) for each in broke)]) if reached else 1.0


def bracket(levels: Sequence[Level]) -> Bracket:
    """Return the range that the levels leave possible; they are in the order of their runs."""
    levels = judged(levels)
    last = list({level.multiplier: level for level in levels}.values())
    failed = [level for level in last if level.outcome in {"breaks", "invalid"}]
    high = min(failed, key=attrgetter("multiplier"), default=None)
    held = [level for level in last if level.outcome == "holds"]
    below = [level for level in held if high is None or level.multiplier < high.multiplier]
    before = [level for level in levels if level.outcome == "holds"]
    # A run near the answer may pass by chance; a run far above it passed because the service was faster.
    faster = high is not None and any(each.multiplier > high.multiplier * CLOSE + _SAME for each in before)
    low = max(below, key=attrgetter("multiplier"), default=None)
    return Bracket(low, high, len(below) == len(held) and not faster)


def next_multiplier(levels: Sequence[Level], guesses: Sequence[Guess]) -> float | None:
    """Return the multiplier of the next run, as for ``next_run``; None if nothing is left to try."""
    scouts, levels = [level for level in levels if level.scout], judged(levels)
    # Every run is equally long, and slower runs have even fewer values.
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
    # The capacity of an unknown service may lie below its limits: avoid a large step into overload.
    served = [each.multiplier for each in guesses if each.constraint == Constraint.SERVICE]
    low, high = between.ends
    step = math.inf if served else _leap(between, scouts)
    if served and low > max(served):
        # The guess was too low: the further it was exceeded, the larger the step.
        step = low * min(_STEP, _NEXT * low / max(served))
    guess = _tightest(between, guesses)
    if guess is not None and (multiplier := _beside(guess, between, step)) is not None:
        return multiplier
    if between.high is None:
        first = min(step if math.isfinite(step) else low * _STEP or 1.0, HIGHEST)
        return first if first > low * (1 + _SAME) else None
    near = between.high.constraint == Constraint.SERVICE and any(high / _STEP < each for each in served)
    # Near the service's capacity take a small step down, larger after each failure.
    broken = sum(level.outcome == "breaks" for level in levels)
    lower = high / (min(_CLOSER**broken, _STEP) if near else _STEP)
    if between.low is None:
        return lower if lower >= LOWEST else None
    return math.sqrt(low * high)


def _beside(guess: Guess, between: Bracket, step: float) -> float | None:
    """One of the two multipliers that confirm a guess, or a step towards them; None if both have run."""
    low, high = between.ends
    below, above = _around(guess)
    if guess.constraint == Constraint.SERVICE:
        # A level close enough to an end serves as that end.
        above = min(above, low * CLOSE) if low * _NEAR >= below else above
        below = max(below, high / CLOSE) if high <= above * _NEAR else below
        below, above = low if low * _NEAR >= below else below, high if high <= above * _NEAR else above
    if between.high is None and below > step:
        return step
    tries = [each for each in (below, above) if between.holds(each) and LOWEST <= each <= HIGHEST]
    # For a service the lower run comes last: it has to pass after the upper one failed.
    last = guess.constraint == Constraint.SERVICE
    return tries[-1 if last else 0] if tries else None


def _out_of_order(levels: Sequence[Level]) -> bool:
    """Whether most operations failed in the last two runs, the second at most half as fast as the first."""
    last = levels[-2:]
    failing = all(entry.error_rate > _BROKEN for level in last for entry in level.entries.values())
    return len(last) > 1 and failing and last[1].multiplier * _STEP <= last[0].multiplier * (1 + _SAME)


def older_low(between: Bracket, levels: Sequence[Level]) -> float | None:
    """Return the lower end if the service may have become slower since it ran; None if nothing must be repeated."""
    low, high = between.low, between.high
    if low is None or high is None or high.constraint not in {Constraint.SERVICE, Constraint.ERRORS}:
        return None
    runs = [level.multiplier for level in levels]
    last = len(runs) - 1 - runs[::-1].index(high.multiplier)
    older = low.multiplier not in runs[last:] and runs.count(low.multiplier) < _MOST_AT_ONE
    return low.multiplier if older else None


def _around(guess: Guess) -> tuple[float, float]:
    """The two multipliers that confirm a guess; for a queue, whose times are noisy, they form a narrow bracket."""
    if guess.constraint == Constraint.SERVICE:
        return guess.multiplier / math.sqrt(CLOSE), guess.multiplier * math.sqrt(CLOSE)
    return guess.multiplier * BELOW, guess.multiplier * ABOVE


def _tightest(between: Bracket, guesses: Sequence[Guess]) -> Guess | None:
    """The lowest guess that the levels leave possible, which would be the first bottleneck."""
    possible = [guess for guess in guesses if between.holds(guess.multiplier)]
    # Prefer the bottleneck of the level above.
    fitting = [guess for guess in possible if between.high is not None and _agree(guess, between.high)]
    return min(fitting or possible, key=attrgetter("multiplier"), default=None)


def _agree(guess: Guess, level: Level) -> bool:
    return guess.constraint == level.constraint and guess.limit in (None, level.limit)


def confirmed(between: Bracket, guesses: Sequence[Guess]) -> Guess | None:
    """Return the guess that a run below and a run above it confirm; None if there is none."""
    if between.low is None or between.high is None:
        return None
    for guess in sorted(guesses, key=attrgetter("multiplier")):
        below, above = _around(guess)
        near = below * (1 - _SAME) <= between.low.multiplier and between.high.multiplier <= above * (1 + _SAME)
        if near and between.holds(guess.multiplier) and _agree(guess, between.high):
            return guess
    return None


def estimate(levels: Sequence[Level], guesses: Sequence[Guess]) -> float | None:
    """Return the highest multiplier that passes; None if the levels do not give it within 5 %."""
    levels, between = judged(levels), bracket(levels)
    if not between.consistent or between.low is None or between.high is None:
        return None
    if older_low(between, levels) is not None:
        return None
    if (guess := confirmed(between, guesses)) is not None:
        return guess.multiplier
    return math.sqrt(between.low.multiplier * between.high.multiplier) if between.narrow else None
