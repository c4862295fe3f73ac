"""One thing that changed is one finding; controls and attribution."""

import msgspec
import pytest
from plugins.regression_parts import controls, jittered, key, measurement, run

from loadtest.compare.measurements import Metric, RunMeasurements
from loadtest.compare.results import RunComparison
from loadtest.compare.rule import judge_history
from loadtest.compare.verdict import holm, suspects

EXEC, EXEC95 = key(Metric.EXECUTION_TIME_P50), key(Metric.EXECUTION_TIME_P95)
OVER, RESP, RESP95 = key(Metric.OVERHEAD_P50), key(Metric.RESPONSE_TIME_P50), key(Metric.RESPONSE_TIME_P95)
GOODPUT = key(Metric.GOODPUT)
PLAIN = {EXEC: 100.0, EXEC95: 140.0, OVER: 40.0, RESP: 140.0, RESP95: 180.0, GOODPUT: 25.0}
IDLE = key(Metric.RESPONSE_TIME_P50, "idle")
MISSING = key(Metric.RESPONSE_TIME_P50, "missing")


def judged(values: dict, now: dict, **fields: object) -> RunComparison:
    """Rerun of a run that suspected everything."""
    return judge_history(jittered(values), run({**values, **now}, 9, **fields), confirming=list(values))


def test_holm_by_the_book() -> None:
    """p = .01 .04 .03 .005 → .03 .06 .06 .02; equal p do not depend on the order."""
    a, b, c, d = (key(metric) for metric in list(Metric)[:4])
    assert holm({a: 0.01, b: 0.04, c: 0.03, d: 0.005}) == pytest.approx({a: 0.03, b: 0.06, c: 0.06, d: 0.02})
    assert holm({a: 0.5, b: 0.5}) == holm({b: 0.5, a: 0.5})


def test_a_slower_execution_is_one_finding_with_its_symptoms() -> None:
    found = judged(PLAIN, {EXEC: 160.0, EXEC95: 200.0, RESP: 200.0, RESP95: 240.0, GOODPUT: 20.0})
    assert len(found.findings) == 1
    finding = found.findings[0]
    assert (finding.kind, finding.cause.metric) == ("grown", EXEC.metric)
    assert {one.metric for one in finding.symptoms} == {EXEC95.metric, RESP.metric, RESP95.metric, GOODPUT.metric}
    assert finding.sentence.startswith("greetings: executionTime p50 +60 ms (+60 %, 95 %: +")
    assert "seen in executionTime p95 (+60 ms), response time p50 (+60 ms)" in finding.sentence
    assert "goodput (−5.0/s)" in finding.sentence


def test_a_slower_way_to_the_service_is_named_overhead() -> None:
    """executionTime grew by 8 ms, the overhead by 60: that is the cause."""
    found = judged(PLAIN, {EXEC: 108.0, OVER: 100.0, RESP: 208.0})
    assert [one.cause.metric for one in found.findings] == [OVER.metric]


def test_many_times_as_much_is_said_in_times() -> None:
    found = judged({OVER: 2.0}, {OVER: 24.0})
    assert found.sentence.startswith("greetings: overhead p50 +22 ms (12 times as much, 95 %: 1")


def test_a_longer_tail_is_named_by_p95() -> None:
    found = judged(PLAIN, {EXEC95: 200.0, RESP95: 240.0})
    assert [one.cause.metric for one in found.findings] == [EXEC95.metric]
    assert [one.metric for one in found.findings[0].symptoms] == [RESP95.metric]


def test_time_that_moved_is_no_regression() -> None:
    """executionTime −30 ms, overhead +30 ms: the whole did not grow, nothing has to be rerun."""
    first = judge_history(jittered(PLAIN), run({**PLAIN, EXEC: 70.0, OVER: 70.0}, 9))
    assert (first.word, first.exit_code) == ("pass", 0)
    assert [one.kind for one in first.findings] == ["moved"]
    assert not suspects(first)
    moved = judged(PLAIN, {EXEC: 70.0, OVER: 70.0})
    assert moved.word == "pass"
    assert moved.reasons[0].startswith("greetings: time moved from executionTime p50 (−30 ms) to overhead p50 (+30 ms)")
    assert {one.verdict for one in moved.metrics} == {"improved", "inconclusive", "unchanged"}


def test_time_that_moved_and_grew_is_a_regression() -> None:
    found = judged(PLAIN, {EXEC: 70.0, OVER: 110.0, RESP: 180.0})
    assert found.word == "regressed"
    assert [one.kind for one in found.findings] == ["grown"]


