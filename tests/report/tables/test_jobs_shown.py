"""What a report tells of jobs and of executionTime, down to runs of which there is little to tell."""

from pathlib import Path
from typing import Any

import pytest
from plugins import record_maker as maker

from loadtest.analysis.findings import Findings
from loadtest.record.run_directory import PENDING_NAME
from loadtest.record.samples import Sample
from loadtest.report.page import Point
from loadtest.report.plots import execution, operations
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import styled
from loadtest.report.tables.target import job_tables, target_tables

JOB: dict[str, Any] = {"operation": "async_run"}
PLOTS = (operations.draw_polls, execution.over_time, execution.draw_overhead)


def found(directory: Path, rows: list[Sample], operation: str = "async_run") -> Findings:
    """The findings of one entry, in one stage of ten seconds."""
    entry = maker.plan(operation, [maker.stage("within", 0, 10, 1)])
    return maker.findings(directory, maker.info({"t": entry}), rows)


def job(k: int, *, ends: bool) -> list[Sample]:
    """A job, a second after the last, that a poll saw pending; it ends, or is given up."""
    start = k * 1000.0
    fate = {"execution_time_ms": 400.0} if ends else {"outcome": "timed_out", "reason": "give_up"}
    rows = [
        maker.request("t", k, start, start + 4, kind="submit", status=202, job_state="pending", **JOB),
        maker.request("t", k, start + 500, start + 502, kind="poll", poll=1, job_state="pending", **JOB),
        maker.operation("t", k, start, start + 1003, poll=2 if ends else 1, **fate, **JOB),
    ]
    if ends:
        done = {"kind": "poll", "poll": 2, "job_state": "completed", "execution_time_ms": 400.0, **JOB}
        rows.insert(2, maker.request("t", k, start + 1000, start + 1003, **done))
    return rows


def refused(k: int) -> list[Sample]:
    """A submit that got 429."""
    fate = {"status": 429, "outcome": "throttled", "reason": "throttled", **JOB}
    return [
        maker.request("t", k, k * 1000.0, k * 1000.0 + 1, kind="submit", **fate),
        maker.operation("t", k, k * 1000.0, k * 1000.0 + 1, **fate),
    ]


def drawn(findings: Findings) -> list[Drawing | Point]:
    """Every plot of jobs and of executionTime."""
    made = []
    for draw in PLOTS:
        with styled("test"):
            made.append(draw(findings))
    return made


def test_jobs_are_shown_within_their_bounds(tmp_path: Path) -> None:
    """The table gives both bounds of what jobs waited for, never one number, and what polling them cost."""
    findings = found(tmp_path / "run", [row for k in range(8) for row in job(k, ends=True)])
    assert all(isinstance(plot, Drawing) for plot in drawn(findings))
    # Pending at 500 ms, less 4 ms of the submit and 400 of execution: 96; at most 1003 - 400.
    waits, polling, pending = job_tables(findings)
    assert [cell.text for cell in waits.rows[0]][2:9] == [
        "8", "4.00", "96.0 to 603", "–", "400", "0 to 503", "500 to 1,003",
    ]  # fmt: skip
    assert [cell.text for cell in polling.rows[0]][2:] == [
        "2", "2", "–", "2", "16", "100\u00a0%", "19.2\u00a0%",
    ]  # fmt: skip
    assert pending.rows == ()


