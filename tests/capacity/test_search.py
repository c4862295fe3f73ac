"""The search over services with a known answer: few levels, no creeping, and a range that contains the true rate."""

import math
import random
from itertools import pairwise

import msgspec
import pytest

from loadtest.capacity.results import Constraint, EntryLevel, Guess, Level, LimitLevel
from loadtest.capacity.search import (
    HIGHEST,
    LOWEST,
    Precision,
    StageCounts,
    bounded,
    estimate,
    hopeless,
    next_multiplier,
    outcomes,
)
from loadtest.contract import LimitName

LIMIT = Guess(multiplier=3.0, constraint=Constraint.LIMIT, limit=LimitName.SYNC_RUN)
EVEN = StageCounts(600, random=False)
RANDOM = StageCounts(600, random=True)


def level(multiplier: float, answer: float) -> Level:
    """A run against a service whose sync_run limit accepts so much."""
    holds = multiplier <= answer
    throttled = 0.0 if holds else 1 - answer / multiplier
    entry = EntryLevel(
        operation="sync_run",
        offered_rate=multiplier,
        response_p50_ms=None,
        response_p95_ms=None,
        execution_p50_ms=None,
        throttled_rate=throttled,
        requests_per_operation=1.0,
    )
    return Level(
        multiplier=multiplier,
        directory="",
        outcome="holds" if holds else "breaks",
        broken=() if holds else ("throttled_rate == 0",),
        stage_s=60,
        requests=round(60 * multiplier),
        entries={"runs": entry},
        limits={LimitName.SYNC_RUN: LimitLevel(sent_rate=multiplier, throttled_rate=throttled)},
        constraint=None if holds else Constraint.LIMIT,
        limit=None if holds else LimitName.SYNC_RUN,
    )


def waiting(multiplier: float, p95: float, *, holds: bool = False) -> Level:
    """A run whose operations waited in the service."""
    made = level(multiplier, math.inf if holds else 0.0)
    entry = msgspec.structs.replace(made.entries["runs"], throttled_rate=0.0, response_p95_ms=p95)
    cause = None if holds else Constraint.SERVICE
    return msgspec.structs.replace(made, entries={"runs": entry}, limits={}, constraint=cause, limit=None)


def searched(answer: float, *guesses: Guess) -> list[Level]:
    """The levels that a search makes until it has nothing left to try."""
    levels: list[Level] = []
    while (multiplier := next_multiplier(levels, guesses, EVEN, Precision())) is not None:
        levels.append(level(multiplier, answer))
    return levels


@pytest.mark.parametrize("answer", [0.1, 0.7, 1.0, 2.2, 17.3])
@pytest.mark.parametrize("guesses", [(), (LIMIT,)], ids=["no guess", "a wrong guess"])
def test_the_range_contains_a_sharp_answer_whatever_the_guess(answer: float, guesses: tuple[Guess, ...]) -> None:
    """Within about ten percent; no two levels are nearer than 2.5 %, and no step more than doubles the rate."""
    levels = searched(answer, *guesses)
    found = estimate(levels, guesses, EVEN)
    assert found.low <= answer <= found.high
    assert found.width <= 0.2
    assert len(levels) <= 14
    rates = sorted(each.multiplier for each in levels)
    assert all(b / a > 1.024 for a, b in pairwise(rates))
    passed = 0.5
    for each in levels:
        assert each.multiplier <= passed * 2.01
        passed = max(passed, each.multiplier if each.outcome == "holds" else 0.0)


def test_a_right_guess_saves_levels() -> None:
    """The search doubles up to the guess and confirms it from both sides."""
    levels = searched(3.0, LIMIT)
    assert len(levels) <= 6
    assert len(levels) < len(searched(3.0))