def test_errors_and_slowness_are_two_findings() -> None:
    errors = key(Metric.ERROR_RATE)
    found = judged({**PLAIN, errors: 0.0}, {EXEC: 160.0, RESP: 200.0, errors: 0.2, GOODPUT: 20.0})
    assert [one.kind for one in found.findings] == ["failing", "grown"]
    assert [one.metric for one in found.findings[0].symptoms] == [GOODPUT.metric]


def test_each_entry_and_stage_has_its_own_finding() -> None:
    above = key(Metric.EXECUTION_TIME_P50, stage="above")
    other = key(Metric.EXECUTION_TIME_P50, "reports")
    values = {EXEC: 100.0, above: 100.0, other: 50.0}
    found = judged(values, {EXEC: 130.0, above: 130.0, other: 60.0})
    assert [one.sentence.split(":")[0] for one in found.findings] == [
        "greetings (above)",
        "greetings (steady)",
        "reports",
    ]


def with_controls(values: dict, now: dict, cpu: float, lag: float = 0.4) -> RunComparison:
    history = [
        RunMeasurements(**{**{f: getattr(one, f) for f in one.__struct_fields__}, "controls": controls(10 + 0.05 * n)})
        for n, one in enumerate(jittered(values))
    ]
    return judge_history(history, run({**values, **now}, 9, controls=controls(cpu, lag)), confirming=[EXEC])


def test_a_control_that_moved_with_the_suspect_leaves_it_open() -> None:
    """The CPU loop is ours: if it takes longer, too, the machine is slower, or the service is; nobody knows."""
    found = with_controls({EXEC: 100.0}, {EXEC: 130.0}, cpu=13.0)
    assert (found.word, found.exit_code, found.confirmed) == ("inconclusive", 6, False)
    assert found.sentence.startswith(
        "Inconclusive: the environment changed, since the service cannot affect CPU loop +2"
    )
    assert "greetings: executionTime p50 +30 ms" in found.sentence
    assert "another machine" in found.reasons[0]


def test_a_lag_that_moved_leaves_it_open_too() -> None:
    assert with_controls({EXEC: 100.0}, {EXEC: 130.0}, cpu=10.1, lag=20.0).word == "inconclusive"


def test_a_control_that_varies_as_ever_excuses_nothing() -> None:
    found = with_controls({EXEC: 100.0}, {EXEC: 130.0}, cpu=10.3, lag=0.6)
    assert found.word == "regressed"
    assert [one.moved for one in found.controls] == [False, False]


def test_a_control_that_moved_alone_is_nothing() -> None:
    assert with_controls({EXEC: 100.0}, {}, cpu=13.0).word == "pass"


@pytest.mark.parametrize(
    ("idle", "said"),
    [
        (10.0, "changed by at most 0.48 ms of the 40 ms: the "),
        (50.0, "also became slower by +38 to +42 ms (95 %) of the 40 ms: this part is lost"),
    ],
)
def test_what_happens_before_any_workflow_attributes_and_never_excuses(idle: float, said: str) -> None:
    values = {EXEC: 100.0, RESP: 110.0, MISSING: 10.0, IDLE: 10.0}
    now = {EXEC: 140.0, RESP: 150.0, MISSING: idle, IDLE: idle}
    found = judge_history(
        jittered(values),
        run({**values, **now}, 9, idle_entries=("idle",), not_found_entries=("missing",)),
        confirming=[EXEC, RESP],
    )
    assert found.word == "regressed"
    told = [reason for reason in found.reasons if said in reason]
    assert len(told) == 2, found.reasons
    assert told[0].startswith("Requests answered with 404 before any workflow runs")
    assert told[1].startswith("Workflows that do nothing")


def test_a_workflow_that_did_nothing_before_attributes_too() -> None:
    """It takes 20 ms now, so that the head does not call it idle."""
    values = {EXEC: 100.0, RESP: 110.0, IDLE: 1.0}
    history = [msgspec.structs.replace(one, idle_entries=("idle",)) for one in jittered(values)]
    found = judge_history(history, run({EXEC: 120.0, RESP: 130.0, IDLE: 21.0}, 9), confirming=[EXEC, RESP])
    assert any(reason.startswith("Workflows that do nothing also became slower") for reason in found.reasons)


