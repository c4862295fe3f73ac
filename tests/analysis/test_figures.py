from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins import record_maker as maker

from loadtest import analysis
from loadtest.analysis.findings import find
from loadtest.analysis.results import JobFigures, OperationFigures
from loadtest.analysis.run_record import load_record
from loadtest.analysis.verdict import measure
from loadtest.metrics import ASYNC_ONLY, METRICS
from loadtest.record.effective_scenario import WrittenEntry, WrittenStage
from loadtest.record.run_info import RunInfo, covered_seconds
from loadtest.record.samples import Sample


def ten(**info: Any) -> tuple[RunInfo, list[Sample]]:
    """Ten arrivals, one a second from the second warm-up second on: 7 ok, a 429, a 500, a dropped one."""
    rows = [maker.operation("t", 0, 500, 900, stage="warmup"), maker.request("t", 0, 500, 900, stage="warmup")]
    for k in range(1, 8):
        start = k * 1000
        rows += maker.both("t", k, start + 1, start + 1 + 10 * k, execution_time_ms=8.0 * k, intended_ms=start)
    for k, status, outcome in ((8, 429, "throttled"), (9, 500, "failed")):
        reason = "throttled" if status == 429 else "unexpected_status"
        fate = {"status": status, "outcome": outcome, "reason": reason}
        rows += maker.both("t", k, k * 1000, k * 1000 + 2, **fate)
    rows.append(
        maker.operation("t", 10, 10_000, None, start_ms=None, outcome="dropped", status=None, reason="no_user_free")
    )
    stages = [maker.stage("warmup", 0, 1, 1, warmup=True), maker.stage("within", 1, 10, 1)]
    return maker.info({"t": maker.plan("sync_run", stages, offered=11)}, **info), rows


@pytest.fixture
def figures(tmp_path: Path) -> dict[str, Any]:
    record = load_record(maker.save(tmp_path / "run", *ten()))
    return find(record).metrics.traffic["t"]


def test_counts_and_rates_of_ten_operations(figures: OperationFigures) -> None:
    """Counts are what happened, rates divide by the stage's seconds, and the warm-up is in none of them."""
    operations, requests = figures.operations, figures.requests
    counted = (operations.offered, operations.sent, operations.ok, operations.throttled)
    assert (*counted, operations.failed, operations.dropped) == (10, 9, 7, 1, 1, 1)
    assert (requests.sent, requests.accepted, requests.throttled, requests.errors) == (9, 8, 1, 1)
    assert operations.offered_rate == 1.0
    assert figures.goodput == 0.7
    assert figures.throttled_rate == figures.error_rate == requests.throttled_rate == pytest.approx(1 / 9)
    assert figures.amplification == 1.0
    assert figures.statuses == {"200": 7, "429": 1, "500": 1}
    assert figures.reasons == {"throttled": 1, "unexpected_status": 1, "no_user_free": 1}


def test_a_status_that_a_stage_expects_is_no_failure(tmp_path: Path) -> None:
    """Of the ten, the 500 or the 429 is none where the scenario says so, as in Locust; it stays an error."""
    for number, (written, failed) in enumerate((([], 2), ([500], 1), ([429], 1), ([429, 500], 0))):
        run, rows = ten()
        run.scenario.effective["traffic"] = {"t": {"stages": [{"name": "within", "expect": written}]}}
        run.traffic["t"].stages[1].expect_429 = 429 in written
        requests = maker.findings(tmp_path / f"{number}", run, rows).metrics.traffic["t"].requests
        assert (requests.errors, requests.throttled, requests.failed) == (1, 1, failed)
    steps = WrittenEntry(stages=(WrittenStage(name="up", step="1/s", expect=(500,)),))
    assert (steps.expected_in("up-2"), steps.expected_in("up")) == ({500}, frozenset())


def test_latencies_of_ten_operations(figures: OperationFigures) -> None:
    """Response time runs from the intended start, service time from the send, of ok operations only."""
    response, service = figures.response_time_ms, figures.service_time_ms
    assert (response.n, response.mean, response.p50, response.max) == (7, 41.0, 41.0, 71.0)
    assert (service.n, service.p50, service.p95) == (7, 40.0, None)
    assert figures.execution_time_ms.p50 == 32.0
    assert figures.overhead_ms.p50 == 8.0
    assert figures.start_lag_ms.n == 9
    assert figures.start_lag_ms.max == 1.0


