"""Plans: what a scenario asks of the limits, per key and over all its traffic."""

from collections.abc import Callable
from typing import Any

import pytest

from loadtest.plan import AssumedLimits, schedules, traffic_plans
from loadtest.plan.stages import pool_size
from loadtest.scenario import Scenario
from loadtest.units import Limit

LIMITS = {"sync_run": Limit(10, 1.0), "async_submit": Limit(10, 1.0), "retrieval": Limit(20, 1.0)}
ENFORCE = {name: str(limit) for name, limit in LIMITS.items()}


def stage(rate: str, ramp_to: str | None = None, duration: str = "10s", name: str = "only", **more: Any) -> Any:
    """A stage as TOML has it."""
    return {"name": name, "duration": duration, "rate": rate} | ({"ramp_to": ramp_to} if ramp_to else {}) | more


def scenario(traffic: dict[str, tuple[str, list[Any]]], **more: Any) -> Scenario:
    """A scenario of entries (operation, stages), against the limits above."""
    entries = {
        name: {"operation": operation, "workflow": "w", "stages": stages}
        for name, (operation, stages) in traffic.items()
    }
    return Scenario.model_validate({"title": "t", "traffic": entries, "target": {"enforce": ENFORCE}, **more})


def over(made: Scenario, keys: int = 1) -> dict[str, list[str]]:
    """`entry.stage` -> the limits that it passes."""
    plans = traffic_plans(made, AssumedLimits.of_embedded(made), keys)
    return {f"{name}.{stage.name}": stage.over for name, plan in plans.items() for stage in plan.stages}


def test_enforced_limits_are_for_the_embedded_target_only() -> None:
    """[target] says nothing about a target that isn't ours: there the documented limits are assumed."""
    made = scenario({"a": ("sync_run", [stage("1/s")])})
    assert AssumedLimits.of_embedded(made).limits == LIMITS


@pytest.mark.parametrize("keys", [1, 3])
@pytest.mark.parametrize(
    ("operation", "rate", "per_key"),
    [("sync_run", "80% of limit", 8), ("async_run", "2x limit", 20), ("retrieval", "50% of limit", 10)],
)
def test_rates_of_the_limit_grow_with_keys(operation: str, rate: str, per_key: float, keys: int) -> None:
    """0.8 of the limit with K keys is 0.8 × limit × K, of the limit that the operation's first request draws on."""
    plans = traffic_plans(scenario({"a": (operation, [stage(rate, "5/s")])}), AssumedLimits(LIMITS), keys)
    assert (plans["a"].stages[0].rate, plans["a"].stages[0].rate_to) == (pytest.approx(per_key * keys), 5)


OVER: dict[str, tuple[dict[str, tuple[str, list[Any]]], dict[str, list[str]]]] = {
    "exactly at the limit is within it": ({"a": ("sync_run", [stage("1x limit")])}, {"a.only": []}),
    "above": ({"a": ("sync_run", [stage("101% of limit")])}, {"a.only": ["sync_run"]}),
    "two entries that share a limit": (
        {"a": ("sync_run", [stage("60% of limit")]), "b": ("sync_run", [stage("50% of limit")])},
        {"a.only": ["sync_run"], "b.only": ["sync_run"]},
    ),
    "two entries with limits of their own": (
        {"a": ("sync_run", [stage("60% of limit")]), "b": ("retrieval", [stage("50% of limit")])},
        {"a.only": [], "b.only": []},
    ),
    "only while both are there": (
        {
            "a": ("sync_run", [stage("6/s", name="one"), stage("6/s", name="two")]),
            "b": ("sync_run", [stage("5/s", duration="9s")]),
        },
        {"a.one": ["sync_run"], "a.two": [], "b.only": ["sync_run"]},
    ),
    "polls draw on retrieval": (
        {"a": ("async_run", [stage("10/s")]), "b": ("retrieval", [stage("11/s")])},
        {"a.only": ["retrieval"], "b.only": ["retrieval"]},
    ),
    "only accepted submits have polls": (
        {"a": ("async_run", [stage("50/s")]), "b": ("retrieval", [stage("10/s")])},
        {"a.only": ["async_submit"], "b.only": []},
    ),
    "a ramp that passes at its end": (
        {"a": ("sync_run", [stage("1/s", "9/s", name="one"), stage("9/s", "11/s", name="two")])},
        {"a.one": [], "a.two": ["sync_run"]},
    ),
    "ramps that cross below the limit": (
        {"a": ("sync_run", [stage("0/s", "9/s")]), "b": ("sync_run", [stage("9/s", "0/s")])},
        {"a.only": [], "b.only": []},
    ),
    "a ramp of submits that passes retrieval in its middle only": (
        # At 5 s: 10 polls a second and 11 look-ups; at both ends 20 together at most.
        {"a": ("async_run", [stage("0/s", "20/s")]), "b": ("retrieval", [stage("20/s", "2/s")])},
        {"a.only": ["async_submit", "retrieval"], "b.only": ["retrieval"]},
    ),
    "a burst is held against a window": (
        {"a": ("sync_run", [{"name": "only", "burst": 10, "duration": "2s"}])},
        {"a.only": []},
    ),
    "a burst of more than a window": (
        {"a": ("sync_run", [{"name": "only", "burst": "1.1x limit", "duration": "2s"}])},
        {"a.only": ["sync_run"]},
    ),
}


