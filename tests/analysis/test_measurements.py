import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugins import record_maker as maker

from loadtest.analysis.measurements import measure, write
from loadtest.compare.measurements import Key, Measurement, Metric, RunMeasurements
from loadtest.record.run_info import (
    ClockInfo,
    CpuLoopInfo,
    FaultInfo,
    GeneratorInfo,
    RunInfo,
    StagePlan,
    TargetInfo,
)
from loadtest.record.samples import Sample
from loadtest.stats.shares import logit
from loadtest.units import Limit

N = 120


def measured(directory: Path, run: RunInfo, rows: list[Sample]) -> RunMeasurements:
    return measure(maker.findings(directory, run, rows))


def sync(took_ms: list[float], *, name: str = "t", **more: Any) -> list[Sample]:
    """Two sync runs a second, each of which spends 2 ms beyond its executionTime."""
    rows = []
    for k, took in enumerate(took_ms):
        times = {"execution_time_ms": took - 2, **more}
        rows += maker.both(name, k, k * 500, k * 500 + took, **times)
    return rows


def within(n: int = N, **more: Any) -> RunInfo:
    plan = maker.plan("sync_run", [maker.stage("within", 0, n / 2, 2)], offered=n)
    return maker.info({"t": plan}, **more)


def by_metric(run: RunMeasurements, traffic: str = "t", stage: str = "within") -> dict[Metric, Measurement]:
    return {one.metric: one for one in run.measurements if (one.traffic, one.stage) == (traffic, stage)}


@pytest.fixture
def calm(tmp_path: Path) -> RunMeasurements:
    """120 sync runs of 10 to 129 ms in an order that mixes them."""
    return measured(tmp_path / "run", within(), sync([10.0 + (37 * k) % N for k in range(N)]))


def test_times_of_sync_runs(calm: RunMeasurements) -> None:
    """By nearest rank, the score is the logarithm, and what a job would have is absent."""
    found = by_metric(calm)
    values = {metric: (one.value, one.n, one.gated) for metric, one in found.items()}
    assert values[Metric.RESPONSE_TIME_P50] == (69, N, True)
    assert values[Metric.RESPONSE_TIME_P95] == (123, N, True)
    assert values[Metric.EXECUTION_TIME_P50] == (67, N, True)
    assert values[Metric.EXECUTION_TIME_P95] == (121, N, True)
    assert values[Metric.OVERHEAD_P50] == (2, N, True)
    assert Metric.TIME_TO_RESULT_P95 not in values
    assert found[Metric.RESPONSE_TIME_P50].score == pytest.approx(math.log(69), rel=1e-5)
    assert found[Metric.OVERHEAD_P50].se == 0.0
    assert found[Metric.RESPONSE_TIME_P50].se == pytest.approx(0.04, abs=0.03)


def test_counts_of_sync_runs(tmp_path: Path) -> None:
    """Errors are failed and timed out, of what was sent; goodput is per second; scores have half an event added."""
    rows = sync([20.0] * N)
    for row in rows[:12]:
        row.outcome, row.status, row.execution_time_ms = "failed", 500, None
    found = by_metric(measured(tmp_path / "run", within(), rows))
    error, goodput = found[Metric.ERROR_RATE], found[Metric.GOODPUT]
    assert (error.value, error.n, error.gated) == (6 / N, N, True)
    assert error.score == pytest.approx(logit(6.5 / (N + 1)), rel=1e-5)
    assert (goodput.value, goodput.n) == (114 / 60, N)
    assert goodput.score == pytest.approx(math.log(114.5 / 60), rel=1e-5)
    throttled = found[Metric.THROTTLED_RATE]
    assert (throttled.value, throttled.score, throttled.expected, throttled.gated) == (0, 0, 0, True)


