"""What a scenario means: its values, overrides, file and hash."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.contract import DOCUMENTED
from loadtest.errors import InputError
from loadtest.prepare import shortened
from loadtest.scenario import find_scenario, load_scenario, scaled, scenario_hash
from loadtest.units import Limit, parse_duration, parse_limit, parse_rate

SCENARIOS = Path(__file__).parents[2] / "scenarios"


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_scenario_is_valid(path: Path) -> None:
    """All of scenarios/ can be read."""
    assert load_scenario(path).scenario.title


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("5s", 5), ("2m", 120), ("2min", 120), ("1h", 3600), ("1.5 s", 1.5), (" 300ms ", 0.3), ("0s", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    """A number and a unit are seconds, to the ns."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "keys", "per_second"),
    [
        ("5/s", 1, 5),
        ("90/min", 1, 1.5),
        ("90/m", 3, 1.5),  # absolute rates don't grow with keys
        ("3600/h", 1, 1),
        ("0/s", 1, 0),
        ("80% of limit", 1, 80 / 60),
        ("80%limit", 1, 80 / 60),
        ("2.5x limit", 1, 250 / 60),
        ("2.5× of limit", 2, 500 / 60),
    ],
)
def test_rates(text: str, keys: int, per_second: float) -> None:
    """Absolute, or in units of the limit times the keys that share it."""
    assert parse_rate(text).per_second(DOCUMENTED["sync_run"], keys) == pytest.approx(per_second)


@pytest.mark.parametrize(
    ("text", "limit"),
    [("100/60s", Limit(100, 60)), ("100/min", Limit(100, 60)), ("5/s", Limit(5, 1)), ("20 / 0.5s", Limit(20, 0.5))],
)
def test_limits(text: str, limit: Limit) -> None:
    """The forms of a limit; what `str` writes is read again as the same."""
    assert parse_limit(text) == limit == parse_limit(str(limit))


@pytest.mark.parametrize("text", ["", "100", "0/s", "5/0s", "-5/s", "5/s/s", "5.5/s", "1/1000h", "1000000001/s"])
def test_what_is_no_limit(text: str) -> None:
    """Another form, zero, or beyond reason."""
    with pytest.raises(ValueError, match="is not a limit"):
        parse_limit(text)


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("seed=9", lambda s: s.seed == 9),
        ("title=Hello = there", lambda s: s.title == "Hello = there"),
        ('title="quoted"', lambda s: s.title == "quoted"),
        ("title=", lambda s: s.title == ""),
        (" warmup = 1s ", lambda s: s.warmup == 1),
        ("traffic.greetings.stages.above.duration=9s", lambda s: s.traffic["greetings"].stages[1].duration == 9),
        ("traffic.greetings.stages.1.duration=9s", lambda s: s.traffic["greetings"].stages[1].duration == 9),
        ("traffic.greetings.stages.1.expect=[400]", lambda s: s.traffic["greetings"].stages[1].expect == [400]),
        ("traffic.greetings.parameters={a=1}", lambda s: s.traffic["greetings"].parameters == {"a": 1}),
        ("traffic.greetings.parameters.deep.er=1", lambda s: s.traffic["greetings"].parameters["deep"] == {"er": 1}),
        ("traffic.lookups.expect.status=404", lambda s: s.traffic["lookups"].expect.status == 404),  # no such table yet
        ("threshold.2.require=error_rate < 5%", lambda s: s.threshold[2].require == "error_rate < 5%"),
    ],
)
def test_overrides(load: Any, whole: Any, override: str, read: Any) -> None:
    """--set reaches every key; a value is TOML where it can be, else text; stages go by name or number."""
    assert read(load(whole, override).scenario)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("novalue", "is not KEY=VALUE"),
        ("=5", "is not KEY=VALUE"),
        ("traffic.greetings.stages.wthin.rate=5/s", "Did you mean 'within'?"),
        ("traffic.greetings.stages.2.rate=5/s", "Valid values: within, above."),
        ("traffic.greetings.stages.-1.rate=5/s", "Valid values: within, above."),
        ("traffic.greetings.stages.².rate=5/s", "Valid values: within, above."),
        ("traffic.greeting.timeout=5s", "Did you mean 'greetings'?"),
        ("traffic.greetings.timeuot=5s", "did you mean 'timeout'?"),
        ("threshold.7.require=x", "Valid values: 0, 1, 2."),
        ("title.x=1", "title has no keys"),
        ("title.x.y=1", "there is no 'x'"),
        ("traffic..x=1", "'' is not a name"),
        ("a" + ".a" * 5000 + "=1", "a: unknown key"),
        ("seed=" + "9" * 5000, "is not a whole number from 0 to 9,223,372,036,854,775,807"),
        ("seed=" + "[" * 5000, "is not a whole number from 0 to 9,223,372,036,854,775,807"),
        ("title=\udcff", "is not Unicode text"),
    ],
)
def test_overrides_that_cannot_be(load: Any, whole: Any, override: str, words: str) -> None:
    """A wrong --set is an error of its own, with the nearest name."""
    with pytest.raises(InputError) as caught:
        load(whole, override)
    assert words in str(caught.value)


