"""Guesses of limits and causes of failures, beside answers computed by hand."""

from typing import Any

import msgspec
import pytest

from loadtest.capacity.results import Constraint, EntryLevel, Level, LimitLevel
from loadtest.capacity.search import LimitForecast, flat_until, tolerances, with_causes
from loadtest.contract import LimitName
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
    assumed = AssumedLimits.of_embedded(scenario)
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
    (guess,) = LimitForecast(question(SYNC, "requests.throttled == 0", sync_run=limit)).guesses()
    assert (guess.constraint, guess.limit) == (Constraint.LIMIT, LimitName.SYNC_RUN)
    assert guess.multiplier == pytest.approx(rate / 5, rel=0.03)


@pytest.mark.parametrize(("ms", "polls"), [(100, 1), (1200, 3)])
def test_the_poll_budget_is_shared_by_the_polls_of_a_job(ms: int, polls: int) -> None:
    """A job of D seconds that is polled every 0.5 s needs D / 0.5 polls, rounded up."""
    guesses = LimitForecast(question(jobs(ms, "500ms"), retrieval="60/2s")).guesses()
    (guess,) = [each for each in guesses if each.limit == LimitName.RETRIEVAL]
    assert guess.constraint is Constraint.POLL_BUDGET
    assert guess.multiplier == pytest.approx(30 / polls / 5, rel=0.1)


def test_what_a_threshold_lets_be_refused_is_added() -> None:
    """With a tenth refused, the rate is N/W ÷ 0.9."""
    asked = question(SYNC, "throttled_rate <= 0.1", sync_run="40/2s")
    assert tolerances(asked.scenario) == {LimitName.SYNC_RUN: 0.1}
    (guess,) = LimitForecast(asked).guesses()
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


def met(multiplier: float, sent: float, share: float, limit: LimitName, cause: Constraint) -> Level:
    """A level that a limit stopped: it rejected a share of the requests/s."""
    on = {limit: LimitLevel(sent_rate=sent, throttled_rate=share)}
    return level(multiplier, 100.0, outcome="breaks", constraint=cause, limit=limit, limits=on)


@pytest.mark.parametrize("arrivals", ["even", "poisson"])
def test_a_level_that_a_limit_stopped_tells_the_real_limit(arrivals: str) -> None:
    """At 4 times the rate, half of 20/s was accepted: the limit is 10/s, half of the documented one.

    Of random arrivals, a limit rejects some at slower rates, too.
    """
    expected = LimitForecast(question(SYNC | {"arrivals": arrivals}, "requests.throttled == 0", sync_run="40/2s"))
    (guess,) = expected.guesses([met(4.0, 20.0, 0.5, LimitName.SYNC_RUN, Constraint.LIMIT)])
    assert guess.limit == LimitName.SYNC_RUN
    assert guess.multiplier == pytest.approx(expected.guesses()[0].multiplier / 2, rel=0.1)
    assert (guess.multiplier < 1.8) == (arrivals == "poisson")
    everything = LimitForecast(question(SYNC, "throttled_rate <= 1", sync_run="40/2s"))
    assert everything.guesses([met(4.0, 20.0, 0.5, LimitName.SYNC_RUN, Constraint.LIMIT)]) == []
    # Without a rejection, the forecast stands.
    assert expected.guesses([level(1.0, 100.0)]) == expected.guesses()


def test_a_level_without_rejections_tells_how_many_polls_a_job_needs() -> None:
    """Waiting jobs were polled 12 times a second each; at rest 5/s at multiplier 1, so 30/s are 6 times the rate."""
    expected = LimitForecast(question(jobs(100, "500ms"), retrieval="60/2s"))
    calm = level(1.0, 500.0, limits={LimitName.RETRIEVAL: LimitLevel(sent_rate=5.0, throttled_rate=0.0)})
    stopped = met(8.0, 60.0, 0.5, LimitName.RETRIEVAL, Constraint.POLL_BUDGET)
    found = {guess.limit: guess.multiplier for guess in expected.guesses([calm, stopped])}
    assert found[LimitName.RETRIEVAL] == pytest.approx(6.0, rel=0.05)


@pytest.mark.parametrize(("multiplier", "constraint"), [(3.0, Constraint.SERVICE), (5.0, Constraint.POLL_BUDGET)])
def test_polls_of_jobs_that_wait_are_due_to_the_service(multiplier: float, constraint: Constraint) -> None:
    """At rest the accepted 20/s of polls are 4 times the rate; below that, only waiting jobs exhaust the limit."""
    calm = level(1.0, 500.0, limits={LimitName.RETRIEVAL: LimitLevel(sent_rate=5.0, throttled_rate=0.0)})
    rejected = met(multiplier, 40.0, 0.5, LimitName.RETRIEVAL, Constraint.POLL_BUDGET)
    assert with_causes([calm, rejected])[1].constraint is constraint
    assert with_causes([rejected])[0].constraint is Constraint.POLL_BUDGET


def test_it_is_flat_until_times_grow_by_a_quarter() -> None:
    """The highest rate before the first that took longer, in any order of the levels; 5 ms are no growth."""
    assert flat_until([level(4.0, 180.0), level(1.0, 100.0), level(2.0, 110.0)]) == 2.0
    assert flat_until([level(1.0, 1.0, 1.0), level(2.0, 5.9, 4.0), level(4.0, 6.1, 4.0)]) == 2.0
    assert flat_until([]) is None
    assert flat_until([level(1.0, 100.0), level(2.0, None, None)]) == 1.0
    assert flat_until([level(2.0, None, None)]) is None
