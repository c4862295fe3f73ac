"""What a plan expects, held against limiters, schedules and sums that a hand can do."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plugins.processes import Fixture

from loadtest import limits
from loadtest.limits.limiters import FixedWindow
from loadtest.plan import schedules
from loadtest.plan.forecast import Forecast, forecast
from loadtest.plan.offer import entries, job_duration, offer
from loadtest.scenario import Scenario


def runs(**more: Any) -> dict[str, Any]:
    return {"operation": "sync_run", "workflow": "say-hello", **more}


def jobs(**more: Any) -> dict[str, Any]:
    return {"operation": "async_run", "workflow": "echo", **more}


def stage(**more: Any) -> dict[str, Any]:
    return {"name": "s", "duration": "10s", **more}


@given(
    rate=st.floats(0.2, 30),
    start=st.floats(0, 20),
    count=st.integers(1, 40),
    keys=st.integers(1, 3),
    arrivals=st.sampled_from(["even", "poisson"]),
)
@settings(max_examples=settings.default.max_examples // 8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_replay_is_the_limiter_over_the_schedule(  # noqa: PLR0917 - drawn by Hypothesis, by name
    ask, rate, start, count, keys, arrivals
):
    """Without retries and polls, what is refused is what a limiter for each key refuses of the very schedule."""
    question = ask(
        {"r": runs(arrivals=arrivals, stages=[stage(rate=f"{rate:.3f}/s", duration="9s")])},
        start=start,
        target={"keys": keys, "enforce": {"sync_run": f"{count}/4s"}},
    )
    found = forecast(question)
    times = np.concatenate([block for _, block, _ in schedules(question.plans, 1)[0].blocks()] or [np.zeros(0)]) / 1e9
    limit = question.limits["sync_run"]
    refused = sum(
        not allowed
        for key in range(keys)
        for allowed in limits.replay(FixedWindow(limit), (times[key::keys] + start).tolist())
    )
    assert found.operations == [len(times)]
    assert found.counts("rejected", [0]).tolist() == [refused]
    assert found.counts("throttled", [0]).tolist() == [refused]


def test_even_load_above_a_limit_for_whole_windows_loses_the_excess_at_any_start(plan: Fixture) -> None:
    """2.5 times the limit over ten windows: 60 %, but for the two windows that the stage only touches."""
    row = plan(
        {"r": runs(stages=[stage(rate="2.5x limit", duration="20s")])}, target={"enforce": {"sync_run": "20/2s"}}
    ).stages[0]
    assert row.operations == 500
    assert 0.55 < row.throttled_rate.low <= row.throttled_rate.mean <= row.throttled_rate.high <= 0.6
    assert row.percentiles == ["p50", "p90", "p95"]
    assert row.samples == 500 - round(row.throttled_rate.high * 500)


def test_a_retry_that_outlives_the_window_is_accepted(ask: Fixture) -> None:
    """Three at once, two are allowed: the third comes back 10 s later, and nothing is throttled in the end."""
    question = ask(
        {
            "r": runs(
                retry={"policy": "exponential", "initial": "10s", "jitter": False, "max_attempts": 2},
                stages=[stage(burst=3)],
            )
        },
        start=100.0,
        target={"enforce": {"sync_run": "2/10s"}},
    )
    (seen,) = forecast(question).phases
    assert (seen.requests[0], seen.rejected[0], seen.throttled[0], seen.executions[0]) == (4, 1, 0, 3)


@pytest.mark.parametrize(("told", "requests"), [(1.0, 4), (None, 3 + 4)])
def test_retry_after_is_heeded_where_it_is_assumed(ask: Fixture, told: float | None, requests: int) -> None:
    """Told to come in the next window, the third comes once; told nothing, it backs off 1, 2, 4, 8 s until then."""
    traffic = {"r": runs(retry={"policy": "retry_after", "jitter": False}, stages=[stage(burst=3)])}
    question = ask(traffic, start=101.0, target={"enforce": {"sync_run": "2/10s"}})
    (seen,) = forecast(dataclasses.replace(question, retry_after=told)).phases
    assert (seen.requests[0], seen.throttled[0]) == (requests, 0)


@pytest.mark.parametrize(
    ("job_s", "give_up", "polls"),
    [(0.0, "9s", 1), (1.5, "9s", 2), (2.0, "9s", 2), (2.5, "9s", 3), (30.0, "3s", 3), (30.0, "60s", 25)],
)
def test_jobs_are_polled_until_they_are_done_or_given_up(ask: Fixture, job_s: float, give_up: str, polls: int) -> None:
    """One poll a second after each answer; none after give_up, and none after the drain (here at 25 s)."""
    question = ask(
        {"j": jobs(polling={"interval": "1s", "give_up": give_up}, stages=[stage(burst=4)])},
        start=0.0,
        job_s=job_s,
        drain="15s",
    )
    (seen,) = forecast(question).phases
    assert seen.requests[0] == 4 + 4 * polls
    assert seen.executions[0] == 4


def test_refused_polls_are_sent_again_and_spend_no_quota(ask: Fixture) -> None:
    """Four jobs, one retrieval in two seconds: one is read back in each window, and the others ask in vain."""
    question = ask(
        {"j": jobs(polling={"interval": "1s", "give_up": "60s"}, stages=[stage(burst=4)])},
        start=0.0,
        target={"enforce": {"retrieval": "1/2s"}},
    )
    (seen,) = forecast(question).phases
    # One of four passes at 1 s, one of three at 2 s, none at 3 s, one of two at 4 s, none at 5 s, the last at 6 s.
    assert seen.requests[0] - 4 == 4 + 3 + 2 + 2 + 1 + 1
    assert seen.rejected[0] == 3 + 2 + 2 + 1 + 1


def test_polls_are_paced(ask: Fixture) -> None:
    """A pace of 2/s lets no more than two polls a second through, however many jobs there are."""
    traffic = {"j": jobs(polling={"interval": "1s", "pace": "2/s"}, stages=[stage(burst=10)])}
    question = ask(traffic, start=0.0, target={"enforce": {"retrieval": "2/1s"}})
    (seen,) = forecast(question).phases
    assert (seen.requests[0], seen.rejected[0]) == (20, 0)


def test_deliberate_mistakes_draw_on_limits_but_run_nothing(ask: Fixture) -> None:
    """A wrong body spends quota and starts no job; a wrong key spends none."""
    half = {"invalid_body": "100%"}
    (seen,) = forecast(ask({"j": jobs(mistakes=half, stages=[stage(burst=5)])}, start=0.0)).phases
    assert (seen.requests[0], seen.executions[0], seen.asked[1, 0, 0]) == (5, 0, 5)
    (seen,) = forecast(ask({"j": jobs(mistakes={"bad_key": 1.0}, stages=[stage(burst=5)])}, start=0.0)).phases
    assert (seen.requests[0], seen.executions[0], seen.asked[1, 0, 0]) == (5, 0, 0)


def test_key_groups_have_limits_of_their_own(plan: Fixture) -> None:
    """One group's excess is refused, the other's traffic is not; the busiest key is the aggressor's."""
    found = plan(
        {
            "bad": runs(keys="aggressor", stages=[stage(rate="3x limit")]),
            "good": runs(keys="victim", stages=[stage(rate="50% of limit")]),
        },
        key_groups={"aggressor": 1, "victim": 2},
        target={"enforce": {"sync_run": "10/2s"}},
    )
    bad, good = found.stages
    assert bad.throttled_rate.low > 0.5
    assert good.throttled_rate.high == 0
    (row,) = found.limit_use
    assert row.allowed_per_min == 3 * 300
    assert row.busiest_key_per_min == pytest.approx(900, rel=0.02)
    assert row.share == pytest.approx(3, rel=0.02)
    assert row.chance == 1


