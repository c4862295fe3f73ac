"""Circuit breakers, fed with samples."""

from pathlib import Path
from typing import Any

import pytest

from loadtest.load.abort import CircuitBreakers, LiveThreshold
from loadtest.load.live import LiveFigures
from loadtest.record.run_info import StagePlan, TrafficPlan
from loadtest.record.samples import Sample
from loadtest.scenario.model import Breakers
from loadtest.threshold import parse_threshold

EXPECTED = {"t": {"refusing": frozenset({401}), "broken": frozenset({503}), "only": frozenset()}}
PLANS = {
    "t": TrafficPlan(
        operation="sync_run",
        workflow="w",
        arrivals="even",
        users=1,
        stages=[
            StagePlan(name="warmup", start_s=0, duration_s=5, rate=1, rate_to=1, warmup=True),
            StagePlan(name="only", start_s=5, duration_s=100, rate=1, rate_to=1),
        ],
    )
}


def request(status: int | None, stage: str = "only", **more: Any) -> Sample:
    outcome = more.pop("outcome", "ok" if status is not None and status < 300 else "failed")
    return Sample(
        row="request", traffic="t", operation="sync_run", stage=stage, outcome=outcome, status=status, start=1,
        **{"kind": "run", **more},
    )  # fmt: skip


def operation(outcome: str, ms: float = 1.0, stage: str = "only") -> Sample:
    return Sample(
        row="operation", traffic="t", operation="sync_run", stage=stage, outcome=outcome,  # type: ignore[arg-type]
        intended_start=0, start=1, end=int(ms * 1e6),
    )  # fmt: skip