@pytest.mark.parametrize("name", OVER)
def test_stages_that_pass_a_limit(name: str) -> None:
    """Which stages are planned above which limit, all traffic together, and that a 429 is expected there."""
    traffic, expected = OVER[name]
    made = scenario(traffic)
    assert over(made) == expected
    for plan in traffic_plans(made, AssumedLimits(LIMITS), 1).values():
        assert all(each.expect_429 == bool(each.over) for each in plan.stages)


def test_traffic_is_spread_over_its_keys() -> None:
    """What is too much for one key is within the limits of three."""
    made = scenario({"a": ("sync_run", [stage("25/s")])})
    assert (over(made, 1), over(made, 3)) == ({"a.only": ["sync_run"]}, {"a.only": []})


def test_entries_with_keys_of_their_own_share_no_limit() -> None:
    """Limits are per key: two groups that each stay below pass nothing together, and an entry on all keys adds up."""
    made = Scenario.model_validate(
        {
            "title": "t",
            "key_groups": {"left": 1, "right": 1},
            "traffic": {
                "l": {"operation": "sync_run", "workflow": "w", "keys": "left", "stages": [stage("8/s")]},
                "r": {"operation": "sync_run", "workflow": "w", "keys": "right", "stages": [stage("4/s")]},
                "all": {"operation": "sync_run", "workflow": "w", "stages": [stage("6/s")]},
            },
        }
    )
    plans = traffic_plans(made, AssumedLimits(LIMITS), 2)
    assert {name: (plan.key_start, plan.key_count) for name, plan in plans.items()} == {
        "l": (0, 1),
        "r": (1, 1),
        "all": (0, 2),
    }
    # The left key is asked for 8 + 3, the right one for 4 + 3; the entry on both meets the left one's limit, too.
    assert {name: plan.stages[0].over for name, plan in plans.items()} == {
        "l": ["sync_run"],
        "r": [],
        "all": ["sync_run"],
    }


def test_a_stage_may_expect_429s_without_being_above() -> None:
    """`expect = [429]` is assumed; other statuses say nothing of 429."""
    stages = [stage("1/s", name="one", expect=[429]), stage("1/s", name="two", expect=[500])]
    plans = traffic_plans(scenario({"a": ("sync_run", stages)}), AssumedLimits(LIMITS), 1)
    assert [(each.over, each.expect_429) for each in plans["a"].stages] == [([], True), ([], False)]


def test_warm_up_comes_first_at_the_initial_rate() -> None:
    """A stage of its own before all others, also where the first one ramps; it counts against the limits."""
    made = scenario({"a": ("sync_run", [stage("12/s", "1/s")]), "b": ("retrieval", [stage("2/s")])}, warmup="5s")
    plans = traffic_plans(made, AssumedLimits(LIMITS), 1)
    described = [(s.name, s.start_s, s.duration_s, s.rate, s.rate_to, s.warmup, s.over) for s in plans["a"].stages]
    assert described == [("warmup", 0, 5, 12, 12, True, ["sync_run"]), ("only", 5, 10, 12, 1, False, ["sync_run"])]
    assert [s.start_s for s in plans["b"].stages] == [0, 5]


def test_steps_are_stages_of_their_own() -> None:
    """From 2/s to 12/s by 5/s: three stages, one after another, of which the last is above the limit."""
    steps = {"name": "climb", "from": "2/s", "to": "12/s", "step": "5/s", "duration": "4s"}
    plan = traffic_plans(scenario({"a": ("sync_run", [steps])}), AssumedLimits(LIMITS), 1)["a"]
    assert [(s.name, s.start_s, s.rate, s.rate_to, s.over) for s in plan.stages] == [
        ("climb-1", 0, 2, 2, []),
        ("climb-2", 4, 7, 7, []),
        ("climb-3", 8, 12, 12, ["sync_run"]),
    ]


