"""What a record says about the target: errors in groups, the ledger of jobs, values that cannot be, slow operations."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugins import record_maker as maker

from loadtest.analysis import anomalies, reader, times
from loadtest.analysis import counts as jobs
from loadtest.analysis.findings import Findings
from loadtest.record.samples import Sample


def found(directory: Path, operation: str, rows: list[Sample], offered: int) -> Findings:
    """The findings of one entry, in one stage of ten seconds, whose rows come in chunks of three."""
    entry = maker.plan(operation, [maker.stage("within", 0, 10, 1)], offered=offered)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_ROWS", 3)
        return maker.findings(directory, maker.info({"t": entry}), rows, batch=3)


def run(k: int, took_ms: float, **more: Any) -> list[Sample]:
    """One sync run, a second after the last."""
    both = {"request_id": f"trace-{k}", **more}
    start = k * 1000.0
    return maker.both("t", k, start, start + took_ms, **both)


def test_errors_of_each_traffic_entry_are_counted_apart(tmp_path: Path) -> None:
    """The same 429 of two entries are two groups, each with its own count."""
    fate = {"outcome": "throttled", "status": 429, "reason": "throttled"}
    rows = [row for name, n in (("a", 1), ("b", 3)) for k in range(n) for row in maker.both(name, k, k, k + 1, **fate)]
    traffic = {name: maker.plan("sync_run", [maker.stage("within", 0, 1, 0.1)]) for name in ("a", "b")}
    errors = maker.findings(tmp_path / "run", maker.info(traffic), rows).errors
    assert [(group.traffic, group.count) for group in errors] == [("b", 3), ("a", 1)]


def test_errors_are_grouped_by_what_they_are(tmp_path: Path) -> None:
    """Status, code and reason make a group; each has its count, its first and last second, and one to look up."""
    broken = {"status": 500, "outcome": "failed", "reason": "unexpected_status", "error_code": "internal"}
    cut = {"status": None, "outcome": "failed", "reason": "connection_reset"}
    rows = [*run(0, 5), *run(1, 5, **broken), *run(2, 5, **cut), *run(3, 5, **broken)]
    groups = found(tmp_path / "run", "sync_run", rows, 4).errors
    assert [(g.status, g.code, g.reason, g.count, g.first_s, g.last_s, g.request_id) for g in groups] == [
        (500, "internal", "unexpected_status", 2, 1.0, 3.0, "trace-1"),
        (None, None, "connection_reset", 1, 2.0, 2.0, "trace-2"),
    ]


def test_a_server_that_makes_up_codes_fills_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups beyond the bound are counted together."""
    monkeypatch.setattr(anomalies, "GROUPS", 3)
    rows = [
        row
        for k in range(8)
        for row in run(k, 5, status=500, outcome="failed", reason="unexpected_status", error_code=f"code-{k}")
    ]
    findings = found(tmp_path / "run", "sync_run", rows, 8)
    assert len(findings.errors) == 3
    assert findings.record.errors.beyond == 5


def test_execution_times_that_cannot_be(tmp_path: Path) -> None:
    """Longer than the client waited, or below zero: counted, with the worst and the first one to look up."""
    rows = [
        *run(0, 50, execution_time_ms=40.0),
        *run(1, 50, execution_time_ms=51.0),  # as long as the rounding of a millisecond allows
        *run(2, 50, execution_time_ms=80.0),
        *run(3, 50, execution_time_ms=900.0),
        *run(4, 50, execution_time_ms=-3.0),
    ]
    seen = {one.name: one for one in found(tmp_path / "run", "sync_run", rows, 5).anomalies}
    longer, negative = seen["longer_than_seen"], seen["negative"]
    assert (longer.count, longer.possible, longer.worst_ms, longer.request_id) == (2, 5, 900.0, "trace-2")
    assert (negative.count, negative.worst_ms) == (1, -3.0)
    assert set(seen) == {"longer_than_seen", "negative"}


def job(k: int, job_id: str, states: list[Any]) -> list[Sample]:
    """A submit at second k and a poll every 100 ms, each seeing a state (or a status that is no 200)."""
    common = {"operation": "async_run", "job_id": job_id}
    start = k * 1000.0
    rows = [maker.request("t", k, start, start + 2, kind="submit", status=202, job_state="pending", **common)]
    for number, state in enumerate(states, 1):
        seen = {"job_state": state} if isinstance(state, str) else {"status": state, "outcome": "failed", "reason": "x"}
        at = start + number * 100
        rows.append(maker.request("t", k, at, at + 2, kind="poll", poll=number, **common, **seen))
    fate = {"completed": "ok", "failed": "failed"}.get(states[-1] if states else None, "timed_out")
    rows.append(maker.operation("t", k, start, start + 900, outcome=fate, poll=len(states), **common))
    return rows


def test_every_job_is_in_the_ledger_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitted = completed + failed + pending + lost + duplicated; what comes in pieces adds up."""
    monkeypatch.setattr(jobs, "_COMPACT", 4)
    rows = [
        *job(0, "a", ["pending", "completed"]),
        *job(1, "b", ["failed"]),
        *job(2, "c", ["pending", "pending"]),
        *job(3, "d", [404]),
        *job(4, "a", ["completed"]),
        *job(5, "e", ["completed", "pending"]),
        *job(6, "f", ["completed", "failed"]),
        *job(7, "g", []),
    ]
    rows.append(maker.request("t", 8, 9000, 9002, kind="retrieve", job_id="of another run", job_state="completed"))
    # A bad key on purpose is answered as it must be, which is no word on the job.
    rows.append(maker.request("t", 8, 9500, 9502, kind="retrieve", job_id="b", status=401, mistake="bad_key"))
    assert msgspec.structs.asdict(found(tmp_path / "run", "async_run", rows, 8).ledger) == {
        "submitted": 8,
        "completed": 3,
        "failed": 1,
        "pending": 2,
        "lost": 1,
        "duplicated": 1,
        "back_to_pending": 1,
        "changed": 1,
        "complete": True,
    }


def test_the_slowest_come_with_their_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slowest first, whatever chunk they were in, each with the requests that it was made of, in their order."""
    monkeypatch.setattr(times, "MOST", 3)
    took = [5.0, 70.0, 20.0, 90.0, 10.0, 80.0]
    rows = [row for k, ms in enumerate(took) for row in run(k, ms)]
    retry = maker.request("t", 3, 2990, 2995, status=429, outcome="throttled", attempt=1)
    slow = found(tmp_path / "run", "sync_run", [*rows, retry], 6).slowest["t"]
    assert [(one.arrival, one.response_ms, one.request_id) for one in slow] == [
        (3, 90.0, "trace-3"), (5, 80.0, "trace-5"), (1, 70.0, "trace-1"),
    ]  # fmt: skip
    assert [(phase.status, phase.start_ms, phase.end_ms) for phase in slow[0].phases] == [
        (429, -10.0, -5.0), (200, 0.0, 90.0),
    ]  # fmt: skip
