"""Tables of jobs: waiting times, polling cost, and jobs that never ended."""

from functools import partial

from loadtest.analysis.findings import Findings
from loadtest.analysis.jobs import PendingJob, first_pending
from loadtest.analysis.results import JobFigures, JobStage, Summary
from loadtest.report.page import UNKNOWN, Table, TableCell, TableColumns, table_of
from loadtest.report.tables.cells import entry_name, statistic
from loadtest.words import count, measured, milliseconds, share

_Stage = tuple[str, str, JobStage]


def job_tables(findings: Findings) -> tuple[Table, ...]:
    """Return all tables of jobs, including empty tables."""
    return _waits(findings), polling_table(findings), _pending(findings)


def _stages(findings: Findings) -> list[_Stage]:
    """Return (traffic, stage, figures) of each stage that submits jobs."""
    return [
        (name, stage, part)
        for name, figures in findings.metrics.traffic.items()
        if isinstance(figures, JobFigures)
        for stage, part in figures.stages.items()
    ]


def _waits(findings: Findings) -> Table:
    def queue(name: str, row: _Stage) -> TableCell:
        return _between(row[2].queue_wait_lower_ms, row[2].queue_wait_upper_ms, name)

    def result(name: str, row: _Stage) -> TableCell:
        return _between(row[2].time_to_result_lower_ms, row[2].time_to_result_ms, name)

    columns: TableColumns[_Stage] = {
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
        "last request that saw it pending and the poll that saw its end. Queue wait lasts from acceptance to the start "
        "of execution, if executionTime is true. It and poll lag are of jobs that were seen to end."
    )
    return table_of("waits", "Waiting times of jobs", columns, rows, note)


def _between(lower: Summary | None, upper: Summary, statistic: str) -> TableCell:
    """Format both bounds of a statistic; the lower bound may be unknown."""
    least = 0.0 if lower is None else lower.get(statistic).value
    most = upper.get(statistic)
    if least is None or most.value is None:
        return UNKNOWN
    low = milliseconds(least) if least >= 0.01 else "0"
    return TableCell(f"≥\u00a0{low}" if most.at_least else f"{low} to {milliseconds(most.value)}")


def polling_table(findings: Findings) -> Table:
    """Return polls per job and their share of the retrieval limit, by traffic entry and stage."""

    def polls(name: str, row: _Stage) -> TableCell:
        return statistic(row[2].polls, name, lambda value: measured(value, "number"))

    columns: TableColumns[_Stage] = {
        "Traffic": lambda row: entry_name(findings, row[0]),
        "Stage": lambda row: row[1],
        "#Polls of a job: mean": partial(polls, "mean"),
        **{f"#{name}": partial(polls, name) for name in ("p50", "p95", "max")},
        "#Polls sent": lambda row: row[2].polling.polls,
        "#Of all retrievals": lambda row: share(row[2].polling.share_of_retrievals),
        "#Of what the limit allows": lambda row: _percent(row[2].polling.share_of_limit),
    }
    rows = [row for row in _stages(findings) if row[2].polls.n or row[2].polling.polls]
    note = (
        "Polls of a job: of operations of the stage, whenever the polls were sent. The other columns count the polls "
        "of this traffic in the stage’s time, as shares of all polls and retrieves and of the retrieval limit."
    )
    return table_of("polling", "Polling cost", columns, rows, note)


def _percent(value: float | None) -> str:
    return share(value) if value is None or value <= 1 else f"{count(value * 100)}\u00a0%"


def _pending(findings: Findings) -> Table:
    jobs = first_pending(findings.record.directory)
    columns: TableColumns[PendingJob] = {"Job": lambda job: job.job_id, "#Key, by its index": lambda job: job.key_index}
    known = findings.record.info.pending_jobs or len(jobs)
    note = "The target accepted these jobs, and the run did not see them end. They may still be running."
    if known > len(jobs):
        note += f" These are the first of {count(known)}: pending_jobs.txt has all."
    return table_of("pending", "Jobs that never ended", columns, jobs, note)
