from pathlib import Path
from typing import Any

import pytest
from plugins import record_maker as maker

from loadtest.analysis.findings import as_json, find
from loadtest.analysis.run_record import Record, load_record
from loadtest.analysis.verdict import Verdict, decide
from loadtest.errors import ExitCode
from loadtest.record.run_info import CpuSample
from loadtest.record.samples import FILE_NAME, Sample


def simple(
    directory: Path, *, arrivals: int = 100, lag_ms: float = 0.0, rows: list[Sample] | None = None, **changes: Any
) -> Record:
    """A run of 10/s for 10 s, each operation 20 ms long."""
    made = []
    for k in range(arrivals):
        start = k * 100.0 + lag_ms
        made += maker.both("t", k, start, start + 20, intended_ms=k * 100.0)
    run = maker.info(
        {"t": maker.plan("sync_run", [maker.stage("within", 0, 10, 10)], offered=arrivals)},
        thresholds=[
            {"require": text, "traffic": "t", "stage": "within"} for text in changes.pop("require", [])
        ],
        **changes,
    )  # fmt: skip
    return load_record(maker.save(directory, run, made if rows is None else rows))


@pytest.mark.parametrize(
    ("require", "word", "code"),
    [
        ([], "pass", 0),
        (["response_time.p50 < 25ms", "error_rate == 0"], "pass", 0),
        (["response_time.p50 < 15ms", "error_rate == 0"], "fail", 1),
        (["response_time.p99 < 1s"], "inconclusive", 6),
        (["response_time.p99 < 1s", "response_time.p50 < 15ms"], "fail", 1),
        (["submit.p50 < 1s"], "inconclusive", 6),
    ],
    ids=["none", "hold", "one fails", "too few samples", "fail goes before inconclusive", "no such metric here"],
)
def test_thresholds_make_the_verdict(tmp_path: Path, require: list[str], word: str, code: int) -> None:
    """A valid run is judged by its thresholds alone."""
    verdict = find(simple(tmp_path / "run", require=require)).verdict
    assert (verdict.word, verdict.exit_code) == (word, code)
    assert verdict.sentence.startswith(word.capitalize())


def test_fewer_than_ten_operations_decide_nothing(tmp_path: Path) -> None:
    """Neither a pass nor a failure; the reason states both numbers."""
    require = ["error_rate == 0", "response_time.p50 < 15ms"]
    few, enough = (find(simple(tmp_path / str(n), arrivals=n, require=require)).judged for n in (9, 10))
    assert [(one.judgement, one.why) for one in few] == [
        ("inconclusive", "only 9 operations sent; a threshold needs 10")
    ] * 2
    assert [one.judgement for one in enough] == ["pass", "fail"]


def faulty(directory: Path, errors: int, fate: dict[str, Any], **changes: Any) -> Verdict:
    """The verdict of a run of 100 operations, the last of which had errors."""
    effective = {"traffic": {"t": {"stages": [{"name": "within", "expect": [503]}]}}, **changes.pop("keys", {})}
    rows = [row for k in range(100) for row in maker.both("t", k, k * 100.0, k * 100.0 + 20)]
    for row in rows[-2 * errors :]:
        for name, value in fate.items():
            setattr(row, name, value)
        if row.row == "request" and row.reason == "give_up":
            row.status, row.outcome, row.reason = 429, "throttled", "throttled"
    record = simple(directory, rows=rows, **changes)
    record.info.scenario.effective |= effective
    return find(record).verdict


SILENT = {"outcome": "timed_out", "status": None, "reason": "timeout"}
WAITED = {"outcome": "timed_out", "status": 200, "reason": "give_up"}
BUSY = {"outcome": "failed", "status": 503, "reason": "unexpected_status"}


