"""Common marks of plots over time: stages, server windows, thresholds, percentiles of bins, and the time axis."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes

from loadtest.analysis.distribution import Distribution
from loadtest.analysis.findings import Findings
from loadtest.analysis.run_record import Record
from loadtest.analysis.verdict import Judged
from loadtest.arrays import Floats
from loadtest.record.run_info import StagePlan
from loadtest.report.plots import style
from loadtest.report.plots.layout import text_in
from loadtest.stats.order_statistics import interval_ranks, rank
from loadtest.threshold import parse_threshold

_MOST_MARKS: Final = 24
"""Window boundaries are drawn only if there are at most this many; more would merge."""
_SEEN: Final = 0.002
"""A caption explains the bands of ``mark_windows`` only if half of a band exceeds this share of the plot's width."""
_CHARACTERS: Final = 135
"""Number of letters of stage names that fit into the width of a plot."""
WHOLE_IN: Final = 8.8
HALF_IN: Final = 4.0
"""Widths of panels in inches, without labels: one panel in a row (``WHOLE_IN``), and two (``HALF_IN``)."""
_NAME_PT: Final = 7.0
_NAME_LINES: Final = 3
"""Stage names take at most this many lines, each ``_LINE_PT`` points high."""
_LINE_PT: Final = 9.0
_PANEL_PT: Final = 105.0
"""Minimum height in points, without labels, of a panel with stage names."""
_FAR: Final = 8.0
"""A threshold above this multiple of the axis's upper end gets no line, because the line would compress the rest."""


def over_time(axes: Sequence[Axes], record: Record, names: Sequence[str | None] | None = None) -> None:
    """Finish plots over time: mark stages in each panel, and label the time axis of the last panel.

    Each panel shows the stages of its traffic entry in ``names``. Without ``names``, it shows the stages of all
    entries. Stages are named in the first panel, and in panels whose stages differ from those of the first.
    """
    whose = names or [None] * len(axes)
    plans = [record.info.traffic[name].stages if name else () for name in whose]
    starts = [[(stage.name, stage.start_s) for stage in plan] for plan in plans]
    for panel, name, own in zip(axes, whose, starts, strict=True):
        mark_stages(panel, record, name, names=panel is axes[0] or own != starts[0])
    time_axis(axes[-1], record)


def time_axis(panel: Axes, record: Record) -> None:
    """Label an axis of seconds since the epoch, and set its limits."""
    end_s = max(record.covered_s, 1e-3)
    # The axis begins before zero, so that marks at zero are fully visible.
    panel.set(xlim=(-end_s * 0.008, end_s), xlabel="time since the start of the run, s")


def draw_dots(
    panel: Axes, x: Floats, y: Floats, colour: str, label: str, *, marker: str = "o", size: float = 5.0,
    alpha: float | None = None, **look: Any,
) -> None:  # fmt: skip
    """Draw operations as dots with an area of ``size`` square points.

    Without ``alpha``, many dots are more transparent. ``look`` has further arguments of ``Axes.scatter``.
    """
    if alpha is None:
        alpha = 0.85 if len(x) < 300 else 0.55 if len(x) < 2000 else 0.3
    panel.scatter(
        x, y, s=size, marker=marker, color=colour, alpha=alpha, label=label, rasterized=len(x) > style.SCATTER_AS_PATHS,
        **{"linewidths": 0, **look},
    )  # fmt: skip


def draw_bins(panel: Axes, record: Record, traffic: str, cuts: Floats, binned: list[Distribution]) -> None:
    """Draw the median and p95 of each time bin. Lines are dotted where there are too few samples for an interval.

    Nothing is drawn for an entry with a burst or fewer than 12 values. ``cuts`` are the bins' edges, in s since the
    epoch.
    """
    if sum(each.n for each in binned) < 12 or any(stage.burst for stage in record.info.traffic[traffic].stages):
        return
    middles = (cuts[:-1] + cuts[1:]) / 2
    for quantile, least, label, width in ((0.5, 6, "p50", 1.5), (0.95, 20, "p95", 1.0)):
        found = np.array([each.at([rank(each.n, quantile)])[0] if each.n >= least else np.nan for each in binned])
        found[found <= 0] = np.nan  # a log axis has no zero
        carried = np.array([interval_ranks(each.n, quantile) is not None for each in binned])
        panel.plot(middles, found, color=style.INK, lw=width * 0.7, ls=(0, (1, 1.5)))
        panel.plot(middles, np.where(carried, found, np.nan), color=style.INK, lw=width, label=f"{label} of a bin")


def mark_windows(panel: Axes, record: Record, boundaries: Floats) -> bool:
    """Draw the boundaries of the server's windows as lines in bands. Return True if any was drawn.

    A band spans the uncertainty of the server's clock in both directions. Nothing is drawn if the bands cover more than
    half of a window, or if there are very many boundaries. ``boundaries`` are in s since the epoch.
    """
    marks = boundaries[boundaries < record.covered_s]
    reach = _reach(record)
    if not 0 < len(marks) <= _MOST_MARKS or (len(marks) > 1 and 4 * reach > marks[1] - marks[0]):
        return False
    for mark in marks.tolist():
        panel.axvspan(mark - reach, mark + reach, color=style.FADED, alpha=0.45, lw=0, zorder=0.4)
        mark_window(panel, mark)
    return True


def mark_window(panel: Axes, at_s: float) -> None:
    """Draw a window boundary as a line. ``at_s`` is in s since the epoch."""
    panel.axvline(at_s, color=style.MUTED, lw=0.7, ls=":", zorder=0.6)


