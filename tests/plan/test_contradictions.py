"""Every contradiction is found where it is, named by its key, and not found where it is not."""

from typing import Any

import pytest
from plugins.processes import Fixture

from loadtest.reference_api.loading import BUILT_IN
from loadtest.reference_settings import BUILT_IN_WORKFLOWS

STAGE = {"name": "s", "duration": "120s"}


def runs(rate: str = "50% of limit", **more: Any) -> dict[str, Any]:
    return {"operation": "sync_run", "workflow": "say-hello", "stages": [{**STAGE, "rate": rate}], **more}


def jobs(rate: str = "10% of limit", **more: Any) -> dict[str, Any]:
    quick = {"timeout": "5s", "polling": {"interval": "1s", "give_up": "20s"}}
    return {"operation": "async_run", "workflow": "echo", "stages": [{**STAGE, "rate": rate}], **quick, **more}


def retry(**more: Any) -> dict[str, Any]:
    return {"policy": "exponential", "initial": "1s", "max": "60s", **more}


def requires(text: str, **more: Any) -> list[dict[str, Any]]:
    return [{"traffic": "t", "stage": "s", "require": text, **more}]


def at(rate: str, duration: str) -> dict[str, Any]:
    """Runs of one stage."""
    return runs() | {"stages": [{**STAGE, "rate": rate, "duration": duration}]}


WITHIN = requires("throttled_rate within 5% of expected")
OF_ALL = {"limit_scope": "key", "enforce": {"all": "1000/60s"}}
CASES: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    ("retrievals", jobs("1x limit"), {}, "traffic.t.stages.s", "1,000 accepted submits a minute need at least one"),
    ("polls", jobs("40% of limit"), {"job_s": 2.5}, "traffic.t.stages.s", "with 400 jobs a minute and their polls"),
    ("retry", runs(retry=retry(max_attempts=5)), {}, "traffic.t.retry", "at most 15 s"),
    ("percentile", runs(), {"threshold": requires("response_time.p99 < 1s")}, "threshold.0.require",
     "needs 368 values"),
    ("pool", runs(max_users=3, timeout="10s"), {}, "traffic.t.max_users", "10 operations may be in flight"),
    ("window", at("2x limit", "30s"), {"threshold": WITHIN}, "traffic.t.stages.s.duration",
     "30 s is shorter than a window of 60 s"),
    ("threshold", runs("2x limit"), {"threshold": requires("throttled_rate < 10%")}, "threshold.0.require",
     "can't hold"),
    ("threshold", at("1.5x limit", "60s"), {"threshold": requires("throttled_rate < 20%")}, "threshold.0.require",
     "may fail"),
    ("multiplier", runs("80% of limit"), {"rate_multiplier": 2.0}, "rate_multiplier", "t / s exceeds the limit"),
    ("retrievals", jobs("1x limit", polling={"interval": "10s", "give_up": "30s"}),
     {"target": {**OF_ALL, "limit_scope": "global", "algorithm": "sliding-log"}},
     "traffic.t.stages.s", "1,000 requests a minute, submits and retrievals together, are allowed"),
    ("polls", jobs("20% of limit"), {"job_s": 8.0, "target": OF_ALL}, "traffic.t.stages.s",
     "requests of all kinds a minute, but only 1,000 are allowed"),
    ("retry", runs(retry=retry(max_attempts=5)), {"target": OF_ALL}, "traffic.t.retry",
     "a window of all requests lasts 60 s"),
    ("wait", runs("120% of limit", timeout="5s", max_users=100), {"target": {"algorithm": "leaky-queue"}},
     "traffic.t.timeout", "give up after 5 s"),
    ("multiplier", runs("60% of limit"),
     {"rate_multiplier": 2.0, "target": {"limit_scope": "global", "enforce": {"all": "100/60s"}}},
     "rate_multiplier", "exceeds the limit of all requests"),
    ("generator", runs("20000/s", timeout="900ms"), {"target": {"enforce": {"sync_run": "1000000/1s"}}},
     "traffic.t.stages.s", "up to 20,000 arrivals/s are planned"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "traffic", "more", "key", "words"), CASES, ids=[case[0] for case in CASES])
