"""All tables of a run's report. This module builds those of thresholds, outcomes, times and load generation."""

import math
from dataclasses import replace
from functools import partial
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
from loadtest.record.run_info import PauseInfo, PoolInfo
from loadtest.report.answers import pair_tables
from loadtest.report.deciding import MainEntry, StagePart, deciding, entry_name, stage_parts, statistic
from loadtest.report.facts import start_of
from loadtest.report.page import Chapter, Table, TableCell, TableColumns, Tone, alarm, table_of, tone_of
from loadtest.report.tables.limits import observed_429_tables
from loadtest.report.tables.target import job_tables, target_tables
from loadtest.threshold import parse_threshold
from loadtest.words import (
    NOTHING,
    count,
    counted,
    duration_ms,
    measured,
    milliseconds,
    quantity,
    rate,
    share,
    signed,
    tally,
)

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


def thresholds(findings: Findings) -> Table:
    """Return a table of thresholds. ``decides`` has all thresholds that failed or are in doubt, and at least three."""
    judged = findings.judged

    def result(one: Judged) -> TableCell:
        marginal = one.marginal and one.judgement != "inconclusive"
        tone: Tone = "unsure" if marginal and one.judgement == "pass" else tone_of(one.judgement)
        return TableCell(f"{one.judgement}{', marginal' if marginal else ''}", tone=tone)

    columns: TableColumns[Judged] = {
        "Result": result,
        "Where": lambda one: TableCell(one.scope, entry_name(findings, one.traffic).detail if one.traffic else ""),
        "Threshold": lambda one: TableCell(one.require, one.why),
        "#Value": lambda one: TableCell(amount(one), _beside(one)),
        "#Margin": lambda one: NOTHING if one.margin is None else signed(one.margin, one.unit),
        "~#n": lambda one: one.n,
    }
    note = "Margin: the distance to the nearest value that would change the result."
    if any(one.marginal for one in judged):
        note += " Marginal: part of the value’s 95 % interval gives the opposite result."
    unsure = sum(one.judgement != "pass" or one.marginal for one in judged)
    decides = sorted(range(len(judged)), key=lambda place: _nearness(judged[place]))[: max(unsure, 3)]
    return table_of("Thresholds", columns, judged, note, tuple(decides))


def _nearness(one: Judged) -> tuple[int, bool, float]:
    """Return a sort key: by result (failed first), then marginal before other values, then by the margin's size."""
    threshold = parse_threshold(one.require)
    exact = threshold.operator == "==" or one.margin is None
    margin = math.inf if exact else abs(one.margin or 0.0) / (abs(threshold.value) or 1.0)
    return ("fail", "inconclusive", "pass").index(one.judgement), not one.marginal, margin


def _beside(one: Judged) -> str:
    if one.expected is not None:
        return f"{quantity(one.expected, one.unit)} expected"
    if one.interval is None or (one.base is None and one.bounds is not None):
        return ""
    low, high = one.interval
    if one.base is not None:
        return f"95 % interval of value minus threshold: {quantity(low, one.unit)} to {quantity(high, one.unit)}"
    return f"95 %: {milliseconds(low)} to {milliseconds(high)}"


def summary(findings: Findings, entry: MainEntry | None) -> Table:
    """Return a table with a row per traffic entry and stage.

    The main entry's row is the most important, then the rows with the lowest shares of ok.
    """
    info, parts = findings.record.info, stage_parts(findings)
    polled = {name: polling(info, name).removeprefix("polled ").replace(" ", "\u00a0") for name in info.traffic}
    first = {part.traffic: part for part in reversed(parts)}
    columns: TableColumns[StagePart] = {
        "Traffic": lambda part: part.traffic if part is first[part.traffic] else "",
        "Stage": lambda part: part.stage,
        "#Offered": lambda part: part.figures.operations.offered,
        "~#Rate": lambda part: rate(part.figures.operations.offered_rate),
        "#ok": lambda part: share(part.ok),
        "#429": lambda part: share(part.figures.throttled_rate),
        "#Expected": lambda part: TableCell(share(part.figures.expected_throttled_rate), tone="faint"),
        "#p50 ms": lambda part: statistic(part.figures.response_time_ms, "p50"),
        "#p95 ms": lambda part: statistic(part.figures.response_time_ms, "p95"),
        "~#p99 ms": lambda part: statistic(part.figures.response_time_ms, "p99"),
        "#Exec. p50": lambda part: statistic(part.figures.execution_time_ms, "p50"),
    }
    if any(polled.values()):
        columns = {**columns, "Polled": lambda part: polled[part.traffic]}
    note = (
        "ok and 429: shares of operations that were sent. Expected: 429s in a replay of the assumed limiter. "
        f"p50 to p99: times from the {start_of(findings.record)}, of operations that were ok or timed out; "
        f"{NOTHING}: too few samples."
    )
    chosen = None if entry is None else entry.part.key
    decides = sorted(range(len(parts)), key=lambda place: (parts[place].key != chosen, parts[place].ok or 0.0))
    return table_of("Summary", columns, parts, note, tuple(decides))


