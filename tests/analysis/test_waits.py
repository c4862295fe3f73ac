"""What jobs waited for, held against truths that a hand, or a simulation, knows."""

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins import record_maker as maker

from loadtest.analysis.columns import Vocabulary
from loadtest.analysis.distribution import percentile
from loadtest.analysis.findings import Findings
from loadtest.analysis.reader import read_chunks
from loadtest.analysis.results import JobFigures
from loadtest.analysis.run_record import load_record
from loadtest.analysis.times import poll_lag, queue_wait
from loadtest.record.samples import Sample
from loadtest.stats.order_statistics import rank

JOB: dict[str, Any] = {"operation": "async_run"}


def submit(k: int, start_ms: float, end_ms: float, **more: Any) -> Sample:
    """An accepted submit."""
    own = {"kind": "submit", "status": 202, "job_state": "pending", **JOB, **more}
    return maker.request("t", k, start_ms, end_ms, **own)


def poll(k: int, start_ms: float, end_ms: float, state: str = "pending", **more: Any) -> Sample:
    """A poll."""
    return maker.request("t", k, start_ms, end_ms, kind="poll", poll=1, job_state=state, **JOB, **more)


def two_jobs() -> list[Sample]:
    """One of which a poll saw pending, before a poll that was refused; one that no poll saw pending."""
    return [
        submit(0, 0, 4),
        poll(0, 1000, 1003),
        poll(0, 2000, 2001, status=429, outcome="throttled"),
        poll(0, 3000, 3002, "completed", execution_time_ms=700.0),
        maker.operation("t", 0, 0, 3002, poll=3, execution_time_ms=700.0, **JOB),
        submit(1, 500, 504),
        poll(1, 1500, 1502, "completed", execution_time_ms=70.0),
        maker.operation("t", 1, 500, 1502, poll=1, execution_time_ms=70.0, **JOB),
    ]


def found(directory: Path, rows: list[Sample], stages: Any = None, **traffic: Any) -> Findings:
    """The findings of an async entry of five seconds, beside other traffic."""
    entry = maker.plan("async_run", stages or [maker.stage("within", 0, 5, 0.4)])
    return maker.findings(directory, maker.info({"t": entry, **traffic}), rows)


def jobs(findings: Findings) -> JobFigures:
    """The figures of the async entry."""
    figures = findings.metrics.traffic["t"]
    assert isinstance(figures, JobFigures)
    return figures


def test_waits_are_known_within_bounds(tmp_path: Path) -> None:
    """Queue wait lies between what polls saw pending and the end, less executionTime; poll lag after the former."""
    cell = jobs(found(tmp_path / "run", two_jobs()))
    # 1000 - 4 - 700, and below zero for the job that was seen pending by its submit alone.
    assert (cell.queue_wait_lower_ms.max, cell.queue_wait_lower_ms.mean) == (296.0, 148.0)
    # 3002 - 0 - 700 and 1502 - 500 - 70.
    assert (cell.queue_wait_upper_ms.max, cell.queue_wait_upper_ms.mean) == (2302.0, (2302 + 932) / 2)
    # 3002 - 1000: the refused poll told nothing; 1502 - 500.
    assert (cell.poll_lag_upper_ms.max, cell.poll_lag_upper_ms.mean) == (2002.0, (2002 + 1002) / 2)


def test_what_polls_ask_of_the_retrieval_limit(tmp_path: Path) -> None:
    """Polls count in the stage in which they were sent, against the retrievals and the limit of its time."""
    stages = [maker.stage("within", 0, 2, 1), maker.stage("above", 2, 10, 1)]
    lookups = maker.plan("retrieval", [maker.stage("within", 0, 2, 1), maker.stage("later", 2, 20, 1)])
    rows = two_jobs()
    for k, at in enumerate((500, 1500, 2500, 15_000)):
        own = {"kind": "retrieve", "operation": "retrieval", "stage": "within" if at < 2000 else "later"}
        rows += [maker.request("u", k, at, at + 1, **own)]
        rows += [maker.operation("u", k, at, at + 1, operation="retrieval", stage=own["stage"])]
    findings = found(tmp_path / "run", rows, stages, u=lookups)
    within, above = (jobs(findings).stages[name].polling for name in ("within", "above"))
    # 500 retrievals per 60 s are 16.7 in the two seconds of "within".
    assert (within.polls, within.retrievals, within.share_of_retrievals) == (2, 4, 0.5)
    assert within.share_of_limit == pytest.approx(2 / (500 / 60 * 2))
    assert within.limit_use == pytest.approx(4 / (500 / 60 * 2))
    assert (above.polls, above.retrievals, above.share_of_retrievals) == (2, 3, pytest.approx(2 / 3))
    assert above.share_of_limit == pytest.approx(2 / (500 / 60 * 10))
    assert above.limit_use == pytest.approx(3 / (500 / 60 * 10))
    whole = jobs(findings).polling
    assert (whole.polls, whole.retrievals) == (4, 7), "the last one was retrieved after the jobs' stages"
    assert findings.metrics.traffic["u"].polling is msgspec.UNSET