def test_a_contradiction_names_its_key_and_a_remedy(  # noqa: PLR0917 - parametrized, by name
    plan, kind, traffic, more, key, words
):
    """Each kind alone: one warning, where the scenario says so, with the numbers that contradict each other."""
    (warning,) = plan({"t": traffic}, **more).warnings
    assert (warning.kind, warning.key) == (kind, key)
    assert words in warning.message
    assert warning.remedy.endswith(".")


@pytest.mark.parametrize(
    ("traffic", "more"),
    [
        (jobs("50% of limit"), {}),  # 500 jobs a minute, polled once each
        (jobs("1x limit"), {"target": {"enforce": {"retrieval": "1100/60s"}}}),
        (runs(retry=retry(max_attempts=7)), {}),  # 1 + 2 + 4 + 8 + 16 + 32 s outlive a window
        (runs(), {"threshold": requires("response_time.p95 < 1s")}),  # 100 samples
        (runs(), {"threshold": requires("start_lag.p95 < 1s")}),
        (runs(timeout="10s", max_users=10), {}),
        (runs("2x limit"), {"threshold": WITHIN}),
        (runs("2x limit"), {"threshold": requires("throttled_rate between 20% and 60%")}),
        (runs(), {"threshold": requires("requests.throttled == 0")}),
        # a burst that is over at once: half of it, whenever it comes
        (runs() | {"stages": [{"name": "s", "burst": "2x limit", "duration": "5s"}]}, {"threshold": WITHIN}),
        (runs("1.5x limit"), {"rate_multiplier": 2.0}),  # above the limit by itself
        (runs("40% of limit"), {"rate_multiplier": 2.0}),
        # a bucket has no window that a retry had to outlast, nor one that a stage had to hold
        (at("2x limit", "30s") | {"retry": retry(max_attempts=2)},
         {"threshold": WITHIN, "target": {"algorithm": "token-bucket", "burst": 5}}),
        (jobs("50% of limit"), {"target": OF_ALL}),  # 500 jobs a minute take 1000 requests of the one limit of all
    ],
)  # fmt: skip
def test_a_plan_that_holds_together_has_no_warning(plan, traffic, more):
    """The nearest neighbours of the contradictions are none."""
    assert plan({"t": traffic}, **more).warnings == []


def test_the_remedy_of_a_pool_is_enough(plan: Fixture) -> None:
    """What the warning asks for makes it go away."""
    (warning,) = plan({"t": runs("20/s", timeout="10s", max_users=50)}).warnings
    wanted = int(warning.remedy.split("max_users = ")[1].split(",")[0])
    assert plan({"t": runs("20/s", timeout="10s", max_users=wanted)}).warnings == []


def test_samples_are_those_that_are_not_refused(plan: Fixture) -> None:
    """500 operations of which 60 % are refused carry no p99 of response times, but one of start lags."""
    many = runs("2.5x limit")
    found = plan({"t": many}, threshold=requires("response_time.p99 < 1s") + requires("start_lag.p99 < 1s"))
    assert [warning.key for warning in found.warnings] == ["threshold.0.require"]


def test_a_workflow_that_the_reference_api_does_not_have_is_named(plan: Fixture) -> None:
    """With the name that was meant; none where a module may bring it, or where a 404 is what is expected."""
    typo = runs() | {"workflow": "say-helo"}
    (found,) = [one for one in plan({"runs": typo}).warnings if one.kind == "workflow"]
    assert found.key == "traffic.runs.workflow"
    assert found.remedy.startswith("Did you mean say-hello?")
    for entry, target in ((typo | {"expect": {"status": 404}}, {}), (typo, {"workflows": ["mine"]})):
        warnings = plan({"runs": entry}, target=target).warnings
        assert not [one for one in warnings if one.kind == "workflow"]


def test_the_built_in_workflows_are_those_of_the_reference_api() -> None:
    """The list is kept where plans can read it, and is the one that is served."""
    assert set(BUILT_IN_WORKFLOWS) == set(BUILT_IN)
