"""Whatever is in a scenario file, the answer is a scenario or one clear error."""

import contextlib
import copy
import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plugins.scenario_maker import WHOLE, document

from loadtest.errors import InputError
from loadtest.plan import AssumedLimits, schedules, traffic_plans
from loadtest.scenario.parse import load_scenario, scenario_hash

TOML_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
KNOWN = ["name", "rate", "duration", "stages", "traffic", "operation", "[key]", "", "-", "__class__", "from", "burst"]
VALUES = [
    "5/s",
    "0/s",
    "1000x limit",
    "80% of limit",
    "0s",
    "1h",
    "5%",
    "warmup",
    "100/60s",
    "429",
    "sync_run",
    "none",
    "run",
]
VALUES += [
    "9" * 400 + "s",
    "9" * 400 + "/s",
    "0." + "0" * 330 + "1/s",
    "0." + "0" * 320 + "1s",
    "9" * 400 + "/1s",
    "1/0.0000001s",
]
NUMBERS = [0, -1, 1, 2**31, 2**63, 2**64, 10**400, 0.0, 1e308, 1e-320, float("nan"), float("inf")]
scalars = (
    st.sampled_from(VALUES)
    | st.sampled_from(NUMBERS)
    | TOML_TEXT
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates(min_value=dt.date(1, 1, 1))
    | st.datetimes()
)
keys = st.sampled_from(KNOWN) | TOML_TEXT
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
)


def places(table: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or index) within a nested value."""
    for key in list(table) if isinstance(table, dict) else range(len(table)):
        yield table, key
        if isinstance(table[key], dict | list):
            yield from places(table[key])


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """The whole scenario with one to three things replaced, removed, added or renamed."""
    table = copy.deepcopy(WHOLE)
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(list(places(table))))
        what = draw(st.sampled_from(["replace", "replace", "remove", "add", "rename"]))
        if what == "replace":
            container[key] = draw(values)
        elif what == "remove":
            del container[key]
        elif isinstance(container, list):
            container.append(draw(values))
        else:
            container[draw(keys)] = draw(values) if what == "add" else container.pop(key)
        if not any(True for _ in places(table)):
            break
    return table


@given(changed(), st.integers(1, 3))
@settings(max_examples=settings.default.max_examples, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_scenario_is_read_or_refused(tmp_path: Path, table: dict[str, Any], keys: int) -> None:
    """Anything TOML can say in any place: an InputError that names the file, or a scenario that can be planned."""
    path = tmp_path / "any.toml"
    path.write_text(document(table), encoding="utf-8")
    scenario = None
    with contextlib.suppress(InputError):
        scenario = load_scenario(path).scenario
    if scenario is None:
        with pytest.raises(InputError, match=re.escape(str(path))):
            load_scenario(path)
        return
    assert len(scenario_hash(scenario)) == 12
    try:
        plans = traffic_plans(scenario, AssumedLimits.of_embedded(scenario), max(keys, scenario.keys))
    except InputError:
        return
    assert all(schedule.duration > 0 for schedule in schedules(plans, scenario.seed))


DEEP = {
    "arrays": "title = " + "[" * 5000 + "]" * 5000,
    "dotted keys": "a" + ".a" * 5000 + " = 1",
    "parameters": 'title = "t"\n[traffic.a]\noperation = "sync_run"\nworkflow = "w"\n'
    'stages = [{ name = "s", rate = "1/s", duration = "1s" }]\nparameters' + ".a" * 3000 + " = 1",
    "parameters in arrays": 'title = "t"\n[traffic.a]\noperation = "sync_run"\nworkflow = "w"\n'
    'stages = [{ name = "s", rate = "1/s", duration = "1s" }]\nparameters.a = ' + "[" * 200 + "]" * 200,
}
NOT_TOML = {
    "text": b"hello",
    "not UTF-8": b'title = "\xff"',
    "UTF-16": 'title = "x"'.encode("utf-16"),
    "half a string": b'title = "x',
    "a number of many digits": b"seed = " + b"9" * 5000,
    "a key twice": b"seed = 1\nseed = 2",
    "a NUL": b"title = \0",
    "an impossible date": b"title = 2020-02-31",
}


@pytest.mark.parametrize("name", NOT_TOML)
def test_what_is_not_toml_is_refused(load: Any, name: str) -> None:
    """The message names the file and says that it is not TOML, whatever the parser stumbled on."""
    with pytest.raises(InputError, match=r"mine\.toml is not TOML"):
        load(NOT_TOML[name])


@pytest.mark.parametrize("name", DEEP)
def test_what_is_nested_beyond_reason_is_refused(load: Any, name: str) -> None:
    """Depth is an error of the file, not of ours."""
    with pytest.raises(InputError, match=r"mine\.toml"):
        scenario_hash(load(DEEP[name]).scenario)


def test_an_empty_file_says_what_is_missing(load: Any) -> None:
    """Both keys that every scenario needs are named at once."""
    with pytest.raises(InputError) as caught:
        load("")
    assert [line.partition("mine.toml: ")[2] for line in str(caught.value).splitlines()] == [
        "title: is missing",
        "traffic: is missing",
    ]


@pytest.mark.parametrize("name", ["", "nothing.toml", "a" * 300])
def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path, name: str) -> None:
    """A folder, a file that isn't there, a name that is too long."""
    with pytest.raises(InputError, match="cannot read"):
        load_scenario(tmp_path / name)


@pytest.mark.parametrize(
    "key", [".".join(["a"] * 20_000), f"b = {{ {' . '.join(['a'] * 20_000)} = 1 }}\n[" + ".".join(["c"] * 200) + "]"]
)
def test_a_dotted_key_without_end_is_refused(load: Any, key: str) -> None:
    """Reading it would take time and memory that grow with the square of its parts."""
    with pytest.raises(InputError, match=r"mine\.toml: a dotted key has more than 100 parts"):
        load(f"{key} = 1\n")


def test_dots_in_a_text_are_no_key(load: Any) -> None:
    """A title may have as many as it likes."""
    with pytest.raises(InputError, match="traffic: is missing") as caught:
        load(f'title = "{"." * 500} {"and so on. " * 200}"')
    assert "dotted" not in str(caught.value)


@pytest.mark.parametrize("many", ["written", "steps"])
def test_stages_have_a_bound(load: Any, many: str) -> None:
    """Each has figures of its own; steps are counted one by one, before there are any."""
    stages = ",".join(f'{{ name = "s{n}", rate = "1/s", duration = "1s" }}' for n in range(1001))
    if many == "steps":
        steps = 'from = "1/s", to = "200/s", step = "1/s", duration = "1s"'
        stages = ",".join(f'{{ name = "s{n}", {steps} }}' for n in range(6))
    text = 'title = "T"\n[traffic.t]\noperation = "sync_run"\nworkflow = "w"\n'
    with pytest.raises(InputError, match=r"traffic: has [\d,]+ stages, .*; at most 1,000"):
        load(f"{text}stages = [{stages}]\n")


def test_traffic_entries_have_a_bound(load: Any) -> None:
    """A plan compares each with each."""
    entry = 'operation = "sync_run"\nworkflow = "w"\nstages = [{ name = "s", rate = "1/s", duration = "1s" }]\n'
    with pytest.raises(InputError, match=r"traffic: has 201 entries; at most 200"):
        load('title = "T"\n' + "".join(f"[traffic.t{number}]\n{entry}" for number in range(201)))