def test_the_chance_of_poisson_arrivals_is_taken_over_many_schedules(plan: Fixture) -> None:
    """At half of a limit of 10 a window, a 429 in some of several windows is neither sure nor impossible."""
    found = plan(
        {"r": runs(arrivals="poisson", stages=[stage(rate="50% of limit", duration="20s")])},
        target={"enforce": {"sync_run": "10/1s"}},
    )
    assert found.schedules == 200
    # P(Poisson(5) > 10) = 1.4 % for each of twenty windows: 24 %; five standard errors of 200 schedules are 15 %.
    assert 0.09 < found.limit_use[0].chance < 0.40
    assert found.seed == 1


def test_a_start_that_is_told_leaves_no_range(plan: Fixture) -> None:
    """At 12:00:00 a stage of exactly one window is refused exactly the excess, whatever else it might be."""
    traffic = {"r": runs(stages=[stage(rate="2x limit", duration="60s")])}
    at_noon = plan(traffic, start=12 * 3600.0).stages[0].throttled_rate
    assert (at_noon.low, at_noon.mean, at_noon.high) == (0.5, 0.5, 0.5)
    ever = plan(traffic).stages[0].throttled_rate
    assert ever.low < 0.1
    assert ever.high > 0.45


def test_executions_cost_and_wall_time(plan: Fixture) -> None:
    """Warm-up and seeded jobs cost, too; a run lasts warm-up and stages, and at most the drain longer."""
    found = plan(
        {
            "r": runs(stages=[stage(rate="1/s")]),
            "l": {"operation": "retrieval", "workflow": "echo", "seed_jobs": 7, "stages": [stage(rate="1/s")]},
        },
        warmup="3s",
        drain="4s",
        price=0.5,
    )
    assert found.operations == 26
    assert found.executions.mean == 13 + 7
    assert found.cost.mean == 10.0
    assert (found.wall.warmup_s, found.wall.stages_s, found.wall.drain_at_most_s) == (3, 10, 4)
    assert found.requests.mean == 26 + 14


