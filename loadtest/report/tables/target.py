"""Findings about the target: lines for the first screen, and tables.

A verdict depends only on thresholds. The first screen also shows impossible executionTimes, wrong results, slow keys
and unexplained 429s.
"""

from collections.abc import Iterator
from typing import Final

from loadtest.analysis.anomalies import WORDS, ErrorGroup
from loadtest.analysis.findings import Findings
from loadtest.analysis.slowest import SlowOperation
from loadtest.contract import JobState, Reason, RequestKind
from loadtest.report.headline import over_traffic, requests_sent
from loadtest.report.limits import unexplained_429s
from loadtest.report.page import Point, Table, TableCell, TableColumns, table_of
from loadtest.report.tables.cells import entry_name
from loadtest.words import NOTHING, count, duration_ms, limit_name, milliseconds, percent, times_as


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
            text = f"{least}{wrong} {kind.several} got a response in another shape than documented."
            yield Point(text, ". ".join(part for part in (known, _first(groups[0].request_id)) if part))


def _anomaly_findings(findings: Findings) -> Iterator[Point]:
    for one in findings.anomalies:
        worst = "" if one.worst_ms is None else f" ({duration_ms(one.worst_ms)} at worst)"
        worst += f" (“{one.example}”)" if one.example else ""
        text = f"{count(one.count)} of {count(one.possible)} responses gave {WORDS[one.name]}{worst}."
        yield Point(text, _first(one.request_id))


def _first(request_id: str | None) -> str:
    return f"The first has the trace {request_id}." if request_id else ""


def _job_findings(findings: Findings) -> Iterator[Point]:
    ledger = findings.ledger
    strange = {
        "came back as pending after they had ended": ledger.back_to_pending,
        "came back both as completed and as failed": ledger.changed,
        "got the id of an earlier job": ledger.duplicated,
        "got lost: the target no longer knew them before they were seen to end": ledger.lost,
    }
    for words, number in strange.items():
        if number:
            yield Point(f"{count(number)} of {count(ledger.submitted)} jobs {words}.")


def _rejection_findings(findings: Findings) -> Iterator[Point]:
    for name in findings.observed_429.limits:
        if found := unexplained_429s(findings, name):
            wrong = f"{count(found[0])} of {count(found[1])} 429s of the {limit_name(name)}"
            yield Point(f"{wrong} came below it, and no known limiter explains them.")


def _key_findings(findings: Findings) -> Iterator[Point]:
    for slow in findings.slow_keys:
        times = f"{slow.statistic} of {slow.traffic} is {duration_ms(slow.value_ms)}, {times_as(slow.factor)} times"
        yield Point(f"Key {slow.key} is slow: {times} that of the other keys.", f"n = {count(slow.n)}")


_MOST: Final = 30
"""Maximum number of error groups shown; metrics.json has all."""
SLOWEST: Final = 20


def target_tables(findings: Findings) -> tuple[Table, ...]:
    """Return all tables about the target, including empty tables."""
    return _errors(findings), _jobs(findings), slowest_table(findings)


def _errors(findings: Findings) -> Table:
    columns: TableColumns[ErrorGroup] = {
        "Request": lambda group: TableCell(group.kind, group.traffic, "head"),
        "#Status": lambda group: None if group.status is None else str(group.status),
        "Code": lambda group: group.code,
        "Reason": lambda group: group.reason,
        "#Count": lambda group: group.count,
        "#First s": lambda group: f"{group.first_s:.1f}",
        "#Last s": lambda group: f"{group.last_s:.1f}",
        "Example": lambda group: _example(group.request_id),
    }
    note = "429s included. The example is the traceparent of the first request of the group."
    if (left := len(findings.errors) - _MOST) > 0:
        note += f" {count(left)} rarer groups are in metrics.json only."
    return table_of("errors", "Errors and 429s, by status, code and reason", columns, findings.errors[:_MOST], note)


def _example(request_id: str | None) -> TableCell:
    return TableCell(request_id or NOTHING, tone="faint")


def _jobs(findings: Findings) -> Table:
    ledger, finished = findings.ledger, findings.record.info.end == "finished"
    fates = (
        ("submitted", "", ledger.submitted),
        (JobState.COMPLETED, "seen completed", ledger.completed),
        (JobState.FAILED, "seen failed", ledger.failed),
        (JobState.PENDING, "never seen to end" if finished else "pending when the run was cut off", ledger.pending),
        ("lost", "forgotten by the target (404), never seen to end", ledger.lost),
        ("duplicated", "submits answered with the id of an earlier job", ledger.duplicated),
    )
    columns: TableColumns[tuple[str, str, int]] = {
        "Jobs": lambda fate: TableCell(fate[0], fate[1], "head"),
        "#Count": lambda fate: fate[2],
        "#Of those submitted": lambda fate: percent(fate[2] / ledger.submitted, 2) if fate[1] else "",
    }
    note = "Accepted submits, including warm-up and set-up. Submitted is the sum of the rows below it."
    if not ledger.complete:
        note += " These are the first jobs of a run with more jobs than the report distinguishes."
    if findings.record.info.pending_jobs:
        note += " The ids of jobs that never ended are in pending_jobs.txt."
    return table_of("jobs", "Outcomes of all jobs", columns, fates if ledger.submitted else (), note)


def slowest(findings: Findings) -> list[SlowOperation]:
    """Return the operations shown, slowest first, with the same number from each traffic entry."""
    entries = [found for found in findings.slowest.values() if found]
    each = -(-SLOWEST // max(1, len(entries)))
    picked = [one for found in entries for one in found[:each]]
    return sorted(picked, key=lambda one: -one.response_ms)[:SLOWEST]


def slowest_table(findings: Findings) -> Table:
    """Return a table of the slowest operations."""
    columns: TableColumns[SlowOperation] = {
        "Traffic": lambda one: entry_name(findings, one.traffic),
        "#Arrival": lambda one: one.arrival,
        "Stage": lambda one: one.stage,
        "#At s": lambda one: f"{one.intended_s:.2f}",
        "#Response ms": lambda one: milliseconds(one.response_ms),
        "#Start lag ms": lambda one: milliseconds(one.start_lag_ms),
        "#Exec. ms": lambda one: milliseconds(one.execution_ms),
        "#Tries": lambda one: one.attempts,
        "#Requests": lambda one: len(one.phases),
        "Outcome": lambda one: TableCell(one.outcome, one.reason if one.reason and one.reason != one.outcome else ""),
        "Trace id": lambda one: _example(one.request_id),
    }
    note = "The verb slow lists more operations and their requests."
    return table_of("slowest", "Slowest operations", columns, slowest(findings), note)