class Watched(CircuitBreakers):
    """As in a run: what it sees was counted before."""

    def __init__(self, live: LiveFigures, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._live = live

    def see(self, sample: Sample) -> str | None:
        self._live.count(sample)
        self._live.fold()
        return super().see(sample)


def breakers(directory: Path, *thresholds: str, **settings: Any) -> CircuitBreakers:
    live = LiveFigures()
    judged = [LiveThreshold(parse_threshold(text, traffic="t"), PLANS, live) for text in thresholds]
    return Watched(live, Breakers(**settings), {}, EXPECTED, directory, judged)


def trips(watched: CircuitBreakers, *samples: Sample) -> str | None:
    """The first reason that any of the samples gives."""
    return next((reason for sample in samples if (reason := watched.see(sample)) is not None), None)


@pytest.mark.parametrize(
    ("samples", "tripped"),
    [
        ([request(401)] * 3, True),
        ([request(401), request(403), request(401)], True),
        ([request(401)] * 2 + [request(200)] + [request(401)] * 2, False),
        ([request(401), request(None), request(401), request(None), request(401)], True),  # no answer is no acceptance
        ([request(401, "refusing")] * 9, False),
        ([request(401, outcome="ok")] * 9, False),  # a mistake on purpose, answered as documented
        ([request(401)] * 2 + [request(401, outcome="ok")] * 5 + [request(401)], True),
    ],
)
def test_three_refusals_of_the_key_in_a_row_end_the_run(tmp_path: Path, samples: list[Sample], tripped: bool) -> None:
    """Where none is expected."""
    reason = trips(breakers(tmp_path), *samples)
    assert (reason is not None) == tripped
    assert reason is None or reason.startswith("3 answers in a row refused the key (last: 40")
    assert trips(breakers(tmp_path, auth=False), *samples) is None


@pytest.mark.parametrize(
    ("statuses", "tripped"),
    [
        ([500] * 19, False),  # too few were seen
        ([500] * 20, True),
        ([500] * 2 + [200] * 30, False),
        ([500] * 3 + [200] * 17, True),
        ([500, 500] + [200] * 18 + [500, 500], False),  # never three among the last 20
        ([None] * 100, False),  # a server that is gone is no 5xx
        ([429] * 100, False),
    ],
)
def test_more_than_a_tenth_of_5xx_among_the_last_20_ends_the_run(tmp_path, statuses, tripped):
    """Only unexpected ones count; the scenario can turn it off, or say another share."""
    samples = [request(status) for status in statuses]
    reason = trips(breakers(tmp_path), *samples)
    assert (reason is not None) == tripped
    assert reason is None or "of the last 20 answers were 5xx" in reason
    assert trips(breakers(tmp_path, server_errors=False), *samples) is None
    assert trips(breakers(tmp_path), *[request(503, "broken")] * 40) is None
    assert (trips(breakers(tmp_path, server_errors="50%"), *samples) is not None) == (statuses == [500] * 20)


def test_too_many_pending_jobs_end_the_run(tmp_path: Path) -> None:
    """Jobs that were seen to end do not count."""
    watched = breakers(tmp_path, pending_jobs=2)
    submits = [request(202, kind="submit", job_id=f"j{n}", job_state="pending") for n in range(4)]
    ended = request(200, kind="poll", job_id="j0", job_state="completed")
    assert trips(watched, *submits[:2], ended, submits[2]) is None
    assert trips(watched, submits[3]) == "more than 2 jobs were pending at once (breakers.pending_jobs)"


def test_a_stop_file_ends_the_run(tmp_path: Path) -> None:
    """STOP in the run directory, or where the scenario says."""
    elsewhere = tmp_path / "elsewhere"
    default, absolute = breakers(tmp_path), breakers(tmp_path, stop_file=str(elsewhere))
    assert default.check(1.0) is None
    (tmp_path / "STOP").touch()
    assert default.check(1.0) == f"the stop file {tmp_path / 'STOP'} exists"
    assert absolute.check(1.0) is None
    elsewhere.touch()
    assert absolute.check(1.0) is not None


@pytest.mark.parametrize(
    ("threshold", "samples", "elapsed", "was"),
    [
        ("error_rate < 5%", [operation("failed")] * 19, 9, None),  # too few
        ("error_rate < 5%", [operation("failed")] * 20, 9, "100 %"),
        ("error_rate < 5%", [operation("failed")] * 2 + [operation("ok")] * 18, 9, None),  # 10 %, but surely?
        ("error_rate < 5%", [operation("failed")] * 200 + [operation("ok")] * 1800, 9, "10 %"),
        ("error_rate < 5%", [operation("failed", stage="warmup")] * 50, 9, None),
        ("operations.failed < 3", [operation("failed")] * 2, 9, None),
        ("operations.failed < 3", [operation("failed")] * 3, 9, "3"),
        ("requests.throttled <= 1", [request(429)] * 2, 9, "2"),
        ("response_time.p95 < 100ms", [operation("ok", 500)] * 99, 9, None),  # n cannot carry it
        ("response_time.p95 < 100ms", [operation("ok", 500)] * 101, 9, "50"),
        ("response_time.p95 < 100ms", [operation("ok", 101)] * 500, 9, None),  # within the histogram's precision
        ("response_time.p50 < 100ms", [operation("timed_out", 500)] * 20, 9, "50"),
        ("response_time.max < 1s", [operation("ok", 1500)], 9, "1.5e+03 ms"),
        ("requests.throttled_rate < 10%", [request(429)] * 30, 9, "100 %"),
        ("throttled_rate < 10%", [operation("throttled")] * 30, 9, "100 %"),
        *[("throttled_rate == 0", [operation("ok")] * n, 9, None) for n in (20, 22, 90, 97, 500)],
        *[("error_rate >= 100%", [operation("failed")] * n, 9, None) for n in (20, 22, 90, 97, 500)],
        ("goodput >= 2/s", [operation("ok")] * 5, 14, None),  # nine seconds of the stage
        ("goodput >= 2/s", [operation("ok")] * 5, 15, "0.5/s"),
        ("goodput >= 2/s", [operation("ok")] * 25, 15, None),
        ("amplification < 2", [operation("ok")] * 20 + [request(200)] * 60, 9, "3"),
    ],
)
def test_a_threshold_that_aborts_does_so_once_it_surely_does_not_hold(tmp_path, threshold, samples, elapsed, was):
    """And never on too little."""
    watched = breakers(tmp_path, threshold)
    assert trips(watched, *samples) is None or "error" not in threshold
    reason = watched.check(elapsed)
    if was is None:
        assert reason is None
    else:
        assert reason.startswith(f"a threshold with abort = true failed: t: {threshold}, but it was {was}")