def test_an_impossible_execution_time_is_in_no_wait(tmp_path: Path) -> None:
    """One beyond what the client saw is a finding about the target; up to a millisecond it may be rounding."""
    rows = []
    for k, execution in enumerate((2000.0, 1002.5, -1.0, 900.0)):
        rows += [
            submit(k, 0, 4),
            poll(k, 1000, 1002, "completed", execution_time_ms=execution),
            maker.operation("t", k, 0, 1002, poll=1, execution_time_ms=execution, **JOB),
        ]
    findings = found(tmp_path / "run", rows)
    cell = jobs(findings)
    assert cell.queue_wait_upper_ms.n == cell.queue_wait_lower_ms.n == 2
    assert (cell.queue_wait_upper_ms.max, cell.queue_wait_upper_ms.mean) == (102.0, 51.0)
    assert [(one.name, one.count) for one in findings.anomalies] == [("negative", 1), ("longer_than_seen", 1)]


def test_jobs_that_never_ended_have_no_upper_bound(tmp_path: Path) -> None:
    """Given up, a job was pending at least until its last poll: that is all that is known of it."""
    fate = {"outcome": "timed_out", "reason": "give_up", **JOB}
    rows = [submit(0, 0, 4), poll(0, 1000, 1001), maker.operation("t", 0, 0, 4000, poll=1, **fate)]
    findings = found(tmp_path / "run", rows)
    cell = jobs(findings)
    assert cell.queue_wait_upper_ms.n == cell.poll_lag_upper_ms.n == 0
    assert cell.time_to_result_lower_ms.max == 1000.0


@dataclass
class Truth:
    """What only the server knows of a job, in ms."""

    accepted: float
    begun: float
    ready: float


def queue(seed: int, jobs: int, workers: int) -> tuple[list[Sample], list[Truth]]:
    """Jobs at random times through a queue before a few workers, polled at jittered intervals, some polls refused."""
    draw = random.Random(seed)
    free = [0.0] * workers
    rows, truths, clock = [], [], 0.0
    for k in range(jobs):
        clock += draw.expovariate(1 / 40)
        answered = clock + draw.uniform(1, 30)
        accepted = draw.uniform(clock, answered)
        execution = round(draw.expovariate(1 / 100), 3)
        begun = max(accepted, heapq.heappop(free))
        heapq.heappush(free, begun + execution)
        truths.append(Truth(accepted, begun, begun + execution))
        rows.append(submit(k, clock, answered))
        rows += polled(draw, k, answered, begun + execution)
        own = {"execution_time_ms": execution, "poll": 1, **JOB}
        rows.append(maker.operation("t", k, clock, (rows[-1].end or 0) / 1e6, **own))
        clock = max(clock, accepted)  # in the order of acceptance, as a queue has them
    return rows, truths


def polled(draw: random.Random, k: int, since: float, ready: float) -> Iterator[Sample]:
    """The polls of a job: each sees the state at some time while it is being answered."""
    while True:
        start = since + draw.uniform(50, 150)
        since = start + draw.uniform(0.5, 20)
        if draw.random() < 0.2:
            yield poll(k, start, since, status=429, outcome="throttled")
        elif draw.uniform(start, since) < ready:
            yield poll(k, start, since)
        else:
            yield poll(k, start, since, "completed")
            return


@settings(max_examples=settings.default.max_examples // 5)
@given(seed=st.integers(0, 10**6), workers=st.integers(1, 6))
def test_the_truth_is_always_within_the_bounds(tmp_path_factory, seed, workers):
    """Whatever queues, workers and polls do: each job's wait, result and lag, and their percentiles, lie inside."""
    rows, truths = queue(seed, 30, workers)
    directory = tmp_path_factory.mktemp("run")
    entry = maker.plan("async_run", [maker.stage("within", 0, 5, 0.4)])
    record = load_record(maker.save(directory, maker.info({"t": entry}), rows))
    (chunk,) = read_chunks(directory, Vocabulary(record.info))
    operations = chunk.operations
    lower, upper = queue_wait(operations)
    waited = np.array([truth.begun - truth.accepted for truth in truths])
    ready = np.array([truth.ready for truth in truths])
    rounding = 1e-5  # times are kept in whole nanoseconds
    assert (lower <= waited + rounding).all()
    assert (waited <= upper + rounding).all()
    assert (operations.floats("pending_seen") / 1e6 <= ready + rounding).all()
    lag = operations.floats("end") / 1e6 - ready
    assert (lag >= -rounding).all()
    assert (lag <= poll_lag(operations) + rounding).all()
    low, high = (record.times[f"queue_wait_{name}_ms"].get([0]) for name in ("lower", "upper"))
    middle = np.sort(waited)[rank(len(waited), 0.5) - 1]
    assert (percentile(low, 0.5).value or 0.0) <= middle + rounding
    assert middle <= (percentile(high, 0.5).value or 0.0) + rounding