def test_too_few_samples_are_shown_and_not_judged(tmp_path: Path) -> None:
    """40 carry a p50 and no p95; 4 s hold no five blocks, so that there is no error."""
    found = by_metric(measured(tmp_path / "run", within(40), sync([30.0] * 40)))
    p50, p95 = found[Metric.RESPONSE_TIME_P50], found[Metric.RESPONSE_TIME_P95]
    assert (p50.gated, p50.why_not) == (True, "")
    assert (p95.value, p95.gated, p95.why_not) == (30, False, "too few samples: 40, p95 needs 72")
    short = by_metric(measured(tmp_path / "short", within(8), sync([30.0] * 8)))
    assert [one.se for one in short.values()] == [None] * len(short)


def test_a_percentile_that_reaches_a_time_out_is_not_judged(tmp_path: Path) -> None:
    """It is a lower bound: the p95 of a run in which every tenth operation timed out; its p50 stands."""
    rows = sync([20.0] * N)
    for row in rows:
        if row.row == "operation" and row.arrival % 10 == 0:
            row.outcome, row.end, row.status, row.execution_time_ms = "timed_out", row.start + 10**9, None, None
    found = by_metric(measured(tmp_path / "run", within(), rows))
    assert found[Metric.RESPONSE_TIME_P50].gated
    assert not found[Metric.RESPONSE_TIME_P95].gated
    assert "lower bound" in found[Metric.RESPONSE_TIME_P95].why_not


