"""Each metric pair by pair, or run by run: whether a change is in all of them, and how far they scatter anyway."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from loadtest.compare.history import History, HistoryRun, segments
from loadtest.compare.measurements import NATURES
from loadtest.compare.results import MetricComparison, RunComparison
from loadtest.compare.sentences import in_percent
from loadtest.report import amounts
from loadtest.report.amounts import gated, is_changed
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import (
    BAND,
    BASE,
    FADED,
    INK,
    MUTED,
    UNSURE,
    change_axis,
    label,
    legend_of,
    marked,
    panels,
    plain,
    verdict,
)


class Before(NamedTuple):
    """The history before the runs that a comparison rests on.

    Attributes:
        segments: of accepted runs, the oldest first.
        changes: the run at which each of them ends, with the reason for which the change was accepted.
    """

    segments: Sequence[Sequence[HistoryRun]] = ()
    changes: Sequence[HistoryRun] = ()


_NOTHING: Final = Before()
_MOST_BEFORE: Final = 40
"""Runs of earlier segments that are drawn."""
_FIRST: Final = 6
"""Panels of the first figure."""
_MOST: Final = 36
"""Panels of the second one."""
_COLUMNS: Final = 3
_PANEL_IN: Final = 1.45
_LETTERS: Final = 22


def draw_first(comparison: RunComparison, before: Before = _NOTHING) -> Drawing | None:
    """The metrics of the findings, or where there is none those that changed most."""
    chosen = _chosen(comparison)
    return _draw(comparison, chosen[:_FIRST], before) if chosen else None


def draw_others(comparison: RunComparison, before: Before = _NOTHING) -> Drawing | None:
    """All other gated metrics."""
    others = _chosen(comparison)[_FIRST:]
    return _draw(comparison, others[:_MOST], before) if others else None


def segments_before(comparison: RunComparison, history: History) -> Before:
    """The latest segments of a history before that of a comparison's base, of as many runs as can be seen."""
    base = {one.run for one in comparison.base_runs}
    cut = segments([one for one in history.runs if one.status == "accepted"])
    own = next((place for place, part in enumerate(cut) if any(one.id in base for one in part)), 0)
    shown = segments([one for part in cut[:own] for one in part][-_MOST_BEFORE:]) if own else []
    return Before(shown, [part[0] for part in cut[own + 1 - len(shown) : own + 1]] if shown else [])


def _chosen(comparison: RunComparison) -> list[MetricComparison]:
    """Every gated metric that can be drawn; those of the findings first."""
    found = [one for finding in comparison.findings for one in (finding.cause, *finding.symptoms)]
    named = {one.key for one in found}
    others = [one for one in gated(comparison) if one.key not in named]
    # A share may have changed by a large factor and a hundredth of a point.
    others.sort(
        key=lambda one: (not is_changed(one), amounts.is_share(one), not in_percent(one), -abs(amounts.worsening(one)))
    )
    paired = comparison.kind == "paired"
    return [one for one in (*found, *others) if (_pairs(comparison, one) if paired else one.earlier and one.later)]


def _pairs(comparison: RunComparison, one: MetricComparison) -> list[float]:
    """The change of each pair, as drawn: differences of scores, which are log ratios; of shares percentage points."""
    both = zip(comparison.base_runs, comparison.head_runs, strict=False)
    measured = [(base.by_key().get(one.key), head.by_key().get(one.key)) for base, head in both]
    known = [(base, head) for base, head in measured if base is not None and head is not None]
    if amounts.is_share(one):
        return [(head.value - base.value) * 100 for base, head in known]
    return [head.score - base.score for base, head in known]


def _draw(comparison: RunComparison, chosen: list[MetricComparison], before: Before) -> Drawing:
    columns = min(_COLUMNS, len(chosen))
    figure, axes = panels(len(chosen), _PANEL_IN, columns=columns, share_x=False)
    stages = amounts.has_stages(comparison.metrics)
    paired = comparison.kind == "paired"
    for panel, one in zip(axes, chosen, strict=True):
        if paired:
            _pair_panel(panel, one, _pairs(comparison, one))
        else:
            _run_panel(panel, one, _later(comparison, one), before)
        panel.set_title(label(one, stages=stages, letters=_LETTERS), fontsize=7.5)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for panel in axes[-columns:]:
        panel.set_xlabel("pair, in order" if paired else "run, in order; the last is the new one")
    looks = {verdict(one): marked(one) for one in chosen}
    keys: list[Line2D | Patch] = [Line2D([], [], ls="", ms=5, **look) for look in looks.values()]
    names = list(looks)
    if paired:
        keys += [Line2D([], [], color=MUTED, lw=1.2), Patch(**BAND)]
        names += ["over all pairs", "its 95 % interval"]
        caption = (
            "Each dot is a pair of blocks: head against base, in the order in which they ran. A change of the service "
            "is in most pairs; one slow minute of the machine is in one. Scales differ from panel to panel; changes of "
            "times and rates have log scales."
        )
    else:
        keys.append(Line2D([], [], color=BASE, marker="o", ls="-", lw=0.8, ms=3.5))
        names.append("accepted runs")
        if len(comparison.head_runs) > 1:
            keys.insert(-1, Line2D([], [], ls="", color=UNSURE, marker="o", mfc="none", ms=6.5))
            names.insert(-1, "suspected run, before its rerun")
        caption = "Each dot is a run. Scales differ from panel to panel and do not start at zero."
        if any(prediction_band(one) for one in chosen):
            keys.append(Patch(**BAND))
            names.append("95 % prediction band: where a run without a change lies")
            caption += (
                " The band follows from the accepted runs of this segment, for each metric alone; of many metrics some "
                "lie outside by chance, which the verdict takes into account."
            )
        caption += _accepted(before)
        if before.segments:
            keys.append(Line2D([], [], color=FADED, marker="o", ms=3, lw=0.8))
            names.append("accepted runs before a change")
    legend_of(figure, keys, names)
    return Drawing(_title(comparison, chosen), caption, figure)


