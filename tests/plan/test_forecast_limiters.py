"""What a plan expects of every limiter and scope, held against the limiters themselves and sums that a hand can do."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plugins.processes import Fixture

from loadtest import limits
from loadtest.limits import ALGORITHMS, SCOPES, LimiterSpec
from loadtest.plan import schedules
from loadtest.plan.forecast import PHASES, forecast
from loadtest.units import Limit

TIMED = [name for name in ALGORITHMS if name != "concurrency"]


def runs(**more: Any) -> dict[str, Any]:
    return {"operation": "sync_run", "workflow": "say-hello", "stages": [stage()], **more}


def jobs(**more: Any) -> dict[str, Any]:
    return {"operation": "async_run", "workflow": "echo", "stages": [stage()], **more}


def stage(**more: Any) -> dict[str, Any]:
    return {"name": "s", "duration": "10s", **({} if "burst" in more else {"rate": "4/s"}), **more}


@given(
    name=st.sampled_from(TIMED),
    scope=st.sampled_from(SCOPES),
    count_rejected=st.booleans(),
    count=st.integers(1, 20),
    keys=st.integers(1, 3),
    start=st.floats(0, 20),
)
@settings(max_examples=settings.default.max_examples // 3, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_replay_is_the_limiters_over_what_they_share(  # noqa: PLR0917 - drawn by Hypothesis, by name
    ask, name, scope, count_rejected, count, keys, start
):
    """Runs and retrievals of several keys are refused exactly by the limiters that their scope gives them."""
    counts = count_rejected and ALGORITHMS[name].can_count_rejected
    enforce = {"sync_run": f"{count}/4s", "retrieval": f"{count}/4s"}
    if scope in ("key", "global"):
        enforce["all"] = f"{count}/4s"
    rates = {"r": "5.3/s", "l": "3.7/s"}
    stages = {each: [stage(rate=rate, duration="9s")] for each, rate in rates.items()}
    question = ask(
        {
            "r": runs(stages=stages["r"]),
            "l": {"operation": "retrieval", "job_ids": "ids.txt", "stages": stages["l"]},
        },
        start=start,
        target={
            "keys": keys, "enforce": enforce, "algorithm": name, "count_rejected": counts, "limit_scope": scope,
        },
    )  # fmt: skip
    asked: dict[tuple[Any, ...], list[tuple[float, str]]] = {}
    for each in schedules(question.plans, 1):
        times = np.concatenate([block for _, block, _ in each.blocks()]) / 1e9
        for number, time in enumerate(times.tolist()):
            of_key = number % keys if scope in ("key-and-name", "key") else None
            group = (of_key, each.traffic if scope in ("key-and-name", "name") else None)
            asked.setdefault(group, []).append((time + start, each.traffic))
    refused = dict.fromkeys(rates, 0)
    spec = LimiterSpec(name, count_rejected=counts)
    for group in asked.values():
        group.sort(key=lambda each: each[0])
        limiter = limits.make(spec, Limit(count, 4.0))
        for (_, traffic), passed in zip(group, limits.replay(limiter, [t for t, _ in group]), strict=True):
            refused[traffic] += not passed
    (seen,) = forecast(question).phases
    assert seen.rejected[:2].tolist() == [refused["r"], refused["l"]]


def test_one_row_for_the_limit_of_all(plan: Fixture) -> None:
    """Runs, submits and polls stand in one row against the one limit; its share is that of the busiest key."""
    made = {"r": runs(stages=[stage(rate="4/s")]), "j": jobs(stages=[stage(rate="2/s")])}
    target = {"keys": 2, "limit_scope": "key", "enforce": {"all": "10/s"}}
    (row,) = plan(made, target=target).limit_use
    assert row.limit == "all"
    assert row.asked_per_min == pytest.approx((4 + 2 + 2) * 60, rel=0.05)
    assert row.allowed_per_min == 2 * 600
    assert row.share == pytest.approx(0.4, rel=0.1)
    (shared,) = plan(made, target=target | {"limit_scope": "global"}).limit_use
    assert shared.allowed_per_min == 600
    assert shared.share == pytest.approx(0.8, rel=0.05)
    assert shared.busiest_key_per_min == pytest.approx(row.busiest_key_per_min)


@pytest.mark.parametrize(("name", "phases"), [("fixed-window", PHASES), ("sliding-counter", PHASES), ("gcra", 1)])
def test_only_aligned_windows_have_phases(plan: Fixture, name: str, phases: int) -> None:
    """Where it does not matter when a run starts there is one replay, and no range that looks like knowledge."""
    found = plan({"r": runs()}, target={"algorithm": name, "enforce": {"sync_run": "3/s"}})
    assert found.phases == phases
    assert found.replayed_over == ("start" if phases > 1 else "nothing")


@pytest.mark.parametrize(("workflow", "parameters"), [("sleep", {"ms": 500}), ("cpu", {"ms": 500})])
def test_a_limit_on_concurrency_is_released_by_answers(ask: Fixture, workflow: str, parameters: Any) -> None:
    """Of one run each 100 ms that takes 500 ms, two at a time pass: two of five, and nothing else is in their way."""
    traffic = {
        "r": runs(workflow=workflow, parameters=parameters, stages=[stage(rate="10/s", duration="5s")]),
        "j": jobs(stages=[stage(burst=9)]),
    }
    question = ask(traffic, target={"algorithm": "concurrency", "enforce": {"sync_run": "2/1s", "async_submit": "1/s"}})
    (seen,) = forecast(question).phases
    assert (seen.operations[0], seen.rejected[0]) == (50, 30)
    assert seen.rejected[1] == 0


def test_where_durations_are_drawn_a_range_is_said(plan: Fixture) -> None:
    """What runs will take is chance: a range over many draws, at a start that is told, too."""
    drawn = {"distribution": "exponential", "mean_ms": 500}
    target = {"algorithm": "concurrency", "enforce": {"sync_run": "2/1s"}}
    found = plan({"r": runs(workflow="sleep", parameters=drawn)}, target=target, start=5.0)
    share = found.stages[0].throttled_rate
    assert (found.phases, found.replayed_over) == (PHASES, "durations")
    assert share.low < share.mean < share.high
    # Erlang's B for 4/s × 0.5 s and two slots is 0.4, for Poisson arrivals; even ones do better.
    assert 0.1 < share.mean < 0.4


def test_without_a_duration_concurrency_is_not_forecast(plan: Fixture) -> None:
    """Nobody knows how long such a run takes: arrivals are counted, the reason is said, and a remedy."""
    target = {"algorithm": "concurrency", "enforce": {"sync_run": "1/s"}}
    found = plan({"r": runs(workflow="my-own")}, target=target)
    assert (found.phases, found.operations, found.requests, found.limit_use) == (0, 40, None, [])
    assert any("runs of r" in each and "--job-duration" in each for each in found.assumptions)
    known = plan({"r": runs(workflow="my-own")}, target=target, job_s=1.0)
    assert known.stages[0].throttled_rate.mean == pytest.approx(0.75)
    assert known.limit_use[0].allowed_per_min is None
    assert known.limit_use[0].share is None


def test_a_client_that_gives_up_makes_room(ask: Fixture) -> None:
    """A run of a minute whose client has one second is in nobody's way for longer."""
    question = ask(
        {"r": runs(timeout="1s", stages=[stage(rate="2/s")])},
        target={"algorithm": "concurrency", "enforce": {"sync_run": "1/s"}},
        job_s=60.0,
    )
    (seen,) = forecast(question).phases
    assert seen.rejected[0] == 10


