"""Every table of a report, as text that is ready to show."""

from typing import Final

from loadtest.analysis import numbers
from loadtest.analysis.findings import Findings
from loadtest.analysis.numbers import NOTHING, count, milliseconds, quantity, rate, share
from loadtest.analysis.results import Figures, OperationStage, Summary
from loadtest.analysis.verdict import Judged, amount
from loadtest.contract import Outcome
from loadtest.plan import CONCURRENCY
from loadtest.report.tables.generators import generator_tables
from loadtest.report.tables.jobs import job_tables
from loadtest.report.tables.limits import throttling_tables
from loadtest.report.tables.table import Cell, Table, Tone
from loadtest.report.tables.target import target_tables

_TONES: Final[dict[str, Tone]] = {"pass": "good", "fail": "bad", "inconclusive": "unsure"}
_LATENCIES: Final = {
    "response_time_ms": "response time",
    "service_time_ms": "service time of a request",
    "first_byte_ms": "first byte of a request",
    "connect_ms": "connecting",
    "service_time_new_ms": "service time, new connections",
    "service_time_reused_ms": "service time, reused connections",
    "execution_time_ms": "executionTime",
    "overhead_ms": "overhead",
    "submit_ms": "submit",
    "time_to_result_ms": "time to result, upper bound",
    "time_to_result_lower_ms": "time to result, lower bound",
    "queue_wait_lower_ms": "queue wait, lower bound",
    "queue_wait_upper_ms": "queue wait, upper bound",
    "poll_lag_upper_ms": "poll lag, upper bound",
    "start_lag_ms": "start lag",
    "dispatch_lag_ms": "dispatch lag",
}
_PERCENTILES: Final = ("p50", "p90", "p95", "p99")


def thresholds(judged: list[Judged]) -> Table:
    """Each threshold with its value, margin and n."""
    columns = (
        ("Result", False), ("Where", False), ("Threshold", False), ("Value", True), ("Margin", True), ("n", True),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(one.judgement, tone=_TONES[one.judgement]),
            Cell(one.threshold.scope),
            Cell(one.threshold.text, one.why),
            Cell(amount(one), _beside(one)),
            Cell(NOTHING if one.margin is None else _signed(one)),
            Cell(NOTHING if one.n is None else count(one.n)),
        )
        for one in judged
    )
    return Table(
        "thresholds", "Thresholds", columns, rows, "Margin is the distance to the nearest value that would change it."
    )


def _signed(one: Judged) -> str:
    margin = one.margin or 0.0
    if one.threshold.unit == "share":
        return f"{'+' if margin > 0 else '−' if margin < 0 else '±'}{abs(margin) * 100:.3g}\u00a0points"
    return f"{'+' if margin > 0 else '−' if margin < 0 else '±'}{quantity(abs(margin), one.threshold.unit)}"


def _beside(one: Judged) -> str:
    if one.expected is not None:
        return f"{quantity(one.expected, one.threshold.unit)} expected"
    if one.interval is not None and one.bounds is None:
        return f"95 %: {milliseconds(one.interval[0])} to {milliseconds(one.interval[1])}"
    return ""


def summary(findings: Findings) -> Table:
    """One row for each traffic entry and stage: what was offered, what became of it, how long it took."""
    columns = (
        ("Traffic", False), ("Stage", False), ("Offered", True), ("Rate", True), ("ok", True), ("429", True),
        ("Expected", True), ("p50 ms", True), ("p95 ms", True), ("p99 ms", True), ("Exec. p50", True),
    )  # fmt: skip
    rows = []
    for name, cell in findings.metrics.traffic.items():
        for stage, part in cell.stages.items():
            first = stage == next(iter(cell.stages))
            rows.append((Cell(name if first else "", tone="head"), Cell(stage), *_summary_row(part)))
    note = (
        "429: share of sent operations that ended throttled; Expected: by replay of the believed limiter. "
        f"Times are from the intended start, of operations that were ok or timed out; {NOTHING}: n can’t carry it."
    )
    return Table("summary", "Summary", columns, tuple(rows), note)


def _summary_row(cell: OperationStage) -> tuple[Cell, ...]:
    operations, block = cell.operations, cell.response_time_ms
    return (
        Cell(count(operations.offered)),
        Cell(rate(operations.offered_rate)),
        Cell(count(operations.ok)),
        Cell(share(cell.throttled_rate)),
        Cell(share(cell.expected_throttled_rate), tone="faint"),
        *(statistic(block, name, interval=False) for name in ("p50", "p95", "p99")),
        statistic(cell.execution_time_ms, "p50", interval=False),
    )


def statistic(summary: Summary, name: str, *, interval: bool = True) -> Cell:
    """One statistic of a time: ≥ where it reaches a time-out, faint where n can't carry it."""
    found = summary.get(name)
    if found.value is None:
        return Cell(NOTHING, tone="faint")
    bounds = found.interval if interval else None
    detail = f"{milliseconds(bounds[0])} to {milliseconds(bounds[1])}" if bounds else ""
    return Cell(numbers.bounded(found, milliseconds), detail)


