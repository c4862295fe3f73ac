"""Plots of executionTime as the server reports it: as part of the response time, over time, and against it."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.run_record import Record
from loadtest.analysis.timelines import Executions
from loadtest.contract import EXECUTING_OPERATIONS, POLLED_OPERATIONS, JobState, Operation
from loadtest.record.effective_scenario import written_entry
from loadtest.report.deciding import deciding_of
from loadtest.report.page import Table, table_of
from loadtest.report.plots import marks, style
from loadtest.report.plots.drawing import Drawing, NoData

_RETRIES: Final = "429s and waits before retries"
_NOTHING: Final = 0.01
"""Share of executionTime below which a title names the largest part of the time instead."""
_FRAME_IN: Final = 0.55
"""Height of a panel without its rows: title and axis."""
_ROW_IN: Final = 0.36
"""Height of a row, which is two lines of text."""
_MOST_ROWS: Final = 30
"""Rows of the figure, divided among its panels."""
_LEAST_ROWS: Final = 5
"""Rows that every panel may have."""
_LEAST_IN: Final = 1.0
"""A lower panel has no room for its axis and a title above it."""
_MOST_TIMES: Final = 5
"""Maximum ratio of the longest bars of two entries of an operation on the same scale."""
_SAME: Final = 1.1
"""Maximum ratio of stage medians that a title gives as a single median."""


@dataclass(frozen=True)
class _Row:
    """A bar: parts that add up to the mean response time, as (label, ms, look)."""

    stage: str
    n: int
    parts: tuple[tuple[str, float, str], ...]
    execution: float | None

    @property
    def ms(self) -> float:
        return sum(ms for _, ms, _ in self.parts)


def draw_decomposition(findings: Findings) -> Drawing | NoData:
    """Draw a panel per traffic entry with a bar per stage."""
    record, found = findings.record, {}
    for name, plan in record.info.traffic.items():
        indices = {key.stage.name: record.stage_indices([key]) for key in record.stages(traffic=name)}
        bars = [_row(stage, record, k, plan.operation) for stage, own in indices.items() for k in own]
        found[name] = [bar for bar in bars if bar.n]
    found = {name: bars for name, bars in found.items() if bars}
    if not found:
        return NoData("Where the time goes", "no operation succeeded")
    shown, left_out = deciding_of(findings, found)
    tables, most = tuple(_table(name, bars) for name, bars in shown.items()), max(_LEAST_ROWS, _MOST_ROWS // len(shown))
    cut = max(map(len, shown.values())) > most
    shown = {name: _longest(bars, most) for name, bars in shown.items()}
    figure, axes = style.stacked([max(_LEAST_IN, _FRAME_IN + _ROW_IN * len(bars)) for bars in shown.values()])
    longest = {name: max(bar.ms for bar in bars) or 1.0 for name, bars in shown.items()}
    for panel, name, colour in style.entries(record, axes, shown):
        operation = record.info.traffic[name].operation
        alike = [longest[each] for each in shown if record.info.traffic[each].operation == operation]
        # Entries of one operation are compared by the lengths of their bars, unless one would be too short to see.
        shared = max(alike) <= _MOST_TIMES * min(alike)
        _bars(panel, shown[name], colour, max(alike) if shared else longest[name])
    axes[-1].set_xlabel("mean time of an ok operation, ms")
    looks = _looks(style.MUTED)
    retried = any(look == "retries" for bars in found.values() for _, _, look in bars[0].parts)
    style.keys(
        figure,
        {
            "start lag": Patch(**looks["lag"]),
            **({_RETRIES: Patch(**looks["retries"])} if retried else {}),
            "execution / seen pending": Patch(**looks["execution"]),
            "overhead: transport, submit": Patch(**looks["overhead"]),
            "between two polls": Patch(**looks["between"]),
        },
    )
    caption = (
        "Mean time of ok operations by part; the bracket is executionTime as the server reports it, and a "
        "job’s result is "
        "ready somewhere in the hatched part."
    )
    if cut:
        caption += f" Only the {most} slowest stages of each entry are drawn; the numbers have all."
    return Drawing(_decomposition_title(findings, found), caption, figure, tables, left_out)


def _longest(bars: list[_Row], most: int) -> list[_Row]:
    """Return the stages that took longest, in their order."""
    kept = sorted(bars, key=lambda bar: -bar.ms)[:most]
    return [bar for bar in bars if bar in kept]


def _table(name: str, bars: list[_Row]) -> Table:
    columns = f"Stage | #n | {' | '.join(f'#{label} ms' for label, _, _ in bars[0].parts)} | #executionTime ms"
    times = ([*(ms for _, ms, _ in bar.parts), bar.execution] for bar in bars)
    lines = ((bar.stage, words.count(bar.n), *map(words.milliseconds, ms)) for bar, ms in zip(bars, times, strict=True))
    return table_of("data", f"Means of {name}", columns, lines)


def _row(stage: str, record: Record, stage_index: int, operation: str) -> _Row:
    lag, retries, total, submit, lower = (
        record.means.mean(stage_index, name) or 0.0
        for name in ("start_lag", "retries", "response", "submit", "pending_lower")
    )
    execution = record.means.mean(stage_index, "execution")
    parts: list[tuple[str, float, str]] = [("start lag", lag, "lag")]
    if written_entry(record.info, record.vocabulary.stage_keys[stage_index].traffic).retries:
        parts += [(_RETRIES, retries, "retries")]
    lag += retries
    if operation == Operation.SYNC_RUN:
        spent = min(execution or 0.0, total - lag)
        parts += [("execution", spent, "execution"), ("overhead", total - lag - spent, "overhead")]
    elif operation in POLLED_OPERATIONS:
        sure = max(0.0, lower - lag - submit)
        parts += [("submit", submit, "overhead"), (JobState.PENDING, sure, "execution")]
        parts += [("between polls", max(0.0, total - lag - submit - sure), "between")]
    else:
        parts += [("service", total - lag, "overhead")]
        execution = None
    return _Row(stage, int(record.means.n[stage_index]), tuple(parts), execution)


def _looks(colour: str) -> dict[str, dict[str, Any]]:
    return {
        "lag": {"color": style.INK},
        "execution": {"color": colour},
        "retries": {"facecolor": style.PAPER, "edgecolor": colour, "hatch": "....", "linewidth": 0.6},
        "overhead": {"color": colour, "alpha": 0.45},
        "between": {"facecolor": style.PAPER, "edgecolor": colour, "hatch": "////", "linewidth": 0.6},
    }


def _bars(panel: Axes, bars: list[_Row], colour: str, longest: float) -> None:
    looks = _looks(colour)
    for place, bar in enumerate(bars):
        left = 0.0
        for _, ms, look in bar.parts:
            panel.barh(place, ms, left=left, height=0.5, **looks[look])
            left += ms
        text = words.duration_ms(left)
        if bar.execution is not None:
            text += f"{style.DOT}executionTime {words.duration_ms(bar.execution)}"
            begin, y = sum(ms for _, ms, look in bar.parts[:2] if look != "execution"), place - 0.36
            end = begin + bar.execution
            panel.plot([begin, begin, end, end], [y + 0.07, y, y, y + 0.07], color=style.MUTED, lw=1.0)
        style.note(panel, text, (left, place), (5, 0), va="center", fontsize=8)
    style.rows(panel, [f"{bar.stage}\nn = {words.count(bar.n)}" for bar in bars], top=-0.62)
    panel.set_xlim(0, longest * 1.32)
    style.plain(panel.xaxis)
    panel.spines["left"].set_visible(False)


def _decomposition_title(findings: Findings, found: dict[str, list[_Row]]) -> str:
    shares = {}
    for name, bars in found.items():
        known = [(bar.n, bar.ms, bar.execution) for bar in bars if bar.execution is not None]
        n = sum(n for n, _, _ in known)
        if known and (total := sum(n * ms for n, ms, _ in known) / n):
            shares[name] = min(sum(n * execution for n, _, execution in known) / n / total, 1.0)
    if not shares:
        return "Where the time of an operation goes"
    if max(shares.values()) < _NOTHING:
        return f"Of the mean time of an ok operation, {_largest_parts(found)}"
    said = ", ".join(f"{words.share(share)} for {name}{ended_share(findings, name)}" for name, share in shares.items())
    if len(shares) > style.MOST_NAMED:
        said = words.listed(shares, words.share)
    return f"Of the mean time of an ok operation, executionTime is {said}"


def _largest_parts(found: dict[str, list[_Row]]) -> str:
    """Return the largest part of each entry's time: ``overhead is 95 % (none)``."""
    said: dict[str, list[str]] = {}
    for name, bars in found.items():
        sums: dict[str, float] = {}
        for bar in bars:
            for label, ms, _ in bar.parts:
                sums[label] = sums.get(label, 0.0) + bar.n * ms
        label = max(sums, key=lambda each: sums[each])
        said.setdefault(label, []).append(f"{words.share(sums[label] / (sum(sums.values()) or 1.0))} ({name})")
    return "; ".join(f"{label}: {', '.join(each)}" for label, each in said.items())


