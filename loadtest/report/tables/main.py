"""All tables of a run's report; this module builds those of the figures and of the generator."""

import math
from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter
from typing import Final

from loadtest.analysis.findings import Findings
from loadtest.analysis.intervals import MetricInterval
from loadtest.analysis.rejections.usage import LimitUsage
from loadtest.analysis.results import CountedFigures, OperationStage, Summary
from loadtest.analysis.validity import Generator, generators
from loadtest.analysis.verdict import Judged, amount
from loadtest.assumed_limits import CONCURRENCY
from loadtest.contract import Outcome
from loadtest.metrics import METRICS, UNITS
from loadtest.record.effective_scenario import polling
from loadtest.record.run_info import PauseInfo
from loadtest.report.deciding import deciding
from loadtest.report.headline import main_entry
from loadtest.report.page import Row, Table, TableCell, Tone, table_of
from loadtest.report.tables.answers import pair_tables
from loadtest.report.tables.cells import UNKNOWN, alarm, listed, statistic
from loadtest.report.tables.jobs import job_tables
from loadtest.report.tables.limits import observed_429_tables
from loadtest.report.tables.target import target_tables
from loadtest.threshold import parse_threshold
from loadtest.words import NOTHING, count, counted, duration_ms, measured, milliseconds, quantity, rate, share, signed

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
_KEYS_NAMED: Final = 5
_NEAREST: Final = 3
"""Thresholds shown first if all hold: those nearest to failing."""
_PERCENTILES: Final = ("p50", "p90", "p95", "p99")


def thresholds(judged: list[Judged]) -> Table:
    """Return each threshold with value, margin and n; failed thresholds decide, then the nearest to failing."""
    columns = "Result | Where | Threshold | #Value | #Margin | ~#n"
    rows = tuple(
        (
            _result(one),
            one.scope,
            TableCell(one.require, "default for every traffic entry that should succeed" if one.implicit else one.why),
            TableCell(amount(one), _beside(one)),
            NOTHING if one.margin is None else signed(one.margin, one.unit),
            NOTHING if one.n is None else count(one.n),
        )
        for one in judged
    )
    note = "Margin is the distance to the nearest value that would change it."
    if any(one.marginal for one in judged):
        note += " Marginal: in a part of the value’s 95 % interval it is the other way round."
    unsure = sum(one.judgement != "pass" or one.marginal for one in judged)
    decides = sorted(range(len(judged)), key=lambda place: _nearness(judged[place]))[: max(unsure, _NEAREST)]
    return replace(table_of("thresholds", "Thresholds", columns, rows, note), decides=tuple(decides))


def _nearness(one: Judged) -> tuple[int, bool, float]:
    """Sort key: failed, inconclusive, then passed by the smallest relative margin."""
    threshold = parse_threshold(one.require)
    exact = threshold.operator == "==" or one.margin is None
    margin = math.inf if exact else abs(one.margin or 0.0) / (abs(threshold.value) or 1.0)
    return ("fail", "inconclusive", "pass").index(one.judgement), not one.marginal, margin


def _result(one: Judged) -> TableCell:
    if one.marginal and one.judgement != "inconclusive":
        return TableCell(f"{one.judgement}, marginal", tone="bad" if one.judgement == "fail" else "unsure")
    return TableCell(one.judgement, tone=_TONES[one.judgement])


def _beside(one: Judged) -> str:
    if one.expected is not None:
        return f"{quantity(one.expected, one.unit)} expected"
    if one.base is not None and one.interval is not None:
        low, high = (quantity(each, one.unit) for each in one.interval)
        return f"95 % of the distance: {low} to {high}"
    if one.interval is not None and one.bounds is None:
        return f"95 %: {milliseconds(one.interval[0])} to {milliseconds(one.interval[1])}"
    return ""


def summary(findings: Findings) -> Table:
    """Return a row per traffic entry and stage; the main row and those with most 429s and errors decide."""
    entries, info = findings.metrics.traffic, findings.record.info
    polled = {name: polling(info, name) for name in entries}
    parts = [(name, stage, part) for name, each in entries.items() for stage, part in each.stages.items()]
    columns = "Traffic | Stage | #Offered | ~#Rate | #ok | #429 | #Expected | #p50 ms | #p95 ms | ~#p99 ms | #Exec. p50"
    rows = (
        (
            "" if place and parts[place - 1][0] == name else name,
            stage,
            *_summary_row(part),
            *([polled[name].removeprefix("polled ").replace(" ", "\u00a0")] if any(polled.values()) else []),
        )
        for place, (name, stage, part) in enumerate(parts)
    )
    note = (
        "ok and 429: shares of operations that were sent. Expected: 429s by a replay of the assumed limiter. "
        f"Times are from the intended start, of operations that were ok or timed out; {NOTHING}: too few samples."
    )
    entry = main_entry(findings)
    chosen = (entry.traffic, entry.stage.name) if entry is not None and entry.stage is not None else None
    decides = sorted(range(len(parts)), key=lambda place: (parts[place][:2] != chosen, _ok(parts[place][2]) or 0.0))
    columns += " | Polled" * any(polled.values())
    return replace(table_of("summary", "Summary", columns, rows, note), decides=tuple(decides))


