"""executionTime, as the server says: as a part of what the client saw, over time, and against what the client saw."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.record import Record
from loadtest.analysis.timelines import Executions
from loadtest.contract import EXECUTING_OPERATIONS, POLLED_OPERATIONS, JobState, Operation
from loadtest.report.page import Table, table_of
from loadtest.report.plots import stages, style
from loadtest.report.plots.drawing import Drawing, NoData

_MOST_NAMED: Final = 3
"""Entries that a title names one by one."""
_FRAME_IN: Final = 0.55
"""Height of a panel without its rows: title and axis."""
_ROW_IN: Final = 0.36
"""Height of a row, which is two lines of text."""
_MOST_TIMES: Final = 5
"""By how much the longest bar of an operation may exceed that of another entry on the same scale."""
_LEAST_IN: Final = 1.0
"""A lower panel has no room for its axis and a title above it."""


@dataclass(frozen=True)
class _Row:
    """A bar: parts that add up to the mean response time, as (label, ms, look)."""

    stage: str
    n: int
    parts: tuple[tuple[str, float, str], ...]
    execution: float | None


def draw_decomposition(findings: Findings) -> Drawing | NoData:
    """One panel for each traffic entry, one bar for each of its stages."""
    record = findings.record
    rows = {
        name: [
            _row(key.stage.name, record, stage_index, plan.operation)
            for key in record.stages(traffic=name)
            for stage_index in record.stage_indices([key])
            if record.means.n[stage_index]
        ]
        for name, plan in record.info.traffic.items()
    }
    names = [name for name, found in rows.items() if found]
    if not names:
        return NoData("Where the time goes", "no operation succeeded")
    figure, axes = style.stacked([max(_LEAST_IN, _FRAME_IN + _ROW_IN * len(rows[name])) for name in names])
    for panel, name in zip(axes, names, strict=True):
        operation = record.info.traffic[name].operation
        alike = [_longest(rows[each]) for each in names if record.info.traffic[each].operation == operation]
        # Entries of one operation are compared by the lengths of their bars, unless one would be too short to see.
        shared = max(alike) <= _MOST_TIMES * min(alike)
        _bars(panel, rows[name], style.OPERATIONS[operation], max(alike) if shared else _longest(rows[name]))
        panel.set_title(f"{name}  ·  {operation}")
    axes[-1].set_xlabel("mean time of an ok operation, ms")
    keys = _keys()
    style.legend_of(figure, keys, [str(key.get_label()) for key in keys])
    caption = (
        "Means, because means add up. A job’s result is ready somewhere in the hatched part, between two polls: "
        "polling shows it no sooner. The bracket is executionTime as the server reports it; what the client waited "
        "beyond it is queueing, transport and polling. A retrieval has no bracket: its job ran before it. "
        "Entries of one operation have the same scale unless one took more than 5 times as long."
    )
    return Drawing(
        _decomposition_title(findings, rows), caption, figure, tuple(_table(name, rows[name]) for name in names)
    )


def _table(name: str, rows: list[_Row]) -> Table:
    columns = f"Stage | #n | {' | '.join(f'#{label} ms' for label, _, _ in rows[0].parts)} | #executionTime ms"
    lines = tuple(
        (
            row.stage,
            words.count(row.n),
            *(words.milliseconds(ms) for _, ms, _ in row.parts),
            words.milliseconds(row.execution),
        )
        for row in rows
    )
    return table_of("data", f"Means of {name}", columns, lines)


def _row(stage: str, record: Record, stage_index: int, operation: str) -> _Row:
    lag, total, submit, lower = (
        record.means.mean(stage_index, name) or 0.0 for name in ("start_lag", "response", "submit", "pending_lower")
    )
    execution = record.means.mean(stage_index, "execution")
    parts: list[tuple[str, float, str]] = [("start lag", lag, "lag")]
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


def _looks(colour: str) -> dict[str, dict[str, object]]:
    return {
        "lag": {"color": style.INK},
        "execution": {"color": colour},
        "overhead": {"color": colour, "alpha": 0.45},
        "between": {"facecolor": style.PAPER, "edgecolor": colour, "hatch": "////", "linewidth": 0.6},
    }


def _longest(rows: list[_Row]) -> float:
    return max(sum(ms for _, ms, _ in row.parts) for row in rows) or 1.0


def _bars(panel: Axes, rows: list[_Row], colour: str, longest: float) -> None:
    looks = _looks(colour)
    for place, row in enumerate(rows):
        left = 0.0
        for _, ms, look in row.parts:
            panel.barh(place, ms, left=left, height=0.5, **looks[look])  # type: ignore[arg-type]  # names of Patch's own
            left += ms
        text = words.duration_ms(left)
        if row.execution is not None:
            text += f"  ·  executionTime {words.duration_ms(row.execution)}"
        panel.annotate(text, (left, place), xytext=(5, 0), textcoords="offset points",
                       va="center", fontsize=8)  # fmt: skip
        if row.execution is not None:
            begin = sum(ms for _, ms, look in row.parts[:2] if look != "execution")
            _bracket(panel, begin, row.execution, place)
    panel.set_yticks(np.arange(len(rows)), [f"{row.stage}\nn = {words.count(row.n)}" for row in rows])
    panel.set_ylim(len(rows) - 0.4, -0.62)
    panel.set_xlim(0, longest * 1.28)
    style.plain(panel.xaxis)
    panel.grid(visible=False, axis="y")
    panel.spines["left"].set_visible(False)
    panel.tick_params(axis="y", length=0)


def _bracket(panel: Axes, begin: float, length: float, place: int) -> None:
    y = place - 0.36
    panel.plot([begin, begin, begin + length, begin + length], [y + 0.07, y, y, y + 0.07], color=style.MUTED, lw=1.0)


def _keys() -> list[Patch]:
    looks = _looks(style.FADED)
    return [
        Patch(label="start lag", **looks["lag"]),  # type: ignore[arg-type]  # names of Patch's own
        Patch(label="execution / seen pending", **{**looks["execution"], "color": style.MUTED}),  # type: ignore[arg-type]  # as above
        Patch(label="overhead: transport, submit", **{**looks["overhead"], "color": style.MUTED}),  # type: ignore[arg-type]  # as above
        Patch(label="between two polls", **{**looks["between"], "edgecolor": style.MUTED}),  # type: ignore[arg-type]  # as above
    ]


def _decomposition_title(findings: Findings, rows: dict[str, list[_Row]]) -> str:
    shares = {}
    for name, found in rows.items():
        known = [row for row in found if row.execution is not None]
        if known:
            n = sum(row.n for row in known)
            total = sum(row.n * sum(ms for _, ms, _ in row.parts) for row in known) / n
            execution = sum(row.n * (row.execution or 0.0) for row in known) / n
            if total:
                shares[name] = min(execution / total, 1.0)
    if not shares:
        return "Where the time of an operation goes"
    if len(shares) > _MOST_NAMED:
        return f"Of the mean time of an ok operation, executionTime is {words.listed(shares, words.share)}"
    parts = ", ".join(f"{words.share(share)} for {name}{ended_share(findings, name)}" for name, share in shares.items())
    return f"Of the mean time of an ok operation, executionTime is {parts}"


def ended_share(findings: Findings, name: str) -> str:
    """Of how many of the operations that were sent a figure of ok ones is; empty where all were ok."""
    operations = findings.metrics.traffic[name].operations
    if operations.ok == operations.sent:
        return ""
    return f" ({words.share(operations.ok / operations.sent)} were ok)" if operations.sent else ""


_OVER_TIME: Final = "executionTime over time"
_MOST_PANELS: Final = 6
"""Entries that a title names one by one."""
_SAME: Final = 1.1
"""Medians of stages that are no further apart than that are given as one."""


def why_none(findings: Findings) -> str:
    """Why there is no executionTime; empty if there is any."""
    if any(entry.n for entry in findings.executions.values()):
        return ""
    overall = findings.metrics.overall
    if overall.requests.sent and overall.requests.throttled == overall.requests.sent:
        return "every request got 429"
    if not any(plan.operation in EXECUTING_OPERATIONS for plan in findings.record.info.traffic.values()):
        return "no traffic entry executes anything: a retrieval’s job ran before it"
    return "no answer carried any" if overall.operations.ok else "no operation ended with success"


def over_time(findings: Findings) -> Drawing | NoData:
    """One panel for each traffic entry that executes: dots of operations under percentiles of bins."""
    if why := why_none(findings):
        return NoData(_OVER_TIME, why)
    record, shown = findings.record, dict(list(findings.executions.items())[:_MOST_PANELS])
    figure, axes = style.panels(len(shown), 1.7)
    for panel, (name, entry) in zip(axes, shown.items(), strict=True):
        operation = record.info.traffic[name].operation
        _dots(panel, entry.seconds, entry.execution, style.OPERATIONS[operation])
        stages.draw_bins(panel, entry.n, entry.cuts, entry.binned)
        _span(panel, entry.execution)
        panel.set_ylabel("ms (log)")
        panel.set_title(f"{name}  ·  {operation}")
        named = panel is axes[0] or not stages.same_stages(record, name, next(iter(shown)))
        stages.mark_stages(panel, record, name, names=named)
    style.time_axis(axes[-1], record.covered_s)
    style.legend(figure, axes)
    caption = (
        "What the server says it spent on an operation, at the operation’s intended start. It is the server’s word, "
        "and without queueing, transport or polling: where it stays level and response times rise, work waits; where "
        "it rises itself, work is done more slowly. Lines are dotted where a bin holds too few to carry them. The "
        "scale is logarithmic and doesn’t start at zero."
    )
    return Drawing(_over_time_title(findings), caption, figure)


def against_latency(findings: Findings) -> Drawing | None:
    """One panel for each traffic entry with an executionTime that cannot be; None where every one can."""
    record = findings.record
    shown = {name: entry for name, entry in findings.executions.items() if entry.anomaly_count}
    shown = dict(list(shown.items())[:_MOST_PANELS])
    if not shown:
        return None
    figure, axes = style.panels(len(shown), 2.6, columns=min(3, len(shown)), share_x=False)
    for panel, (name, entry) in zip(axes, shown.items(), strict=True):
        operation = record.info.traffic[name].operation
        _square(panel, entry, style.OPERATIONS[operation])
        seen = "service time" if operation == Operation.SYNC_RUN else "submit to result"
        panel.set_xlabel(f"{seen}, as the client saw it, ms (log)")
        panel.set_title(f"{name}  ·  {operation}")
    axes[0].set_ylabel("executionTime, ms (log)")
    style.legend(figure, axes)
    caption = (
        "Each dot is an operation. The client cannot have waited less than the work took, so nothing can lie above the "
        "line; below it, the distance is overhead: transport for a sync run, queueing and polling too for a job. What "
        "cannot be is marked, and listed under “Impossible values”; below zero is drawn at the lower edge. "
        "Evenly picked where there are many; both scales are logarithmic."
    )
    return Drawing(_against_title(findings), caption, figure)


def _dots(panel: Axes, x: Any, y: Any, colour: str) -> None:
    alpha = 0.85 if len(x) < 300 else 0.5 if len(x) < 2000 else 0.3
    panel.scatter(
        x, y, s=5, color=colour, alpha=alpha, linewidths=0, label="an operation",
        rasterized=len(x) > style.SCATTER_AS_PATHS,
    )  # fmt: skip


def _span(panel: Axes, values: Any) -> None:
    """A log axis that spans a factor of four at least, so that a steady value looks steady."""
    known = values[values > 0]
    low, high = (float(known.min()), float(known.max())) if len(known) else (1.0, 1.0)
    middle = (low * high) ** 0.5
    panel.set_yscale("log")
    margin = 1.1 * (high / low) ** 0.07
    panel.set_ylim(min(low / margin, middle / 2), max(high * margin, middle * 2))
    style.plain_log(panel.yaxis)


def _square(panel: Axes, entry: Executions, colour: str) -> None:
    anomalous, anomalous_seen = entry.anomalous
    every = np.concatenate((entry.execution, entry.seen, anomalous, anomalous_seen))
    every = every[every > 0]
    low, high = (float(every.min()) / 1.5, float(every.max()) * 1.5) if len(every) else (0.5, 2.0)
    _dots(panel, entry.seen, np.maximum(entry.execution, low), colour)
    if len(anomalous):
        panel.scatter(anomalous_seen, np.maximum(anomalous, low), s=22, marker="x", color=style.THROTTLED,
                      linewidths=1.1, label="cannot be", clip_on=False, zorder=3)  # fmt: skip
    panel.plot([low, high], [low, high], color=style.INK, lw=0.9, label="as long as the client waited")
    panel.fill_between([low, high], [low, high], high, color=style.SHADE, lw=0, zorder=0)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(low, high)
    panel.set_ylim(low, high)
    style.plain_log(panel.xaxis)
    style.plain_log(panel.yaxis)


def _over_time_title(findings: Findings) -> str:
    traffic = findings.metrics.traffic
    medians = {name: p50 for name in findings.executions if (p50 := traffic[name].execution_time_ms.p50) is not None}
    if len(medians) > _MOST_NAMED:
        return f"Median executionTime of ok operations: {words.listed(medians, words.duration_ms)}"
    parts = []
    for name in findings.executions:
        figures = findings.metrics.traffic[name]
        medians_of = ((stage, part.execution_time_ms.p50) for stage, part in figures.stages.items())
        steps = [(stage, value) for stage, value in medians_of if value is not None]
        if not steps:
            continue
        (quick, least), (slow, most) = (pick(steps, key=lambda step: step[1]) for pick in (min, max))
        if most > _SAME * least:
            parts.append(f"{name} {words.duration_ms(least)} ({quick}) to {words.duration_ms(most)} ({slow})")
        else:
            parts.append(f"{name} {words.duration_ms(figures.execution_time_ms.p50)}")
    return (
        f"Median executionTime of ok operations: {', '.join(parts)}"
        if parts
        else "Too few answers for a median executionTime"
    )


def _against_title(findings: Findings) -> str:
    anomalous = {name: entry.anomaly_count for name, entry in findings.executions.items() if entry.anomaly_count}
    count = sum(anomalous.values())
    names = ", ".join(anomalous)
    verb = "executionTime of" if count == 1 else "executionTimes of"
    return f"{words.count(count)} {verb} {names} cannot be: below zero, or longer than the client waited"
