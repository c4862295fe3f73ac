"""A heat map of response times over a long run, in which no operation hides another."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgba

from loadtest.analysis import numbers
from loadtest.analysis.findings import Findings
from loadtest.analysis.timelines import Heat
from loadtest.report.plots import stages
from loadtest.report.plots.style import OPERATIONS, Drawing, NoData, panels, plain_log, time_axis
from loadtest.report.tables.table import Cell, Table


def draw(findings: Findings) -> Drawing | NoData | None:
    """One panel for each traffic entry with many operations; None in a short run of few, whose dots show them all."""
    record = findings.record
    if not findings.heats:
        return None
    figure, axes = panels(len(findings.heats), 1.9)
    for panel, (name, heat) in zip(axes, findings.heats.items(), strict=True):
        operation = record.info.traffic[name].operation
        colour = OPERATIONS[operation]
        # From transparent to the operation's colour, so that one picture serves light and dark pages.
        scale = LinearSegmentedColormap.from_list("heat", [to_rgba(colour, 0.12), to_rgba(colour, 1.0)])
        counts = np.ma.masked_equal(heat.counts.T, 0)
        most = max(2, int(heat.counts.max()))
        mesh = panel.pcolormesh(heat.cuts, heat.levels, counts, cmap=scale, norm=LogNorm(1, most), rasterized=True)
        bar = figure.colorbar(mesh, ax=panel, pad=0.01, aspect=14)
        plain_log(bar.ax.yaxis)
        bar.set_label("operations (log)")
        bar.outline.set_visible(False)
        panel.set_yscale("log")
        plain_log(panel.yaxis)
        panel.set_ylabel("response time, ms (log)")
        panel.set_title(f"{name}  ·  {operation}")
        named = panel is axes[0] or not stages.same_stages(record, name, next(iter(findings.heats)))
        stages.mark_stages(panel, record, name, names=named)
    time_axis(axes[-1], record.covered_s)
    caption = (
        "Each field counts the operations of a stretch of time that took so long: the stronger its colour, the more, "
        "on a log scale; an empty field is none. Ok and timed-out operations, at their intended start. A stall is a "
        "column that reaches up, slow drift a band that climbs."
    )
    return Drawing(_title(findings), caption, figure, tuple(_table(n, h) for n, h in findings.heats.items()))


def _medians(heat: Heat) -> np.ndarray:
    """Of each bin of time the middle of the field that holds its median, in ms; NaN without operations."""
    sums = heat.counts.cumsum(axis=1)
    n = sums[:, -1]
    place = (sums >= np.maximum(1, (n + 1) // 2)[:, None]).argmax(axis=1)
    middles = np.sqrt(heat.levels[:-1] * heat.levels[1:])
    return np.where(n > 0, middles[place], np.nan)


def _title(findings: Findings) -> str:
    """Where the last third of the run differs most from the first."""
    drifts = []
    for name, heat in findings.heats.items():
        known = _medians(heat)
        known = known[np.isfinite(known)]
        third = len(known) // 3
        if third:
            drifts.append((float(np.median(known[-third:]) / np.median(known[:third])), name))
    if not drifts:
        return "Response times over the whole run"
    drift, name = max(drifts, key=lambda one: abs(np.log(one[0])))
    # A field is 15 % high: less than that is no finding.
    if abs(np.log(drift)) < np.log(1.2):
        return "Response times at the end of the run are those of its beginning"
    return f"The median of {name} in the last third of the run is {drift:.2g} times that of the first"


def _table(name: str, heat: Heat) -> Table:
    medians, n = _medians(heat), heat.counts.sum(axis=1)
    kept: list[int] = np.unique(np.linspace(0, len(n) - 1, min(16, len(n))).round().astype(int)).tolist()
    rows = tuple(
        (
            Cell(f"{heat.cuts[k]:g}"),
            Cell(numbers.count(float(n[k]))),
            Cell(numbers.milliseconds(float(medians[k]) if np.isfinite(medians[k]) else None)),
        )
        for k in kept
    )
    columns = (("From s", True), ("Operations", True), ("Median ms, ± 8 %", True))
    return Table("data", f"Response times of {name}", columns, rows, f"{len(rows)} of {len(n)} stretches.")