def chapter_tables(findings: Findings) -> dict[Chapter, tuple[Table, ...]]:
    """Return the tables of each chapter, including empty tables."""
    errors, jobs, slowest = target_tables(findings)
    return {
        Chapter.COMPARED: pair_tables(findings),
        Chapter.LIMITS: (_limits(findings), *observed_429_tables(findings)),
        Chapter.TIMES: (*_latencies(findings), intervals(findings)),
        Chapter.EXECUTION: (),
        Chapter.JOBS: job_tables(findings),
        Chapter.OUTCOMES: (_outcomes(findings), _answers(findings), errors, jobs),
        Chapter.SLOWEST: (slowest,),
        Chapter.LOAD: (_load(findings), *generator_tables(findings)),
    }


_Counted = tuple[str, CountedFigures]


def _outcomes(findings: Findings) -> Table:
    def counts(name: str, row: _Counted) -> int:
        return int(getattr(row[1].operations, name))

    def value(metric: str, row: _Counted) -> str:
        return measured(attrgetter(metric)(row[1]), METRICS[metric].unit)

    columns: TableColumns[_Counted] = {
        "Traffic": lambda row: row[0],
        **{f"#{name.replace('_', ' ')}": partial(counts, name) for name in ("offered", *Outcome)},
        **{f"#{entry.column}": partial(value, name) for name, entry in METRICS.items() if entry.column},
    }
    every: list[_Counted] = [*findings.metrics.traffic.items(), ("overall", findings.metrics.overall)]
    note = (
        "offered = ok + throttled + failed + timed out + dropped + lost. Amplification: requests per operation, polls "
        "left out."
    )
    return table_of("Outcomes of all operations", columns, every, note)


def _limits(findings: Findings) -> Table:
    def busiest(use: LimitUsage) -> str:
        keys = use.keys[:5] if use.uneven else ()
        return ", ".join(f"key {one.key} {count(one.share * 100)} %" for one in keys)

    columns: TableColumns[LimitUsage] = {
        "Limit": lambda use: use.limit,
        "While": lambda use: use.stretch,
        "#From s": lambda use: f"{round(use.start_s, 2):g}",
        "#To s": lambda use: f"{round(use.end_s, 2):g}",
        "#Requests": lambda use: use.sent,
        "#Share of the limit": lambda use: TableCell(f"{count(use.share * 100)} %", busiest(use)),
        "#429s": lambda use: use.throttled,
        "#429 rate": lambda use: share(use.throttled_rate),
    }
    note = "Requests of all traffic that were sent from “From s” to “To s”, including polls and retries."
    if findings.record.assumed_limits.spec.algorithm == CONCURRENCY:
        note += " Share of the limit: the mean number of accepted requests in flight ÷ the sum of the keys’ limits."
    return table_of("Use of each limit", columns, findings.uses, note)


def _latencies(findings: Findings) -> list[Table]:
    """Return a table of times for each traffic entry; if these are too many, only for the most important."""

    def of(name: str, row: tuple[str, Summary]) -> TableCell:
        return statistic(row[1], name, interval=True)

    columns: TableColumns[tuple[str, Summary]] = {
        "ms": lambda row: row[0],
        "#n": lambda row: row[1].n,
        **{f"#{each}": partial(of, each) for each in ("mean", "p50", "p90", "p95", "p99", "max")},
    }
    note = (
        "The small print has 95 % intervals over all stages, for independent samples; for correlated samples, see "
        "“Uncertainty of the figures”."
    )
    shown, left_out = deciding(findings, findings.metrics.traffic)
    tables = []
    for name, figures in shown.items():
        found = ((label, getattr(figures, key)) for key, label in _LATENCIES.items())
        rows = [(label, block) for label, block in found if isinstance(block, Summary) and block.n]
        polled = polling(findings.record.info, name)
        tables.append(table_of(f"Times of {name}{f' ({polled})' if polled else ''}", columns, rows, note))
    if left_out:
        entries = f"{counted(len(left_out), 'further entry', 'further entries')} ({', '.join(left_out)})"
        tables[-1] = replace(tables[-1], note=f"{note} Times of {entries} are in metrics.json.")
    return tables


def _answers(findings: Findings) -> Table:
    columns: TableColumns[tuple[str, OperationStage]] = {
        "Traffic": lambda row: row[0],
        "Requests by status": lambda row: tally(row[1].statuses),
        "Operations not ok, by reason": lambda row: tally(row[1].reasons),
    }
    return table_of("Responses", columns, findings.metrics.traffic.items())


