"""How late operations left: start lag, and the part of it that is the generator's."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from loadtest.analysis.findings import Findings
from loadtest.analysis.lags import Lags
from loadtest.analysis.validity import DISPATCH_LAG_MS
from loadtest.report import numbers
from loadtest.report.plots import stages
from loadtest.report.plots.style import (
    INK,
    Drawing,
    NoData,
    finite_max,
    legend,
    line_of,
    panels,
    plain_log,
    time_axis,
)

_FLOOR_MS = 0.01
"""What a log scale draws a lag of nothing as."""
_FEW = 12
"""Bins of which each is drawn as a point."""


def draw(findings: Findings) -> Drawing | NoData:
    """The worst start lag of each bin, for each traffic entry, against the limit on dispatch lag."""
    record = findings.record
    if not findings.lags:
        return NoData("How late operations left", "no operation was sent")
    figure, (panel,) = panels(1, 1.4)
    top = DISPATCH_LAG_MS
    for name, lags in findings.lags.items():
        _lines(panel, lags, name, line_of(record.info.traffic, name))
        top = max(top, finite_max(lags.start_lag))
    limit = f"limit of the dispatch lag’s p99, {DISPATCH_LAG_MS:g} ms"
    panel.axhline(DISPATCH_LAG_MS, color=INK, lw=1.0, ls=(0, (6, 2)), label=limit)
    stages.mark_stages(panel, record)
    panel.set_yscale("log")
    panel.set_ylim(_FLOOR_MS, top * 4)
    plain_log(panel.yaxis)
    panel.set_ylabel("lag, ms (log)")
    time_axis(panel, record.covered_s)
    legend(figure, [panel])
    caption = (
        "Lower is better. Start lag is from the intended start to the first byte sent; dispatch lag (thin) is its part "
        "after a user was free, the generator’s own. The worst of each bin; the scale is logarithmic."
    )
    return Drawing(_title(findings), caption, figure)


def _lines(panel: Axes, lags: Lags, name: str, look: dict[str, Any]) -> None:
    middles = (lags.cuts[:-1] + lags.cuts[1:]) / 2
    for worst, width, alpha in ((lags.start_lag, 1.5, 1.0), (lags.dispatch_lag, 0.7, 0.8)):
        label = f"{name}: worst of a bin" if worst is lags.start_lag else None
        mark = look["marker"] if worst is lags.start_lag else ""
        style = {**look, "marker": mark or ("." if len(middles) < _FEW else ""), "markevery": None}
        panel.plot(middles, np.fmax(worst, _FLOOR_MS + 0 * worst), lw=width, alpha=alpha, label=label, **style)


def _title(findings: Findings) -> str:
    lag = next(check for check in findings.checks if check.name == "dispatch lag p99")
    starts = findings.record.times.of["start_lag_ms"].get(findings.record.cells(findings.record.stages()))
    worst = numbers.duration_ms(starts.most) if starts.n else numbers.NOTHING
    if lag.ok:
        return f"The load left on time: dispatch lag p99 {lag.value}, worst start lag {worst}"
    return f"The generator was late: dispatch lag p99 {lag.value}, worst start lag {worst}"
