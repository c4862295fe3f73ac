"""Lines for the first screen, and tables, about the target and its jobs. They do not change the verdict."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from loadtest.analysis.anomalies import WORDS, ErrorGroup
from loadtest.analysis.counts import PendingJob, first_pending
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import JobStage, Summary
from loadtest.contract import JobState, Reason, RequestKind
from loadtest.record.figures import SlowOperation
from loadtest.report.deciding import entry_name, stage_parts, statistic
from loadtest.report.headline import over_traffic, requests_sent
from loadtest.report.limits import unexplained_429s
from loadtest.report.page import UNKNOWN, Point, Table, TableCell, TableColumns, table_of
from loadtest.words import NOTHING, count, duration_ms, limit_name, measured, milliseconds, percent, share, times_as


def about_target(findings: Findings) -> Iterator[Point]:
    """Yield a line for each finding about the target, if possible with an example. An API key appears as its index."""
    least = "At least " if findings.record.errors.beyond else ""
    for kind in RequestKind:
        groups = [one for one in findings.errors if one.kind == kind and one.reason == Reason.WRONG_SHAPE]
        if groups:
            sent = requests_sent(findings, kind)
            known = ", ".join(f"{one.code} ({count(one.count)})" for one in over_traffic(groups) if one.code)
            wrong = f"{count(sum(one.count for one in groups))}{f' of {count(sent)}' if sent is not None else ''}"
            text = f"{least}{wrong} {kind.several} got a response in another shape than documented."
            parts = (known and f"Kinds: {known}", _first(groups[0].request_id))
            yield Point(text, ". ".join(part for part in parts if part))
    for one in findings.anomalies:
        worst = "" if one.worst_ms is None else f" ({duration_ms(one.worst_ms)} at worst)"
        worst += f" (“{one.example}”)" if one.example else ""
        text = f"{count(one.count)} of {count(one.possible)} responses gave {WORDS[one.name]}{worst}."
        yield Point(text, _first(one.request_id))
    ledger = findings.ledger
    strange = {
        "came back as pending after they had ended": ledger.back_to_pending,
        "came back both as completed and as failed": ledger.changed,
        "got the id of an earlier job": ledger.duplicated,
        "got lost: the target forgot them before the run saw their end": ledger.lost,
    }
    for words, number in strange.items():
        if number:
            yield Point(f"{count(number)} of {count(ledger.submitted)} jobs {words}.")
    for name, observed in findings.observed_429.limits.items():
        if found := unexplained_429s(findings, name):
            unknown = "; the decisions do not identify the limiter."
            why = unknown if observed.inference.word == "nothing" else ", and no known limiter explains them."
            yield Point(
                f"{count(found[0])} of {count(found[1])} rejections (429) on the {limit_name(name)} came before it was "
                f"reached{why}"
            )
    for slow in findings.slow_keys:
        times = f"{slow.statistic} of {slow.traffic} is {duration_ms(slow.value_ms)}, {times_as(slow.factor)} times"
        yield Point(f"Key {slow.key} is slow: {times} that of the other keys.", f"n = {count(slow.n)}")


def _first(request_id: str | None) -> str:
    return f"The first such response has the trace {request_id}." if request_id else ""


_MOST: Final = 30
"""The table has at most this many error groups; metrics.json has all."""
_SLOWEST: Final = 20


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
    note = "The example is the traceparent of the group’s first request."
    if (left := len(findings.errors) - _MOST) > 0:
        note += f" Rarer groups, only in metrics.json: {count(left)}."
    return table_of("Errors and 429s, by status, code and reason", columns, findings.errors[:_MOST], note)


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
    note = "Accepted submits, including warm-up and set-up. Submitted is the sum of the rows below."
    if not ledger.complete:
        note += " The run had more jobs than the report can distinguish; these are the first."
    if findings.record.info.pending_jobs:
        note += " The ids of jobs that were never seen to end are in pending_jobs.txt."
    return table_of("Outcomes of all jobs", columns, fates if ledger.submitted else (), note)


def slowest(findings: Findings) -> list[SlowOperation]:
    """Return the operations to show, the slowest first, with about equal numbers from each traffic entry."""
    entries = [found for found in findings.slowest.values() if found]
    each = -(-_SLOWEST // max(1, len(entries)))
    picked = [one for found in entries for one in found[:each]]
    return sorted(picked, key=lambda one: -one.response_ms)[:_SLOWEST]


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
    note = "The command loadtest slow lists more operations and their requests."
    return table_of("Slowest operations", columns, slowest(findings), note)


def job_tables(findings: Findings) -> tuple[Table, ...]:
    """Return all tables of jobs, including empty tables."""
    return _waits(findings), polling_table(findings), _pending_jobs(findings)


_JobRow = tuple[str, str, JobStage]
"""A traffic entry, a stage that submits jobs, and its figures."""


def _stages(findings: Findings) -> list[_JobRow]:
    parts = ((part.traffic, part.stage, part.figures) for part in stage_parts(findings))
    return [(traffic, stage, figures) for traffic, stage, figures in parts if isinstance(figures, JobStage)]


def _waits(findings: Findings) -> Table:
    def queue(name: str, row: _JobRow) -> TableCell:
        return _between(row[2].queue_wait_lower_ms, row[2].queue_wait_upper_ms, name)

    def result(name: str, row: _JobRow) -> TableCell:
        return _between(row[2].time_to_result_lower_ms, row[2].time_to_result_ms, name)

    columns: TableColumns[_JobRow] = {
        "Traffic": lambda row: entry_name(findings, row[0]),
        "Stage": lambda row: row[1],
        "#Jobs ended": lambda row: row[2].poll_lag_upper_ms.n,
        "#Submit p50": lambda row: statistic(row[2].submit_ms, "p50"),
        **{f"#Queue wait {name}": partial(queue, name) for name in ("p50", "p95")},
        "#Exec. p50": lambda row: statistic(row[2].execution_time_ms, "p50"),
        "#Poll lag p50": lambda row: _between(None, row[2].poll_lag_upper_ms, "p50"),
        **{f"#Result {name}": partial(result, name) for name in ("p50", "p95")},
    }
    rows = [row for row in _stages(findings) if row[2].time_to_result_lower_ms.n]
    note = (
        "In ms. Polling and the submit’s response only bound these times: a job’s result becomes available between the "
        "last request that saw it pending and the poll that saw its end. Queue wait: from acceptance to the start of "
        "execution, computed from executionTime. Queue wait and poll lag cover only jobs that were seen to end."
    )
    return table_of("Waiting times of jobs", columns, rows, note)


def _between(lower: Summary | None, upper: Summary, statistic: str) -> TableCell:
    """Format both bounds of a statistic. Without ``lower``, the lower bound is 0."""
    least = 0.0 if lower is None else lower.get(statistic).value
    most = upper.get(statistic)
    if least is None or most.value is None:
        return UNKNOWN
    low = milliseconds(least) if least >= 0.01 else "0"
    return TableCell(f"≥\u00a0{low}" if most.at_least else f"{low} to {milliseconds(most.value)}")


def polling_table(findings: Findings) -> Table:
    """Return a table of polls per job and of their share of the retrieval limit, by traffic entry and stage."""

    def polls(name: str, row: _JobRow) -> TableCell:
        return statistic(row[2].polls, name, lambda value: measured(value, "number"))

    def of_limit(row: _JobRow) -> str:
        value = row[2].polling.share_of_limit
        return share(value) if value is None or value <= 1 else f"{count(value * 100)}\u00a0%"

    columns: TableColumns[_JobRow] = {
        "Traffic": lambda row: entry_name(findings, row[0]),
        "Stage": lambda row: row[1],
        "#Polls of a job: mean": partial(polls, "mean"),
        **{f"#{name}": partial(polls, name) for name in ("p50", "p95", "max")},
        "#Polls sent": lambda row: row[2].polling.polls,
        "#Of all retrievals": lambda row: share(row[2].polling.share_of_retrievals),
        "#Of what the limit allows": of_limit,
    }
    rows = [row for row in _stages(findings) if row[2].polls.n or row[2].polling.polls]
    note = (
        "Polls of a job: all polls of the stage’s jobs, even after the stage. The other columns count this traffic’s "
        "polls during the stage, also as a share of all retrievals and of what the retrieval limit allows."
    )
    return table_of("Polling cost", columns, rows, note)


def _pending_jobs(findings: Findings) -> Table:
    jobs = first_pending(findings.record.directory)
    columns: TableColumns[PendingJob] = {"Job": lambda job: job.job_id, "#Key, by its index": lambda job: job.key_index}
    known = findings.record.info.pending_jobs or len(jobs)
    note = "The target accepted these jobs, and the run did not see them end. They may still be running."
    if known > len(jobs):
        note += f" These are the first of {count(known)}: pending_jobs.txt has all."
    return table_of("Jobs that were never seen to end", columns, jobs, note)