def ended_share(findings: Findings, name: str) -> str:
    """Return the share of ok operations, as a qualifier of figures; empty if all were ok."""
    operations = findings.metrics.traffic[name].operations
    if operations.ok == operations.sent:
        return ""
    return f" ({words.share(operations.ok / operations.sent)} were ok)" if operations.sent else ""


def why_none(findings: Findings) -> str:
    """Return why there is no executionTime; empty if there is any."""
    if any(entry.n for entry in findings.executions.values()):
        return ""
    overall = findings.metrics.overall
    if overall.requests.sent and overall.requests.throttled == overall.requests.sent:
        return "every request got 429"
    if not any(plan.operation in EXECUTING_OPERATIONS for plan in findings.record.info.traffic.values()):
        return "no traffic entry executes anything: a retrieval’s job ran before it"
    return "no answer carried any" if overall.operations.ok else "no operation ended with success"


def over_time(findings: Findings) -> Drawing | NoData:
    """Draw a panel per executing traffic entry: operations as dots, percentiles of bins as lines."""
    if why := why_none(findings):
        return NoData("executionTime over time", why)
    record, (shown, left_out) = findings.record, deciding_of(findings, findings.executions)
    figure, axes = style.panels(len(shown), 1.7)
    for panel, name, colour in style.entries(record, axes, shown):
        entry = shown[name]
        _dots(panel, entry.seconds, entry.execution, colour)
        marks.draw_bins(panel, entry.n, entry.cuts, entry.binned)
        _span(panel, entry.execution)
        panel.set_ylabel("ms (log)")
    marks.over_time(axes, record, list(shown))
    caption = (
        "executionTime of each operation as the server reports it, at the operation’s intended start, on a "
        "log scale; lines "
        "are dotted where a bin has too few samples."
    )
    return Drawing(_over_time_title(findings), caption, figure, left_out=left_out)


