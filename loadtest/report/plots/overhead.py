"""Overhead, the client's wait beyond executionTime: its distribution, and its percentiles by stage."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from matplotlib.axes import Axes

from loadtest.analysis.findings import Findings
from loadtest.analysis.results import OperationStage
from loadtest.analysis.run_record import Record
from loadtest.report.deciding import deciding
from loadtest.report.plots import style
from loadtest.report.plots.drawing import Drawing, NoData, entries
from loadtest.report.plots.execution import why_none
from loadtest.report.plots.titles import medians

_MOST_ROWS: Final = 5
_MOST_LEVEL: Final = 4
"""Maximum number of stage names beside one another that are not turned."""
_MOST_TURNED: Final = 12
"""Maximum number of stages that are all named."""


def draw(findings: Findings) -> Drawing | NoData:
    """Draw a row per executing traffic entry: its distribution, and its stages if any entry has several."""
    if why := why_none(findings):
        return NoData("Overhead beyond executionTime", why)
    shown = {name: figures for name in findings.executions if (figures := findings.metrics.traffic[name]).overhead_ms.n}
    if not shown:
        return NoData("Overhead beyond executionTime", "only the warm-up has an executionTime")
    title = medians(findings, shown, "overhead", lambda part: part.overhead_ms)
    shown, left_out = deciding(findings, shown, _MOST_ROWS)
    columns = 1 + any(len(figures.stages) > 1 for figures in shown.values())
    figure, axes = style.panels(columns * len(shown), 2.1, columns=columns, share_x=columns == 1)
    for place, (panel, name, colour) in enumerate(entries(findings.record, axes[::columns], shown)):
        _spread(panel, findings.record, name, colour)
        if columns > 1:
            panel.set_xlabel("ms (log)")
            _by_stage(axes[place * 2 + 1], shown[name].stages, colour)
    axes[-columns].set_xlabel("ms (log)")
    caption = "Overhead is the wait beyond executionTime: of a service time, or of a job’s time from submit to result."
    if columns > 1:
        caption += " Stages are in the order of the run, with 95 % intervals of their medians (sampling only)."
    return Drawing(title, caption, figure, left_out=left_out)


def _spread(panel: Axes, record: Record, name: str, colour: str) -> None:
    stages = record.stages(traffic=name)
    execution, overhead = (record.time(each, stages) for each in ("execution_time_ms", "overhead_ms"))
    style.ecdf(panel, execution, color=style.INK, ls=(0, (1, 1.5)), lw=1.1, label="executionTime")
    style.ecdf(panel, overhead, color=colour, ls="-", lw=1.5, label="overhead")
    style.log(panel, "x")
    panel.set_ylabel("at most this long, %")


def _by_stage(panel: Axes, stages: Mapping[str, OperationStage], colour: str) -> None:
    """Draw median and p95 of each stage, unjoined: nothing was measured between stages."""
    panel.set_title("by stage")
    known = {name: part.overhead_ms for name, part in stages.items() if part.overhead_ms.p50 is not None}
    if not known:
        panel.text(
            0.5, 0.5, "no data, because no stage\ncarries a median", transform=panel.transAxes, color=style.MUTED,
            ha="center", va="center",
        )  # fmt: skip
        return
    places, names = range(len(known)), list(known)
    low, high = np.array([each.p50_interval for each in known.values()]).T
    middles, tails = np.array([(each.p50, each.p95) for each in known.values()], float).T
    panel.vlines(places, low, high, color=colour, lw=2.2, alpha=0.5)
    panel.plot(places, middles, color=colour, lw=0, marker="o", ms=4.5, label="p50 of a stage")
    if np.isfinite(tails).any():
        panel.plot(places, tails, color=style.INK, lw=0, marker="^", ms=4.5, label="p95 of a stage")
    named = places[:: 1 + len(names) // _MOST_TURNED]
    panel.set_xticks(named, [names[k] for k in named], rotation=30 if len(names) > _MOST_LEVEL else 0)
    panel.set(
        xlim=(-0.5, len(names) - 0.5), xlabel="stage", ylabel="overhead, ms",
        ylim=(0, max(float(np.nanmax([high, tails])), 1e-3) * 1.2),
    )  # fmt: skip
    style.plain(panel.yaxis)
