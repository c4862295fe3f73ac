"""Every metric of a history over its runs, with their statuses and the segments between accepted changes."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from loadtest.compare.history import HistoryRun
from loadtest.compare.measurements import NATURES, Key, Metric
from loadtest.report import amounts
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import BAD, FADED, INK, MUTED, UNSURE, legend_of, panels, plain, short

_TIMES: Final = (Metric.RESPONSE_TIME_P50, Metric.RESPONSE_TIME_P95)
FIGURES: Final[dict[str, tuple[Metric, ...]]] = {"response-time": _TIMES} | {
    metric.replace(".", "-").replace("_", "-"): (metric,) for metric in Metric if metric not in _TIMES
}
"""Metrics by the name of their figure: the response times together, each other one by itself."""
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


def look_of(run: HistoryRun) -> str:
    """How a run is drawn: a regressed one as such until it is accepted, every other one by its status."""
    return "regressed" if run.line.verdict == "regressed" and run.status == "waiting" else run.status


def draw(runs: Sequence[HistoryRun], metrics: Sequence[Metric]) -> Drawing | None:
    """A panel for each of these metrics of each traffic entry and stage; None without any."""
    keys = list(dict.fromkeys(one.key for run in runs for one in run.measurements.measurements))
    shown = [key for metric in metrics for key in keys if key.metric == metric]
    shown.sort(key=lambda key: (key.traffic, key.stage))
    if not shown:
        return None
    figure, axes = panels(min(len(shown), _MOST), _PANEL_IN, columns=min(_COLUMNS, len(shown)), share_x=False)
    for panel, key in zip(axes, shown, strict=False):
        _panel(panel, runs, key)
        panel.set_title(f"{short(f'{key.traffic} / {key.stage}', _LETTERS)}  {NATURES[key.metric].name}", fontsize=7.5)
    for panel in axes[-_COLUMNS:]:
        panel.set_xlabel("run, in order of start")
    present = [name for name in _LOOKS if any(look_of(run) == name for run in runs)]
    keys_shown = [Line2D([], [], ls="", **_LOOKS[name]) for name in present]
    keys_shown.append(Line2D([], [], color=INK, lw=1))
    names = [*present, "median of a segment’s accepted runs"]
    if any(run.new_segment for run in runs):
        keys_shown.append(Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 2))))
        names.append("accepted change")
    legend_of(figure, keys_shown, names)
    caption = "Scales differ from panel to panel and do not start at zero."
    if len(shown) > _MOST:
        caption += f" The first {_MOST} of {len(shown)} of them."
    return Drawing(_title(runs, shown), caption, figure)


def _panel(panel: Axes, runs: Sequence[HistoryRun], key: Key) -> None:
    factor = 100.0 if NATURES[key.metric].unit == "share" else 1.0
    points = [
        (place, found.value * factor, run)
        for place, run in enumerate(runs, 1)
        if (found := run.measurements.by_key().get(key)) is not None
    ]
    for name, look in _LOOKS.items():
        chosen = [(place, value) for place, value, run in points if look_of(run) == name]
        if chosen:
            panel.plot([place for place, _ in chosen], [value for _, value in chosen], ls="", label=name, **look)
    starts = [place for place, run in enumerate(runs, 1) if run.new_segment]
    for start, end in zip([1, *starts], [*starts, len(runs) + 1], strict=True):
        accepted = [value for place, value, run in points if start <= place < end and run.status == "accepted"]
        if accepted:
            panel.hlines(median(accepted), start - 0.4, end - 0.6, color=INK, lw=1)
    for start in starts:
        panel.axvline(start - 0.5, color=INK, lw=0.9, ls=(0, (4, 2)))
    panel.set_xlim(0.5, len(runs) + 0.5)
    panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    panel.yaxis.set_major_locator(MaxNLocator(4))
    plain(panel.yaxis)
    panel.set_ylabel({"ms": "ms", "share": "%", "1/s": "/s"}[NATURES[key.metric].unit])


def _title(runs: Sequence[HistoryRun], shown: Sequence[Key]) -> str:
    """Which of them is furthest from the median of the present segment in the last run."""
    found = [one for one in (_last(runs, key) for key in shown) if one is not None]
    name = NATURES[shown[0].metric].name
    if not found:
        return f"{name}: the last run has none, or nothing to compare it with"
    _, words = max(found, key=lambda one: one[0])
    return words


def _last(runs: Sequence[HistoryRun], key: Key) -> tuple[float, str] | None:
    """How far the last run is from the median of the accepted ones before it in its segment, and that in words."""
    start = max((place for place, run in enumerate(runs) if run.new_segment), default=0)
    before = [run for run in runs[start:-1] if run.status == "accepted"]
    values = [one.value for run in before if (one := run.measurements.by_key().get(key)) is not None]
    last = runs[-1].measurements.by_key().get(key)
    if last is None or not values:
        return None
    middle = median(values)
    label = f"{short(key.traffic)} {NATURES[key.metric].name}"
    said = f"{label}: the last run has {amounts.value(key.metric, last.value)}"
    if NATURES[key.metric].unit == "share" or middle <= 0 or last.value <= 0:
        return abs(last.value - middle), f"{said}, {amounts.difference(key.metric, last.value - middle)} {_BESIDE}"
    return abs(math.log(last.value / middle)), f"{said}, {amounts.percent(last.value / middle)} {_BESIDE}"