@pytest.mark.parametrize(
    ("errors", "fate", "changes", "word"),
    [
        (3, SILENT, {}, "fail"),
        (2, SILENT, {}, "pass"),
        (4, SILENT, {"keys": {"unexpected_errors": "4%"}}, "pass"),
        (9, SILENT, {"keys": {"unexpected_errors": False}}, "not judged"),
        (9, SILENT, {"require": ["error_rate < 50%"]}, "pass"),
        (9, SILENT, {"require": ["response_time.p50 < 1s"]}, "fail"),
        (9, SILENT, {"end": "interrupted", "elapsed_s": 10.0}, "pass"),
        (9, BUSY, {}, "pass"),
        (9, {**BUSY, "status": 500}, {}, "fail"),
        (9, WAITED, {}, "pass"),
    ],
)
def test_unexpected_errors_fail_a_run(
    tmp_path: Path, errors: int, fate: dict[str, Any], changes: dict[str, Any], word: str
) -> None:
    """At least three and more than the allowed share, unless expected, caused by 429s, or judged by a threshold."""
    verdict = faulty(tmp_path / "run", errors, fate, **changes)
    assert verdict.word == word
    if word == "fail":
        assert f"t / within: {errors} of 100 operations failed or timed out" in verdict.sentence
        assert verdict.exit_code == ExitCode.FAIL
    if word == "not judged":
        assert verdict.exit_code == ExitCode.PASS