def test_jobs_that_never_ended_are_named(tmp_path: Path) -> None:
    """What cannot be known of them has a reason, and the first twenty stand by name."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / PENDING_NAME).write_text("".join(f"job-{k}\t{k % 2}\n" for k in range(30)))
    findings = found(tmp_path / "run", [row for k in range(4) for row in job(k, ends=False)])
    findings.record.info.pending_jobs = 30
    plots = drawn(findings)
    assert [plot.detail if isinstance(plot, Point) else "" for plot in plots] == [
        "", "no operation ended with success", "no operation ended with success",
    ]  # fmt: skip
    *_, pending = job_tables(findings)
    assert [(job_id.text, key.text) for job_id, key in pending.rows][:2] == [("job-0", "0"), ("job-1", "1")]
    assert len(pending.rows) == 20
    assert "first of 30" in pending.note


def test_stages_that_the_cost_of_polling_leaves_out_are_counted(tmp_path: Path) -> None:
    """Two entries of five stages each: no entry has more than eight, but both together have."""
    stages = {name: [maker.stage(f"{name}{k}", 2 * k, 2, 1) for k in range(5)] for name in ("a", "b")}
    rows = []
    for name, k in ((name, k) for name in stages for k in range(5)):
        fields = {**JOB, "stage": f"{name}{k}"}
        start = 2000.0 * k + (500 if name == "b" else 0)
        done = {"kind": "poll", "poll": 1, "job_state": "completed", "execution_time_ms": 4.0}
        rows.append(maker.request(name, k, start, start + 4, kind="submit", status=202, job_state="pending", **fields))
        rows.append(maker.request(name, k, start + 90, start + 92, **done, **fields))
        rows.append(maker.operation(name, k, start, start + 92, poll=1, execution_time_ms=4.0, **fields))
    plans = {name: maker.plan("async_run", own) for name, own in stages.items()}
    findings = maker.findings(tmp_path / "run", maker.info(plans), rows)
    with styled("test"):
        plot = operations.draw_polls(findings)
    assert isinstance(plot, Drawing)
    assert plot.caption.endswith("The right panel shows the 8 stages with the highest use of the limit.")


def test_one_job_has_no_median(tmp_path: Path) -> None:
    """It is drawn, and no title makes more of it than it carries."""
    plots = drawn(found(tmp_path / "run", job(0, ends=True)))
    assert all(isinstance(plot, Drawing) for plot in plots)
    assert [plot.title for plot in plots[1:]] == [
        "Too few answers for a median executionTime",
        "Too few answers for a median overhead",
    ]


@pytest.mark.parametrize("case", ["all 429", "no async traffic", "nothing"])
def test_without_jobs_each_plot_says_why(tmp_path: Path, case: str) -> None:
    """No plot is empty: each gives a reason that is true of the run."""
    if case == "all 429":
        findings = found(tmp_path / "run", [row for k in range(5) for row in refused(k)])
        whys = ["every submit got 429"] + ["every request got 429"] * 2
    elif case == "nothing":
        findings = found(tmp_path / "run", [])
        whys = ["no job was submitted"] + ["no operation ended with success"] * 2
    else:
        own = {"operation": "retrieval", "execution_time_ms": 5.0}
        rows = [maker.request("t", 0, 0, 2, kind="retrieve", **own), maker.operation("t", 0, 0, 2, **own)]
        findings = found(tmp_path / "run", rows, "retrieval")
        whys = ["no traffic entry submits jobs"]
        whys += ["no traffic entry executes a workflow: retrieved jobs ran earlier"] * 2
    assert [plot.detail for plot in drawn(findings) if isinstance(plot, Point)] == whys
    assert not any(table.rows for table in job_tables(findings))


def test_what_cannot_be_is_in_the_title(tmp_path: Path) -> None:
    """An executionTime beyond what the client saw is drawn and counted; where there is none, there is no such plot."""
    titles = []
    for sayings in ((5.0, 90.0, -2.0, 0.0), (5.0, 6.0)):
        rows = []
        for k, said in enumerate(sayings):
            rows += maker.both("t", k, k * 1000, k * 1000 + 10, execution_time_ms=said)
        with styled("test"):
            plot = execution.against_latency(found(tmp_path / f"run{len(rows)}", rows, "sync_run"))
        titles.append(plot and plot.title)
    assert titles == ["2 executionTimes of t cannot be true: below zero, or longer than the client waited", None]


def test_what_became_of_jobs_adds_up(tmp_path: Path) -> None:
    """A row for each fate, with its share of the jobs that were submitted."""
    rows = []
    for k in range(4):
        rows += job(k, ends=k < 3)
    for row in rows:
        row.job_id = f"job-{row.parent_arrival}" if row.parent_arrival is not None else None
    _, table, _ = target_tables(found(tmp_path / "run", rows))
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["submitted", "4", ""], ["completed", "3", "75.00\u00a0%"], ["failed", "0", "0.00\u00a0%"],
        ["pending", "1", "25.00\u00a0%"], ["lost", "0", "0.00\u00a0%"], ["duplicated", "0", "0.00\u00a0%"],
    ]  # fmt: skip