def _ok(figures: OperationStage) -> float | None:
    counts = figures.operations
    return counts.ok / counts.sent if counts.sent else None


def _summary_row(figures: OperationStage) -> Row:
    operations, block = figures.operations, figures.response_time_ms
    return (
        count(operations.offered),
        rate(operations.offered_rate),
        share(_ok(figures)),
        share(figures.throttled_rate),
        TableCell(share(figures.expected_throttled_rate), tone="faint"),
        *(statistic(block, name, interval=False) for name in ("p50", "p95", "p99")),
        statistic(figures.execution_time_ms, "p50", interval=False),
    )


def all_others(findings: Findings) -> tuple[Table, ...]:
    """Return all tables except those of the first screen."""
    return (
        *pair_tables(findings),
        _outcomes(findings),
        _limits(findings),
        *observed_429_tables(findings),
        *_latencies(findings),
        intervals(findings),
        *job_tables(findings),
        _answers(findings),
        *target_tables(findings),
        _load(findings),
        *generator_tables(findings),
    )


def _outcomes(findings: Findings) -> Table:
    names = ("offered", *Outcome)
    counts = " | ".join(f"#{name.replace('_', ' ')}" for name in names)
    shown = {name: entry for name, entry in METRICS.items() if entry.column}
    columns = f"Traffic | {counts} | {' | '.join(f'#{entry.column}' for entry in shown.values())}"
    every: dict[str, CountedFigures] = {**findings.metrics.traffic, "overall": findings.metrics.overall}
    rows = tuple(
        (
            name,
            *(count(getattr(figures.operations, key)) for key in names),
            *(measured(attrgetter(metric)(figures), entry.unit) for metric, entry in shown.items()),
        )
        for name, figures in every.items()
    )
    note = (
        "offered = ok + throttled + failed + timed out + dropped + lost. Amplification: runs, submits and retrieves "
        "that were sent for each operation."
    )
    return table_of("outcomes", "Outcomes of all operations", columns, rows, note)


def _limits(findings: Findings) -> Table:
    columns = "Limit | While | #From s | #To s | #Requests | #Of what it allows | #429s | #429 rate"
    rows = tuple(
        (
            use.limit,
            use.stretch,
            f"{round(use.start_s, 2):g}",
            f"{round(use.end_s, 2):g}",
            count(use.sent),
            TableCell(f"{count(use.share * 100)} %", _busiest(use)),
            count(use.throttled),
            share(use.throttled_rate),
        )
        for use in findings.uses
    )
    note = "All traffic together, polls and retries included, by the second in which requests were sent."
    if findings.record.assumed_limits.spec.algorithm == CONCURRENCY:
        note += " Of what it allows: accepted requests that were being answered, on average over the stretch."
    return table_of("limits", "Use of each limit", columns, rows, note)


def _busiest(use: LimitUsage) -> str:
    """Return the busiest keys' use of their own quotas, where it differs between keys."""
    if not use.uneven:
        return ""
    return ", ".join(f"key {one.key} {count(one.share * 100)} %" for one in use.keys[:_KEYS_NAMED])


def _latencies(findings: Findings) -> Iterator[Table]:
    """Yield a table per traffic entry; if there are very many, only for those that decide."""
    shown, left_out = deciding(findings, findings.metrics.traffic)
    for name in shown:
        table = _latency(name, findings.metrics.traffic[name], polling(findings.record.info, name))
        more = f" Of {counted(len(left_out), 'further entry', 'further entries')}, metrics.json has the times."
        yield replace(table, note=table.note + more) if left_out and name == shown[-1] else table


def _latency(name: str, figures: OperationStage, polled: str) -> Table:
    columns = f"ms | #n | #mean | {' | '.join(f'#{p}' for p in _PERCENTILES)} | #max"
    rows: list[Row] = [
        (
            label,
            count(block.n),
            statistic(block, "mean"),
            *(statistic(block, p) for p in _PERCENTILES),
            statistic(block, "max"),
        )
        for key, label in _LATENCIES.items()
        if isinstance(block := getattr(figures, key), Summary) and block.n
    ]
    note = "Small print: 95 % intervals, sampling only, over all stages; those that know of correlation: see below."
    return table_of(f"latency-{name}", f"Times of {name}{f' ({polled})' if polled else ''}", columns, rows, note)


def _answers(findings: Findings) -> Table:
    columns = "Traffic | Answers by status | Reasons of what was not ok"
    rows = tuple(
        (name, listed(figures.statuses), listed(figures.reasons)) for name, figures in findings.metrics.traffic.items()
    )
    return table_of("answers", "Answers", columns, rows, "Statuses count requests, reasons count operations.")


