"""Which runs may be compared."""

from typing import Any

import msgspec
import pytest
from plugins.regression_parts import GENERATOR, TARGET, run

from loadtest.compare.measurements import flattened, mismatch

PLAIN = run({})
OTHER_TARGET = {
    "host": "https://other.example",
    "endpoint": "99999999",
    "limits": "sliding log",
    "faults": ("latency=20ms",),
    "keys": 3,
}
OTHER_GENERATOR = {"os": "Plan 9", "cpu": "another processor", "cores": "2"}


def with_target(**fields: Any) -> Any:
    return run({}, target=msgspec.structs.replace(TARGET, **fields))


@pytest.mark.parametrize(("field", "value"), OTHER_TARGET.items())
def test_a_history_is_of_one_target(field: str, value: Any) -> None:
    """Each field of the target must match, and the sentence holds both values."""
    said = mismatch(PLAIN, with_target(**{field: value}))
    for each in (getattr(TARGET, field), value):
        shown = ", ".join(each) or "none" if isinstance(each, tuple) else str(each)
        assert shown in said


@pytest.mark.parametrize("field", ["host", "endpoint", "limits", "faults"])
def test_the_sides_of_a_pair_are_two_targets(field: str) -> None:
    assert not mismatch(PLAIN, with_target(**{field: OTHER_TARGET[field]}), paired=True)


def test_both_sides_of_a_pair_use_as_many_keys() -> None:
    assert "API keys" in mismatch(PLAIN, with_target(keys=3), paired=True)


def test_another_number_of_workers_always_matters() -> None:
    other = msgspec.structs.replace(GENERATOR, workers=4)
    assert "the number of workers differs: 1 before, 4 now" in mismatch(PLAIN, run({}, generator=other))


def test_a_changed_scenario_names_the_key_and_both_values() -> None:
    """As the scenario has it; the hash alone, if an older run does not know its keys."""
    scenario = {"traffic": {"runs": {"stages": [{"name": "steady", "rate": "40/min"}], "parameters": {"ms": [1, 2]}}}}
    changed = msgspec.json.decode(msgspec.json.encode(scenario).replace(b"40/", b"41/"))
    old, new = flattened(scenario), flattened(changed)
    before, now = run({}, definition=old), run({}, scenario_hash="def", definition=new)
    assert mismatch(before, now) == "traffic.runs.stages.steady.rate: 40/min before, 41/min now"
    assert "abc before, def now" in mismatch(run({}), now)


def test_a_changed_file_is_named() -> None:
    before, now = run({}, files={"inputs.jsonl": "aaaa"}), run({}, files={"inputs.jsonl": "bbbb"})
    assert mismatch(before, now) == "the content of inputs.jsonl differs: digest aaaa before, bbbb now"
    assert not mismatch(run({}), now)


@pytest.mark.parametrize(("field", "value"), OTHER_GENERATOR.items())
@pytest.mark.parametrize("paired", [False, True])
def test_another_machine_matters_only_beside_an_embedded_target(field: str, value: Any, paired: bool) -> None:
    """The embedded API shares the generator's machine; a target of its own does not."""
    other = msgspec.structs.replace(GENERATOR, **{field: value})
    assert not mismatch(PLAIN, run({}, generator=other), paired=paired)
    said = mismatch(run({}, embedded=True), run({}, embedded=True, generator=other), paired=paired)
    assert str(value) in said
    assert str(getattr(GENERATOR, field)) in said


def test_scenario_and_kind_of_target_must_match() -> None:
    assert "scenario" in mismatch(PLAIN, run({}, scenario="tour"))
    assert "hash" in mismatch(PLAIN, run({}, scenario_hash="def"))
    assert "embedded" in mismatch(PLAIN, run({}, embedded=True))


def test_versions_commits_and_times_are_never_matched() -> None:
    assert not mismatch(PLAIN, run({}, 9, target_version="2.0", commit="abc", verdict="fail"))