def all_others(findings: Findings) -> tuple[Table, ...]:
    """Every table but those of the first screen."""
    return (
        _outcomes(findings),
        _limits(findings),
        *throttling_tables(findings),
        *(_latency(name, cell) for name, cell in findings.metrics.traffic.items()),
        *job_tables(findings),
        _answers(findings),
        *target_tables(findings),
        _load(findings),
        *generator_tables(findings),
    )


def _outcomes(findings: Findings) -> Table:
    names = ("offered", *Outcome)
    columns = (
        ("Traffic", False), *((name.replace("_", " "), True) for name in names), ("error rate", True),
        ("goodput", True), ("amplification", True),
    )  # fmt: skip
    cells: dict[str, Figures] = {**findings.metrics.traffic, "overall": findings.metrics.overall}
    rows = tuple(
        (
            Cell(name, tone="head"),
            *(Cell(count(getattr(cell.operations, key))) for key in names),
            Cell(share(cell.error_rate)),
            Cell(rate(cell.goodput)),
            Cell(NOTHING if cell.amplification is None else f"{cell.amplification:.3g}"),
        )
        for name, cell in cells.items()
    )
    note = (
        "offered = ok + throttled + failed + timed out + dropped + lost. Amplification: runs, submits and retrieves "
        "that were sent for each operation."
    )
    return Table("outcomes", "What became of every operation", columns, rows, note)


def _limits(findings: Findings) -> Table:
    columns = (
        ("Limit", False), ("While", False), ("From s", True), ("To s", True), ("Requests", True),
        ("Of what it allows", True), ("429s", True), ("429 rate", True),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(use.limit, tone="head"),
            Cell(use.stretch),
            Cell(f"{round(use.start_s, 2):g}"),
            Cell(f"{round(use.end_s, 2):g}"),
            Cell(count(use.sent)),
            Cell(f"{count(use.share * 100)} %"),
            Cell(count(use.throttled)),
            Cell(share(use.throttled_rate)),
        )
        for use in findings.uses
    )
    note = "All traffic together, polls and retries included, by the second in which requests were sent."
    if findings.record.belief.spec.algorithm == CONCURRENCY:
        note += " Of what it allows: accepted requests that were being answered, on average over the stretch."
    return Table("limits", "What was asked of each limit", columns, rows, note)


def _latency(name: str, cell: OperationStage) -> Table:
    columns = (
        ("ms", False), ("n", True), ("mean", True), *((p, True) for p in _PERCENTILES), ("max", True),
    )  # fmt: skip
    rows = [
        (
            Cell(label, tone="head"),
            Cell(count(block.n)),
            statistic(block, "mean"),
            *(statistic(block, p) for p in _PERCENTILES),
            statistic(block, "max"),
        )
        for key, label in _LATENCIES.items()
        if isinstance(block := getattr(cell, key), Summary) and block.n
    ]
    note = "Small print: 95 % intervals, sampling only; requests of one run are correlated, so the truth is wider."
    return Table(f"latency-{name}", f"Times of {name}", columns, tuple(rows), note)


def _answers(findings: Findings) -> Table:
    columns = (("Traffic", False), ("Answers by status", False), ("Reasons of what was not ok", False))
    rows = tuple(
        (Cell(name, tone="head"), Cell(_list(cell.statuses)), Cell(_list(cell.reasons)))
        for name, cell in findings.metrics.traffic.items()
    )
    return Table("answers", "Answers", columns, rows, "Statuses count requests, reasons count operations.")


def _list(counts: dict[str, int]) -> str:
    return ",  ".join(f"{name}: {count(number)}" for name, number in counts.items()) or NOTHING


def _load(findings: Findings) -> Table:
    columns = (
        ("Traffic", False), ("start lag p99 ms", True), ("max ms", True), ("gap error p99 ms", True),
        ("spread of 100 ms bins", True), ("an even sender’s", True),
    )  # fmt: skip
    rows = []
    for name, found in findings.evenness.items():
        lag = findings.metrics.traffic[name].start_lag_ms
        spread = (found.bins_sent, found.bins_intended)
        rows.append(
            (
                Cell(name, tone="head"),
                statistic(lag, "p99", interval=False),
                statistic(lag, "max"),
                statistic(found.gap_error_ms, "p99", interval=False),
                *(Cell(NOTHING, tone="faint") if s is None else Cell(f"{s:.3f}") for s in spread),
            )
        )
    note = (
        "Gap error: by how much the time between two sends missed the schedule’s. Spread: sd ÷ mean of the sends in "
        "bins of 100 ms, where they are many enough; beside it what the schedule itself has."
    )
    return Table("load", "Punctuality and evenness", columns, tuple(rows), note)


__all__ = ["Cell", "Table", "all_others", "numbers", "statistic", "summary", "thresholds"]
