"""The search over a service whose answer is known: it asks few rates, and does not trust a model that is wrong."""

import msgspec
import pytest

from loadtest.capacity.results import Constraint, EntryLevel, Guess, Level
from loadtest.capacity.search import HIGHEST, LOWEST, bracket, estimate, next_multiplier, next_run
from loadtest.contract import LimitName
from loadtest.scenario import Scenario

LIMIT = Guess(multiplier=3.0, constraint=Constraint.LIMIT, limit=LimitName.SYNC_RUN)


def level(multiplier: float, answer: float) -> Level:
    """A run against a service that takes so much, and whose sync_run limit stops more."""
    holds = multiplier <= answer
    entry = EntryLevel(
        operation="sync_run",
        offered_rate=multiplier,
        response_p50_ms=None,
        response_p95_ms=None,
        execution_p50_ms=None,
        throttled_rate=0.0 if holds else 1 - answer / multiplier,
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
        limits={},
        constraint=None if holds else Constraint.LIMIT,
        limit=None if holds else LimitName.SYNC_RUN,
    )


def searched(answer: float, *guesses: Guess) -> list[Level]:
    """The levels that a search makes until it has nothing left to try."""
    levels: list[Level] = []
    while (multiplier := next_multiplier(levels, guesses)) is not None:
        levels.append(level(multiplier, answer))
    return levels


def test_a_right_guess_takes_one_run_below_and_one_above() -> None:
    """At 0.9 and 1.1 of the answer, and the answer is what the model says."""
    workers = Guess(multiplier=9.0, constraint=Constraint.SERVICE)
    levels = searched(3.0, LIMIT, workers)
    assert [each.multiplier for each in levels] == pytest.approx([2.7, 3.3])
    assert estimate(levels, [LIMIT, workers]) == 3.0


def test_a_service_of_which_nothing_is_known_is_approached_in_steps() -> None:
    """It may take less than its limits allow: each step at most doubles the rate."""
    assert [each.multiplier for each in searched(3.0, LIMIT)] == pytest.approx([1.0, 2.0, 2.7, 3.3])


def scouted(capacity: float, limit: float = 3.0, expected: float = 3.0) -> list[tuple[float, bool]]:
    """The runs of a search against jobs whose service tells its capacity once it is overloaded."""
    stages = [{"name": "steady", "rate": "10/s", "duration": "120s"}]
    scenario = Scenario.model_validate(
        {"title": "t", "traffic": {"jobs": {"operation": "async_run", "workflow": "echo", "stages": stages}}}
    )
    guesses = [msgspec.structs.replace(LIMIT, multiplier=expected)]
    levels: list[Level] = []
    while (run := next_run(levels, guesses, scenario, {"jobs": 10.0})) is not None:
        seen = level(run.multiplier, min(capacity, limit))
        if seen.outcome == "breaks" and capacity < limit:
            seen = msgspec.structs.replace(seen, constraint=Constraint.SERVICE, limit=None)
            guesses.append(Guess(multiplier=capacity, constraint=Constraint.SERVICE))
        assert run.scout_s in {None, 30}
        levels.append(msgspec.structs.replace(seen, scout=run.scout_s is not None))
    assert estimate(levels, guesses) == pytest.approx(min(capacity, limit), rel=0.05)
    return [(round(each.multiplier, 2), each.scout) for each in levels]


def test_scouts_find_the_way_to_a_service_of_which_nothing_is_known() -> None:
    """Short runs double the rate until one waits; the runs that are judged are those beside what it tells."""
    assert scouted(1.5) == [(1.0, True), (2.0, True), (1.57, False), (1.43, False)]


def test_a_scout_goes_no_further_than_the_nearest_limit() -> None:
    """Where it met nothing, the two runs that confirm the limit follow."""
    assert scouted(9.0) == [(1.0, True), (2.0, True), (2.7, True), (2.7, False), (3.3, False)]


def test_a_scout_that_breaks_without_telling_how_much_too_fast_is_followed_by_slower_ones() -> None:
    """No whole stage runs at a rate at which a part of one did not hold."""
    runs = scouted(0.3, limit=0.3, expected=9.0)
    assert runs[:4] == [(1.0, True), (0.5, True), (0.25, True), (0.35, False)]


@pytest.mark.parametrize("answer", [0.05, 0.7, 1.0, 2.2, 17.3, 60.0])
@pytest.mark.parametrize("guesses", [(), (LIMIT,)], ids=["no model", "a wrong model"])
def test_the_answer_is_within_five_percent_whatever_the_model_says(answer: float, guesses: tuple[Guess, ...]) -> None:
    """A wrong guess costs runs, not the answer."""
    levels = searched(answer, *guesses)
    assert len(levels) <= 14
    assert estimate(levels, guesses) == pytest.approx(answer, rel=0.05)