def _load(findings: Findings) -> Table:
    lags = {name: figures.start_lag_ms for name, figures in findings.metrics.traffic.items()}
    found = findings.evenness
    columns: TableColumns[str] = {
        "Traffic": lambda name: name,
        "#start lag p99 ms": lambda name: statistic(lags[name], "p99"),
        "#max ms": lambda name: statistic(lags[name], "max"),
        "#gap error p99 ms": lambda name: statistic(found[name].gap_error_ms, "p99"),
        "#spread of 100 ms bins": lambda name: _rounded(found[name].bins_sent, 3),
        "#as scheduled": lambda name: _rounded(found[name].bins_intended, 3),
    }
    note = (
        "Gap error: difference between the actual and the scheduled time from one send to the next. Spread: sd ÷ mean "
        "of the number of sends per 100 ms. The last column has the spread of the intended starts."
    )
    return table_of("Punctuality and evenness", columns, found, note)


def generator_tables(findings: Findings) -> tuple[Table, ...]:
    """Return tables of the generator's processes and of their pools of users; empty if the record has no such data."""
    if not (found := generators(findings.record.info)):
        return ()
    columns: TableColumns[Generator] = {
        "Process": lambda one: TableCell(_process_name(one, found), "lost" if one.lost else "", "head"),
        "#CPU mean %": lambda one: _rounded(one.cpu_mean),
        "#CPU peak %": lambda one: _rounded(one.cpu_peak),
        "#machine mean %": lambda one: _rounded(one.machine_mean),
        "#machine peak %": lambda one: _rounded(one.machine_peak),
        "#stalls": lambda one: one.stalls.count,
        "#longest stall ms": lambda one: _longest(one.stalls),
        "#collections": lambda one: one.collections.count,
        "#longest collection ms": lambda one: _longest(one.collections),
    }
    note = (
        "CPU by the second: 100 % is one core for a process, and all cores for a machine. Stalls: the event loop woke "
        "at least 50 ms late. Collections: garbage collections of at least 10 ms."
    )
    return table_of("Generator processes", columns, found, note), _pools(found)


def _pools(found: list[Generator]) -> Table:
    columns: TableColumns[tuple[str, str, PoolInfo]] = {
        "Users of": lambda row: row[0],
        "Process": lambda row: row[1],
        "#users at first": lambda row: row[2].started,
        "#at the end": lambda row: row[2].size,
        "#at most": lambda row: row[2].cap,
        "#arrivals that waited": lambda row: alarm(row[2].waited),
        "#longest ms": lambda row: _rounded(row[2].longest_wait_ms if row[2].waited else None),
        "#full for s": lambda row: f"{row[2].full_s:.2f}",
    }
    rows = [(traffic, _process_name(one, found), pool) for one in found for traffic, pool in one.pools.items()]
    note = "A pool grows while few users are idle. If no user is idle, arrivals wait; response times include this wait."
    return table_of("Pools of users", columns, rows, note)


def _process_name(one: Generator, found: list[Generator]) -> str:
    return "generator" if len(found) == 1 else f"worker {one.worker}" if one.worker else "master"


def _rounded(value: float | None, digits: int = 0) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _longest(pauses: PauseInfo) -> str | None:
    return _rounded(pauses.longest_ms if pauses.count else None)


_SHOWN: Final = (
    "throttled_rate", "error_rate", "goodput", "response_time.p50", "response_time.p90", "response_time.p95",
    "execution_time.p50", "execution_time.p95",
)  # fmt: skip
_KINDS: Final = {"phases": "phases, 95 %", "blocks": "blocks, 95 %", "phases and blocks": "phases, blocks"}


def intervals(findings: Findings) -> Table:
    """Return a table of the figures' uncertainty. Its note explains the ranges and intervals."""

    def say(one: MetricInterval, value: float | None) -> str:
        return measured(value, UNITS[one.metric])

    columns: TableColumns[MetricInterval] = {
        "Traffic": lambda one: entry_name(findings, one.traffic),
        "Stage": lambda one: one.stage,
        "Figure": lambda one: one.metric,
        "#Value": lambda one: TableCell(say(one, one.value), _sampling(findings, one)),
        "#Range or interval": lambda one: (
            None if one.low is None or one.high is None else f"{say(one, one.low)} to {say(one, one.high)}"
        ),
        "From": lambda one: TableCell(one.why_not, tone="faint") if one.kind is None else _KINDS[one.kind],
        "#n": lambda one: TableCell(count(one.n), (one.effective_n and f"effective {count(one.effective_n)}") or ""),
    }
    rows = [one for one in findings.intervals if one.metric in _SHOWN]
    note = (
        "Phases: the range of 95 % of replays; each replay begins the same sends at another moment of the window. "
        "Blocks: the 95 % interval from blocks of time, for correlated requests; effective n is the equivalent number "
        "of independent requests. Below a value: the 95 % interval from order statistics, for independent requests."
    )
    return table_of("Uncertainty of the figures", columns, rows, note)


def _sampling(findings: Findings, one: MetricInterval) -> str:
    name, _, statistic = one.metric.partition(".")
    summary = getattr(findings.metrics.traffic[one.traffic].stages[one.stage], f"{name}_ms", None)
    found = summary.get(statistic).interval if isinstance(summary, Summary) else None
    return "" if found is None else f"{duration_ms(found[0])} to {duration_ms(found[1])}"
