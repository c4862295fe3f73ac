"""How late operations left, over time and as a distribution: start lag, and its part that is the generator's."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.punctuality import Lags
from loadtest.analysis.record import Record
from loadtest.record.generator_limits import DISPATCH_LAG_MS
from loadtest.report.plots import stages
from loadtest.report.plots.drawing import Drawing, NoData
from loadtest.report.plots.style import INK, ecdf, finite_max, legend, line_of, panels, plain_log, time_axis

_FLOOR_MS = 0.01
"""What a log scale draws a lag of nothing as."""
_FEW = 12
"""Bins of which each is drawn as a point."""


def draw(findings: Findings) -> Drawing | NoData:
    """Worst lags of each bin, for each traffic entry, and all lags as a distribution, against the limit."""
    record = findings.record
    if not findings.lags:
        return NoData("How late operations left", "no operation was sent")
    figure, (panel, spread) = panels(2, 1.9, share_x=False)
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
    _spread(spread, record, top)
    legend(figure, [panel, spread])
    caption = (
        "Lower is better. Start lag is from the intended start to the first byte sent; dispatch lag (thin) is its part "
        "after a user was free, the generator’s own. Above, the worst of each bin; below, how many operations left at "
        "most so late, warm-up not counted. Both scales of lag are logarithmic."
    )
    return Drawing(_title(findings), caption, figure)


def _lines(panel: Axes, lags: Lags, name: str, look: dict[str, Any]) -> None:
    middles = (lags.cuts[:-1] + lags.cuts[1:]) / 2
    for worst, width, alpha in ((lags.start_lag, 1.5, 1.0), (lags.dispatch_lag, 0.7, 0.8)):
        label = f"{name}: worst of a bin" if worst is lags.start_lag else None
        mark = look["marker"] if worst is lags.start_lag else ""
        style = {**look, "marker": mark or ("." if len(middles) < _FEW else ""), "markevery": None}
        panel.plot(middles, np.fmax(worst, _FLOOR_MS + 0 * worst), lw=width, alpha=alpha, label=label, **style)


def _spread(panel: Axes, record: Record, top: float) -> None:
    """The empirical distribution (ECDF) of both lags, over all traffic."""
    stage_indices = record.stage_indices(record.stages())
    for metric, label, width, alpha in (
        ("start_lag_ms", "all start lags", 2.6, 0.4),
        ("dispatch_lag_ms", "all dispatch lags", 0.9, 1.0),
    ):
        lags = record.times[metric].get(stage_indices)
        ecdf(panel, lags, floor=_FLOOR_MS, color=INK, label=label, lw=width, alpha=alpha)
    panel.axvline(DISPATCH_LAG_MS, color=INK, lw=1.0, ls=(0, (6, 2)))
    panel.set_xscale("log")
    panel.set_xlim(_FLOOR_MS, top * 4)
    plain_log(panel.xaxis)
    panel.set_ylabel("at most so late, %")
    panel.set_xlabel("lag, ms (log)")


def _title(findings: Findings) -> str:
    lag = next(check for check in findings.checks if check.name == "dispatch lag p99")
    starts = findings.record.time("start_lag_ms", findings.record.stages())
    worst = words.duration_ms(starts.most) if starts.n else words.NOTHING
    if lag.ok:
        return f"The load left on time: dispatch lag p99 {lag.value}, worst start lag {worst}"
    return f"The generator was late: dispatch lag p99 {lag.value}, worst start lag {worst}"
