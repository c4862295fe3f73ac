"""Tables of what a record says about the target: errors, jobs, values that cannot be, slow operations."""

from typing import Final

from loadtest.analysis.errors import ErrorGroup
from loadtest.analysis.findings import Findings
from loadtest.analysis.numbers import NOTHING, count, duration_ms, milliseconds
from loadtest.analysis.slowest import SlowOperation
from loadtest.report.table import Cell, Table

_MOST: Final = 30
"""Groups of errors that are shown; metrics.json has all."""
SLOWEST: Final = 20
_JOBS: Final = {
    "completed": "seen completed",
    "failed": "seen failed",
    "pending": "never seen to end",
    "lost": "known no longer (404), never seen to end",
    "duplicated": "submits answered with the id of an earlier job",
}


def target_tables(findings: Findings) -> tuple[Table, ...]:
    """Every one; those without rows are left out by whoever shows them."""
    return _errors(findings), _oddities(findings), _jobs(findings), slowest_table(findings)


def _errors(findings: Findings) -> Table:
    columns = (
        ("Request", False), ("Status", True), ("Code", False), ("Reason", False), ("Count", True), ("First s", True),
        ("Last s", True), ("Example", False),
    )  # fmt: skip
    rows = tuple(_error(group) for group in findings.errors[:_MOST])
    left = len(findings.errors) - len(rows)
    note = "429s included. The example is the traceparent of the first one, as the target was sent it."
    if left > 0:
        note += f" {count(left)} rarer groups are in metrics.json only."
    return Table("errors", "What was not ok, by status, code and reason", columns, rows, note)


def _error(group: ErrorGroup) -> tuple[Cell, ...]:
    return (
        Cell(group.kind, group.traffic, tone="head"),
        Cell(NOTHING if group.status is None else str(group.status)),
        Cell(group.code or NOTHING),
        Cell(group.reason or NOTHING),
        Cell(count(group.count)),
        Cell(f"{group.first_s:.1f}"),
        Cell(f"{group.last_s:.1f}"),
        Cell(group.request_id or NOTHING, tone="faint"),
    )


def _oddities(findings: Findings) -> Table:
    columns = (("Finding", False), ("Operations", True), ("Of", True), ("Worst", True), ("Example", False))
    rows = [
        (
            Cell(one.words, one.traffic, tone="head"),
            Cell(count(one.count), tone="bad"),
            Cell(count(one.of)),
            Cell(NOTHING if one.worst_ms is None else duration_ms(one.worst_ms)),
            Cell(one.request_id or NOTHING, tone="faint"),
        )
        for one in findings.oddities
    ]
    ledger = findings.ledger
    strange = (
        ("a job that had ended and was pending again", ledger.back_to_pending),
        ("a job that was both completed and failed", ledger.changed),
        ("a submit that was answered with the id of an earlier job", ledger.duplicated),
    )
    rows += [
        (Cell(words, tone="head"), Cell(count(n), tone="bad"), Cell(count(ledger.submitted)), Cell(NOTHING), Cell(""))
        for words, n in strange
        if n
    ]
    note = "Findings about the target: what it said cannot be true. Nothing is corrected; figures are as it said them."
    return Table("oddities", "What cannot be", columns, tuple(rows), note)


def _jobs(findings: Findings) -> Table:
    ledger = findings.ledger
    columns = (("Jobs", False), ("Count", True), ("Of those submitted", True))
    rows = []
    if ledger.submitted:
        rows.append((Cell("submitted", tone="head"), Cell(count(ledger.submitted)), Cell("")))
        counts = (ledger.completed, ledger.failed, ledger.pending, ledger.lost, ledger.duplicated)
        for (name, words), number in zip(_JOBS.items(), counts, strict=True):
            share = f"{number / ledger.submitted * 100:.2f}\u00a0%"
            rows.append((Cell(name, words, tone="head"), Cell(count(number)), Cell(share)))
    note = "Submits that were accepted, the warm-up's and the set-up's included: submitted is the sum of the others."
    if not ledger.complete:
        note += " There were more jobs than are told apart: these are the first of them."
    if findings.record.info.pending_jobs:
        note += " The ids of jobs that never ended are in pending_jobs.txt."
    return Table("jobs", "What became of every job", columns, tuple(rows), note)


def slowest(findings: Findings) -> list[SlowOperation]:
    """As many as are shown, the same number of each traffic entry, the slowest first."""
    entries = [found for found in findings.slowest.values() if found]
    each = -(-SLOWEST // max(1, len(entries)))
    picked = [one for found in entries for one in found[:each]]
    return sorted(picked, key=lambda one: -one.response_ms)[:SLOWEST]


def slowest_table(findings: Findings) -> Table:
    """The slowest operations, a row each."""
    columns = (
        ("Traffic", False), ("Arrival", True), ("Stage", False), ("At s", True), ("Response ms", True),
        ("Start lag ms", True), ("Exec. ms", True), ("Tries", True), ("Requests", True), ("Outcome", False),
        ("Trace id", False),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(one.traffic, tone="head"),
            Cell(count(one.arrival)),
            Cell(one.stage),
            Cell(f"{one.intended_s:.2f}"),
            Cell(milliseconds(one.response_ms)),
            Cell(milliseconds(one.start_lag_ms)),
            Cell(milliseconds(one.execution_ms)),
            Cell(str(one.attempts)),
            Cell(count(len(one.phases))),
            Cell(one.outcome, one.reason if one.reason and one.reason != one.outcome else ""),
            Cell(one.request_id or NOTHING, tone="faint"),
        )
        for one in slowest(findings)
    )
    return Table(
        "slowest",
        "The slowest operations",
        columns,
        rows,
        "“loadtest slow RUN” lists more of them, with their requests.",
    )
