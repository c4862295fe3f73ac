"""What models expect, beside answers computed by hand."""

import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from loadtest.capacity.models import (
    flat_until,
    learned_guesses,
    limit_guesses,
    overload,
    tolerances,
    with_causes,
    workers_guess,
)
from loadtest.capacity.results import Constraint, EntryLevel, Level, LimitLevel
from loadtest.contract import LimitName
from loadtest.limits import LimiterSpec
from loadtest.plan import AssumedLimits, Question, traffic_plans
from loadtest.scenario import Scenario


def question(traffic: dict[str, Any], *require: str, **limits: str) -> Question:
    """A scenario of one entry, and of the limits that are in force."""
    stages = [{"name": "steady", "rate": "5/s", "duration": "8s"}]
    scenario = Scenario.model_validate(
        {
            "title": "t",
            "target": {"enforce": {"sync_run": "1000/s", "async_submit": "1000/s", "retrieval": "1000/s", **limits}},
            "traffic": {"it": {**traffic, "stages": stages}},
            "threshold": [{"require": each, "traffic": "it", "stage": "steady"} for each in require],
        }
    )
    assumed = AssumedLimits.for_scenario(scenario, embedded=True)
    return Question(scenario, traffic_plans(scenario, assumed, 1), assumed, start=0.0)


SYNC = {"operation": "sync_run", "workflow": "echo"}


def jobs(ms: int, interval: str) -> dict[str, Any]:
    """Jobs of so many ms, polled at an interval."""
    return {
        "operation": "async_run",
        "workflow": "sleep",
        "parameters": {"ms": ms},
        "polling": {"interval": interval},
    }


@pytest.mark.parametrize(("limit", "rate"), [("40/2s", 20), ("7/s", 7), ("32/4s", 8)])
def test_a_limit_on_runs_is_met_at_its_own_rate(limit: str, rate: float) -> None:
    """N/W divided by the scenario's 5/s."""
    (guess,) = limit_guesses(question(SYNC, "requests.throttled == 0", sync_run=limit), {})
    assert (guess.constraint, guess.limit) == (Constraint.LIMIT, LimitName.SYNC_RUN)
    assert guess.multiplier == pytest.approx(rate / 5, rel=0.03)


@pytest.mark.parametrize(("ms", "polls"), [(100, 1), (700, 2), (1200, 3)])
def test_the_poll_budget_is_shared_by_the_polls_of_a_job(ms: int, polls: int) -> None:
    """A job of D seconds that is polled every 0.5 s needs D / 0.5 polls, rounded up."""
    guesses = limit_guesses(question(jobs(ms, "500ms"), retrieval="60/2s"), {})
    (guess,) = [each for each in guesses if each.limit == LimitName.RETRIEVAL]
    assert guess.constraint is Constraint.POLL_BUDGET
    assert guess.multiplier == pytest.approx(30 / polls / 5, rel=0.1)


def test_what_a_threshold_lets_be_refused_is_added() -> None:
    """With a tenth refused, the rate is N/W ÷ 0.9."""
    asked = question(SYNC, "throttled_rate <= 0.1", sync_run="40/2s")
    allowed = tolerances(asked.scenario)
    assert allowed == {LimitName.SYNC_RUN: 0.1}
    (guess,) = limit_guesses(asked, allowed)
    assert guess.multiplier == pytest.approx(20 / 0.9 / 5, rel=0.03)


def level(multiplier: float, p50: float | None, execution: float | None = 100.0, **more: Any) -> Level:
    """A level that holds, of one entry."""
    entry = EntryLevel(
        operation="sync_run",
        offered_rate=5 * multiplier,
        response_p50_ms=p50,
        response_p95_ms=p50,
        execution_p50_ms=execution,
        throttled_rate=0.0,
        requests_per_operation=1.0,
    )
    plain = Level(
        multiplier=multiplier,
        directory="",
        outcome="holds",
        broken=(),
        stage_s=10,
        requests=50,
        entries={"it": entry},
        limits={},
    )
    return msgspec.structs.replace(plain, **more)


def test_a_level_that_held_tells_where_the_limit_is() -> None:
    """Half of 20/s was sent at 2 times the rate: 4 times is all of it."""
    asked = question(SYNC, "requests.throttled == 0", sync_run="40/2s")
    half = level(2.0, 100.0, limits={LimitName.SYNC_RUN: LimitLevel(sent_rate=10.0, throttled_rate=0.0)})
    (guess,) = learned_guesses([half], asked.assumed, 1, asked.scenario)
    assert (guess.multiplier, guess.limit) == (4.0, LimitName.SYNC_RUN)


@pytest.mark.parametrize("load", [1.1, 1.5, 3.0])
def test_the_median_wait_tells_how_overloaded_a_queue_is(load: float) -> None:
    """Who arrives t seconds after the first D/ρ waits t(ρ - 1): the median of 10 s (10 - D/ρ)(ρ - 1)/2 s."""
    scenario = question(SYNC, "response_time.p95 < 1s").scenario
    wait = 500 * (10 - 0.1 / load) * (load - 1)
    waiting = level(2.0, 100 + wait, outcome="breaks")
    assert overload(waiting, [waiting], scenario, math.inf) == pytest.approx(load)
    # What the calm level takes beyond executionTime is no wait.
    calm, later = level(1.0, 150.0), level(2.0, 150 + wait, outcome="breaks")
    assert overload(later, [calm, later], scenario, math.inf) == pytest.approx(load)
    for silent in (level(2.0, 100.0), level(2.0, None)):
        assert overload(silent, [silent], scenario, math.inf) is None


