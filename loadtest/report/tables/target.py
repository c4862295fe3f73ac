"""Findings about the target: lines for the first screen, and tables.

A verdict rests on thresholds alone. The first screen also shows impossible executionTimes, wrong results, slow keys
and unexplained 429s, even if no threshold asks for them.
"""

from collections.abc import Iterator
from typing import Final

from loadtest.analysis.anomalies import ErrorGroup
from loadtest.analysis.findings import Findings
from loadtest.analysis.slowest import SlowOperation
from loadtest.contract import JobState, Reason, RequestKind
from loadtest.report.headline import over_traffic, requests_sent
from loadtest.report.limits import unexplained_429s
from loadtest.report.page import Point, Row, Table, TableCell, table_of
from loadtest.words import NOTHING, count, duration_ms, limit_name, milliseconds, times_as

_ANOMALY_WORDS: Final = {
    "negative": "an executionTime below zero, which is in no percentile",
    "longer_than_seen": "an executionTime longer than the client waited",
    "no_time": "an executionTime above a day, which is in no percentile",
    "seconds": "an executionTime as if in seconds instead of ms",
    "unknown_state": "a job state that is not documented, and counts as pending",
    "wrong_result": "a result that is not that of the request",
}


def about_target(findings: Findings) -> tuple[Point, ...]:
    """Return each finding about the target as a line with an example; keys are given by index."""
    return tuple(
        point
        for part in (_shape_findings, _anomaly_findings, _job_findings, _rejection_findings, _key_findings)
        for point in part(findings)
    )


def _shape_findings(findings: Findings) -> Iterator[Point]:
    least = "At least " if findings.record.errors.beyond else ""
    for kind in RequestKind:
        groups = [one for one in findings.errors if one.kind == kind and one.reason == Reason.WRONG_SHAPE]
        if groups:
            sent = requests_sent(findings, kind)
            known = ", ".join(f"{one.code} ({count(one.count)})" for one in over_traffic(groups) if one.code)
            wrong = f"{count(sum(one.count for one in groups))}{f' of {count(sent)}' if sent is not None else ''}"
            text = f"{least}{wrong} {kind.several} were answered in another shape than the documented one."
            yield Point(text, ". ".join(part for part in (known, _first(groups[0].request_id)) if part))


def _anomaly_findings(findings: Findings) -> Iterator[Point]:
    for one in findings.anomalies:
        worst = "" if one.worst_ms is None else f" ({duration_ms(one.worst_ms)} at worst)"
        worst += f" (“{one.example}”)" if one.example else ""
        text = f"{count(one.count)} of {count(one.possible)} answers gave {_ANOMALY_WORDS[one.name]}{worst}."
        yield Point(text, _first(one.request_id))


def _first(request_id: str | None) -> str:
    return f"The first has the trace {request_id}." if request_id else ""


def _job_findings(findings: Findings) -> Iterator[Point]:
    ledger = findings.ledger
    for number, words in (
        (ledger.back_to_pending, "came back as pending after they had ended"),
        (ledger.changed, "came back both as completed and as failed"),
        (ledger.duplicated, "got the id of an earlier job"),
        (ledger.lost, "got lost: the target no longer knew them before they were seen to end"),
    ):
        if number:
            yield Point(f"{count(number)} of {count(ledger.submitted)} jobs {words}.")


def _rejection_findings(findings: Findings) -> Iterator[Point]:
    for name in findings.observed_429.limits:
        if (found := unexplained_429s(findings, name)) is not None:
            wrong = f"{count(found.unexplained)} of {count(found.throttled)} 429s of the {limit_name(name)}"
            yield Point(f"{wrong} came below it, and no known limiter explains them.")


def _key_findings(findings: Findings) -> Iterator[Point]:
    for slow in findings.slow_keys:
        times = f"{slow.statistic} of {slow.traffic} is {duration_ms(slow.value_ms)}, {times_as(slow.factor)} times"
        yield Point(f"Key {slow.key} is slow: {times} that of the other keys.", f"n = {count(slow.n)}")


_MOST: Final = 30
"""Maximum number of error groups shown; metrics.json has all."""
SLOWEST: Final = 20
_JOBS: Final = {
    JobState.COMPLETED: "seen completed",
    JobState.FAILED: "seen failed",
    JobState.PENDING: "never seen to end",
    "lost": "forgotten by the target (404), never seen to end",
    "duplicated": "submits answered with the id of an earlier job",
}