def against_latency(findings: Findings) -> Drawing | None:
    """Draw a panel per traffic entry with an impossible executionTime; None without any."""
    record = findings.record
    anomalous = {name: entry for name, entry in findings.executions.items() if entry.anomaly_count}
    if not anomalous:
        return None
    shown, left_out = deciding_of(findings, anomalous)
    figure, axes = style.panels(len(shown), 2.6, columns=min(3, len(shown)), share_x=False)
    for panel, name, colour in style.entries(record, axes, shown):
        _square(panel, shown[name], colour)
        sync = record.info.traffic[name].operation == Operation.SYNC_RUN
        panel.set_xlabel(f"{'service time' if sync else 'submit to result'}, as the client saw it, ms (log)")
    axes[0].set_ylabel("executionTime, ms (log)")
    caption = (
        "Each dot is an operation; an executionTime above the line is longer than the client waited, and "
        "values below zero "
        "are drawn at the lower edge."
    )
    count = sum(entry.anomaly_count for entry in anomalous.values())
    which = f"executionTime{'' if count == 1 else 's'} of {', '.join(anomalous)}"
    title = f"{words.count(count)} {which} cannot be: below zero, or longer than the client waited"
    return Drawing(title, caption, figure, left_out=left_out)


def _dots(panel: Axes, x: Any, y: Any, colour: str) -> None:
    alpha = 0.85 if len(x) < 300 else 0.5 if len(x) < 2000 else 0.3
    panel.scatter(
        x,
        y,
        s=5,
        color=colour,
        alpha=alpha,
        linewidths=0,
        label="an operation",
        rasterized=len(x) > style.SCATTER_AS_PATHS,
    )