def test_polls_tell_how_overloaded_a_queue_is() -> None:
    """Jobs of 0.1 s at ρ = 1.4 wait 1.99 s on average, and 0.25 s for a poll: 4.67 polls, with nothing seen to end.

    Where half of the polls are refused, 0.58 / ρ s of that are time in which an end was not seen.
    """
    scenario = question(jobs(100, "500ms"), "response_time.p95 < 1s").scenario

    def polled(refused: float) -> Level:
        entry = msgspec.structs.replace(
            level(2.0, None).entries["it"], operation="async_run", requests_per_operation=1 + (1.986 + 0.1 + 0.25) / 0.5
        )
        limits = {LimitName.RETRIEVAL: LimitLevel(sent_rate=40.0, throttled_rate=refused)}
        return level(2.0, None, entries={"it": entry}, limits=limits)

    free, refused = (overload(each, [each], scenario, 20.0) for each in (polled(0.0), polled(0.5)))
    assert free == pytest.approx(1.4, abs=0.001)
    assert refused == pytest.approx(1.364, abs=0.001)


def test_a_waiting_level_tells_where_its_threshold_is_met() -> None:
    """ρ = 1.5 at 3 times the rate: μ is 2 times, and p95 < 1.05 s allows ρ = 1 + 0.95 / (0.95 × 8)."""
    asked = question(SYNC, "response_time.p95 < 1050ms")
    waiting = level(3.0, 100 + 250 * (10 - 0.1 / 1.5), constraint=Constraint.SERVICE, outcome="breaks")
    (guess,) = learned_guesses([waiting], asked.assumed, 1, asked.scenario)
    assert guess.constraint is Constraint.SERVICE
    assert guess.multiplier == pytest.approx(2 * (1 + 0.95 / (0.95 * 8)))


def test_workers_that_are_known_tell_where_they_are_busy() -> None:
    """64 workers and jobs of 0.8 s take 80 a second: 16 times the scenario's 5; p95 < 1 s is seen at the first poll."""
    asked = question(jobs(800, "800ms"), "response_time.p95 < 1s")
    guess = workers_guess(asked.scenario, {"it": 5.0}, asked.assumed, 1)
    assert guess is not None
    assert guess.multiplier == pytest.approx(16.0)
    unknown = question({**jobs(800, "1s"), "workflow": "echo", "parameters": {}}, "response_time.p95 < 1s")
    assert workers_guess(unknown.scenario, {"it": 5.0}, unknown.assumed, 1) is None


def test_runs_beside_jobs_do_not_wait_for_workers() -> None:
    """A threshold on their time says nothing of when the jobs' workers are busy."""
    asked = question(jobs(800, "800ms"), "response_time.p95 < 1s")
    runs = question(SYNC).scenario.traffic["it"]
    both = asked.scenario.model_copy(update={"traffic": {**asked.scenario.traffic, "runs": runs}})
    both.threshold.append(both.threshold[0].model_copy(update={"traffic": "runs"}))
    guess = workers_guess(both, {"it": 5.0, "runs": 5.0}, asked.assumed, 1)
    assert guess is not None
    assert guess.multiplier == pytest.approx(16.0)


def test_what_a_bucket_lets_through_at_once_is_added() -> None:
    """A burst of 16 in a stage of 8 s adds 2 a second to 20, however short the level was that tells it."""
    asked = question(SYNC, "requests.throttled == 0", sync_run="40/2s")
    bucket = replace(asked.assumed, spec=LimiterSpec("token-bucket", 16))
    half = level(2.0, 100.0, limits={LimitName.SYNC_RUN: LimitLevel(sent_rate=10.0, throttled_rate=0.0)})
    (guess,) = learned_guesses([half], bucket, 1, asked.scenario)
    assert guess.multiplier == pytest.approx(2 * 22 / 10)


@pytest.mark.parametrize(("multiplier", "constraint"), [(3.0, Constraint.SERVICE), (5.0, Constraint.POLL_BUDGET)])
def test_polls_of_jobs_that_wait_are_put_down_to_the_service(multiplier: float, constraint: Constraint) -> None:
    """At rest 20/s of polls are 4 times the rate: below that, who spends the limit are jobs that wait."""
    asked = question(jobs(100, "500ms"), retrieval="40/2s")
    calm = level(1.0, 500.0, limits={LimitName.RETRIEVAL: LimitLevel(sent_rate=5.0, throttled_rate=0.0)})
    refused = level(multiplier, 2000.0, constraint=Constraint.POLL_BUDGET, limit=LimitName.RETRIEVAL, outcome="breaks")
    assert with_causes([calm, refused], asked.scenario, asked.assumed, 1)[1].constraint is constraint


def test_it_is_flat_until_times_grow_by_a_quarter() -> None:
    """The highest rate before the first that took longer, in any order of the levels."""
    assert flat_until([level(4.0, 180.0), level(1.0, 100.0), level(2.0, 110.0)]) == 2.0
    assert flat_until([]) is None
    assert flat_until([level(1.0, 100.0), level(2.0, None, None)]) == 1.0
    assert flat_until([level(2.0, None, None)]) is None