def window_words(record: Record) -> str:
    """Describe the marks of ``mark_windows`` for a caption."""
    wide = _reach(record) > record.covered_s * _SEEN
    bands = "; grey bands show the uncertainty of its clock" if wide else ""
    return f"Dotted vertical lines mark the assumed window boundaries of the server{bands}."


def _reach(record: Record) -> float:
    return record.info.clock.uncertainty_s if record.info.clock else 0.5


def mark_stages(panel: Axes, record: Record, traffic: str | None = None, *, names: bool = True) -> None:
    """Draw stage boundaries, write the stages' names at the top, and shade the warm-up."""
    plans = [plan for name, plan in record.info.traffic.items() if traffic in {None, name}]
    starts: dict[float, list[StagePlan]] = {}
    for stage in (stage for plan in plans for stage in plan.stages if stage.start_s <= record.covered_s):
        starts.setdefault(stage.start_s, []).append(stage)
    for start, stages in starts.items():
        if stages[0].warmup:
            panel.axvspan(start, start + max(stage.duration_s for stage in stages), color=style.SHADE, lw=0, zorder=0)
        elif start > 0:
            panel.axvline(start, color=style.GRID, lw=1.4, zorder=0.5)
        following = min((other for other in starts if other > start), default=record.covered_s)
        # Stages that begin together share a label, which has each name once.
        label = _fitting([stage.name for stage in stages], (following - start) / record.covered_s)
        if names and label:
            style.note(
                panel, label, (start, 1), (4, -2), xycoords=("data", "axes fraction"), va="top", color=style.MUTED,
                style="italic", bbox=style.PAPERED,
            )  # fmt: skip


def name_stages(panel: Axes, stages: Sequence[tuple[float, str]], wide_in: float) -> float:
    """Write names of stages in lines at a panel's upper edge. Return the share of its height that the names take.

    ``stages`` are (place, name) pairs from left to right; a place is a share of the width. Names without room are left
    out.
    """
    ends, used = [0.0] * _NAME_LINES, 0
    for share, name in stages:
        text = style.short(name)
        half = text_in(text, _NAME_PT) / 2 + 0.04
        at = max(half, min(share * wide_in, wide_in - half))
        free = [line for line, taken in enumerate(ends) if at - half >= taken]
        if free:
            ends[free[0]], used = at + half, max(used, free[0] + 1)
            style.note(
                panel, text, (at / wide_in, 1), (0, -3 - _LINE_PT * free[0]), xycoords="axes fraction",
                fontsize=_NAME_PT, color=style.MUTED, ha="center", va="top",
            )  # fmt: skip
    return (_LINE_PT * used + 4) / _PANEL_PT


def _fitting(names: list[str], share: float) -> str:
    """Return the names if they fit into a share of the axis, else the first name, cut if needed; empty without room."""
    room = int(share * _CHARACTERS) - 1
    whole = " + ".join(dict.fromkeys(names))
    if len(whole) <= room:
        return whole
    first = names[0] if len(names[0]) <= room else f"{names[0][: room - 1]}…"
    return first if room > 4 else ""


@dataclass(frozen=True)
class UpperBound:
    """An upper threshold on response time: the longest allowed time (``edge_ms``) and the measured time."""

    judged: Judged
    statistic: str
    edge_ms: float
    value_ms: float


def upper_bounds(findings: Findings, traffic: str | None = None) -> list[UpperBound]:
    """Return the upper thresholds on response times with a measured value, in the order of the scenario."""
    plan = None if traffic is None else findings.record.info.traffic[traffic]
    return [
        # Value plus margin is the longest allowed time, also for a threshold relative to another figure.
        UpperBound(one, threshold.metric.partition(".")[2], one.value + one.margin, one.value)
        for one in findings.judged
        if (threshold := parse_threshold(one.require)).operator in ("<", "<=") and one.value is not None
        if threshold.metric.startswith("response_time.") and one.margin is not None
        if plan is None or (one.traffic in {None, traffic} and one.operation in {None, plan.operation})
        if plan is None or one.stage in {None, *(stage.name for stage in plan.stages)}
    ]


def draw_bounds(panel: Axes, findings: Findings, traffic: str) -> None:
    """Draw an entry's thresholds over their stages, with labels. Thresholds far above all values get only a label.

    The panel's x axis must be in s since the epoch, and its y axis in ms, on a log scale whose limits are set.
    """
    end, (low, high) = findings.record.covered_s, panel.get_ylim()
    edges, above = [low, high], Counter[float]()
    for bound in upper_bounds(findings, traffic):
        stages = [s for s in findings.record.info.traffic[traffic].stages if s.name == bound.judged.stage]
        begin = stages[0].start_s if stages else 0.0
        until = min(begin + stages[0].duration_s, end) if stages else end
        if until <= begin:
            continue
        colour = style.BAD if bound.judged.judgement == "fail" else style.INK
        words, far = bound.judged.require.partition(".")[2], bound.edge_ms > high * _FAR
        at, offset = ((until, 1.0), (-3, -3 - 10 * above[until])) if far else ((until, bound.edge_ms), (-3, 2))
        style.note(
            panel, f"{words} ↑" if far else words, at, offset, xycoords=("data", "axes fraction" if far else "data"),
            ha="right", va="top" if far else "bottom", color=colour,
        )  # fmt: skip
        above[until] += far
        if not far:
            panel.plot([begin, until], [bound.edge_ms] * 2, label="threshold", **{**style.LIMIT, "color": colour})
            edges += [bound.edge_ms / 1.1, bound.edge_ms * 1.1]
    panel.set_ylim(min(edges), max(edges))
