"""The whole spectrum of response times, with a tail that is drawn on a log scale of 1 − p."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator

from loadtest.analysis import numbers
from loadtest.analysis.distribution import Distribution
from loadtest.analysis.findings import Findings
from loadtest.report.plots.style import FADED, Drawing, NoData, legend, line_of, panels, plain_log
from loadtest.stats import interval_ranks

_MOST_POINTS = 500
_BAND_POINTS = 90
_FEW = 40
"""Operations of which each is drawn as a point."""
_NO_TAIL = 1.1
"""How many times the median a high percentile is at least for there to be a tail."""
_TAIL = 0.025
"""Each side of a 95 % interval."""
_TICKS = {0.5: "50", 0.1: "90", 0.05: "95", 0.01: "99", 0.001: "99.9", 0.0001: "99.99", 0.00001: "99.999"}


def draw(findings: Findings) -> Drawing | NoData:
    """One line for each traffic entry: its nearest-rank percentiles, grey where n can't carry them."""
    record = findings.record
    found = {
        name: record.times.of["response_time_ms"].get(record.cells(record.stages(traffic=name)))
        for name in record.info.traffic
    }
    names = [name for name, values in found.items() if values.n]
    if not names:
        return NoData("Percentiles of response time", "no operation was answered with success or timed out")
    figure, (panel,) = panels(1, 2.2)
    most = 2
    for name in names:
        _line(panel, found[name], name, line_of(record.info.traffic, name))
        most = max(most, found[name].n)
    panel.set_xscale("log")
    panel.set_yscale("log")
    plain_log(panel.yaxis)
    panel.set_xlim(1, 0.6 / most)
    shown = [tail for tail in _TICKS if tail >= 0.6 / most]
    panel.xaxis.set_major_locator(FixedLocator(shown))
    panel.xaxis.set_major_formatter(FixedFormatter([_TICKS[tail] for tail in shown]))
    panel.xaxis.set_minor_locator(FixedLocator([]))
    panel.set_xlabel("percentile (the tail 1 − p on a log scale)")
    panel.set_ylabel("response time, ms (log)")
    legend(figure, [panel])
    caption = (
        "Lower is better. Each point is an observed response time at its rank, in the band of its 95 % interval "
        "(sampling only: requests of one run are correlated, so the truth is wider). Where a line turns thin and grey, "
        "the run is too short to carry a percentile: no upper 95 % bound exists for it."
    )
    return Drawing(_title(findings), caption, figure)


def _line(panel: Axes, values: Distribution, name: str, look: dict[str, Any]) -> None:
    n = values.n
    ranks = np.unique(np.geomspace(1, n, _MOST_POINTS).astype(int))
    ranks = np.unique(np.r_[ranks, n + 1 - ranks])  # dense at both ends
    times = values.at(ranks)
    tail = 1 - (ranks - 0.5) / n
    # As in interval_ranks: no upper bound exists where (rank / n)^n is above 2.5 %.
    carried = (1 - tail) ** n <= _TAIL
    last = int(carried.nonzero()[0][-1]) if carried.any() else 0
    good = slice(0, last + 1)
    _band(panel, values, look["color"])
    if n < _FEW:
        look = {**look, "marker": look["marker"] or ".", "markevery": None}
    panel.plot(tail[last:], times[last:], color=FADED, lw=0.9, marker="." if n < _FEW else None, ms=4)
    panel.plot(
        tail[good], times[good], lw=1.7, label=f"{name} (n = {numbers.count(n)})", **look,
    )  # fmt: skip


def _band(panel: Axes, values: Distribution, colour: str) -> None:
    """The 95 % interval of each percentile, as far as n carries both bounds."""
    tails = np.geomspace(1, 0.5 / values.n, _BAND_POINTS)[1:]
    found = [(tail, ranks) for tail in tails.tolist() if (ranks := interval_ranks(values.n, 1 - tail)) is not None]
    if len(found) < 2:
        return
    low = values.at([ranks[0] for _, ranks in found])
    high = values.at([ranks[1] for _, ranks in found])
    panel.fill_between([tail for tail, _ in found], low, high, color=colour, alpha=0.2, lw=0, zorder=1.5)


def _title(findings: Findings) -> str:
    tails = []
    for name, cell in findings.metrics.traffic.items():
        block = cell.response_time_ms
        for statistic in ("p99", "p95", "p90"):
            tail = block.get(statistic)
            if block.p50 and tail.value is not None:
                tails.append((tail.value / block.p50, name, statistic, tail))
                break
    if not tails:
        return "Too few answers to speak of a tail"
    ratio, name, statistic, longest = max(tails, key=lambda each: each[:3])
    words = f"{statistic} {numbers.bounded(longest)}, {numbers.times_as(ratio)} times its median"
    if ratio < _NO_TAIL:
        return f"There is hardly a tail; the longest is that of {name}: {words}"
    return f"The longest tail is that of {name}: {words}"