def test_the_effective_scenario_is_a_scenario(load: Any, whole: Any) -> None:
    """What a run keeps of its scenario, overrides and seed included, makes the same scenario again."""
    loaded = load(whole, "traffic.greetings.stages.within.rate=5/s", seed=99)
    again = load(loaded.effective)
    assert (again.scenario, again.scenario.seed) == (loaded.scenario, 99)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        (["title=Other", "description=Other", "seed=99"], True),
        (["threshold=[]"], True),
        (['compare=[{entries = ["greetings", "jobs"], by = ["goodput", "requests_per_operation"]}]'], True),
        (["breakers.auth=true"], True),
        (["warmup=5000ms", "traffic.greetings.stages.above.duration=120s"], True),
        (["traffic.greetings.stages.above.duration=2min"], True),
        (["traffic.lookups.stages.within.rate=1.5/s"], True),
        (["traffic.greetings.stages.within.rate=0.8x limit"], True),
        (["drain=20.0s"], True),
        (["traffic.greetings.timeout=10.001s"], False),
        (["traffic.lookups.stages.within.rate=1.500001/s"], False),
        (["traffic.lookups.stages.within.rate=1.5x limit"], False),
        (["traffic.greetings.parameters.name=y"], False),
        (["target.enforce.sync_run=101/60s"], False),
        (["traffic.greetings.stages.within.name=inside", "threshold=[]"], False),
    ],
)
def test_the_hash_is_of_what_shapes_the_load(load: Any, whole: Any, changes: list[str], same: bool) -> None:
    """Words about a scenario, its judgement and its seed don't count, nor in which unit a value is written."""
    before = scenario_hash(load(whole).scenario)
    assert (scenario_hash(load(whole, *changes).scenario) == before) is same


@given(st.integers(1, 10_000_000))
def test_a_duration_is_one_number_in_any_unit(milliseconds: int) -> None:
    """ "1234ms" and "1.234s" hash alike, whatever binary fractions make of a thousandth."""
    assert parse_duration(f"{milliseconds}ms") == parse_duration(f"{milliseconds // 1000}.{milliseconds % 1000:03}s")


def test_a_default_that_is_said_changes_no_hash(load: Any, whole: Any) -> None:
    """A value that is written out at its default is the same load."""
    whole["traffic"]["lookups"] |= {"timeout": "30s", "arrivals": "even"}
    said = scenario_hash(load(whole).scenario)
    del whole["traffic"]["lookups"]["timeout"], whole["traffic"]["lookups"]["arrivals"]
    assert scenario_hash(load(whole).scenario) == said


def test_a_scenario_is_found_by_path_or_name(tmp_path: Path) -> None:
    """A path as it is, a name in the folder; where the folder has none, the shipped one."""
    shipped = Path(__file__).parents[2] / "scenarios" / "tour.toml"
    assert find_scenario("tour", tmp_path) == shipped
    (tmp_path / "tour.toml").write_text("")
    assert find_scenario("tour", tmp_path) == find_scenario(str(tmp_path / "tour.toml")) == tmp_path / "tour.toml"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tuor", "Did you mean 'tour'?"),
        ("xyzzy", "Valid values: tour."),
        ("a" * 300, "Valid values: tour."),
        ("", "Valid values"),
    ],
)
def test_a_scenario_that_is_not_there(tmp_path: Path, name: str, words: str) -> None:
    """The nearest name, or all of them."""
    (tmp_path / "tour.toml").write_text("")
    with pytest.raises(InputError, match="there is no scenario") as caught:
        find_scenario(name, tmp_path, tmp_path)
    assert words in str(caught.value)


SHORTENED = """
title = "t"
warmup = "4s"
drain = "9s"
[traffic.a]
operation = "sync_run"
workflow = "echo"
timeout = "7s"
stages = [{ name = "up", from = "1/s", to = "3/s", step = "1/s", duration = "10s" },
          { name = "b", burst = 9, duration = "60s" }]
[target]
enforce = { sync_run = "9/30s" }
[[target.fault]]
kind = "freeze"
start = "2s"
duration = "32s"
"""


def test_a_duration_scales_stages_warm_up_and_faults(tmp_path: Path) -> None:
    """The longest entry takes it; a fault keeps its place in the stages; rates, bursts, time-outs and drain stay."""
    (path := tmp_path / "s.toml").write_text(SHORTENED)
    before = load_scenario(path)
    scenario = scaled(before, 45.0).scenario
    stages, fault = scenario.traffic["a"].stages, scenario.target.settings.fault[0]
    assert (scenario.duration, scenario.warmup, [stage.duration for stage in stages]) == (45.0, 2.0, [5.0, 30.0])
    assert (fault.start, fault.duration) == (1.0, 16.0)
    assert (scenario.drain, scenario.traffic["a"].timeout, stages[1].burst, len(stages[0].parts)) == (9.0, 7.0, 9, 3)
    assert scaled(before, 9.0).scenario.warmup == 1.0
    assert scenario_hash(scenario) != scenario_hash(before.scenario)
    assert shortened(before, 45.0, None).effective == scaled(before, 45.0).effective
    with pytest.raises(InputError, match=r"stages\.b is a burst .* window of 30 s\n.*--duration 45s or more"):
        shortened(before, 44.9, None)