def test_a_stall_is_in_the_response_time_though_not_in_the_service_time(tmp_path: Path) -> None:
    """Ten arrivals while one user was stuck for a second: an honest report shows the wait of each of them."""
    rows = []
    for k in range(10):
        start = max(k * 100.0, 1000.0)
        rows += [
            maker.request("t", k, start, start + 5),
            maker.operation("t", k, k * 100.0, start + 5, start_ms=start, user_free=round(start * 1e6)),
        ]
    run = maker.info({"t": maker.plan("sync_run", [maker.stage("within", 0, 1, 10)], offered=10)})
    figures = maker.findings(tmp_path / "run", run, rows).metrics.traffic["t"]
    assert figures.service_time_ms.max == 5.0
    assert figures.response_time_ms.p50 == 505.0
    assert figures.response_time_ms.max == 1005.0
    assert figures.dispatch_lag_ms.max == 0.0, "the users were busy: that is no lag of the dispatcher's"


def test_the_time_to_a_result_is_known_within_a_poll_interval(tmp_path: Path) -> None:
    """Its lower bound is the last request that saw the job pending, or executionTime; its upper the terminal poll."""
    job = {"operation": "async_run"}
    rows = [
        maker.request("t", 0, 0, 4, kind="submit", status=202, job_state="pending", **job),
        maker.request("t", 0, 1000, 1003, kind="poll", poll=1, job_state="pending", **job),
        maker.request("t", 0, 2000, 2001, kind="poll", poll=2, status=429, outcome="throttled", **job),
        maker.request("t", 0, 3000, 3002, kind="poll", poll=3, job_state="completed", execution_time_ms=700.0, **job),
        maker.operation("t", 0, 0, 3002, poll=3, execution_time_ms=700.0, **job),
        maker.request("t", 1, 500, 504, kind="submit", status=202, job_state="pending", **job),
        maker.request("t", 1, 1500, 1502, kind="poll", poll=1, job_state="completed", execution_time_ms=70.0, **job),
        maker.operation("t", 1, 500, 1502, poll=1, execution_time_ms=70.0, **job),
    ]
    run = maker.info({"t": maker.plan("async_run", [maker.stage("within", 0, 5, 0.4)], offered=2)})
    directory = maker.save(tmp_path / "run", run, rows)
    mine = analysis.operations(directory).sort_values("arrival")
    assert mine["time_to_result_lower_ms"].tolist() == [1000.0, 70.0]
    assert mine["time_to_result_ms"].tolist() == [3002.0, 1002.0]
    assert mine["submit_ms"].tolist() == [4.0, 4.0]
    assert mine["overhead_ms"].tolist() == [2302.0, 932.0]
    figures = find(load_record(directory)).metrics.operations["async_run"]
    assert isinstance(figures, JobFigures)
    assert figures.time_to_result_lower_ms.max == 1000.0
    assert figures.overhead_ms.max == 2302.0
    assert figures.polls.max == 3.0
    assert figures.amplification == 1.0, "polls are no retries"
    assert figures.requests.throttled_rate == pytest.approx(1 / 6)


def test_every_metric_of_thresholds_is_in_metrics_json(tmp_path: Path) -> None:
    """Whatever a threshold may name resolves to a number in a run with an async entry."""
    metrics = find(load_record(maker.tour(tmp_path / "run", scale=0.34))).metrics
    for name in METRICS:
        operation = "async_run" if name.startswith(ASYNC_ONLY) else "sync_run"
        value, *_ = measure(name, metrics.operations[operation])
        # p99 of 320 operations can't be carried: that is None, and it is there all the same.
        assert isinstance(value, int | float) or name.endswith(".p99"), name


def test_overall_has_no_latency(tmp_path: Path) -> None:
    """Times of different operations are not mixed."""
    overall = maker.findings(tmp_path / "run", *ten()).metrics.overall
    assert not [name for name in overall.__struct_fields__ if name.endswith("_ms")]
    assert overall.stages["within"].operations.ok == 7


def test_the_set_up_is_in_no_figure(tmp_path: Path) -> None:
    """Jobs that were seeded before the epoch spend quota, and are no part of any count, rate or latency."""
    run, rows = ten()
    seeds = [
        maker.request("t", 0, -40, -30, stage="setup", parent_arrival=None, intended_start=None, kind="submit")
        for _ in range(5)
    ]
    metrics = maker.findings(tmp_path / "run", run, seeds + rows).metrics
    assert metrics.traffic["t"].requests.sent == metrics.overall.requests.sent == 9
    assert metrics.traffic["t"].service_time_ms.n == 7
    assert metrics.overall.operations.lost == 0


def test_lost_arrivals_are_counted_in_their_stage(tmp_path: Path) -> None:
    """Arrivals that were offered and left no row are lost in the stage of their due time; warm-up's don't count."""
    run, rows = ten()
    kept = [row for row in rows if (row.arrival, row.parent_arrival) not in ((4, None), (None, 4))]
    figures = maker.findings(tmp_path / "run", run, kept).metrics.traffic["t"]
    assert figures.operations.lost == 1
    assert figures.operations.offered == 10
    assert figures.stages["within"].operations.lost == 1


