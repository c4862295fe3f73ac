"""What a scenario compares: figures of every arrival, differences with intervals, and a choice that they carry."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugins import record_maker as maker

from loadtest.analysis.answers import ComparisonAnswer
from loadtest.analysis.findings import Findings, as_json
from loadtest.errors import RecordError

REFUSED = {"status": 429, "outcome": "throttled", "reason": "throttled"}
LATE = {"status": None, "outcome": "timed_out", "reason": "timeout"}

Entry = tuple[Callable[[int], float], Callable[[int], dict[str, Any]], int]
"""How long arrival k takes in ms, what becomes of it, and how many requests it makes."""


def ok(_: int) -> dict[str, Any]:
    """Every arrival ends well."""
    return {}


def ran(directory: Path, entries: dict[str, Entry], *, n: int = 80, stages: int = 1, **effective: Any) -> Findings:
    """A run of entries side by side, an arrival a second, in stages of ``n`` arrivals each."""
    rows = []
    for name, (took, fate, requests) in entries.items():
        for k in range(n * stages):
            stage, at = f"s{k // n}", k * 1000.0
            rows += [
                maker.request(name, k, at + attempt, at + took(k), stage=stage, **fate(k))
                for attempt in range(requests)
            ]
            rows.append(maker.operation(name, k, at, at + took(k), stage=stage, **fate(k)))
    plan = [maker.stage(f"s{number}", number * n, n, 1) for number in range(stages)]
    traffic = {name: maker.plan("sync_run", plan, offered=n * stages) for name in entries}
    run = maker.info(traffic)
    run.scenario.effective |= effective
    for name, plan_ in run.traffic.items():
        plan_.input_rows = n if effective.get("traffic", {}).get(name, {}).get("inputs") else None
    return maker.findings(directory / "run", run, rows)


def uneven(k: int) -> float:
    """What inputs differ by: times from 50 to 200 ms in no order."""
    return 50.0 + (k * 37) % 151


def by(found: ComparisonAnswer, name: str, metric: str) -> Any:
    """A side's figure."""
    return next(one for one in found.side(name).figures if one.metric == metric)


def same(*names: str) -> dict[str, Any]:
    """Entries that send the same inputs."""
    return {name: {"workflow": "sleep", "inputs": "rows.jsonl"} for name in names}


def test_same_inputs_are_compared_pair_by_pair(tmp_path: Path) -> None:
    """A difference of 5 ms among times that differ by 150 ms is found in pairs, and hidden where there are none."""
    entries: dict[str, Entry] = {"a": (uneven, ok, 1), "b": (lambda k: uneven(k) + 5, ok, 1)}
    compare = [{"entries": ["a", "b"], "by": ["response_time.p50"]}]
    (paired,) = ran(tmp_path / "1", entries, compare=compare, traffic=same("a", "b")).answers
    (apart,) = ran(tmp_path / "2", entries, compare=compare).answers
    assert [one.differences[0].paired for one in (paired, apart)] == [True, False]
    assert [one.differences[0].difference for one in (paired, apart)] == pytest.approx([5.0, 5.0])
    assert paired.differences[0].interval == pytest.approx((5.0, 5.0), abs=2.0)
    assert (paired.best, paired.tied, paired.worse) == ("a", ("a",), ("b",))
    assert (apart.tied, apart.worse) == (("a", "b"), ())


def test_of_those_not_told_apart_the_surely_cheaper_one_is_chosen(tmp_path: Path) -> None:
    """The first metric decides; where it cannot, requests do, and they count polls and retries of every kind."""
    entries: dict[str, Entry] = {
        "eager": (uneven, ok, 4), "calm": (lambda k: uneven(k + 1), ok, 2), "slow": (lambda k: uneven(k) + 500, ok, 1),
    }  # fmt: skip
    compare = [{"entries": ["eager", "calm", "slow"], "by": ["response_time.p50", "requests_per_operation"]}]
    found = ran(tmp_path, entries, compare=compare)
    (answer,) = found.answers
    assert (answer.chosen, set(answer.tied), answer.worse) == ("calm", {"eager", "calm"}, ("slow",))
    for name, requests in (("eager", 4.0), ("calm", 2.0), ("slow", 1.0)):
        assert by(answer, name, "requests_per_operation").value == requests
        assert found.metrics.traffic[name].requests_per_operation == requests
    assert answer.confidence == pytest.approx(1 - 0.05 / 3)