def test_a_run_without_thresholds_says_so(tmp_path: Path) -> None:
    """A pass for want of thresholds is no praise."""
    assert "no thresholds set" in find(simple(tmp_path / "run")).verdict.sentence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lag_ms": 60.0}, "generator was the bottleneck: it sent 60 ms late"),
        ({"cpu": [CpuSample(t_s=t, percent=97) for t in range(1, 6)]}, "above 90 % CPU for 5 consecutive s"),
        ({"end": "running", "samples": None}, "the run was killed, and the record ends after"),
        ({"samples": 201}, "201 samples were written, but only 200"),
        ({"rows": []}, "nothing was sent"),
    ],
    ids=["late", "busy", "killed", "torn", "nothing sent"],
)
def test_an_invalid_run_can_neither_pass_nor_fail(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """Validity goes before thresholds that hold and before those that don't."""
    for require in ("response_time.p50 < 1ms", "response_time.p50 < 10s"):
        verdict = find(simple(tmp_path / require.replace(" ", ""), require=[require], **dict(changes))).verdict
        assert (verdict.word, verdict.exit_code) == ("invalid", ExitCode.INVALID)
        assert any(words in reason for reason in verdict.reasons), verdict.reasons


def test_a_busy_second_or_four_are_no_bottleneck(tmp_path: Path) -> None:
    """Four seconds above 90 % on one process and four on another do not add up."""
    cpu = [CpuSample(t_s=t, percent=97, worker=w) for w in (1, 2) for t in range(4 * w, 4 * w + 4)]
    assert find(simple(tmp_path / "run", cpu=cpu)).verdict.word == "pass"


def test_lost_arrivals_make_a_run_invalid(tmp_path: Path) -> None:
    """An arrival without an outcome is unknown, not dropped."""
    record = simple(tmp_path / "run", arrivals=100)
    record.info.traffic["t"].offered = 103
    found = find(record)
    assert found.verdict.word == "invalid"
    assert "3 arrivals had no outcome" in found.verdict.sentence


def test_aborted_goes_before_fail(tmp_path: Path) -> None:
    """A run that its own budget stopped is aborted, whatever it measured until then."""
    record = simple(tmp_path / "run", end="aborted", end_reason="the budget is spent", require=["goodput < 1/s"])
    verdict = find(record).verdict
    assert (verdict.word, verdict.exit_code) == ("aborted", ExitCode.ABORTED)
    assert "the budget is spent" in verdict.sentence


def test_a_run_that_is_invalid_still_says_what_ended_it(tmp_path: Path) -> None:
    """Both are true of it, and the second may be the reason for the first."""
    verdict = find(simple(tmp_path / "run", end="aborted", end_reason="the budget is spent", lag_ms=60.0)).verdict
    assert verdict.word == "invalid"
    assert verdict.sentence.endswith("; it was aborted: the budget is spent.")
    assert verdict.reasons[-1] == "it was aborted: the budget is spent"


def test_an_interrupted_run_is_judged_on_what_there_was(tmp_path: Path) -> None:
    """Ctrl-C ends in exit 130 with the verdict that the record supports; rates are over the time until then."""
    record = simple(
        tmp_path / "run", arrivals=50, end="interrupted", elapsed_s=5.0, require=["operations.sent_rate >= 10/s"]
    )
    found = find(record)
    assert (found.verdict.word, found.verdict.exit_code) == ("pass", ExitCode.INTERRUPTED)
    assert found.verdict.sentence.startswith("Interrupted; until then pass")
    assert found.metrics.overall.seconds == 5.0


def test_a_killed_run_keeps_what_was_flushed(tmp_path: Path) -> None:
    """A stream torn in its last batch still gives figures, and an invalid verdict."""
    record = simple(tmp_path / "run", end="running", samples=None)
    rows = [maker.operation("t", k, 10_000, 10_020) for k in range(100)]
    maker.save(record.directory, record.info, rows, batch=30)
    path = record.directory / FILE_NAME
    path.write_bytes(path.read_bytes()[:-200])
    found = find(load_record(record.directory))
    assert found.metrics.overall.operations.ok == 90
    assert found.verdict.exit_code == ExitCode.INVALID


def test_a_threshold_inside_the_poll_interval_is_not_judged(tmp_path: Path) -> None:
    """A median time to result known to lie from 0.15 ms to 2 s: below 5 s holds, below 1 s can't be said."""
    thresholds = [
        {"require": f"time_to_result.p50 < {value}", "traffic": "jobs", "stage": "within"} for value in ("5s", "1s")
    ]
    judged = find(load_record(maker.tour(tmp_path / "run", scale=0.2, thresholds=thresholds))).judged
    assert [one.judgement for one in judged] == ["pass", "inconclusive"]
    assert "polling shows the true value only within bounds" in judged[1].why


def test_time_outs_fail_a_threshold_only_beyond_what_is_known(tmp_path: Path) -> None:
    """A p95 that reaches a time-out of 100 ms is at least that: above a limit it fails, below it nothing is known."""
    rows = []
    for k in range(100):
        late = k >= 90
        fate = {"outcome": "timed_out", "status": None, "reason": "timeout"} if late else {}
        rows += maker.both("t", k, k * 100.0, k * 100.0 + (100 if late else 20), **fate)
    require = ["response_time.p95 < 80ms", "response_time.p95 < 150ms", "response_time.p50 < 30ms"]
    judged = find(simple(tmp_path / "run", rows=rows, require=require)).judged
    assert [one.judgement for one in judged if not one.implicit] == ["fail", "inconclusive", "pass"]


def test_a_threshold_within_its_interval_is_marginal(tmp_path: Path) -> None:
    """It passes or fails by its value, visibly so; one that is to be confident is inconclusive instead."""
    rows = [row for k in range(100) for row in maker.both("t", k, k * 100.0, k * 100.0 + k * 37 % 100)]
    require = [f"response_time.p50 {bound}" for bound in ("< 52ms", "< 48ms", "< 70ms", "< 20ms")]
    found = find(simple(tmp_path / "run", rows=rows, require=require))
    assert [(one.judgement, one.marginal) for one in found.judged] == [
        ("pass", True), ("fail", True), ("pass", False), ("fail", False),
    ]  # fmt: skip
    sure = {"traffic": "t", "confident": True}
    scenario = found.record.info.scenario
    scenario.effective["threshold"] = [{"require": each, **sure} for each in require]
    assert [one.judgement for one in find(found.record).judged] == [
        "inconclusive", "inconclusive", "pass", "fail",
    ]  # fmt: skip
    scenario.effective["threshold"] = [{"require": "service_time.p50 < 1s", **sure}]
    assert find(found.record).judged[0].why.startswith("no confidence interval"), "sampling alone is none"
    scenario.effective["threshold"] = [{"require": require[0], "traffic": "t"}]
    verdict = decide(found.record.info, [], find(found.record).judged)
    assert verdict.word == "pass"
    assert "though marginally" in verdict.statement


def test_metrics_json_is_strict_json(tmp_path: Path) -> None:
    """No NaN and no infinity, whatever is missing; the same record gives the same bytes."""
    import json  # noqa: PLC0415 - only here

    record = simple(tmp_path / "run", rows=[], require=["response_time.p95 < 80ms"])
    text = as_json(find(record))
    assert text == as_json(find(load_record(record.directory)))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(text, parse_constant=refuse)["thresholds"][0]["judgement"] == "inconclusive"
