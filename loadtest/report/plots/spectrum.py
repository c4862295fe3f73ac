"""The percentiles of response times with a log tail, and the thresholds on them."""

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from loadtest import words
from loadtest.analysis.distribution import Distribution
from loadtest.analysis.findings import Findings
from loadtest.report.deciding import deciding
from loadtest.report.plots import marks
from loadtest.report.plots.drawing import Drawing, NoData
from loadtest.report.plots.style import FADED, PAPER, line_of, log, panels
from loadtest.report.plots.titles import names_or_count
from loadtest.stats.order_statistics import interval_ranks

_POINTS = 500
_BAND_POINTS = 90
_FEW = 40
"""Maximum number of operations drawn as points."""
_TAIL = 0.025
"""Each side of a 95 % interval."""
_TAILS: Final = {"p50": 0.5, "p90": 0.1, "p95": 0.05, "p99": 0.01}
"""Axis positions of the percentiles that thresholds use."""
_TICKS = {0.5: "50", 0.1: "90", 0.05: "95", 0.01: "99", 0.001: "99.9", 0.0001: "99.99", 0.00001: "99.999"}


def draw(findings: Findings) -> Drawing | NoData:
    """Draw each traffic entry's nearest-rank percentiles, grey where samples are too few."""
    record = findings.record
    found = {name: record.time("response_time_ms", record.stages(traffic=name)) for name in record.info.traffic}
    found = {name: values for name, values in found.items() if values.n}
    if not found:
        return NoData("Percentiles of response time", "no operation was answered with success or timed out")
    found, left_out = deciding(findings, found)
    figure, (panel,) = panels(1, 2.2)
    for name, values in found.items():
        look = line_of(record, name)
        _line(panel, values, name, look)
        for bound in marks.upper_bounds(findings, name):
            _allowed(panel, bound, look["color"])
    panel.set_xscale("log")
    log(panel, "y")
    end = 0.6 / max(2, *(values.n for values in found.values()))
    shown = [tail for tail in _TICKS if tail >= end]
    panel.set(xlim=(1, end), xticks=shown, xticklabels=[_TICKS[tail] for tail in shown])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel("share that took longer (log scale; ticks name the percentile)")
    panel.set_ylabel("response time, ms (log)")
    caption = "95 % intervals know of sampling only; a thick dash is a threshold, a diamond the value in its stage."
    return Drawing(_title(findings), caption, figure, left_out=left_out)


def _allowed(panel: Axes, bound: marks.UpperBound, colour: str) -> None:
    """Draw a threshold at its percentile: the bound, the measured value, and the line between them."""
    if (tail := _TAILS.get(bound.statistic)) is None:
        return
    panel.vlines(tail, bound.value_ms, bound.edge_ms, color=colour, lw=0.8, ls=":")
    panel.plot([tail], [bound.value_ms], ls="", marker="D", ms=4, mfc=PAPER, mec=colour, zorder=4)
    where = f"threshold, {bound.judged.scope}"
    panel.plot([tail], [bound.edge_ms], ls="", marker="_", ms=16, mew=2.0, color=colour, label=where)


def _line(panel: Axes, values: Distribution, name: str, look: dict[str, Any]) -> None:
    n, few = values.n, values.n < _FEW
    ranks = np.unique(np.geomspace(1, n, _POINTS).astype(int))
    ranks = np.unique(np.r_[ranks, n + 1 - ranks])  # dense at both ends
    times = values.at(ranks)
    tail = 1 - (ranks - 0.5) / n
    # As in interval_ranks: no upper bound exists where (rank / n)^n is above 2.5 %.
    last = int(np.max(((1 - tail) ** n <= _TAIL).nonzero()[0], initial=0))
    _band(panel, values, look["color"])
    panel.plot(tail[last:], times[last:], color=FADED, lw=0.9, marker="." if few else None, ms=4)
    more = {"marker": look["marker"] or ".", "markevery": None} if few else {}
    panel.plot(tail[: last + 1], times[: last + 1], lw=1.7, label=f"{name} (n = {words.count(n)})", **{**look, **more})


def _band(panel: Axes, values: Distribution, colour: str) -> None:
    """Draw the 95 % interval of each percentile that has enough samples for both bounds."""
    tails = np.geomspace(1, 0.5 / values.n, _BAND_POINTS)[1:].tolist()
    found = [(tail, *ranks) for tail in tails if (ranks := interval_ranks(values.n, 1 - tail)) is not None]
    if len(found) > 1:
        carried, low, high = zip(*found, strict=True)
        panel.fill_between(carried, values.at(low), values.at(high), color=colour, alpha=0.2, lw=0, zorder=1.5)


def _title(findings: Findings) -> str:
    """Name the figure furthest over or nearest to its threshold, in ms; the longest tail without thresholds."""
    traffic = findings.metrics.traffic
    late = [name for name, each in traffic.items() if each.response_time_ms.at_least]
    open_ = f"; time-outs leave the tail of {names_or_count(late)} open" if late else ""
    bounds = [one for one in marks.upper_bounds(findings) if one.statistic in _TAILS]
    if bounds:
        worst = max(bounds, key=lambda one: one.over_ms)
        measured, edge = words.duration_ms(worst.value_ms), words.duration_ms(worst.edge_ms)
        which = "over" if worst.over_ms > 0 else "nearest to"
        return f"{worst.statistic} of {worst.judged.scope} is {which} its threshold: {measured}, allowed {edge}{open_}"
    known = {name: each.response_time_ms for name, each in traffic.items() if name not in late}
    for statistic in ("p99", "p95", "p90"):
        times = {name: value for name, block in known.items() if (value := block.get(statistic).value)}
        if times:
            name = max(times, key=lambda each: times[each])
            median = words.duration_ms(known[name].p50)
            longest = f"Highest known {statistic}: {words.duration_ms(times[name])} of {name}"
            return f"{longest}, beside a median of {median}{open_}"
    return f"Too few answers for a tail{open_}"
