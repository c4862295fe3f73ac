"""The percentiles of response times with a log tail, and the thresholds on them."""

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator

from loadtest import words
from loadtest.analysis.distribution import Distribution
from loadtest.analysis.findings import Findings
from loadtest.report.plots import thresholds
from loadtest.report.plots.drawing import Drawing, NoData
from loadtest.report.plots.response_time import names_or_count
from loadtest.report.plots.style import FADED, PAPER, legend, line_of, panels, plain_log
from loadtest.stats import interval_ranks

_POINTS = 500
_BAND_POINTS = 90
_FEW = 40
"""Operations of which each is drawn as a point."""
_TAIL = 0.025
"""Each side of a 95 % interval."""
_TAILS: Final = {"p50": 0.5, "p90": 0.1, "p95": 0.05, "p99": 0.01}
"""Where the axis has the percentiles that thresholds are on."""
_TICKS = {0.5: "50", 0.1: "90", 0.05: "95", 0.01: "99", 0.001: "99.9", 0.0001: "99.99", 0.00001: "99.999"}


def draw(findings: Findings) -> Drawing | NoData:
    """One line for each traffic entry: its nearest-rank percentiles, grey where samples are too few."""
    record = findings.record
    found = {name: record.time("response_time_ms", record.stages(traffic=name)) for name in record.info.traffic}
    names = [name for name, values in found.items() if values.n]
    if not names:
        return NoData("Percentiles of response time", "no operation was answered with success or timed out")
    figure, (panel,) = panels(1, 2.2)
    most = 2
    for name in names:
        look = line_of(record.info.traffic, name)
        _line(panel, found[name], name, look)
        most = max(most, found[name].n)
        for bound in thresholds.on_response_time(findings, name):
            _allowed(panel, bound, look["color"])
    panel.set_xscale("log")
    panel.set_yscale("log")
    plain_log(panel.yaxis)
    panel.set_xlim(1, 0.6 / most)
    shown = [tail for tail in _TICKS if tail >= 0.6 / most]
    panel.xaxis.set_major_locator(FixedLocator(shown))
    panel.xaxis.set_major_formatter(FixedFormatter([_TICKS[tail] for tail in shown]))
    panel.xaxis.set_minor_locator(FixedLocator([]))
    panel.set_xlabel("share that took longer (log scale; ticks name the percentile)")
    panel.set_ylabel("response time, ms (log)")
    legend(figure, [panel])
    caption = (
        "Lower is better. Each point is an observed response time at its rank, in the band of its 95 % interval "
        "(sampling only: requests of one run are correlated, so the truth is wider). Where a line turns thin and grey, "
        "the run is too short to carry a percentile: no upper 95 % bound exists for it. A thick dash is the "
        "longest time that a threshold allows; a diamond is what was measured in the stage that it holds for."
    )
    return Drawing(_title(findings), caption, figure)


def _allowed(panel: Axes, bound: thresholds.UpperBound, colour: str) -> None:
    """A threshold at its percentile: what it allows, what was measured where it holds, and the way between them."""
    if bound.statistic not in _TAILS:
        return
    tail = _TAILS[bound.statistic]
    panel.vlines(tail, bound.value_ms, bound.edge_ms, color=colour, lw=0.8, ls=":")
    panel.plot([tail], [bound.value_ms], ls="", marker="D", ms=4, mfc=PAPER, mec=colour, zorder=4)
    where = f"threshold, {bound.judged.scope}"
    panel.plot([tail], [bound.edge_ms], ls="", marker="_", ms=16, mew=2.0, color=colour, label=where)


def _line(panel: Axes, values: Distribution, name: str, look: dict[str, Any]) -> None:
    n = values.n
    ranks = np.unique(np.geomspace(1, n, _POINTS).astype(int))
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
        tail[good], times[good], lw=1.7, label=f"{name} (n = {words.count(n)})", **look,
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
    """The figure that is furthest over its threshold, in ms, or nearest to it; without thresholds the longest time."""
    late = _late(findings)
    bounds = [one for one in thresholds.on_response_time(findings) if one.statistic in _TAILS]
    if bounds:
        worst = max(bounds, key=lambda one: one.over_ms)
        what = f"{worst.statistic} of {worst.judged.scope}"
        allowed = f"{words.duration_ms(worst.value_ms)} where {words.duration_ms(worst.edge_ms)} are allowed"
        if len(bounds) == 1:
            return f"{what} is {allowed}{late}"
        which = "Furthest over its threshold" if worst.over_ms > 0 else "Nearest to its threshold"
        return f"{which}, in ms, is {what}: {allowed}{late}"
    blocks = {name: each.response_time_ms for name, each in findings.metrics.traffic.items()}
    known = {name: block for name, block in blocks.items() if not block.at_least}
    statistic = next((each for each in ("p99", "p95", "p90") if any(b.get(each).value for b in known.values())), None)
    if statistic is None:
        return f"Too few answers to speak of a tail{late}"
    times = {name: value for name, block in known.items() if (value := block.get(statistic).value)}
    name = max(times, key=lambda each: times[each])
    text = f"{words.duration_ms(times[name])}, beside a median of {words.duration_ms(known[name].p50)}"
    if len(times) == 1:
        return f"{statistic} of {name} is {text}{late}"
    of = "" if len(times) == len(findings.metrics.traffic) else f" of {len(times)} entries that carry it"
    return f"The longest {statistic}{of} is that of {name}: {text}{late}"


def _late(findings: Findings) -> str:
    """Of the entries that reach time-outs: no figure says how long their tail is."""
    censored = [name for name, each in findings.metrics.traffic.items() if each.response_time_ms.at_least]
    return f"; {names_or_count(censored)} reached time-outs: that tail is longer than is known" if censored else ""