@pytest.mark.parametrize(
    ("operation", "stages", "more", "users"),
    [
        ("sync_run", [stage("2/s", duration="1h")], {"timeout": "10s"}, 21),  # Little's law, and one
        ("sync_run", [stage("1/s", "3/s", duration="1h")], {"timeout": "10s"}, 31),  # at the highest rate
        ("sync_run", [stage("2/s", duration="3s")], {"timeout": "10s"}, 6),  # no more than there are arrivals
        ("sync_run", [stage("2/s", duration="1h")], {"timeout": "10s", "max_users": 5}, 5),  # no more than is said
        ("sync_run", [stage("0/s")], {}, 1),  # never none
        # a submit, polls until they are given up, the last of them in flight
        ("async_run", [stage("1/s", duration="1h")], {"timeout": "10s", "polling": {"give_up": "30s"}}, 51),
    ],
)
def test_pools_hold_whatever_may_be_in_flight(operation: str, stages: list[Any], more: Any, users: int) -> None:
    """Rate times the longest that an operation may take, within the arrivals and what the scenario says."""
    entry = {"operation": operation, "workflow": "w", "stages": stages, **more}
    made = Scenario.model_validate({"title": "t", "traffic": {"a": entry}})
    plan = traffic_plans(made, AssumedLimits(LIMITS), 1)["a"]
    assert plan.users == users


@pytest.mark.parametrize(
    ("stages", "more", "sizes"),
    [
        ([stage("1000/s", duration="1h")], {}, (1000, 20_000)),  # the rest is made when it is needed
        ([stage("1000/s", duration="1h")], {"max_users": 5000}, (1000, 5000)),
        ([stage("1000/s", duration="1h")], {"max_users": 30}, (30, 30)),
        ([stage("2/s", duration="3s")], {}, (6, 6)),  # nobody without an arrival
        ([stage("100/s", duration="5s")], {}, (500, 500)),
        ([{"name": "b", "burst": 3000, "duration": "1s"}], {}, (3000, 3000)),  # a burst wants them all at once
        ([{"name": "b", "burst": 8000, "duration": "1s"}], {}, (5000, 8000)),
    ],
)
def test_large_pools_start_small_and_may_grow(stages: list[Any], more: Any, sizes: tuple[int, int]) -> None:
    """A pool starts with what it may need, at most 1000 users or its burst, and may grow to its cap."""
    entry = {"operation": "sync_run", "workflow": "w", "stages": stages, **more}
    made = Scenario.model_validate({"title": "t", "traffic": {"a": entry}})
    plan = traffic_plans(made, AssumedLimits(LIMITS), 1)["a"]
    assert (plan.users, plan.max_users) == sizes == pool_size(made.traffic["a"], plan.stages)


def test_a_multiplier_scales_rates_and_bursts() -> None:
    """Every rate, of the limit or not, and every burst."""
    stages = [stage("50% of limit", "4/s", name="one"), {"name": "two", "burst": 8, "duration": "1s"}]
    plan = traffic_plans(scenario({"a": ("sync_run", stages)}, rate_multiplier=0.5), AssumedLimits(LIMITS), 1)["a"]
    assert [(each.rate, each.rate_to, each.burst) for each in plan.stages] == [(2.5, 2, 0), (0, 0, 4)]


@pytest.fixture
def arrivals_of() -> Callable[[Scenario], dict[str, int]]:
    """Arrivals by entry and stage, as they would be offered."""

    def count(made: Scenario) -> dict[str, int]:
        found: dict[str, int] = {}
        for schedule in schedules(traffic_plans(made, AssumedLimits(LIMITS), 1), made.seed):
            for arrival in schedule.share():
                key = f"{arrival.traffic}.{arrival.stage}"
                found[key] = found.get(key, 0) + 1
        return found

    return count


def test_the_schedule_is_what_was_planned(arrivals_of: Callable[[Scenario], dict[str, int]]) -> None:
    """Warm-up, stages and bursts of every entry come out with rate times duration arrivals."""
    stages = [stage("80% of limit", duration="2s", name="one"), {"name": "two", "burst": 7, "duration": "1s"}]
    made = scenario({"a": ("sync_run", stages), "b": ("retrieval", [stage("0.5/s")])}, warmup="1s")
    assert arrivals_of(made) == {"a.warmup": 8, "a.one": 16, "a.two": 7, "b.warmup": 1, "b.only": 5}
