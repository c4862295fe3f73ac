"""One thing that changed is one finding; controls and attribution."""

import msgspec
import pytest
from plugins.regression_parts import controls, jittered, key, measurement, plain, run

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
    """p = .01 .04 .03 .005 → .03 .06 .06 .02; equal p do not depend on the order; a weight is a share of α."""
    a, b, c, d = keys = [key(metric) for metric in list(Metric)[:4]]
    alike = dict.fromkeys(keys, 1.0)
    assert holm({a: 0.01, b: 0.04, c: 0.03, d: 0.005}, alike) == pytest.approx({a: 0.03, b: 0.06, c: 0.06, d: 0.02})
    assert holm({a: 0.5, b: 0.5}, alike) == holm({b: 0.5, a: 0.5}, alike)
    assert holm({a: 0.02, b: 0.01}, {a: 1.0, b: 0.25}) == pytest.approx({a: 0.025, b: 0.025})


def test_a_slower_execution_is_one_finding_with_its_symptoms() -> None:
    found = judged(PLAIN, {EXEC: 160.0, EXEC95: 200.0, RESP: 200.0, RESP95: 240.0, GOODPUT: 20.0})
    assert len(found.findings) == 1
    finding = found.findings[0]
    assert (finding.kind, finding.cause.metric) == ("grown", RESP.metric)
    assert {one.metric for one in finding.symptoms} == {EXEC.metric, EXEC95.metric, RESP95.metric, GOODPUT.metric}
    assert plain(finding.sentence).startswith("greetings: response time p50 +60 ms (+43 %, 95 %: +")
    assert "seen in response time p95 (+60 ms), executionTime p50 (+60 ms)" in plain(finding.sentence)
    assert "goodput (−5 /s)" in plain(finding.sentence)


def test_a_slower_way_to_the_service_is_named_overhead() -> None:
    """executionTime grew by 3 ms, the overhead by 60: the time was lost there."""
    found = judged(PLAIN, {EXEC: 103.0, OVER: 100.0, RESP: 208.0})
    assert [one.cause.metric for one in found.findings] == [RESP.metric]
    assert [one.metric for one in found.findings[0].symptoms] == [OVER.metric]


def test_many_times_as_much_is_said_in_times() -> None:
    found = judged({OVER: 2.0}, {OVER: 24.0})
    assert plain(found.sentence).startswith("greetings: overhead p50 +22 ms (× 12, 95 %: × 1")


def test_a_longer_tail_is_named_by_p95() -> None:
    found = judged(PLAIN, {EXEC95: 200.0, RESP95: 240.0})
    assert [one.cause.metric for one in found.findings] == [RESP95.metric]
    assert [one.metric for one in found.findings[0].symptoms] == [EXEC95.metric]


def test_time_that_moved_is_no_regression() -> None:
    """executionTime −30 ms, overhead +30 ms: the whole did not grow, nothing has to be rerun."""
    first = judge_history(jittered(PLAIN), run({**PLAIN, EXEC: 70.0, OVER: 70.0}, 9))
    assert (first.word, first.exit_code, first.findings) == ("pass", 0, ())
    assert {one.metric for one in first.metrics if one.gated} == {RESP.metric, RESP95.metric}


def test_time_that_moved_and_grew_is_a_regression() -> None:
    found = judged(PLAIN, {EXEC: 70.0, OVER: 110.0, RESP: 180.0})
    assert found.word == "regressed"
    assert [one.kind for one in found.findings] == ["grown"]


def test_errors_and_slowness_are_two_findings() -> None:
    errors = key(Metric.ERROR_RATE)
    found = judged({**PLAIN, errors: 0.0}, {EXEC: 160.0, RESP: 200.0, errors: 0.2, GOODPUT: 20.0})
    assert [one.kind for one in found.findings] == ["failing", "grown"]
    assert [one.metric for one in found.findings[1].symptoms] == [EXEC.metric, GOODPUT.metric]


def test_each_entry_and_stage_has_its_own_finding() -> None:
    above = key(Metric.EXECUTION_TIME_P50, stage="above")
    other = key(Metric.EXECUTION_TIME_P50, "reports")
    values = {EXEC: 100.0, above: 100.0, other: 50.0}
    found = judged(values, {EXEC: 130.0, above: 130.0, other: 60.0})
    assert [one.sentence.split(":")[0] for one in found.findings] == [
        "greetings / above",
        "greetings / steady",
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
    assert found.sentence.startswith("Inconclusive: the environment changed (CPU loop +2")
    assert "greetings: executionTime p50 +30 ms" in plain(found.sentence)
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
        (10.0, "became slower by at most 0.546 ms, and greetings by 40 ms: the "),
        (50.0, "also became slower by +37.4 ms to +42.7 ms (95 %), and greetings by 40 ms: the shared part of"),
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
    told = [reason for reason in found.reasons if said in plain(reason)]
    assert len(told) == 2, found.reasons
    assert told[0].startswith("404 responses, sent before any workflow runs, ")
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
    assert "the response time does not show it because polls hide up to 103 ms" in plain(found.sentence)
    # Without executionTime, this cannot be seen, and the page says so.
    blind = judge_history(
        [run([each.by_key()[RESP]], n) for n, each in enumerate(history)], run([slower.by_key()[RESP]], 9)
    )
    hidden = next(one for one in blind.metrics if one.metric == EXEC.metric)
    assert (hidden.gated, hidden.why.startswith("not tested: polls hide it")) == (False, True)
    # Polls of 5 ms hide nothing that matters.
    seen = judge_history([jobs(150, 50, 200, 5, n) for n in range(7)], jobs(180, 20, 200, 5, 9))
    assert (seen.word, suspects(seen)) == ("pass", ())


def test_a_comparison_with_many_findings_stays_readable() -> None:
    """The first finding in full, two others in short, the rest counted."""
    keys = [key(Metric.RESPONSE_TIME_P50, f"entry-{n}") for n in range(6)]
    found = judged(dict.fromkeys(keys, 100.0), {of: 140.0 + 100.0 * place**2 for place, of in enumerate(keys)})
    assert len(found.findings) == 6
    assert plain(found.sentence).startswith("entry-5: response time p50 +2.54 s (× 26, ")
    assert "Also entry-4: response time p50 +1.64 s, entry-3" in plain(found.sentence)
    assert "and 3 more" in found.sentence
