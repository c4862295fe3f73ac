"""Where the time of an operation goes: executionTime, as the server says, beside what the client saw."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from loadtest.analysis import numbers
from loadtest.analysis.findings import Findings
from loadtest.analysis.record import Record
from loadtest.contract import Operation
from loadtest.report.plots.style import FADED, INK, MUTED, OPERATIONS, PAPER, Drawing, NoData, legend_of, plain, stacked
from loadtest.report.table import Cell, Table

_MOST_NAMED: Final = 3
"""Entries that a title names one by one."""
_FRAME_IN: Final = 0.55
"""Height of a panel without its rows: title and axis."""
_ROW_IN: Final = 0.36
"""Height of a row, which is two lines of text."""
_LEAST_IN: Final = 1.0
"""A lower panel has no room for its axis and a title above it."""


@dataclass(frozen=True)
class _Row:
    """A bar: parts that add up to the mean response time, as (label, ms, look)."""

    stage: str
    n: int
    parts: tuple[tuple[str, float, str], ...]
    execution: float | None


def draw(findings: Findings) -> Drawing | NoData:
    """One panel for each traffic entry, one bar for each of its stages."""
    record = findings.record
    rows = {
        name: [
            _row(stage.name, record, cell, plan.operation)
            for cell in record.cells(record.stages(traffic=name))
            if record.means.n[cell]
            for stage in [record.book.cells[cell][1]]
        ]
        for name, plan in record.info.traffic.items()
    }
    names = [name for name, found in rows.items() if found]
    if not names:
        return NoData("Where the time goes", "no operation succeeded")
    figure, axes = stacked([max(_LEAST_IN, _FRAME_IN + _ROW_IN * len(rows[name])) for name in names])
    for panel, name in zip(axes, names, strict=True):
        operation = record.info.traffic[name].operation
        _bars(panel, rows[name], OPERATIONS[operation])
        panel.set_title(f"{name}  ·  {operation}")
    axes[-1].set_xlabel("mean time of an ok operation, ms")
    keys = _keys()
    legend_of(figure, keys, [str(key.get_label()) for key in keys])
    caption = (
        "Means, because means add up. A job’s result is ready somewhere in the hatched part, between two polls: "
        "polling shows it no sooner. The bracket is executionTime as the server reports it; what the client waited "
        "beyond it is queueing, transport and polling. A retrieval has no bracket: its job ran before it."
    )
    return Drawing(_title(rows), caption, figure, tuple(_table(name, rows[name]) for name in names))


def _table(name: str, rows: list[_Row]) -> Table:
    columns = (
        ("Stage", False), ("n", True), *((f"{label} ms", True) for label, _, _ in rows[0].parts),
        ("executionTime ms", True),
    )  # fmt: skip
    cells = tuple(
        (
            Cell(row.stage, tone="head"),
            Cell(numbers.count(row.n)),
            *(Cell(numbers.milliseconds(ms)) for _, ms, _ in row.parts),
            Cell(numbers.milliseconds(row.execution)),
        )
        for row in rows
    )
    return Table("data", f"Means of {name}", columns, cells)


def _row(stage: str, record: Record, cell: int, operation: str) -> _Row:
    lag, total, submit, lower = (
        record.means.of(cell, name) or 0.0 for name in ("start_lag", "response", "submit", "pending_lower")
    )
    execution = record.means.of(cell, "execution")
    parts: list[tuple[str, float, str]] = [("start lag", lag, "lag")]
    if operation == Operation.SYNC_RUN:
        spent = min(execution or 0.0, total - lag)
        parts += [("execution", spent, "execution"), ("overhead", total - lag - spent, "overhead")]
    elif operation == Operation.ASYNC_RUN:
        sure = max(0.0, lower - lag - submit)
        parts += [("submit", submit, "overhead"), ("pending", sure, "execution")]
        parts += [("between polls", max(0.0, total - lag - submit - sure), "between")]
    else:
        parts += [("service", total - lag, "overhead")]
        execution = None
    return _Row(stage, int(record.means.n[cell]), tuple(parts), execution)


def _looks(colour: str) -> dict[str, dict[str, object]]:
    return {
        "lag": {"color": INK},
        "execution": {"color": colour},
        "overhead": {"color": colour, "alpha": 0.45},
        "between": {"facecolor": PAPER, "edgecolor": colour, "hatch": "////", "linewidth": 0.6},
    }


def _bars(panel: Axes, rows: list[_Row], colour: str) -> None:
    looks = _looks(colour)
    longest = max(sum(ms for _, ms, _ in row.parts) for row in rows) or 1.0
    for place, row in enumerate(rows):
        left = 0.0
        for _, ms, look in row.parts:
            panel.barh(place, ms, left=left, height=0.5, **looks[look])  # type: ignore[arg-type]  # names of Patch's own
            left += ms
        words = numbers.duration_ms(left)
        if row.execution is not None:
            words += f"  ·  executionTime {numbers.duration_ms(row.execution)}"
        panel.annotate(words, (left, place), xytext=(5, 0), textcoords="offset points",
                       va="center", fontsize=8)  # fmt: skip
        if row.execution is not None:
            begin = sum(ms for _, ms, look in row.parts[:2] if look != "execution")
            _bracket(panel, begin, row.execution, place)
    panel.set_yticks(np.arange(len(rows)), [f"{row.stage}\nn = {numbers.count(row.n)}" for row in rows])
    panel.set_ylim(len(rows) - 0.4, -0.62)
    panel.set_xlim(0, longest * 1.28)
    plain(panel.xaxis)
    panel.grid(visible=False, axis="y")
    panel.spines["left"].set_visible(False)
    panel.tick_params(axis="y", length=0)


def _bracket(panel: Axes, begin: float, length: float, place: int) -> None:
    y = place - 0.36
    panel.plot([begin, begin, begin + length, begin + length], [y + 0.07, y, y, y + 0.07], color=MUTED, lw=1.0)


def _keys() -> list[Patch]:
    looks = _looks(FADED)
    return [
        Patch(label="start lag", **looks["lag"]),  # type: ignore[arg-type]  # names of Patch's own
        Patch(label="execution / seen pending", **{**looks["execution"], "color": MUTED}),  # type: ignore[arg-type]  # as above
        Patch(label="overhead: transport, submit", **{**looks["overhead"], "color": MUTED}),  # type: ignore[arg-type]  # as above
        Patch(label="between two polls", **{**looks["between"], "edgecolor": MUTED}),  # type: ignore[arg-type]  # as above
    ]


def _title(rows: dict[str, list[_Row]]) -> str:
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
        return f"Of the mean response time, executionTime is {numbers.listed(shares, numbers.share)}"
    parts = ", ".join(f"{numbers.share(share)} for {name}" for name, share in shares.items())
    return f"Of the mean response time, executionTime is {parts}"