def test_a_guess_about_another_constraint_confirms_nothing() -> None:
    """What stopped the run above it must be what the model says."""
    polls = Guess(multiplier=3.0, constraint=Constraint.POLL_BUDGET, limit=LimitName.RETRIEVAL)
    levels = [level(2.7, 3.0), level(3.3, 3.0)]
    assert estimate(levels, [polls]) is None
    assert next_multiplier(levels, [polls]) is not None


@pytest.mark.parametrize("answer", [LOWEST / 2, HIGHEST * 2], ids=["nothing holds", "everything holds"])
def test_a_search_ends_where_no_rate_is_left(answer: float) -> None:
    """There is no answer outside the multipliers that are tried."""
    levels = searched(answer)
    assert all(LOWEST <= each.multiplier <= HIGHEST for each in levels)
    assert estimate(levels, ()) is None


def test_a_run_that_contradicts_another_is_repeated_once() -> None:
    """It counts as the repetition says; if that contradicts, too, the service changed while it was measured."""
    levels = [level(1.0, 0.5), level(2.0, 4.0)]
    assert not bracket(levels).consistent
    assert next_multiplier(levels, ()) == 1.0
    assert next_multiplier([*levels, level(1.0, 4.0)], ()) == 4.0
    levels.append(level(1.0, 0.5))
    assert next_multiplier(levels, ()) is None
    assert estimate(levels, ()) is None


def test_a_run_whose_generator_was_late_is_repeated_once() -> None:
    """A second late run is what stops more."""
    late = msgspec.structs.replace(
        level(3.3, 3.0), outcome="invalid", constraint=Constraint.GENERATOR, limit=None, broken=("dispatch lag p99",)
    )
    levels = [level(2.7, 3.0), late]
    assert next_multiplier(levels, [LIMIT]) == 3.3
    assert estimate([*levels, level(3.3, 3.0)], [LIMIT]) == 3.0
    between = bracket([*levels, late])
    assert next_multiplier([*levels, late], [LIMIT]) == pytest.approx((2.7 * 3.3) ** 0.5)
    assert between.high is late


def test_a_run_that_cannot_be_judged_ends_the_search() -> None:
    """It is neither end of a bracket, and no other rate would help."""
    unsure = msgspec.structs.replace(level(1.0, 3.0), outcome="inconclusive")
    between = bracket([unsure])
    assert (between.low, between.high) == (None, None)
    assert next_multiplier([unsure], [LIMIT]) is None


@pytest.mark.parametrize("faster", [0.99, 0.95, 0.9, 0.6])
@pytest.mark.parametrize("answer", [0.7, 3.0, 4.2, 9.0])
def test_a_service_that_gets_slower_is_given_no_rate_that_it_no_longer_takes(answer: float, faster: float) -> None:
    """What held before the service became slower is repeated: the answer is that of the end, or there is none."""
    levels: list[Level] = []
    while len(levels) < 10 and (multiplier := next_multiplier(levels, ())) is not None:
        answer *= faster if levels else 1
        levels.append(waiting(level(multiplier, answer)))
    assert (estimate(levels, ()) or answer) == pytest.approx(answer, rel=0.06)


def waiting(made: Level) -> Level:
    """The same level, stopped by the service."""
    return msgspec.structs.replace(made, constraint=made.constraint and Constraint.SERVICE, limit=None)


def test_of_a_service_the_lower_run_is_the_newer_one() -> None:
    """It is made last, or repeated; a lower run that a limit stops more than needs no repetition."""
    guess = Guess(multiplier=3.0, constraint=Constraint.SERVICE)
    levels = [waiting(level(4.0, 3.0))]
    for _ in range(2):
        multiplier = next_multiplier(levels, [guess])
        assert multiplier is not None
        levels.append(waiting(level(multiplier, 3.0)))
    assert [each.outcome for each in levels] == ["breaks", "breaks", "holds"]
    assert next_multiplier(levels, [guess]) is None
    levels = [level(2.9, 3.0), level(3.1, 3.0)]
    assert next_multiplier(levels, ()) is None
    levels = [waiting(each) for each in levels]
    assert next_multiplier(levels, ()) == 2.9
    assert next_multiplier([*levels, levels[0]], ()) is None


def test_a_service_that_is_out_of_order_is_left_alone() -> None:
    """Where most operations fail at half of the rate, too, no lower one is tried."""
    levels = []
    for multiplier in (1.0, 0.5):
        made = waiting(level(multiplier, 0.01))
        failing = {"runs": msgspec.structs.replace(made.entries["runs"], error_rate=0.9)}
        levels.append(msgspec.structs.replace(made, entries=failing, constraint=Constraint.ERRORS))
    assert next_multiplier(levels[:1], ()) == 0.5
    assert next_multiplier(levels, ()) is None