def test_arrivals_of_a_truncated_record_are_lost_where_they_were_due(tmp_path: Path) -> None:
    """Of two stages of ten arrivals each the record has the first five: five are lost in one, ten in the other."""
    stages = [maker.stage("a", 0, 10, 1), maker.stage("b", 10, 10, 1)]
    rows = [maker.operation("t", k, k * 1000.0, k * 1000.0 + 5, stage="a") for k in range(5)]
    run = maker.info({"t": maker.plan("sync_run", stages, offered=20)})
    found = maker.findings(tmp_path / "run", run, rows).metrics.traffic["t"].stages
    assert [(each.operations.offered, each.operations.lost) for each in found.values()] == [(10, 5), (10, 10)]


OUTCOMES = ("ok", "throttled", "failed", "timed_out", "dropped", "lost", None)


@settings(max_examples=settings.default.max_examples // 4)
@given(st.lists(st.tuples(st.sampled_from(OUTCOMES), st.sampled_from(["warmup", "a", "b"])), max_size=40))
def test_every_arrival_ends_in_exactly_one_outcome(tmp_path_factory, fates):
    """offered = ok + throttled + failed + timed_out + dropped + lost, in every cell, whatever happened."""
    fates = sorted(fates, key=lambda fate: ["warmup", "a", "b"].index(fate[1]))
    stages = [maker.stage("warmup", 0, 1, 1, warmup=True), maker.stage("a", 1, 1, 1), maker.stage("b", 2, 1, 1)]
    rows = [
        maker.operation("t", k, k * 10.0, None if unsent else k * 10.0 + 1, stage=stage, outcome=outcome,
                        start_ms=None if unsent else k * 10.0, status=None)
        for k, (outcome, stage) in enumerate(fates)
        if outcome is not None
        for unsent in [outcome in ("dropped", "lost")]
    ]  # fmt: skip
    run = maker.info({"t": maker.plan("sync_run", stages, offered=len(fates))})
    metrics = maker.findings(tmp_path_factory.mktemp("run"), run, rows).metrics
    for whole in (metrics.overall, metrics.traffic["t"], metrics.operations["sync_run"]):
        for part in (whole, *whole.stages.values()):
            counts = part.operations
            total = sum(getattr(counts, name) for name in OUTCOMES if name)
            assert counts.offered == total
    # Which stage a missing arrival belongs to can only be told where it has a neighbour.
    if all(outcome for outcome, _ in fates):
        assert metrics.overall.operations.offered == sum(stage != "warmup" for _, stage in fates)


def test_rates_divide_by_the_time_in_which_a_stage_was_on() -> None:
    """Overlapping stages of two entries are counted once, and a killed run's only as far as it came."""
    stages = [maker.stage("a", 0, 10, 1), maker.stage("a", 5, 10, 1), maker.stage("b", 20, 10, 1)]
    assert covered_seconds(stages, 100) == 25
    assert covered_seconds(stages, 22) == 17
    assert covered_seconds([], 5) == 0


def test_evenness_tells_a_bursty_sender_from_an_even_one(tmp_path: Path) -> None:
    """100/s sent in bursts of ten shows a spread and gap errors; the schedule itself has none."""
    rows = [maker.operation("t", k, k * 10.0, k * 10.0 + 200, start_ms=(k // 20) * 200.0 + 190) for k in range(400)]
    run = maker.info({"t": maker.plan("sync_run", [maker.stage("within", 0, 4, 100)], offered=400)})
    found = maker.findings(tmp_path / "run", run, rows).evenness["t"]
    assert found.bins_intended < 0.1
    assert found.bins_sent > 0.8
    assert found.gap_error_ms.p99 == pytest.approx(190)
    assert np.isfinite(found.gap_error_ms.mean)


def test_rates_of_requests_are_of_what_was_sent_in_the_time(tmp_path: Path) -> None:
    """Ten submits in ten seconds, and thirty polls in the drain: one request a second, though 40 were sent in all."""
    common = {"operation": "async_run"}
    rows = []
    for k in range(10):
        rows.append(maker.request("t", k, k * 1000, k * 1000 + 5, kind="submit", status=202, **common))
        rows += [
            maker.request("t", k, 11_000 + k * 10 + poll, 11_001 + k * 10 + poll, kind="poll", **common)
            for poll in range(3)
        ]
        rows.append(maker.operation("t", k, k * 1000, 11_003 + k * 10, poll=3, **common))
    run = maker.info({"t": maker.plan("async_run", [maker.stage("within", 0, 10, 1)], offered=10)})
    requests = maker.findings(tmp_path / "run", run, rows).metrics.traffic["t"].requests
    assert (requests.sent, requests.sent_rate, requests.accepted_rate) == (40, 1.0, 1.0)