def test_a_percentile_below_time_outs_that_ended_early_is_judged(tmp_path: Path) -> None:
    """A time-out that took less than most tells nothing of the others: the rank is known with each of them at infinity.

    Its value is that greatest one, and what lies between it and the least is hidden.
    """
    rows = sync([20.0 + k for k in range(N)])
    for row in rows[:12]:
        row.outcome, row.end, row.status, row.execution_time_ms = "timed_out", (row.start or 0) + 10**7, None, None
    p50 = by_metric(measured(tmp_path / "run", within(), rows))[Metric.RESPONSE_TIME_P50]
    ended, late = [20.0 + k for k in range(6, N)], 6
    assert (p50.value, p50.gated) == (ended[N // 2 - 1], True)
    assert p50.resolution_ms == late


def test_rounded_execution_times_hide_a_millisecond(tmp_path: Path) -> None:
    """Where each is a whole number; the client's own times hide nothing."""
    exact = measured(tmp_path / "exact", within(), sync([20.25] * N))
    rounded = measured(tmp_path / "rounded", within(), sync([20.25] * N, execution_time_ms=18.0))
    for run, hidden in ((exact, 0.0), (rounded, 1.0)):
        found = by_metric(run)
        assert found[Metric.EXECUTION_TIME_P50].resolution_ms == hidden
        assert found[Metric.RESPONSE_TIME_P50].resolution_ms == 0.0


def tour(directory: Path, ahead_s: float) -> RunMeasurements:
    """The tour at a third of its length, against a server whose windows begin so much earlier."""
    traffic = maker.tour_traffic(1 / 3)
    for plan in traffic.values():
        plan.stages[-1].over = ["sync_run", "retrieval"]
    rows = maker.Simulation(traffic, shift_s=ahead_s).run()
    return measured(
        directory, maker.info(traffic, clock=ClockInfo(offset_s=ahead_s, uncertainty_s=0.5, answers=40)), rows
    )


@pytest.fixture(scope="module")
def tours(tmp_path_factory: pytest.TempPathFactory) -> list[RunMeasurements]:
    """Two of the same sends, that meet the server's window at different seconds."""

    return [tour(tmp_path_factory.mktemp("tour") / "run", ahead) for ahead in (0.3, 40.0)]


def test_the_windows_phase_is_in_no_judged_measurement(tours: list[RunMeasurements]) -> None:
    """The share of 429s follows the second of the start, and observed − expected does not; goodput is shown only."""
    one, other = (by_metric(run, "greetings", "above") for run in tours)
    shares = [each[Metric.THROTTLED_RATE].expected for each in (one, other)]
    assert abs(shares[0] - shares[1]) > 0.05
    for each in (one, other):
        throttled = each[Metric.THROTTLED_RATE]
        assert throttled.gated
        assert throttled.se is None, "blocks are shorter than the window"
        assert throttled.value == pytest.approx(0, abs=0.01)
        assert throttled.score == pytest.approx(0, abs=0.05)
        assert not each[Metric.GOODPUT].gated
        assert "window" in each[Metric.GOODPUT].why_not
        assert each[Metric.RESPONSE_TIME_P50].gated


def test_time_to_result_is_known_within_the_last_poll(tours: list[RunMeasurements]) -> None:
    """Its value is when the client saw the result, and the resolution reaches down to the last that saw none."""
    found = by_metric(tours[0], "jobs", "within")
    time = found[Metric.TIME_TO_RESULT_P95]
    assert time.value == pytest.approx(2003, abs=5)
    assert time.resolution_ms == pytest.approx(2002, abs=5)
    assert found[Metric.RESPONSE_TIME_P50].resolution_ms == pytest.approx(2002, abs=5)
    assert found[Metric.EXECUTION_TIME_P50].resolution_ms == 0.0
    assert not found[Metric.RESPONSE_TIME_P95].gated


def test_refused_polls_are_a_matter_of_the_window(tours: list[RunMeasurements]) -> None:
    """Times and errors of jobs above the retrieval limit are shown only; executionTime is judged all the same."""
    found = by_metric(tours[0], "jobs", "above")
    shown = {metric for metric, one in found.items() if not one.gated}
    assert shown >= {Metric.RESPONSE_TIME_P50, Metric.TIME_TO_RESULT_P95, Metric.OVERHEAD_P50, Metric.ERROR_RATE}
    assert found[Metric.EXECUTION_TIME_P50].gated
    assert found[Metric.THROTTLED_RATE].gated


def test_retrievals_say_nothing_of_the_times_of_jobs(tours: list[RunMeasurements]) -> None:
    """A few seeded jobs are asked for again and again: their executionTime is shown, and there is no overhead."""
    found = by_metric(tours[0], "lookups")
    assert not found[Metric.EXECUTION_TIME_P50].gated
    assert Metric.OVERHEAD_P50 not in found
    assert found[Metric.RESPONSE_TIME_P50].gated


def test_the_warm_up_is_never_measured(tours: list[RunMeasurements]) -> None:
    assert {one.stage for one in tours[0].measurements} == {"within", "above"}


def test_without_an_expectation_429s_above_a_limit_are_not_judged(tmp_path: Path) -> None:
    """Within the limits none are to be expected, whoever the limiter is."""
    found = []
    for name, above in (("within", False), ("above", True)):
        plan = maker.plan("sync_run", [maker.stage("within", 0, N / 2, 2, expect_429=above)], offered=N)
        rows = sync([20.0] * N)
        for row in rows[:24]:
            row.outcome, row.status, row.execution_time_ms = "throttled", 429, None
        run = maker.info({"t": plan}, target=TargetInfo(url="http://127.0.0.1:1", embedded=False, limits={}))
        found.append(by_metric(measured(tmp_path / name, run, rows))[Metric.THROTTLED_RATE])
    assert (found[0].value, found[0].expected, found[0].gated) == (12 / N, 0, True)
    assert found[0].score > 2
    assert (found[1].expected, found[1].gated) == (None, False)
    assert "no limit is assumed" in found[1].why_not


def test_entries_that_do_nothing_and_those_that_are_answered_404(tmp_path: Path) -> None:
    """A workflow below 1 ms is idle; an entry of mistakes alone is measured by the times of its 404s."""
    names = ("idle", "work", "absent", "mixed")
    traffic = {n: maker.plan("sync_run", [maker.stage("within", 0, 60, 2)], offered=N) for n in names}
    rows = sync([2.4] * N, name="idle") + sync([9.0] * N, name="work")
    wrong = {"status": 404, "execution_time_ms": None, "mistake": "unknown_workflow"}
    rows += sync([3.0] * N, name="absent", **wrong) + sync([4.0] * N, name="mixed")
    for row in rows[-40:]:
        row.status, row.execution_time_ms, row.mistake = 404, None, "unknown_workflow"
    run = measured(tmp_path / "run", maker.info(traffic), rows)
    assert (run.idle_entries, run.not_found_entries) == (("idle",), ("absent",))
    absent = by_metric(run, "absent")[Metric.RESPONSE_TIME_P50]
    assert (absent.value, absent.n, absent.se) == (3.0, N, 0.0)
    assert by_metric(run, "mixed")[Metric.RESPONSE_TIME_P50].n == N - 20


def test_controls_are_the_dispatch_lag_and_the_slowest_loop(tmp_path: Path) -> None:
    """A p99 needs 368 operations; of several processes the slowest one's loop counts."""
    loops = [CpuLoopInfo(n=60, p50_ms=ms, se=0.01) for ms in (0.30, 0.42)]
    told = [GeneratorInfo(worker=k, cpu_loop=loop) for k, loop in enumerate(loops, 1)]
    run = measured(tmp_path / "run", within(400, generators=told), sync([20.0] * 400))
    lag, loop = run.controls
    assert (lag.name, lag.value_ms) == ("dispatch lag p99", 0.0)
    assert (loop.name, loop.value_ms, loop.se) == ("CPU loop", 0.42, 0.01)


def test_identities_tell_targets_apart_and_no_ports_of_embedded_ones(tmp_path: Path) -> None:
    """Limits and their algorithm, faults, keys, the endpoint's digest, and the machine by what does not change."""
    own = TargetInfo(
        url="http://127.0.0.1:43210", embedded=True, limits={"sync_run": Limit(100, 60)},
        limiter="token-bucket", burst=10, count_rejected=True, draws="valid", limit_all=Limit(9, 1),
        limit_scope="key", faults=[FaultInfo(text="latency:ms=50", words="…")],
    )  # fmt: skip
    theirs = TargetInfo(url="https://api.example.com", embedded=False, limits={}, endpoint_digest="0123abcd")
    one, other = (
        measured(tmp_path / str(k), within(target=target, keys=3), sync([20.0] * N))
        for k, target in enumerate((own, theirs))
    )
    assert (one.embedded, one.target.host, one.target.endpoint, one.target.keys) == (True, "embedded", "", 3)
    limits = "token-bucket by key, sync_run 100 per 60 s, all 9 per 1 s"
    assert one.target.limits == f"{limits}, burst 10, rejected requests count, valid requests draw"
    assert one.target.faults == ("latency:ms=50",)
    assert (other.target.host, other.target.endpoint) == ("https://api.example.com", "0123abcd")
    assert (one.generator.os, one.generator.cpu, one.generator.cores) == ("Linux 6.1", "AMD EPYC 7R13", "2")


@pytest.mark.parametrize(
    ("changes", "valid"),
    [({}, True), ({"end": "interrupted"}, False), ({"end": "aborted"}, False), ({"samples": 7}, False)],
)
def test_a_run_that_is_cut_short_or_invalid_says_so(tmp_path: Path, changes: dict[str, Any], *, valid: bool) -> None:
    """It is measured all the same, and no run is to be compared with it."""
    run = measured(tmp_path / "run", within(**changes), sync([20.0] * N))
    assert run.valid is valid
    assert Key("t", "within", Metric.RESPONSE_TIME_P50) in run.by_key()


def test_the_file_is_what_was_measured_and_the_same_each_time(tmp_path: Path) -> None:
    """An old record has no commit, version, digest or loop; a run without a request has no measurements."""
    found = maker.findings(tmp_path / "run", within(), sync([20.0] * N))
    data = write(measure(found), tmp_path / "run").read_bytes()
    assert write(measure(found), tmp_path / "run").read_bytes() == data
    read = msgspec.json.decode(data, type=RunMeasurements)
    assert read == measure(found)
    assert (read.commit, read.target_version, read.run, read.scenario) == ("", "", found.record.info.id, "tour")
    empty = measured(tmp_path / "empty", maker.info({"t": maker.plan("sync_run", [_nothing()], offered=0)}), [])
    assert (empty.measurements, empty.controls, empty.valid) == ((), (), False)


def _nothing() -> StagePlan:
    return StagePlan(name="within", start_s=0, duration_s=10, rate=0, rate_to=0)
