"""Tables of jobs: waiting times, polling cost, and jobs that never ended."""

from loadtest.analysis.findings import Findings
from loadtest.analysis.jobs import first_pending
from loadtest.analysis.results import JobFigures, JobStage, Summary, bounded
from loadtest.report.page import Row, Table, TableCell, table_of
from loadtest.report.tables.cells import UNKNOWN
from loadtest.words import NOTHING, count, milliseconds, share


def job_tables(findings: Findings) -> tuple[Table, ...]:
    """Return all tables of jobs, empty ones too."""
    return _waits(findings), polling_table(findings), _pending(findings)


def _stages(findings: Findings) -> list[tuple[str, str, JobStage]]:
    """Return (traffic, stage, figures) of each stage that submits jobs."""
    return [
        (name, stage, part)
        for name, figures in findings.metrics.traffic.items()
        if isinstance(figures, JobFigures)
        for stage, part in figures.stages.items()
    ]


def _waits(findings: Findings) -> Table:
    columns = (
        "Traffic | Stage | #Jobs ended | #Submit p50 | #Queue wait p50 | #Queue wait p95 | #Exec. p50 | "
        "#Poll lag p50 | #Result p50 | #Result p95"
    )
    rows: tuple[Row, ...] = tuple(
        (
            name,
            stage,
            count(figures.poll_lag_upper_ms.n),
            _number(figures.submit_ms.p50),
            *(_between(figures.queue_wait_lower_ms, figures.queue_wait_upper_ms, each) for each in ("p50", "p95")),
            _number(figures.execution_time_ms.p50),
            _between(None, figures.poll_lag_upper_ms, "p50"),
            *(_between(figures.time_to_result_lower_ms, figures.time_to_result_ms, each) for each in ("p50", "p95")),
        )
        for name, stage, figures in _stages(findings)
        if figures.time_to_result_lower_ms.n
    )
    note = (
        "In ms, within the bounds that polling and the submit’s answer leave: a job’s result is ready at some time "
        "between the last request that saw it pending and the poll that saw its end. Queue wait is from acceptance to "
        "the begin of execution, if executionTime is true; it and poll lag are of jobs that were seen to end."
    )
    return table_of("waits", "Waiting times of jobs", columns, rows, note)


def _number(value: float | None) -> TableCell:
    return UNKNOWN if value is None else TableCell(milliseconds(value))


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
    columns = (
        "Traffic | Stage | #Polls of a job: mean | #p50 | #p95 | #max | #Polls sent | #Of all retrievals | "
        "#Of what the limit allows"
    )
    rows: tuple[Row, ...] = tuple(
        (
            name,
            stage,
            *(_polls(figures.polls, statistic) for statistic in ("mean", "p50", "p95", "max")),
            count(figures.polling.polls),
            share(figures.polling.share_of_retrievals),
            _percent(figures.polling.share_of_limit),
        )
        for name, stage, figures in _stages(findings)
        if figures.polls.n or figures.polling.polls
    )
    note = (
        "Polls of a job: of operations of the stage, whenever they were sent. The others count by when they were sent: "
        "polls of this traffic, as shares of all polls and retrieves and of the retrieval limit, in the stage’s time."
    )
    return table_of("polling", "Polling cost", columns, rows, note)


def _polls(polls: Summary, statistic: str) -> TableCell:
    found = polls.get(statistic)
    return UNKNOWN if found.value is None else TableCell(bounded(found, lambda value: f"{value:.3g}"))


def _percent(value: float | None) -> str:
    return share(value) if value is None or value <= 1 else f"{count(value * 100)}\u00a0%"


def _pending(findings: Findings) -> Table:
    jobs = first_pending(findings.record.directory)
    rows = tuple((job.job_id, NOTHING if job.key_index is None else str(job.key_index)) for job in jobs)
    known = findings.record.info.pending_jobs or len(jobs)
    note = "Accepted by the target and not seen to end by the end of the run; they may be running still."
    if known > len(jobs):
        note += f" These are the first of {count(known)}: pending_jobs.txt has all."
    return table_of("pending", "Jobs that never ended", "Job | #Key, by its index", rows, note)