def target_tables(findings: Findings) -> tuple[Table, ...]:
    """Return all tables about the target, empty ones too."""
    return _errors(findings), _anomalies(findings), _jobs(findings), slowest_table(findings)


def _errors(findings: Findings) -> Table:
    columns = "Request | #Status | Code | Reason | #Count | #First s | #Last s | Example"
    rows = tuple(_error(group) for group in findings.errors[:_MOST])
    left = len(findings.errors) - len(rows)
    note = "429s included. The example is the traceparent of the first one, as the target was sent it."
    if left > 0:
        note += f" {count(left)} rarer groups are in metrics.json only."
    return table_of("errors", "Errors and 429s, by status, code and reason", columns, rows, note)


def _error(group: ErrorGroup) -> Row:
    return (
        TableCell(group.kind, group.traffic, tone="head"),
        NOTHING if group.status is None else str(group.status),
        group.code or NOTHING,
        group.reason or NOTHING,
        count(group.count),
        f"{group.first_s:.1f}",
        f"{group.last_s:.1f}",
        TableCell(group.request_id or NOTHING, tone="faint"),
    )


def _anomalies(findings: Findings) -> Table:
    columns = "Finding | #Operations | #Of | #Worst | Example"
    rows: list[Row] = [
        (
            TableCell(one.words, one.traffic, tone="head"),
            TableCell(count(one.count), tone="bad"),
            count(one.possible),
            NOTHING if one.worst_ms is None else duration_ms(one.worst_ms),
            TableCell(one.request_id or NOTHING, tone="faint"),
        )
        for one in findings.anomalies
    ]
    ledger = findings.ledger
    strange = (
        ("a job that had ended and was pending again", ledger.back_to_pending),
        ("a job that was both completed and failed", ledger.changed),
        ("a submit that was answered with the id of an earlier job", ledger.duplicated),
    )
    rows += [
        (words, TableCell(count(n), tone="bad"), count(ledger.submitted), NOTHING, "") for words, n in strange if n
    ]
    note = "An executionTime below zero or above a day is in no figure; all other values stand as the target gave them."
    return table_of("oddities", "Impossible values", columns, rows, note)


def _jobs(findings: Findings) -> Table:
    ledger = findings.ledger
    counts = (ledger.completed, ledger.failed, ledger.pending, ledger.lost, ledger.duplicated)
    rows: list[Row] = []
    labels = dict(_JOBS)
    if findings.record.info.end != "finished":
        labels[JobState.PENDING] = "pending when the run was cut off"
    if ledger.submitted:
        rows = [
            ("submitted", count(ledger.submitted), ""),
            *(
                (TableCell(name, words, "head"), count(number), f"{number / ledger.submitted * 100:.2f}\u00a0%")
                for (name, words), number in zip(labels.items(), counts, strict=True)
            ),
        ]
    note = "Submits that were accepted, the warm-up's and the set-up's included: submitted is the sum of the others."
    if not ledger.complete:
        note += " There were more jobs than are told apart: these are the first of them."
    if findings.record.info.pending_jobs:
        note += " The ids of jobs that never ended are in pending_jobs.txt."
    return table_of("jobs", "Outcomes of all jobs", "Jobs | #Count | #Of those submitted", rows, note)


def slowest(findings: Findings) -> list[SlowOperation]:
    """Return the operations shown, slowest first, with the same number from each traffic entry."""
    entries = [found for found in findings.slowest.values() if found]
    each = -(-SLOWEST // max(1, len(entries)))
    picked = [one for found in entries for one in found[:each]]
    return sorted(picked, key=lambda one: -one.response_ms)[:SLOWEST]


def slowest_table(findings: Findings) -> Table:
    """Return a table of the slowest operations."""
    columns = (
        "Traffic | #Arrival | Stage | #At s | #Response ms | #Start lag ms | #Exec. ms | #Tries | #Requests | "
        "Outcome | Trace id"
    )
    rows: Iterator[Row] = (
        (
            one.traffic,
            count(one.arrival),
            one.stage,
            f"{one.intended_s:.2f}",
            *map(milliseconds, (one.response_ms, one.start_lag_ms, one.execution_ms)),
            str(one.attempts),
            count(len(one.phases)),
            TableCell(one.outcome, one.reason if one.reason and one.reason != one.outcome else ""),
            TableCell(one.request_id or NOTHING, tone="faint"),
        )
        for one in slowest(findings)
    )
    note = "“loadtest slow RUN” lists more of them, with their requests."
    return table_of("slowest", "The slowest operations", columns, rows, note)