def test_who_never_became_ok_took_infinitely_long(tmp_path: Path) -> None:
    """To give up at once is not fast: times are of all arrivals, refused and timed-out ones too."""
    entries: dict[str, Entry] = {
        "gives-up": (lambda _: 2.0, lambda k: REFUSED if k % 2 else {}, 1),
        "waits": (lambda _: 900.0, lambda k: LATE if k == 5 else {}, 3),
    }
    compare = [{"entries": ["gives-up", "waits"], "by": ["response_time.p90", "requests_per_operation"]}]
    found = ran(tmp_path, entries, compare=compare)
    (answer,) = found.answers
    gives_up = by(answer, "gives-up", "response_time.p90")
    assert (gives_up.infinite, gives_up.value, gives_up.size) == (True, None, math.inf)
    assert by(answer, "waits", "response_time.p90").value == 900.0
    assert (answer.best, answer.chosen, answer.worse) == ("waits", "waits", ("gives-up",))
    assert [answer.side(name).ok for name in ("gives-up", "waits")] == [40, 79]
    assert b"Infinity" not in as_json(found)


def test_an_effect_is_of_a_stage_against_the_baseline(tmp_path: Path) -> None:
    """Stages that send the same rows again are compared pair by pair; what did not change is not said to have."""
    entries: dict[str, Entry] = {"v": (lambda k: uneven(k % 80) + 4 * (k // 160), ok, 1)}
    compare = [{"entry": "v", "stages": ["s0", "s1", "s2"], "by": ["response_time.p50", "error_rate", "goodput"]}]
    (answer,) = ran(tmp_path, entries, stages=3, compare=compare, traffic=same("v")).answers
    told = {(one.head, one.metric): (one.told_apart, one.better, one.paired) for one in answer.differences}
    assert told["s1", "response_time.p50"] == (False, None, True)
    assert told["s2", "response_time.p50"] == (True, False, True)
    assert told["s2", "error_rate"] == (False, None, True)
    rate = answer.between("s0", "s2", "goodput")
    assert (rate.difference, rate.interval) == (0.0, None)
    assert rate.why == "a maximum, a count and a rate per second have no interval"
    assert answer.confidence == pytest.approx(1 - 0.05 / 6)


def test_a_burst_has_no_order(tmp_path: Path) -> None:
    """Arrivals at one moment are no trend, though its first ones are served first: their number is what it is."""
    rows = []
    for k in range(100):
        took = 20.0 if k < 50 else 5000.0
        rows += maker.both("t", k, 0, took, stage="b")
        rows += maker.both("u", k, 0, 9000, stage="b")
    plan = [maker.stage("b", 0, 10, 0, burst=100)]
    run = maker.info({name: maker.plan("sync_run", plan, offered=100) for name in "tu"})
    run.scenario.effective["compare"] = [{"entries": ["t", "u"], "by": ["response_time.p90"]}]
    (answer,) = maker.findings(tmp_path / "run", run, rows).answers
    assert answer.bursts
    assert by(answer, "t", "response_time.p90").interval == (5000.0, 5000.0)
    assert answer.chosen == "t"


def test_nothing_is_chosen_of_what_never_works(tmp_path: Path) -> None:
    """Where every side's figure is infinite there is no choice."""
    never: Entry = (lambda _: 1.0, lambda _: REFUSED, 1)
    entries = {"a": never, "b": never}
    compare = [{"entries": ["a", "b"], "by": ["response_time.p50"]}]
    (answer,) = ran(tmp_path, entries, compare=compare).answers
    assert (answer.best, answer.chosen, answer.tied, answer.worse) == (None, None, (), ())


def test_an_entry_that_sent_nothing_has_no_figures(tmp_path: Path) -> None:
    """The others are compared all the same, and why there is nothing is said."""
    stage = maker.stage("s", 0, 80, 1)
    names, rows = ("a", "b", "none"), []
    for k in range(80):
        for name in names[:2]:
            rows += maker.both(name, k, k * 1000, k * 1000 + 9, stage="s")
    run = maker.info({name: maker.plan("sync_run", [stage], offered=80 if name != "none" else 0) for name in names})
    run.scenario.effective["compare"] = [{"entries": [*names], "by": ["response_time.p95", "amplification"]}]
    (answer,) = maker.findings(tmp_path / "run", run, rows).answers
    assert by(answer, "none", "response_time.p95").why == "nothing to measure"
    assert answer.tied == ("a", "b")


@pytest.mark.parametrize(
    "compare",
    [
        5,
        [{"by": []}],
        [{"entries": ["a", "x"], "by": ["goodput"]}],
        [{"entry": "a", "stages": ["s0"], "by": ["goodput"]}],
    ],
)
def test_a_damaged_comparison_is_named(tmp_path: Path, compare: Any) -> None:
    """What run.json says to compare, and the run does not have, ends in one error."""
    with pytest.raises(RecordError, match=r"run\.json is damaged"):
        ran(tmp_path, {"a": (uneven, ok, 1)}, compare=compare)


@pytest.mark.parametrize(
    ("require", "stage", "judged_as"),
    [
        ("response_time.p50 < 1.2x stage s0", "s1", "pass"),
        ("response_time.p50 < 1.01x stage s0", "s1", "fail"),
        ("response_time.p50 < 1.025x stage s0", "s1", "pass, marginal"),
        ("response_time.p50 < 1.2x traffic other", "s1", "pass"),
        ("response_time.p50 > 0.9x traffic other", None, "fail"),
        ("operations.sent <= 1x stage s0", "s1", "pass"),
        ("execution_time.p50 < 2x stage s0", "s1", "inconclusive"),
    ],
)
def test_relative_thresholds(tmp_path: Path, require: str, stage: str | None, judged_as: str) -> None:
    """A stage against a stage, an entry against an entry; the interval is that of the distance, in pairs here."""
    entries: dict[str, Entry] = {
        "v": (lambda k: 100 + uneven(k % 80) + (5 if k >= 80 else 0) + (k % 7 - 3 if k >= 80 else 0), ok, 1),
        "other": (lambda k: 900.0 + k % 3, ok, 1),
    }
    threshold = {"traffic": "v", "require": require, **({"stage": stage} if stage else {})}
    found = ran(tmp_path, entries, stages=2, threshold=[threshold], traffic=same("v"))
    (judged,) = found.judged
    assert judged.judgement + (", marginal" if judged.marginal else "") == judged_as, judged
    if judged_as == "inconclusive":
        assert judged.why == "no data of v / s1"
    elif stage is not None and "stage" in require:
        base = found.metrics.traffic["v"].stages["s0"]
        assert judged.base == (80 if "sent" in require else base.response_time_ms.p50)
    assert msgspec.json.decode(as_json(found))["thresholds"][0]["base"] == judged.base


def test_relative_thresholds_need_ten_operations_on_both_sides(tmp_path: Path) -> None:
    """The reason names the side with fewer."""
    entries: dict[str, Entry] = {"v": (uneven, ok, 1)}
    threshold = [{"traffic": "v", "stage": "s1", "require": "error_rate <= 1x stage s0"}]
    few, enough = (ran(tmp_path / str(n), entries, n=n, stages=2, threshold=threshold).judged[0] for n in (9, 10))
    assert (few.judgement, few.why) == ("inconclusive", "v / s1: only 9 operations sent; a threshold needs 10")
    assert enough.judgement == "pass"
