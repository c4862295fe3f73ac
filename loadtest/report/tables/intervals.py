"""The table of how sure figures are: of each traffic entry and stage, and why where nothing is known of it."""

from typing import Final

from loadtest.analysis.findings import Findings
from loadtest.analysis.intervals import GOODPUT, MetricInterval
from loadtest.analysis.numbers import NOTHING, count, duration_ms, rate, share
from loadtest.analysis.results import Summary
from loadtest.report.tables.table import Cell, Row, Table, table_of

_SHOWN: Final = (
    "throttled_rate", "error_rate", "goodput", "response_time.p50", "response_time.p90", "response_time.p95",
    "execution_time.p50", "execution_time.p95",
)  # fmt: skip
_KINDS: Final = {"phases": "all phases", "blocks": "blocks, 95 %", "phases and blocks": "all phases, blocks"}


def intervals(findings: Findings) -> Table:
    """Each figure with its range or interval beside that of order statistics."""
    columns = "Traffic | Stage | Figure | #Value | #Range or interval | From | #n"
    rows = tuple(_row(findings, one) for one in findings.intervals if one.metric in _SHOWN)
    note = (
        "All phases: what the same sends would have had at any other second, by a replay of the assumed limiter. "
        "Blocks: the 95 % interval from blocks of time, which knows that requests are correlated; effective n is to "
        "how many independent ones they amount. Below a value: the 95 % interval from order statistics, which takes "
        "requests for independent (sampling only); thresholds use it."
    )
    return table_of("intervals", "How sure the figures are", columns, rows, note)


def _row(findings: Findings, one: MetricInterval) -> Row:
    bounds = None if one.low is None or one.high is None else f"{_say(one, one.low)} to {_say(one, one.high)}"
    return (
        one.traffic,
        one.stage,
        one.metric,
        Cell(_say(one, one.value), _sampling(findings, one)),
        Cell(NOTHING, tone="faint") if bounds is None else Cell(bounds),
        Cell(one.why_not, tone="faint") if one.kind is None else Cell(_KINDS[one.kind]),
        Cell(count(one.n), "" if one.effective_n is None else f"effective {count(one.effective_n)}"),
    )


def _say(one: MetricInterval, value: float) -> str:
    if one.metric.endswith("_rate"):
        return share(value)
    return rate(value) if one.metric == GOODPUT else duration_ms(value)


def _sampling(findings: Findings, one: MetricInterval) -> str:
    """The interval from order statistics; empty of shares and rates, which have none."""
    name, _, statistic = one.metric.partition(".")
    summary = getattr(findings.metrics.traffic[one.traffic].stages[one.stage], f"{name}_ms", None)
    found = summary.get(statistic).interval if isinstance(summary, Summary) else None
    return "" if found is None else f"{duration_ms(found[0])} to {duration_ms(found[1])}"
