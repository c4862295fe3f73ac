"""Response time of every operation over time, under rolling percentiles."""

from typing import Final

import numpy as np
from matplotlib.axes import Axes

from loadtest.analysis import numbers
from loadtest.analysis.findings import Findings
from loadtest.analysis.points import Responses
from loadtest.contract import LIMIT_OF_OPERATION, Operation
from loadtest.report.plots import stages
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
from loadtest.stats import interval_ranks, rank

_MOST_NAMED: Final = 3
"""Entries that a title names one by one."""


def draw(findings: Findings) -> Drawing | NoData:
    """One panel for each traffic entry that got any answer."""
    record = findings.record
    names = [name for name, responses in findings.responses.items() if responses.dots]
    if not names:
        return NoData("Response time of each operation", "no operation was sent")
    figure, axes = panels(len(names), 1.85)
    marked = False
    for panel, name in zip(axes, names, strict=True):
        _panel(panel, findings.responses[name], name, record.info.traffic[name].operation)
        named = panel is axes[0] or not stages.same_stages(record, name, names[0])
        stages.mark_stages(panel, record, name, names=named)
        limit = LIMIT_OF_OPERATION[Operation(record.info.traffic[name].operation)]
        series = next((one for each, one in findings.rates.items() if limit in record.belief.together(each)), None)
        marked |= series is not None and stages.mark_windows(panel, record, series.boundaries)
    time_axis(axes[-1], record.covered_s)
    legend(figure, axes)
    caption = (
        "Each dot is an operation at its intended start; lower is better. The scale is logarithmic and doesn’t start "
        "at zero. Lines are percentiles of operations that were ok or timed out, drawn dotted where the bin holds "
        "too few to carry them. 429s and errors are marked apart and are in no line."
    )
    if marked:
        caption += f" {stages.window_words(record)}"
    return Drawing(_title(findings), caption, figure)


def _title(findings: Findings) -> str:
    parts, medians = [], {}
    for name, cell in findings.metrics.traffic.items():
        block = cell.response_time_ms
        if block.p50 is not None:
            medians[name] = block.p50
            tail = f" ({numbers.bounded(block.get('p95'))})" if block.p95 is not None else ""
            parts.append(f"{name} {numbers.bounded(block.get('p50'))}{tail}")
    if not any(cell.response_time_ms.n for cell in findings.metrics.traffic.values()):
        return "No operation was ok or timed out: there is no median response time"
    if len(parts) > _MOST_NAMED:
        return f"Median response time: {numbers.listed(medians, numbers.duration_ms)}"
    return f"Median (p95) response time: {', '.join(parts)}" if parts else "Too few answers for a median response time"


def _panel(panel: Axes, responses: Responses, name: str, operation: str) -> None:
    good = len(responses.dots.get("ok", ((),))[0])
    looks = {
        "ok": (OPERATIONS[operation], "o", 5.0, 0.85 if good < 300 else 0.55 if good < 2000 else 0.3),
        "429": (THROTTLED, "x", 9.0, 0.55),
        "failed": (MUTED, "+", 20.0, 1.0),
        "timed out": (MUTED, "^", 9.0, 0.8),
    }
    for layer, (seconds, times) in responses.dots.items():
        ink, marker, size, alpha = looks[layer]
        panel.scatter(
            seconds, times, s=size, marker=marker, color=ink, alpha=alpha, linewidths=0 if marker in "o^" else 0.7,
            label=layer, rasterized=len(seconds) > SCATTER_AS_PATHS,
        )  # fmt: skip
    _lines(panel, responses)
    panel.set_yscale("log")
    plain_log(panel.yaxis)
    panel.set_ylabel("response time, ms (log)")
    panel.set_title(f"{name}  ·  {operation}")


def _lines(panel: Axes, responses: Responses) -> None:
    if responses.n < 12:
        return
    middles = (responses.cuts[:-1] + responses.cuts[1:]) / 2
    for quantile, least, label, line in ((0.5, 6, "p50", 1.5), (0.95, 20, "p95", 1.0)):
        found = np.array([each.at([rank(each.n, quantile)])[0] if each.n >= least else np.nan
                          for each in responses.binned])  # fmt: skip
        carried = np.array([interval_ranks(each.n, quantile) is not None for each in responses.binned])
        panel.plot(middles, found, color=INK, lw=line * 0.7, ls=(0, (1, 1.5)))
        panel.plot(middles, np.where(carried, found, np.nan), label=f"{label} of a bin", color=INK, lw=line)