def _accepted(before: Before) -> str:
    """What the dashed lines are, with the reasons for which changes were accepted."""
    told = ", ".join(f"{one.measurements.started[:10]} ({one.reason})" for one in before.changes)
    return f" Dashed lines are accepted changes: {told}." if told else ""


def _later(comparison: RunComparison, one: MetricComparison) -> tuple[float, ...]:
    """The values of the new run, the suspected one before its rerun."""
    known = (run.by_key().get(one.key) for run in comparison.head_runs[:-1])
    return (*(found.value for found in known if found is not None), *one.later)


def _pair_panel(panel: Axes, one: MetricComparison, changes: list[float]) -> None:
    numbers = range(1, len(changes) + 1)
    share = amounts.is_share(one)
    interval = one.difference_interval if share else one.ratio_interval
    centre = one.difference if share else one.ratio
    draw = (lambda value: value * 100) if share else math.log
    if interval is not None and (share or min(interval) > 0):
        panel.axhspan(draw(interval[0]), draw(interval[1]), **BAND)
    if centre is not None and (share or centre > 0):
        panel.axhline(draw(centre), color=MUTED, lw=1.2)
    panel.plot(numbers, changes, ls="", ms=5, label="change", **marked(one))
    reach = max(0.5 if share else math.log(1.04), *(abs(change) * 1.15 for change in changes))
    low, high = min(0.0, *changes), max(0.0, *changes)
    panel.set_ylim(low - 0.2 * reach, high + 0.2 * reach)
    panel.axhline(0, color=INK, lw=0.8)
    panel.set_xlim(0.5, len(changes) + 0.5)
    if share:
        panel.set_ylabel("points")
    else:
        change_axis(panel.yaxis)


def _run_panel(panel: Axes, one: MetricComparison, later: Sequence[float], before_it: Before) -> None:
    factor = 100.0 if amounts.is_share(one) else 1.0
    old = _segments_panel(panel, one, before_it, factor)
    begin = len(old)
    before = [value * factor for value in one.earlier]
    new = [value * factor for value in later]
    end = begin + len(before) + len(new)
    band = prediction_band(one)
    if band is not None:
        panel.fill_between((begin + 0.5, end + 0.5), band[0] * factor, band[1] * factor, **BAND)
    places = range(begin + 1, begin + len(before) + 1)
    panel.plot(places, before, color=BASE, marker="o", ms=3.5, lw=0.8, label="accepted runs")
    for place, value in enumerate(new, begin + len(before) + 1):
        last = place == end
        look = marked(one) if last else {"color": UNSURE, "marker": "o", "mfc": "none"}
        panel.plot([place], [value], ls="", ms=6.5, label="new run" if last else "suspected run", **look)
    shown = [*old, *before, *new, *((bound * factor for bound in band) if band else ())]
    spread = max(shown) - min(shown) or abs(shown[0]) * 0.1 or 1.0
    panel.set_ylim(min(shown) - 0.15 * spread, max(shown) + 0.15 * spread)
    panel.set_xlim(0.5, end + 0.5)
    plain(panel.yaxis)
    panel.yaxis.set_major_locator(MaxNLocator(4))
    unit = NATURES[one.metric].unit
    panel.set_ylabel({"ms": "ms", "share": "%", "1/s": "/s"}[unit])


def _segments_panel(panel: Axes, one: MetricComparison, before: Before, factor: float) -> list[float]:
    """Draw the runs before, with a dashed line after each segment; gives their values."""
    drawn: list[float] = []
    for part in before.segments:
        values = [found.value * factor for run in part if (found := run.measurements.by_key().get(one.key)) is not None]
        places = range(len(drawn) + 1, len(drawn) + len(values) + 1)
        panel.plot(places, values, color=FADED, marker="o", ms=3, lw=0.8)
        drawn += values
        panel.axvline(len(drawn) + 0.5, color=INK, lw=0.8, ls=(0, (4, 2)))
    return drawn


def prediction_band(one: MetricComparison) -> tuple[float, float] | None:
    """Where a run without a change lies in 95 % of cases: the interval of the difference, laid around the base."""
    if one.base is None:
        return None
    if not amounts.is_share(one) and one.ratio and one.ratio_interval and min(one.ratio_interval) > 0:
        low, high = one.ratio_interval
        return one.base * one.ratio / high, one.base * one.ratio / low
    if one.difference is None or one.difference_interval is None:
        return None
    low, high = one.difference_interval
    below, above = one.base - max(0.0, high - one.difference), one.base + max(0.0, one.difference - low)
    return (below if one.metric in amounts.SIGNED else max(0.0, below)), above


def _title(comparison: RunComparison, chosen: list[MetricComparison]) -> str:
    first = chosen[0]
    name = label(first, stages=amounts.has_stages(comparison.metrics))
    if comparison.kind == "paired":
        changes = _pairs(comparison, first)
        worse = sum(change * NATURES[first.metric].worse > 0 for change in changes)
        pairs = "1 pair" if len(changes) == 1 else f"{len(changes)} pairs"
        return f"{name}, the head was worse in {worse} of {pairs}"
    band = prediction_band(first)
    new = first.later[-1]
    said = amounts.value(first.metric, new)
    if band is None:
        return f"{name} {said}; the runs before are too few for a prediction band"
    side = "above" if new > band[1] else "below" if new < band[0] else "within"
    return f"{name} {said}, {side} the band in which a run without a change lies"
