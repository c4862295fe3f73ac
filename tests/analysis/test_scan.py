"""A scan of any record gives what a loop over its rows gives: counts, percentiles and jobs."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins import record_maker as maker

from loadtest.analysis import reader
from loadtest.analysis.run_record import load_record
from loadtest.record.samples import Sample

OPERATIONS = {"runs": "sync_run", "jobs": "async_run"}
STAGES = ("within", "above")
COMMON = {
    "name": st.sampled_from(tuple(OPERATIONS)),
    "stage": st.sampled_from((*STAGES, "setup")),
    "outcome": st.sampled_from(("ok", "ok", "throttled", "timed_out")),
    "status": st.sampled_from((200, 404, 429)),
    "start_ms": st.integers(0, 2_000),
    "took_ms": st.none() | st.integers(0, 5_000),
    "mistake": st.none() | st.none() | st.just("wrong_key"),
    "request_id": st.none() | st.text("0a", max_size=3),
}
ROWS = st.fixed_dictionaries({"row": st.just("operation"), **COMMON}) | st.fixed_dictionaries(
    {
        "row": st.just("request"),
        **COMMON,
        "kind": st.sampled_from(("submit", "poll", "poll")),
        "job_id": st.none() | st.sampled_from(("a", "b", "job-12345", "job-54321")),
        "job_state": st.sampled_from((None, "pending", "completed", "failed")),
    }
)


def sample(number: int, row: dict[str, Any]) -> Sample:
    """The row as a run writes it."""
    values = dict(row)
    make = maker.operation if values.pop("row") == "operation" else maker.request
    name, start, took = (values.pop(key) for key in ("name", "start_ms", "took_ms"))
    end = None if took is None else start + took
    return make(name, number, start, end, operation=OPERATIONS[name], **values)


def spent(rows: list[dict[str, Any]]) -> list[int]:
    """The times of the rows that latencies include, ascending."""
    counted = [row for row in rows if row["mistake"] is None and row["outcome"] != "throttled"]
    return sorted(row["took_ms"] for row in counted if row["took_ms"] is not None)


def ledger(rows: list[dict[str, Any]]) -> tuple[int, ...]:
    """Submitted, completed, failed, pending, lost and duplicated jobs."""
    told = [row for row in rows if row["row"] == "request" and row["job_id"] is not None and row["mistake"] is None]
    told = [row for row in told if row["outcome"] == "ok" or row["status"] == 404]
    accepted = [row["job_id"] for row in told if row["kind"] == "submit" and row["status"] != 404]
    seen = {job: {row["job_state"] for row in told if row["job_id"] == job} for job in set(accepted)}
    gone = {row["job_id"] for row in told if row["status"] == 404}
    completed = {job for job, states in seen.items() if "completed" in states}
    failed = {job for job, states in seen.items() if "failed" in states} - completed
    rest = set(seen) - completed - failed
    return len(accepted), len(completed), len(failed), len(rest - gone), len(rest & gone), len(accepted) - len(seen)


@settings(max_examples=settings.default.max_examples // 4)
@given(rows=st.lists(ROWS, min_size=1, max_size=80), batch=st.integers(1, 30), chunk=st.integers(1, 40))
def test_a_scan_agrees_with_a_loop(rows: list[dict[str, Any]], batch: int, chunk: int) -> None:
    """Rows come in any order, in batches and chunks of any size, with and without ids."""
    stages = [maker.stage("within", 0, 1, 50), maker.stage("above", 1, 1, 50)]
    info = maker.info({name: maker.plan(operation, stages, offered=100) for name, operation in OPERATIONS.items()})
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_ROWS", chunk)
        samples = [sample(number, row) for number, row in enumerate(rows)]
        record = load_record(maker.save(Path(folder) / "run", info, samples, batch=batch))
    for index, (name, stage, *_) in enumerate(record.vocabulary.stage_keys):
        mine = [row for row in rows if (row["name"], row["stage"]) == (name, stage.name)]
        of = {kind: [row for row in mine if row["row"] == kind] for kind in ("operation", "request")}
        assert record.counts.of_operations([index]).total() == len(of["operation"])
        refused = [n for cell, n in record.counts.of_requests([index]).items() if cell.status == 429]
        assert sum(refused) == sum(row["status"] == 429 for row in of["request"])
        for metric, kind in (("response_time_ms", "operation"), ("service_time_ms", "request")):
            wanted, found = spent(of[kind]), record.times[metric].get([index])
            assert found.n == len(wanted)
            assert found.at(range(1, found.n + 1)).tolist() == pytest.approx(wanted, rel=0.005)
    jobs = record.jobs
    found_jobs = (jobs.submitted, jobs.completed, jobs.failed, jobs.pending, jobs.lost, jobs.duplicated)
    assert found_jobs == ledger(rows)