def _load(findings: Findings) -> Table:
    columns = "Traffic | #start lag p99 ms | #max ms | #gap error p99 ms | #spread of 100 ms bins | #an even sender’s"
    rows: Iterator[Row] = (
        (
            name,
            statistic(findings.metrics.traffic[name].start_lag_ms, "p99", interval=False),
            statistic(findings.metrics.traffic[name].start_lag_ms, "max"),
            statistic(found.gap_error_ms, "p99", interval=False),
            *(UNKNOWN if spread is None else f"{spread:.3f}" for spread in (found.bins_sent, found.bins_intended)),
        )
        for name, found in findings.evenness.items()
    )
    note = (
        "Gap error: by how much the time between two sends missed the schedule’s. Spread: sd ÷ mean of the sends in "
        "bins of 100 ms, where they are many enough; beside it what the schedule itself has."
    )
    return table_of("load", "Punctuality and evenness", columns, rows, note)


def generator_tables(findings: Findings) -> tuple[Table, ...]:
    """Return tables of generator processes and their pools; older records have none."""
    found = generators(findings.record.info)
    return (_generators(found), _pools(found)) if found else ()


def _generators(found: list[Generator]) -> Table:
    columns = (
        "Process | #CPU mean % | #peak | #machine mean % | #peak | #stalls | #longest ms | #collections | #longest ms"
    )
    rows: tuple[Row, ...] = tuple(
        (
            TableCell(_process_name(one, found), "lost" if one.lost else "", tone="head"),
            *map(_percent, (one.cpu_mean, one.cpu_peak, one.machine_mean, one.machine_peak)),
            *_pauses(one.stalls),
            *_pauses(one.collections),
        )
        for one in found
    )
    note = (
        "CPU by the second: 100 % is one core of a process, and all cores of a machine. Stalls: the event loop woke at "
        "least 50 ms late; collections: of garbage, at least 10 ms long."
    )
    return table_of("generators", "Generator processes", columns, rows, note)


def _pools(found: list[Generator]) -> Table:
    columns = (
        "Users of | Process | #at first | #in the end | #at most | #arrivals that waited | #longest ms | #full for s"
    )
    rows: tuple[Row, ...] = tuple(
        (
            traffic,
            _process_name(one, found),
            *(count(number) for number in (pool.started, pool.size, pool.cap)),
            alarm(pool.waited),
            f"{pool.longest_wait_ms:.0f}" if pool.waited else NOTHING,
            f"{pool.full_s:.2f}",
        )
        for one in found
        for traffic, pool in one.pools.items()
    )
    note = "A pool grows while few of its users are idle. Where none is, arrivals wait, and response times count it."
    return table_of("generators-pools", "Pools of users", columns, rows, note)


def _process_name(one: Generator, found: list[Generator]) -> str:
    if len(found) == 1:
        return "generator"
    return f"worker {one.worker}" if one.worker else "master"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0f}"


def _pauses(pauses: PauseInfo) -> tuple[str, str]:
    return count(pauses.count), f"{pauses.longest_ms:.0f}" if pauses.count else NOTHING


_SHOWN: Final = (
    "throttled_rate", "error_rate", "goodput", "response_time.p50", "response_time.p90", "response_time.p95",
    "execution_time.p50", "execution_time.p95",
)  # fmt: skip
_KINDS: Final = {"phases": "phases, 95 %", "blocks": "blocks, 95 %", "phases and blocks": "phases, blocks"}


def intervals(findings: Findings) -> Table:
    """Return each figure with its range or interval, and the interval from order statistics."""
    columns = "Traffic | Stage | Figure | #Value | #Range or interval | From | #n"
    rows = tuple(_row(findings, one) for one in findings.intervals if one.metric in _SHOWN)
    note = (
        "Phases: what the same sends have at 95 % of other seconds, by a replay of the assumed limiter. "
        "Blocks: the 95 % interval from blocks of time, which knows that requests are correlated; effective n is to "
        "how many independent ones they amount. Below a value: the 95 % interval from order statistics, which takes "
        "requests for independent (sampling only)."
    )
    return table_of("intervals", "Uncertainty of the figures", columns, rows, note)


def _row(findings: Findings, one: MetricInterval) -> Row:
    value, low, high = (measured(each, UNITS[one.metric]) for each in (one.value, one.low, one.high))
    return (
        one.traffic,
        one.stage,
        one.metric,
        TableCell(value, _sampling(findings, one)),
        UNKNOWN if one.low is None or one.high is None else f"{low} to {high}",
        TableCell(one.why_not, tone="faint") if one.kind is None else _KINDS[one.kind],
        TableCell(count(one.n), "" if one.effective_n is None else f"effective {count(one.effective_n)}"),
    )


def _sampling(findings: Findings, one: MetricInterval) -> str:
    """Return the interval from order statistics; empty for shares and rates."""
    name, _, statistic = one.metric.partition(".")
    summary = getattr(findings.metrics.traffic[one.traffic].stages[one.stage], f"{name}_ms", None)
    found = summary.get(statistic).interval if isinstance(summary, Summary) else None
    return "" if found is None else f"{duration_ms(found[0])} to {duration_ms(found[1])}"
