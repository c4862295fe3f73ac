"""What is assumed of limits: which requests share a limiter, how many quotas there are, and how it is said."""

from typing import Any

import msgspec
import pytest

from loadtest.contract import DOCUMENTED, LIMIT_NAMES
from loadtest.limits import ALGORITHMS, SCOPES, LimiterSpec
from loadtest.plan import AssumedLimits, traffic_plans
from loadtest.record.run_info import TargetInfo
from loadtest.scenario import Scenario
from loadtest.units import Limit

ONE = Limit(7, 2.0)


def of(scope: Any, **spec: Any) -> AssumedLimits:
    """A assumed of the documented limits, or one of all requests."""
    return AssumedLimits(DOCUMENTED, LimiterSpec(scope=scope, **spec), ONE if scope in ("key", "global") else None)


@pytest.mark.parametrize(
    ("scope", "limiters", "quotas"), [("key-and-name", 9, 3), ("key", 3, 3), ("name", 3, 1), ("global", 1, 1)]
)
def test_requests_share_limiters_by_scope(scope: str, limiters: int, quotas: int) -> None:
    """Three keys and three limit names: nine limiters, one for each key, one for each name, or one."""
    assumed = of(scope)
    table = assumed.limiters(3)
    assert len({id(each) for row in table for each in row}) == limiters
    assert assumed.quotas(3) == quotas
    for name, row in zip(LIMIT_NAMES, table, strict=True):
        together = [other for other, its in zip(LIMIT_NAMES, table, strict=True) if its[0] is row[0]]
        assert list(assumed.together(name)) == together
        assert assumed.limit_on(name) == (ONE if len(together) > 1 else DOCUMENTED[name])
        assert assumed.drawn_on(name) == ("all" if len(together) > 1 else name)
        assert (row[0] is row[1]) == (quotas == 1)


@pytest.mark.parametrize(("scope", "factor"), [("key-and-name", 4), ("key", 4), ("name", 1), ("global", 1)])
def test_rates_of_the_limit_are_those_of_all_quotas(scope: str, factor: int) -> None:
    """80 % of limit with four keys is 0.8 × limit × 4 only where each key has a quota of its own."""
    stages = [{"name": "s", "duration": "9s", "rate": "80% of limit"}, {"name": "b", "burst": "1x limit"}]
    stages[1]["duration"] = "1s"
    scenario = Scenario.model_validate(
        {"title": "t", "traffic": {"t": {"operation": "sync_run", "workflow": "w", "stages": stages}}}
    )
    plan = traffic_plans(scenario, of(scope), 4)["t"]
    assert plan.stages[0].rate == pytest.approx(0.8 * 100 / 60 * factor)
    assert plan.stages[1].burst == 100 * factor


@pytest.mark.parametrize(
    ("scope", "rate", "over"),
    [
        # Of one limit of 12/s: 5 runs, 4 submits, and 4 polls, each second; two keys.
        ("global", 5, ["all"]),
        ("global", 3, []),
        ("key", 15, []),
        ("key", 17, ["all"]),
        # Of the limit of runs, 10/s for each key or for both together.
        ("name", 11, ["sync_run"]),
        ("key-and-name", 11, []),
    ],
)
def test_stages_above_a_limit_that_is_shared(scope: str, rate: int, over: list[str]) -> None:
    """All entries, limit names and keys that draw on one limiter count together."""
    entries = {
        "r": {
            "operation": "sync_run",
            "workflow": "w",
            "stages": [{"name": "s", "duration": "9s", "rate": f"{rate}/s"}],
        },
        "j": {"operation": "async_run", "workflow": "w", "stages": [{"name": "s", "duration": "9s", "rate": "4/s"}]},
    }
    scenario = Scenario.model_validate({"title": "t", "traffic": entries})
    limits = {"sync_run": Limit(10, 1.0), "async_submit": Limit(10, 1.0), "retrieval": Limit(20, 1.0)}
    assumed = AssumedLimits(limits, LimiterSpec(scope=scope), Limit(12, 1.0))
    plans = traffic_plans(scenario, assumed, 2)
    assert plans["r"].stages[0].over == over
    assert plans["r"].stages[0].expect_429 == bool(over)


