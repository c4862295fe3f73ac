"""Start lag over time and as a distribution, with the generator's part, dispatch lag."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from loadtest import words
from loadtest.analysis.arrivals import Lags
from loadtest.analysis.findings import Findings
from loadtest.analysis.run_record import Record
from loadtest.record.generator_limits import DISPATCH_LAG_MS
from loadtest.report.deciding import deciding
from loadtest.report.plots.drawing import Drawing, NoData
from loadtest.report.plots.marks import mark_stages, time_axis
from loadtest.report.plots.style import INK, LIMIT, ecdf, line_of, log, panels

_FLOOR_MS = 0.01
"""Position of zero lag on the log scale."""


def draw(findings: Findings) -> Drawing | NoData:
    """Draw each bin's worst lag per traffic entry, and the distribution of all lags, with the limit."""
    record = findings.record
    if not findings.lags:
        return NoData("Start lag of operations", "no operation was sent")
    figure, (panel, spread) = panels(2, 1.9, share_x=False)
    shown, left_out = deciding(findings, findings.lags)
    for name, lags in shown.items():
        _lines(panel, lags, f"{name}: worst of a bin", line_of(record, name))
    worst = np.concatenate([lags.start_lag for lags in findings.lags.values()])
    top = 4 * float(np.max(worst, where=np.isfinite(worst), initial=DISPATCH_LAG_MS))
    panel.axhline(DISPATCH_LAG_MS, label=f"limit of the dispatch lag’s p99, {DISPATCH_LAG_MS:g} ms", **LIMIT)
    mark_stages(panel, record)
    log(panel, "y", _FLOOR_MS, top)
    panel.set_ylabel("lag, ms (log)")
    time_axis(panel, record)
    _spread(spread, record, top)
    caption = "Start lag runs from the intended start to the first byte sent, dispatch lag (thin) from a free user on."
    return Drawing(_title(findings), caption, figure, left_out=left_out)


def _lines(panel: Axes, lags: Lags, label: str, look: dict[str, Any]) -> None:
    middles = (lags.cuts[:-1] + lags.cuts[1:]) / 2
    dots = "." if len(middles) < 12 else ""
    for worst, more in (
        (lags.start_lag, {"lw": 1.5, "label": label, "marker": look["marker"] or dots}),
        (lags.dispatch_lag, {"lw": 0.7, "alpha": 0.8, "marker": dots}),
    ):
        panel.plot(middles, np.fmax(worst, _FLOOR_MS + 0 * worst), **{**look, "markevery": None, **more})


def _spread(panel: Axes, record: Record, top: float) -> None:
    """Draw the empirical distribution (ECDF) of both lags over all traffic."""
    for lag, look in (("start", {"lw": 2.6, "alpha": 0.4}), ("dispatch", {"lw": 0.9})):
        lags = record.time(f"{lag}_lag_ms", record.stages())
        ecdf(panel, lags, floor=_FLOOR_MS, color=INK, label=f"all {lag} lags", **look)
    panel.axvline(DISPATCH_LAG_MS, **LIMIT)
    log(panel, "x", _FLOOR_MS, top)
    panel.set(ylabel="at most so late, %", xlabel="lag, ms (log)")


def _title(findings: Findings) -> str:
    lag = next(check for check in findings.checks if check.name == "dispatch lag p99")
    starts = findings.record.time("start_lag_ms", findings.record.stages())
    worst = words.duration_ms(starts.most) if starts.n else words.NOTHING
    how = "The load left on time" if lag.ok else "The generator was late"
    return f"{how}: dispatch lag p99 {lag.value}, worst start lag {worst}"
