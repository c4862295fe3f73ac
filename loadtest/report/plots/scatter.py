"""Response time of every operation over time, under rolling percentiles."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from loadtest.analysis.findings import Findings
from loadtest.ranks import interval_ranks
from loadtest.report import numbers
from loadtest.report.plots import bins
from loadtest.report.plots.style import (
    INK,
    MUTED,
    OPERATIONS,
    SCATTER_AS_PATHS,
    THROTTLED,
    Drawing,
    NoData,
    legend,
    panels,
    plain_log,
    time_axis,
)

_MOST_POINTS = 12_000


def draw(findings: Findings) -> Drawing | NoData:
    """One panel for each traffic entry that got any answer."""
    record = findings.record
    rows = record.frame[(record.frame["row"] == "operation") & record.frame["response_time_ms"].notna()]
    names = [name for name in record.info.traffic if (rows["traffic"] == name).any()]
    if not names:
        return NoData("Response time of each operation", "no operation was sent")
    figure, axes = panels(len(names), 1.85)
    for panel, name in zip(axes, names, strict=True):
        _panel(panel, rows[rows["traffic"] == name], findings, name)
        bins.mark_stages(panel, record, name, names=panel is axes[0])
    time_axis(axes[-1], record.covered_s)
    legend(figure, axes)
    caption = (
        "Each dot is an operation at its intended start; lower is better. The scale is logarithmic and doesn’t start "
        "at zero. Lines are percentiles of operations that were ok or timed out, drawn dotted where the bin holds "
        "too few to carry them. 429s and errors are marked apart and are in no line."
    )
    return Drawing(_title(findings), caption, figure)


def _title(findings: Findings) -> str:
    parts = []
    for name, cell in findings.metrics["traffic"].items():
        block = cell["response_time_ms"]
        if block["p50"] is not None:
            tail = f" ({_words(block, 'p95')})" if block["p95"] is not None else ""
            parts.append(f"{name} {_words(block, 'p50')}{tail}")
    return f"Median (p95) response time: {', '.join(parts)}" if parts else "Too few answers for a median response time"


def _words(block: dict[str, Any], statistic: str) -> str:
    return ("≥\u00a0" if statistic in block["at_least"] else "") + numbers.duration_ms(block[statistic])


def _panel(panel: Axes, rows: pd.DataFrame, findings: Findings, name: str) -> None:
    record = findings.record
    colour = OPERATIONS[record.info.traffic[name].operation]
    good = rows[rows["outcome"] == "ok"]
    layers = [
        (good, "ok", colour, "o", 5.0, 0.55 if len(good) < 2000 else 0.3),
        (rows[rows["status"].eq(429) & rows["outcome"].ne("timed_out")], "429", THROTTLED, "x", 9.0, 0.55),
        (rows[rows["outcome"].eq("failed")], "failed", MUTED, "+", 20.0, 1.0),
        (rows[rows["outcome"].eq("timed_out")], "timed out", MUTED, "^", 9.0, 0.8),
    ]
    for layer, label, ink, marker, size, alpha in layers:
        shown = _thin(layer[layer["response_time_ms"] > 0])
        if len(shown):
            panel.scatter(
                shown["intended_start"] / 1e9, shown["response_time_ms"], s=size, marker=marker, color=ink,
                alpha=alpha, linewidths=0 if marker in "o^" else 0.7, label=label,
                rasterized=len(shown) > SCATTER_AS_PATHS,
            )  # fmt: skip
    _lines(panel, rows[rows["outcome"].isin(["ok", "timed_out"])], record.covered_s)
    panel.set_yscale("log")
    plain_log(panel.yaxis)
    panel.set_ylabel("response time, ms (log)")
    plan = record.info.traffic[name]
    panel.set_title(f"{name}  ·  {plan.operation}")


def _lines(panel: Axes, rows: pd.DataFrame, covered_s: float) -> None:
    if len(rows) < 12:
        return
    seconds = rows["intended_start"].to_numpy(dtype=float) / 1e9
    values = rows["response_time_ms"].to_numpy(dtype=float)
    width = bins.width(covered_s, len(rows), 25)
    cuts = bins.edges(0, covered_s, width)
    for quantile, least, label, line in ((0.5, 6, "p50", 1.5), (0.95, 20, "p95", 1.0)):
        middles, found, sizes = bins.rolling(seconds, values, cuts, quantile, least)
        carried = np.array([interval_ranks(int(n), quantile) is not None for n in sizes])
        panel.plot(middles, found, color=INK, lw=line * 0.7, ls=(0, (1, 1.5)))
        style = {"color": INK, "lw": line, "drawstyle": "default"}
        panel.plot(middles, np.where(carried, found, np.nan), label=f"{label} of a bin", **style)  # type: ignore[arg-type]  # names of Line2D's own


def _thin(rows: pd.DataFrame) -> pd.DataFrame:
    """At most 12 000 rows: every n-th, and all of the slowest 2 %, so that no stall is thinned away."""
    if len(rows) <= _MOST_POINTS:
        return rows
    slow = rows["response_time_ms"].rank(pct=True) > 0.98
    step = -(-len(rows) // (_MOST_POINTS - _MOST_POINTS // 20))
    regular = np.arange(len(rows)) % step == 0
    picked: pd.DataFrame = rows[regular | slow.to_numpy()]
    return picked