@pytest.mark.parametrize(
    ("spec", "burst", "over"),
    [
        ({"algorithm": "gcra"}, 1, False),
        ({"algorithm": "gcra"}, 2, True),
        ({"algorithm": "token-bucket", "burst": 5}, 6, True),
        ({"algorithm": "token-bucket"}, 100, False),
        ({"algorithm": "concurrency"}, 101, True),
        ({"algorithm": "fixed-window"}, 101, True),
    ],
)
def test_a_burst_is_held_against_what_passes_at_once(spec: dict[str, Any], burst: int, over: bool) -> None:
    """A quota of 100 a minute is no burst of 100 where an algorithm spaces requests."""
    entry = {"operation": "sync_run", "workflow": "w", "stages": [{"name": "s", "duration": "9s", "burst": burst}]}
    scenario = Scenario.model_validate({"title": "t", "traffic": {"t": entry}})
    assert bool(traffic_plans(scenario, of("key-and-name", **spec), 1)["t"].stages[0].over) is over


def test_no_rate_is_above_a_limit_on_concurrency() -> None:
    """It does not say how many may come, only how many may be there."""
    entry = {"operation": "async_run", "workflow": "w", "stages": [{"name": "s", "duration": "9s", "rate": "1000/s"}]}
    scenario = Scenario.model_validate({"title": "t", "traffic": {"t": entry}})
    assert traffic_plans(scenario, of("global", algorithm="concurrency"), 1)["t"].stages[0].over == []


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_words_say_algorithm_and_scope(name: str, scope: str) -> None:
    """No two assumptions read alike, and none has the programmers' spelling."""
    words = {of(each, algorithm=other).words for each in SCOPES for other in ALGORITHMS}
    assert len(words) == len(SCOPES) * len(ALGORITHMS)
    mine = of(scope, algorithm=name).words
    assert mine.startswith("a ")
    assert "-from-" not in mine
    assert "key-and-name" not in mine


def test_words_say_burst_and_what_is_counted() -> None:
    """The settings that change what passes are in them."""
    words = of("key-and-name", algorithm="token-bucket", burst=5, count_rejected=True).words
    assert words == "a token bucket of 5 at once that counts rejected requests too, for each key and limit name"


def test_what_is_aligned_is_windowed() -> None:
    """Only windows can be aligned with a clock."""
    assert all(each.windowed for each in ALGORITHMS.values() if each.aligned)


def target(**changes: Any) -> TargetInfo:
    limits = {name: Limit(each.count, each.window) for name, each in DOCUMENTED.items()}
    return TargetInfo(url="http://127.0.0.1:1", embedded=True, limits=limits, **changes)


def test_a_run_file_of_before_is_of_a_limiter_for_each_key_and_name() -> None:
    """What an old record does not say is what was so then; its algorithm may be spelled with underscores."""
    text = msgspec.json.encode(target(limiter="fixed_window"))
    old = {name: value for name, value in msgspec.json.decode(text).items() if name in ("url", "embedded", "limits")}
    for read in (msgspec.json.decode(text, type=TargetInfo), msgspec.convert(old, TargetInfo)):
        assert AssumedLimits.recorded(read) == AssumedLimits(DOCUMENTED)


@pytest.mark.parametrize(
    "changes",
    [
        {"limiter": "oracle"},
        {"limit_scope": "planet"},
        {"limit_scope": "global"},
        {"limiter": "sliding-log", "burst": 3},
        {"count_rejected": True},
    ],
)
def test_what_describes_no_limiter_is_not_assumed(changes: dict[str, Any]) -> None:
    """A record of a newer version, or one that was written by hand, is refused in words."""
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        AssumedLimits.recorded(target(**changes))


def test_the_embedded_target_has_the_limits_of_its_settings() -> None:
    """Also its limiter, and the limit of all requests."""
    settings = {"algorithm": "gcra", "limit_scope": "global", "enforce": {"all": "5/s", "sync_run": "3/s"}}
    entry = {"operation": "sync_run", "workflow": "w", "stages": [{"name": "s", "duration": "9s", "rate": "1/s"}]}
    scenario = Scenario.model_validate({"title": "t", "traffic": {"t": entry}, "target": settings})
    embedded = AssumedLimits.of_embedded(scenario)
    assert (embedded.spec.algorithm, embedded.limit_all) == ("gcra", Limit(5, 1.0))
    assert embedded.limits["sync_run"] == Limit(3, 1.0)
