"""How late operations left: start lag, and the part of it that is the generator's."""

import pandas as pd
from matplotlib.axes import Axes

from loadtest.analysis.findings import Findings
from loadtest.analysis.validity import DISPATCH_LAG_MS
from loadtest.report import numbers
from loadtest.report.plots import bins
from loadtest.report.plots.style import (
    INK,
    LINES,
    MUTED,
    OPERATIONS,
    Drawing,
    NoData,
    finite_max,
    legend,
    panels,
    plain_log,
    time_axis,
)

_FLOOR_MS = 0.01
"""What a log scale draws a lag of nothing as."""


def draw(findings: Findings) -> Drawing | NoData:
    """The worst start lag of each bin, for each traffic entry, against the limit on dispatch lag."""
    record = findings.record
    rows = record.frame[(record.frame["row"] == "operation") & record.frame["start_lag_ms"].notna()]
    if not len(rows):
        return NoData("How late operations left", "no operation was sent")
    figure, (panel,) = panels(1, 1.4)
    top = DISPATCH_LAG_MS
    for name, plan in record.info.traffic.items():
        mine = rows[rows["traffic"] == name]
        if len(mine):
            _lines(panel, mine, name, plan.operation, record.covered_s)
            top = max(top, finite_max(mine["start_lag_ms"]))
    panel.axhline(DISPATCH_LAG_MS, color=INK, lw=1.0, ls=(0, (6, 2)))
    panel.annotate(
        f"limit of the dispatch lag’s p99, {DISPATCH_LAG_MS:g} ms", (1, DISPATCH_LAG_MS), xytext=(-4, -4),
        xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", va="top", fontsize=7.5, color=MUTED,
    )  # fmt: skip
    bins.mark_stages(panel, record)
    panel.set_yscale("log")
    plain_log(panel.yaxis)
    panel.set_ylim(_FLOOR_MS, top * 4)
    panel.set_ylabel("lag, ms (log)")
    time_axis(panel, record.covered_s)
    legend(figure, [panel])
    caption = (
        "Lower is better. Start lag is from the intended start to the first byte sent; dispatch lag (thin) is its part "
        "after a user was free, the generator’s own. The worst of each bin; the scale is logarithmic."
    )
    return Drawing(_title(findings), caption, figure)


def _lines(panel: Axes, rows: pd.DataFrame, name: str, operation: str, covered_s: float) -> None:
    colour, line = OPERATIONS[operation], LINES[operation]
    seconds = rows["intended_start"].to_numpy(dtype=float) / 1e9
    cuts = bins.edges(0, covered_s, bins.width(covered_s, len(rows), 10))
    for column, width, alpha in (("start_lag_ms", 1.5, 1.0), ("dispatch_lag_ms", 0.7, 0.8)):
        values = rows[column].clip(lower=_FLOOR_MS).fillna(_FLOOR_MS).to_numpy(dtype=float)
        middles, worst, _ = bins.rolling(seconds, values, cuts, 1.0, 1)
        label = f"{name}: worst of a bin" if column == "start_lag_ms" else None
        panel.plot(middles, worst, color=colour, ls=line, lw=width, alpha=alpha, label=label,
                   marker="." if len(middles) < 12 else None, ms=4)  # fmt: skip


def _title(findings: Findings) -> str:
    lag = next(check for check in findings.checks if check.name == "dispatch lag p99")
    starts = findings.record.operations["start_lag_ms"].dropna()
    worst = numbers.duration_ms(float(starts.max())) if len(starts) else numbers.NOTHING
    if lag.ok:
        return f"The load left on time: dispatch lag p99 {lag.value}, worst start lag {worst}"
    return f"The generator was late: dispatch lag p99 {lag.value}, worst start lag {worst}"