def test_what_is_too_long_to_replay_is_counted(plan: Fixture) -> None:
    """A week at a thousand a second: its operations, and no guess about its 429s."""
    found = plan({"r": runs(stages=[stage(rate="1000/s", duration="168h")])})
    assert found.operations == 604_800_000
    assert found.phases == 0
    assert found.stages[0].throttled_rate is None
    assert found.limit_use == []
    assert any("too many" in each for each in found.assumptions)


def test_many_random_arrivals_are_counted_sooner(plan: Fixture) -> None:
    """They would have to be replayed for other seeds, too."""
    found = plan({"r": runs(arrivals="poisson", stages=[stage(rate="900/s", duration="250s")])})
    assert (found.operations, found.phases, found.schedules) == (225_000, 0, 0)


def test_retrievals_of_the_runs_own_jobs_wait_for_the_first(ask: Fixture) -> None:
    """Before any job exists there is nothing to ask for: those arrivals are dropped, not sent."""
    question = ask(
        {
            "j": jobs(stages=[stage(rate="0/s", duration="5s"), {"name": "t", "rate": "1/s", "duration": "5s"}]),
            "l": {"operation": "retrieval", "job_ids": "run", "stages": [stage(rate="1/s")]},
        },
        start=0.0,
    )
    found: Forecast = forecast(question)
    assert found.counts("dropped", found.stage_numbers("l")).tolist() == [5]
    assert found.counts("requests", found.stage_numbers("l")).tolist() == [5]


@given(attempt=st.integers(1, 70), drawn=st.floats(0, 1), jitter=st.booleans(), factor=st.floats(1, 100))
def test_waits_are_those_of_the_load(attempt: int, drawn: float, jitter: bool, factor: float) -> None:
    """Backoff and polling, which load and plan share, follow their formulas."""
    retry = {"policy": "exponential", "initial": "250ms", "factor": factor, "max": "20s", "jitter": jitter}
    polling = {"policy": "exponential", "interval": "100ms", "factor": factor, "max": "5s", "jitter": jitter}
    traffic = jobs(
        retry={**retry, "max_attempts": 60}, polling={**polling, "give_up": "1h"}, stages=[stage(rate="1/s")]
    )
    scenario = Scenario.model_validate({"title": "t", "traffic": {"j": traffic}})
    policies = scenario.traffic["j"]
    longest = min(20.0, 0.25 * factor ** min(attempt - 1, 64))
    wanted = None if attempt >= 60 else longest * drawn if jitter else longest
    assert policies.retry.wait(attempt, drawn) == wanted
    wait = min(5.0, 0.1 * factor ** min(attempt - 1, 64))
    assert policies.polling.wait(attempt, drawn) == (wait * (0.5 + drawn / 2) if jitter else wait)


@pytest.mark.parametrize(
    ("workflow", "parameters", "mean", "words"),
    [
        ("sleep", {}, 0.1, "0.1 s"),
        ("sleep", {"ms": 400}, 0.4, "0.4 s"),
        ("sleep", {"distribution": "uniform", "min_ms": 100, "max_ms": 300}, 0.2, "0.1 to 0.3 s"),
        ("sleep", {"distribution": "exponential", "mean_ms": 500}, 0.5, "0.5 s on average"),
        ("sleep", {"distribution": "lognormal", "median_ms": 400, "sigma": 0}, 0.4, "median of 0.4 s"),
        ("cpu", {"ms": 20}, 0.02, "20 ms"),
        ("sleep", {"ms": "many"}, 0.0, "first poll"),
        ("my-own", {"ms": 400}, 0.0, "first poll"),
    ],
)
def test_what_is_assumed_of_jobs_is_said(workflow: str, parameters: dict[str, Any], mean: float, words: str) -> None:
    """The reference server's workflows tell by their parameters; of others one poll is assumed, and that is said."""
    traffic = jobs(parameters=parameters, stages=[stage(rate="1/s")]) | {"workflow": workflow}
    assumed = job_duration(Scenario.model_validate({"title": "t", "traffic": {"j": traffic}}).traffic["j"])
    drawn = assumed.draw(np.random.default_rng(3), 20_000)
    assert drawn.mean() == pytest.approx(mean, rel=0.03)
    assert words in assumed.words


def test_an_offer_is_in_order_of_time_and_the_same_each_time(ask: Fixture) -> None:
    """Entries are merged by time; nothing in an offer depends on anything but scenario and seed."""
    question = ask(
        {"a": runs(stages=[stage(rate="3/s")]), "b": jobs(arrivals="poisson", stages=[stage(rate="5/s")])}, seed=9
    )
    made = entries(
        question.scenario.traffic, question.plans, question.assumed, {"b": job_duration(question.scenario.traffic["b"])}
    )
    first, again = offer(made, 9), offer(made, 9)
    assert first == again
    assert first.times == sorted(first.times)
    assert [number for number, entry in zip(first.number, first.entry, strict=True) if entry == 0] == list(range(30))