def test_a_queue_delays_answers_and_so_polls(ask: Fixture, plan: Fixture) -> None:
    """Of submits at once one is let out each second: the third is answered after 2 s, and polled later still."""
    traffic = {"j": jobs(polling={"interval": "1s", "give_up": "9s"}, stages=[stage(burst=4)])}
    target = {"algorithm": "leaky-queue", "burst": 3, "enforce": {"async_submit": "1/s", "retrieval": "100/s"}}
    question = ask(traffic, target=target)
    (seen,) = forecast(question).phases
    assert (seen.throttled[0], seen.executions[0], seen.requests[0]) == (1, 3, 4 + 3)
    assert seen.longest_delay.tolist() == [2.0]
    said = plan(traffic, target=target).assumptions
    assert any("those of j up to 2 s" in each for each in said)
    # Nothing comes of a request whose client has hung up before its turn: no job, and no poll.
    found = plan({"j": {**traffic["j"], "timeout": "1500ms"}}, target=target)
    assert found.executions.mean == 2
    (warning,) = (each for each in found.warnings if each.kind == "wait")
    assert warning.key == "traffic.j.timeout"
    assert "timeout of 2 s" in warning.remedy


@pytest.mark.parametrize(
    ("form", "factor", "told"),
    [("seconds", 1.0, 4), ("seconds", 0.5, 2), ("seconds", 3.0, 11), ("date", 1.0, 4), ("date", 0.5, 3)],
)
def test_retry_after_is_as_the_header_has_it(ask: Fixture, form: str, factor: float, told: int) -> None:
    """Whole seconds, rounded up, off by a factor; a date is read against the answer's own, which is cut to the second.

    Refused at half past 100 by a window that ends at 104: 3.5 s. Half of that ends at 102.25, as a date at 103.
    """
    for end, requests in ((told - 0.01, 2), (told + 0.01, 3)):
        retry = {"policy": "retry_after", "jitter": False, "max_attempts": 2}
        question = ask(
            {"r": runs(retry=retry, stages=[stage(burst=2, duration=f"{end:.2f}s")])},
            start=100.5,
            drain="0s",
            target={"enforce": {"sync_run": "1/4s"}, "retry_after": form, "retry_after_factor": factor},
        )
        (seen,) = forecast(question).phases
        assert seen.requests[0] == requests