def test_more_levels_narrow_the_range_of_a_noisy_service() -> None:
    """Chance near the true rate costs width, not truth."""
    draw = random.Random(3)
    levels: list[Level] = []
    widths = {}
    while (
        len(levels) < 30
        and (multiplier := next_multiplier(levels, (), RANDOM, Precision(0.04, repeats=True))) is not None
    ):
        passes = draw.random() < 1 / (1 + (multiplier / 1.7) ** 20)
        levels.append(level(multiplier, math.inf if passes else 0.0))
        widths[len(levels)] = estimate(levels, (), RANDOM).width
    found = estimate(levels, (), RANDOM)
    assert found.low <= 1.7 <= found.high
    assert len(levels) == 30
    assert widths[30] < widths[10] * 0.75
    assert all(
        abs(math.log(a.multiplier / b.multiplier)) > 0.024 or a.multiplier == b.multiplier
        for a in levels
        for b in levels
    )


@pytest.mark.parametrize("answer", [LOWEST / 2, HIGHEST * 2], ids=["nothing holds", "everything holds"])
def test_a_search_ends_where_no_rate_is_left(answer: float) -> None:
    """There is no range outside the multipliers that are tried."""
    levels = searched(answer)
    assert all(LOWEST <= each.multiplier <= HIGHEST * 1.01 for each in levels)
    assert not bounded(levels)


def test_a_budget_bounds_the_rate() -> None:
    """The next level is the fastest allowed one."""
    levels = [level(1.0, 9.0)]
    assert next_multiplier(levels, (), EVEN, Precision(), most=1.5) == pytest.approx(1.5, rel=0.01)
    assert next_multiplier([*levels, level(1.5, 9.0)], (), EVEN, Precision(), most=1.5) is None


def test_a_run_whose_generator_was_late_is_repeated_once() -> None:
    """A second late run counts, unless the generator kept up with a faster run."""
    late = msgspec.structs.replace(level(2.0, 1.0), outcome="invalid", constraint=Constraint.GENERATOR, limit=None)
    levels = [level(1.0, 3.0), late]
    assert next_multiplier(levels, (), EVEN, Precision()) == pytest.approx(2.0, rel=0.05)
    assert not bounded(levels)
    assert bounded([*levels, late])
    assert not bounded([*levels, late, level(2.5, 3.0)])


def test_a_run_that_cannot_be_judged_counts_only_above_one_that_passed() -> None:
    """Too few values: faster runs have more. Above a pass the threshold itself is undecided."""
    unsure = msgspec.structs.replace(level(1.0, 3.0), outcome="inconclusive")
    assert next_multiplier([unsure], (), EVEN, Precision()) == pytest.approx(2.0, rel=0.05)
    assert outcomes([unsure]) == []
    slower = level(0.5, 3.0)
    assert outcomes([slower, unsure]) == [(slower, True), (unsure, False)]


def test_a_failure_that_does_not_depend_on_the_rate_ends_the_search() -> None:
    """Times or errors hardly better at half of the rate; a queue or a limit is much better."""
    failing = [msgspec.structs.replace(waiting(rate, 50), constraint=Constraint.ERRORS) for rate in (1.0, 0.5)]
    broken = [
        msgspec.structs.replace(each, entries={"runs": msgspec.structs.replace(each.entries["runs"], error_rate=0.9)})
        for each in failing
    ]
    for levels in ([waiting(1.0, 402), waiting(0.51, 400)], broken):
        assert hopeless(levels) == (levels[1], levels[0])
        assert next_multiplier(levels, (), EVEN, Precision()) is None
    assert hopeless([waiting(1.0, 4000), waiting(0.5, 400)]) is None
    unsure = msgspec.structs.replace(waiting(0.5, 400), outcome="inconclusive")
    assert hopeless([waiting(1.0, 402), unsure, waiting(0.76, 400)]) is not None
    assert hopeless([waiting(1.0, 402), waiting(0.76, 400)]) is None
    assert hopeless([waiting(1.0, 402), waiting(0.5, 400), waiting(0.2, 10, holds=True)]) is None
    assert hopeless([level(1.0, 0.1), level(0.5, 0.1)]) is None
