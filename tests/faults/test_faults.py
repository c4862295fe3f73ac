"""Faults as values: what can be written, what is refused and in which words, and the one text of each."""

import contextlib
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from plugins.pages import blocks

from loadtest.errors import InputError
from loadtest.faults import KINDS, Fault, fault_schema, from_values, parse, to_text, to_words

seconds = st.integers(0, 10**6).map(lambda ms: ms / 1000)
shares = st.floats(0, 1)
millis = st.floats(0, 600_000, allow_nan=False)

OWN: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "latency": {"ms": millis, "shape": st.sampled_from(["constant", "lognormal", "ramp"])},
    "slow-execution": {"ms": millis, "factor": st.floats(1, 1000)},
    "freeze": {"ms": millis},
    "error": {"status": st.integers(500, 599)},
    "reset": {"when": st.sampled_from(["before", "middle"])},
    "garbage": {"what": st.sampled_from(["body", "answer"])},
    "duplicate-result": {"what": st.sampled_from(["result", "id"])},
    "false-execution-time": {
        "value": st.sampled_from(["off", "above", "negative", "missing"]),
        "factor": st.floats(-1000, 1000),
        "ms": st.floats(-600_000, 600_000),
    },
    "cold-start": {"ms": millis, "idle": seconds.map(lambda s: f"{s}s")},
    "starve": {"by": st.integers(0, 999)},
}


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    """Any fault that can be written."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    keys = {
        **OWN.get(kind, {}),
        "start": seconds.map(lambda s: f"{s}s"),
        "duration": seconds.map(lambda s: f"{s}s"),
        "probability": shares,
        "on": st.lists(st.sampled_from(KINDS[kind].ON), max_size=3),
        "key": st.integers(0, 999),
    }
    values: dict[str, object] = {"kind": kind}
    for key, strategy in keys.items():
        if draw(st.booleans()):
            values[key] = draw(strategy)
    try:
        return from_values(values)
    except InputError:
        reject()  # not every choice of keys goes together


@given(faults())
def test_one_text_stands_for_a_fault(fault: Fault) -> None:
    """The text of a fault is read as that very fault, and as nothing else."""
    assert parse(to_text(fault)) == fault
    assert to_words(fault)


words = st.sampled_from([*KINDS, ",", "=", "ms", "on", "start", "1", "10s", "+", "-", "e", "inf", "sync_run"])


@given(st.text() | st.lists(words, max_size=9).map("".join))
def test_any_text_is_a_fault_or_a_sentence(text: str) -> None:
    """Whatever is written is read or refused in words."""
    with contextlib.suppress(InputError):
        parse(text)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=8), each, max_size=3),
    max_leaves=6,
)
KEYS = [
    "ms",
    "on",
    "start",
    "duration",
    "probability",
    "key",
    "when",
    "what",
    "value",
    "factor",
    "by",
    "idle",
    "status",
]


@given(st.sampled_from([*KINDS, "x"]) | json, st.dictionaries(st.sampled_from(KEYS), json, max_size=4))
def test_any_values_are_a_fault_or_a_sentence(kind: Any, others: dict[str, Any]) -> None:
    """Values of any type under any key are read or refused in words."""
    with contextlib.suppress(InputError):
        from_values({"kind": kind, **others})


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("latncy,ms=3", "kind: there is no fault 'latncy'", "Did you mean 'latency'?"),
        ("", "kind: is missing", "Valid values: latency, slow-execution, freeze"),
        ("latency,mss=3", "mss: unknown key of latency", "Did you mean 'ms'?"),
        ("latency", "ms: is missing", "Keys of latency: ms, shape, sigma, start, duration, probability, on, key."),
        ("latency,ms=x", "ms: 'x' is not a number from 0", "Keys of latency"),
        ("latency,ms=-1", "ms: -1 is not a number from 0 to 600,000", "Keys of latency"),
        ("latency,ms=nan", "ms: nan is not a number from 0", "Keys of latency"),
        ("latency,ms=1,start=4", "start: 4 is not a duration: write a number and its unit", "Keys of latency"),
        ("latency,ms=1,start=9999h", "start: '9999h' is longer than a week", "Keys of latency"),
        ("latency,ms=1,duration=0s", "duration: must be above zero", "Keys of latency"),
        ("latency,ms=1,probability=120%", "probability: '120%' is not a number from 0 to 1", "Keys of latency"),
        ("latency,ms=1,on=retrival", "on: 'retrival' is not valid here; did you mean 'retrieval'?", "Keys of latency"),
        ("latency,ms=1,ms=2", "ms: is given twice", "Give it once"),
        ("latency,ms", "'ms' is not KEY=VALUE", "Example: latency,ms=200"),
        ("latency,ms=1,shape=ramp", "duration: a ramp needs a duration", "Keys of latency"),
        ("latency,ms=1,sigma=1", "sigma: needs shape = lognormal", "Keys of latency"),
        ("slow-execution", "factor: give factor, ms, or both", "Keys of slow-execution"),
        ("freeze,probability=0.5", "ms: is missing: probability, on and key need a time", "Keys of freeze"),
        ("error,status=404", "status: 404 is not a whole number from 500 to 599", "Keys of error"),
        ("reset,when=midle", "when: 'midle' is not valid here; did you mean 'middle'?", "Keys of reset"),
        (
            "never-finish,on=retrieval",
            "on: 'retrieval' is not valid here; known here: async_submit",
            "Keys of never-finish",
        ),
        ("duplicate-result,what=id,on=sync_run", "on: a sync_run has no id", "Keys of duplicate-result"),
        ("false-execution-time", "factor: give factor or ms, or value =", "Keys of false-execution-time"),
        (
            "false-execution-time,value=negative,ms=1",
            "value: negative goes with neither",
            "Keys of false-execution-time",
        ),
        ("starve", "key: is missing", "Keys of starve"),
        ("starve,key=1,by=1", "by: key 1 cannot starve itself", "Keys of starve"),
    ],
)
def test_mistakes_are_named(text: str, message: str, remedy: str) -> None:
    """An error begins with the key that is wrong, and says what would be right."""
    with pytest.raises(InputError) as caught:
        parse(text)
    assert caught.value.message.startswith(message)
    assert caught.value.remedy.startswith(remedy)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "latency,ms=200,start=10s,duration=30s,probability=0.1,on=sync_run",
            "latency 200 ms on sync_run from 10 s for 30 s with probability 10 %",
        ),
        ("latency,ms=80,shape=lognormal,key=1", "lognormal latency (median 80 ms, sigma 0.5) of key 1"),
        ("latency,ms=80,shape=ramp,duration=1m", "latency growing to 80 ms for 60 s"),
        ("slow-execution,factor=2.5,ms=10", "slow execution, 2.5 times +10 ms"),
        ("freeze,start=5s,duration=500ms", "freeze of the whole server from 5 s for 0.5 s"),
        (
            "freeze,ms=300,probability=1%",
            "freeze of the whole server for 300 ms per affected request with probability 1 %",
        ),
        ("error,status=503", "error 503"),
        ("reset,when=middle", "reset in the middle of answers"),
        ("garbage,what=answer", "garbage that is not HTTP"),
        ("never-finish", "jobs that never finish"),
        ("duplicate-result,what=id", "ids of the previous job on async_submit"),
        ("false-execution-time,factor=0.5", "false executionTime, 0.5 times"),
        ("false-execution-time,value=above", "false executionTime, longer than the client measured"),
        ("cold-start,ms=800,idle=2s", "cold start of 800 ms after 2 s without requests"),
        ("starve,key=1,by=0", "key 1 starved by key 0"),
        ("throttle", "429 without reason"),
    ],
)
def test_words_say_what_goes_wrong(text: str, words: str) -> None:
    """Each fault has a phrase that needs no explanation."""
    assert to_words(parse(text)) == words


def test_all_request_kinds_are_the_same_as_none_said() -> None:
    """``on`` with everything that makes sense is one fault with ``on`` left out, in whatever order."""
    assert parse("throttle,on=retrieval+sync_run+async_submit") == parse("throttle")
    assert parse("latency,ms=1,on=retrieval+sync_run") == parse("latency,ms=1,on=sync_run+retrieval")


EXAMPLES = [
    'kind = "latency"\nms = 200\nstart = "10s"\nduration = "30s"\nprobability = "10%"\non = "sync_run"',
    'kind = "latency"\nms = 2.5\nshape = "lognormal"\nsigma = 1\non = ["sync_run", "retrieval"]\nkey = 0',
    'kind = "freeze"\nduration = "2s"',
    'kind = "cold-start"\nms = 800\nidle = "2s"',
    'kind = "starve"\nkey = 1\nby = 0',
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_schema_takes_what_is_read(text: str) -> None:
    """What a scenario may say, an editor accepts."""
    values = tomllib.loads(text)
    from_values(values)
    jsonschema_rs.validator_for(fault_schema()).validate(values)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "latncy", "ms": 1},
        {"kind": "latency"},
        {"kind": "latency", "ms": 1, "idle": "1s"},
        {"kind": "latency", "ms": 1, "start": 10},
        {"kind": "never-finish", "on": "retrieval"},
        {"ms": 1},
    ],
)
def test_schema_refuses_what_is_not_read(values: dict[str, Any]) -> None:
    """A wrong kind, a key of another kind, a number without its unit: an editor marks it, and we refuse it."""
    assert not jsonschema_rs.validator_for(fault_schema()).is_valid(values)
    with pytest.raises(InputError):
        from_values(values)


def test_what_the_documentation_shows_can_be_written() -> None:
    """docs/reference-api.md shows every kind, and faults that can be given in each of the three ways."""
    text = (Path(__file__).parents[2] / "docs" / "reference-api.md").read_text(encoding="utf-8")
    written = re.findall(r'--fault "?([a-z][^"\s]*=[^"\s]*)"?', text) + re.findall(r'-d "([^"]+)"', text)
    assert len(written) >= 3
    for each in written:
        parse(each)
    for block in blocks(text, "toml"):
        for values in tomllib.loads(block)["target"].get("fault", ()):
            from_values(values)
    assert {kind for kind in KINDS if f"\n| `{kind}` |" in text} == set(KINDS)
