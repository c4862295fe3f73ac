"""Every metric of a history over its runs, with their statuses and the baseline periods between accepted changes."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from loadtest.compare import amounts
from loadtest.compare.history import HistoryRun
from loadtest.compare.measurements import NATURES, Key, Measurement, Metric
from loadtest.compare.tested import weights
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import (
    BAD,
    CHANGED,
    FADED,
    INK,
    MUTED,
    UNSURE,
    drawn_value,
    metric_axis,
    panels,
    short,
)

_TIMES: Final = (Metric.RESPONSE_TIME_P50, Metric.RESPONSE_TIME_P95)
FIGURES: Final[dict[str, tuple[Metric, ...]]] = {"response-time": _TIMES} | {
    metric.replace(".", "-").replace("_", "-"): (metric,) for metric in Metric if metric not in _TIMES
}
"""Metrics by the name of their figure: response times together, all others separately."""
_MOST: Final = 12
"""Panels of a figure."""
_COLUMNS: Final = 2
_PANEL_IN: Final = 1.5
_LETTERS: Final = 28
_BESIDE: Final = "against the median of the accepted runs before it"
_LOOKS: Final[dict[str, dict[str, Any]]] = {
    "accepted": {"color": MUTED, "marker": "o", "ms": 3.5},
    "waiting": {"color": UNSURE, "marker": "D", "ms": 5},
    "rejected": {"color": FADED, "marker": "x", "ms": 5},
    "invalid": {"color": FADED, "marker": "+", "ms": 6},
    "regressed": {"color": BAD, "marker": "X", "ms": 6.5},
}


def _look_of(run: HistoryRun) -> str:
    """Return a run's style: regressed until it is accepted, otherwise by status."""
    return "regressed" if run.line.verdict == "regressed" and run.status == "waiting" else run.status


def draw(runs: Sequence[HistoryRun], metrics: Sequence[Metric]) -> Drawing | None:
    """Draw a panel per metric, traffic entry and stage; None without any."""
    there = dict.fromkeys(one.key for run in runs for one in run.measurements.measurements)
    shown = [one for metric in metrics for one in there if one.metric == metric]
    shown.sort(key=lambda one: (one.traffic, one.stage))
    if not shown:
        return None
    figure, axes = panels(min(len(shown), _MOST), _PANEL_IN, columns=min(_COLUMNS, len(shown)), share_x=False)
    for panel, metric in zip(axes, shown, strict=False):
        _panel(panel, runs, metric)
    for panel in axes[-_COLUMNS:]:
        panel.set_xlabel("run, in order of start")
    caption = "Scales differ between panels and do not start at zero."
    if len(shown) > _MOST:
        caption += f" The first {_MOST} of {len(shown)} of them."
    return Drawing(_title(runs, shown), caption, figure)


def _panel(panel: Axes, runs: Sequence[HistoryRun], metric: Key) -> None:
    values = [drawn_value(run.measurements, metric) for run in runs]
    points = [(k, value, run) for k, (value, run) in enumerate(zip(values, runs, strict=True), 1) if value is not None]
    for name, look in _LOOKS.items():
        chosen = [(place, value) for place, value, run in points if _look_of(run) == name]
        if chosen:
            panel.plot(*zip(*chosen, strict=True), ls="", label=name, **look)
    starts = [place for place, run in enumerate(runs, 1) if run.new_segment]
    for start, end in zip([1, *starts], [*starts, len(runs) + 1], strict=True):
        accepted = [value for place, value, run in points if start <= place < end and run.status == "accepted"]
        if accepted:
            ends, label = (start - 0.4, end - 0.6), "median of a baseline period’s accepted runs"
            panel.hlines(median(accepted), *ends, color=INK, lw=1, label=label)
    for start in starts:
        panel.axvline(start - 0.5, lw=0.9, label="accepted change", **CHANGED)
    panel.set_xlim(0.5, len(runs) + 0.5)
    panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    metric_axis(panel, metric.metric)
    where = short(f"{metric.traffic} / {metric.stage}", _LETTERS)
    panel.set_title(f"{where}  {NATURES[metric.metric].name}", fontsize=7.5)


def headline(runs: Sequence[HistoryRun]) -> str:
    """Name the tested metric in which the last valid run is furthest from its baseline; empty without one."""
    accepted = (one for run in runs if run.status == "accepted" for one in run.measurements.measurements)
    columns: dict[Key, list[Measurement]] = {}
    for one in accepted:
        columns.setdefault(one.key, []).append(one)
    return _title(runs, [key for key, weight in weights(columns).items() if weight])


def _title(runs: Sequence[HistoryRun], shown: Sequence[Key]) -> str:
    """Name the metric whose last valid run is furthest from the median of its baseline period."""
    start = max((place for place, run in enumerate(runs) if run.new_segment), default=0)
    valid = [run for run in runs[start:] if run.status != "invalid"]
    before = [run.measurements.by_key() for run in valid[:-1] if run.status == "accepted"]
    found = [one for metric in shown if before and (one := _last(valid[-1], before, metric)) is not None]
    if found:
        return max(found, key=lambda one: one[0])[1]
    return f"{NATURES[shown[0].metric].name}: the last run has none, or nothing to compare it with" if shown else ""


def _last(run: HistoryRun, before: Sequence[Mapping[Key, Measurement]], metric: Key) -> tuple[float, str] | None:
    """Return a run's distance from the median of earlier accepted runs of its period, also in words."""
    values = [one.value for one in (each.get(metric) for each in before) if one is not None]
    last = run.measurements.by_key().get(metric)
    if last is None or not values:
        return None
    middle, nature = median(values), NATURES[metric.metric]
    if nature.unit == "share" or middle <= 0 or last.value <= 0:
        far, said = abs(last.value - middle), amounts.difference(metric.metric, last.value - middle)
    else:
        far, said = abs(math.log(last.value / middle)), amounts.percent(last.value / middle)
    value = amounts.value(metric.metric, last.value)
    return far, f"{short(metric.traffic)} {nature.name}: the last valid run has {value}, {said} {_BESIDE}"