@pytest.mark.parametrize("percent", [1.0, 40.0])
def test_what_cannot_tell_attributes_nothing(percent: float) -> None:
    """+5 ms of the suspect's 20 may be chance or a part of it; a 404 that varies by 40 % excludes no 5 ms."""
    values = {EXEC: 100.0, MISSING: 10.0}
    steady, unsteady = jittered({EXEC: 100.0}), jittered({MISSING: 10.0}, percent=percent)
    history = [
        run([*a.measurements, *b.measurements], n) for n, (a, b) in enumerate(zip(steady, unsteady, strict=True))
    ]
    now = {EXEC: 120.0, MISSING: 15.0 if percent == 1 else 10.0}
    found = judge_history(history, run({**values, **now}, 9, not_found_entries=("missing",)), confirming=[EXEC])
    assert found.word == "regressed"
    assert not [reason for reason in found.reasons if "404" in reason]


def jobs(execution: float, overhead: float, response: float, resolution: float, number: int = 0) -> RunMeasurements:
    """A run of polled jobs, whose overhead and response time are known within a poll interval."""
    return run(
        [
            measurement(EXEC, execution),
            measurement(OVER, overhead, resolution_ms=resolution),
            measurement(RESP, response, resolution_ms=resolution),
        ],
        number,
    )


def test_a_poll_interval_hides_no_slower_execution() -> None:
    """150 → 180 ms of executionTime ends at the same poll: the client sees nothing, and nothing has moved."""
    history = [jobs(150 + 0.2 * n, 50 - 0.2 * n, 200, 103, n) for n in range(7)]
    slower = jobs(180, 20, 200, 103, 9)
    first = judge_history(history, slower)
    assert (first.word, first.exit_code) == ("inconclusive", 6)
    assert suspects(first) == (EXEC,)
    found = judge_history(history, slower, confirming=[EXEC])
    assert (found.word, found.exit_code) == ("regressed", 4)
    assert [one.kind for one in found.findings] == ["grown"]
    assert "the response time does not show it because polls hide up to 103 ms" in found.sentence
    # Beyond what polls hide, time can move.
    history = [jobs(150 + 0.2 * n, 350 - 0.2 * n, 500, 103, n) for n in range(7)]
    moved = judge_history(history, jobs(300, 200, 500, 103, 9))
    assert (moved.word, [one.kind for one in moved.findings]) == ("pass", ["moved"])


def test_entries_with_one_cause_are_one_sentence_led_by_the_one_that_matters() -> None:
    """+20 ms each: the entry of which most is certain leads, not the one that does nothing."""
    places = {"runs": 100.0, "jobs": 240.0, "a-nothing": 1.0}
    values = {key(Metric.EXECUTION_TIME_P50, name): value for name, value in places.items()}
    found = judged(values, {of: value + 20 for of, value in values.items()})
    assert len(found.findings) == 3
    assert found.sentence.startswith("executionTime p50 +20 ms in ")
    assert found.sentence.count("executionTime") == 1
    assert all(name in found.sentence for name in places)
    assert found.findings[0].traffic != "a-nothing"


def test_entries_that_grew_by_the_same_ratio_are_alike_too() -> None:
    values = {key(Metric.EXECUTION_TIME_P50, "runs"): 100.0, key(Metric.EXECUTION_TIME_P50, "jobs"): 400.0}
    found = judged(values, {of: 1.2 * value for of, value in values.items()})
    assert found.sentence.startswith("executionTime p50 +20 to +80 ms in jobs and runs; jobs: +80 ms (+20 %")


def test_entries_with_different_causes_are_sentences_of_their_own() -> None:
    values = {key(Metric.EXECUTION_TIME_P50, "runs"): 100.0, key(Metric.EXECUTION_TIME_P50, "jobs"): 400.0}
    found = judged(values, dict(zip(values, (130.0, 800.0), strict=True)))
    assert found.sentence.startswith("jobs: executionTime p50 +400 ms (+100 %")
    assert ". runs: executionTime p50 +30 ms (+30 %" in found.sentence


def test_a_comparison_with_many_findings_stays_readable() -> None:
    keys = [key(Metric.RESPONSE_TIME_P50, f"entry-{n}") for n in range(6)]
    found = judged(dict.fromkeys(keys, 100.0), {of: 140.0 + 100.0 * place**2 for place, of in enumerate(keys)})
    assert len(found.findings) == 6
    assert found.sentence.count("response time p50") == 3
    assert "3 more findings" in found.sentence
    alike = judged(dict.fromkeys(keys, 100.0), dict.fromkeys(keys, 140.0))
    assert alike.sentence.count("response time p50") == 1
    assert "and 3 more; entry-" in alike.sentence