def _span(panel: Axes, values: Any) -> None:
    """Set a log axis that spans at least a factor of four, so that a steady value looks steady."""
    known = values[values > 0]
    low, high = (float(known.min()), float(known.max())) if len(known) else (1.0, 1.0)
    middle = (low * high) ** 0.5
    margin = 1.1 * (high / low) ** 0.07
    style.log(panel, "y", min(low / margin, middle / 2), max(high * margin, middle * 2))


def _square(panel: Axes, entry: Executions, colour: str) -> None:
    anomalous, anomalous_seen = entry.anomalous
    every = np.concatenate((entry.execution, entry.seen, anomalous, anomalous_seen))
    every = every[every > 0]
    low, high = (float(every.min()) / 1.5, float(every.max()) * 1.5) if len(every) else (0.5, 2.0)
    _dots(panel, entry.seen, np.maximum(entry.execution, low), colour)
    if len(anomalous):
        panel.scatter(
            anomalous_seen, np.maximum(anomalous, low), s=22, marker="x", color=style.THROTTLED, linewidths=1.1,
            label="cannot be", clip_on=False, zorder=3,
        )  # fmt: skip
    panel.plot([low, high], [low, high], color=style.INK, lw=0.9, label="as long as the client waited")
    panel.fill_between([low, high], [low, high], high, color=style.SHADE, lw=0, zorder=0)
    style.log(panel, "x", low, high)
    style.log(panel, "y", low, high)


def _over_time_title(findings: Findings) -> str:
    traffic = {name: findings.metrics.traffic[name] for name in findings.executions}
    parts = []
    for name, figures in traffic.items():
        steps = {
            stage: p50 for stage, part in figures.stages.items() if (p50 := part.execution_time_ms.p50) is not None
        }
        if not steps:
            continue
        quick, slow = (pick(steps, key=lambda stage: steps[stage]) for pick in (min, max))
        said = words.duration_ms(figures.execution_time_ms.p50)
        if steps[slow] > _SAME * steps[quick]:
            said = f"{words.duration_ms(steps[quick])} ({quick}) to {words.duration_ms(steps[slow])} ({slow})"
        parts.append(f"{name} {said}")
    medians = {name: figures.execution_time_ms.p50 for name, figures in traffic.items()}
    return medians_title("executionTime", medians, ", ".join(parts))


def medians_title(of: str, medians: dict[str, float | None], said: str) -> str:
    """Return a title with each entry's median; for many entries, the lowest and highest, in ms."""
    known = {name: median for name, median in medians.items() if median is not None}
    if len(known) > style.MOST_NAMED:
        said = words.listed(known, words.duration_ms)
    return f"Median {of} of ok operations: {said}" if said else f"Too few answers for a median {of}"
