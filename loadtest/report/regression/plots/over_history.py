"""Every metric of a history over its runs, with their statuses and the segments between accepted changes."""

from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from loadtest.regression.history import HistoryRun
from loadtest.regression.measurements import NATURES, Key, Metric
from loadtest.report.plots import finished
from loadtest.report.plots.style import BAD, FADED, INK, MUTED, UNSURE, Drawing, NoData, legend_of, panels, plain
from loadtest.report.regression.plots.looks import short
from loadtest.report.report import Plot

_MOST: Final = 12
"""Panels of a figure."""
_FIRST: Final = (Metric.RESPONSE_TIME_P50, Metric.RESPONSE_TIME_P95)
_COLUMNS: Final = 2
_PANEL_IN: Final = 1.5
_LETTERS: Final = 28
_LOOKS: Final[dict[str, dict[str, Any]]] = {
    "accepted": {"color": MUTED, "marker": "o", "ms": 3.5},
    "waiting": {"color": UNSURE, "marker": "D", "ms": 5},
    "rejected": {"color": FADED, "marker": "x", "ms": 5},
    "invalid": {"color": FADED, "marker": "+", "ms": 6},
    "regressed": {"color": BAD, "marker": "X", "ms": 6.5},
}


def draw_all(runs: Sequence[HistoryRun]) -> tuple[Plot, ...]:
    """A figure of the response times, then one for each other metric."""
    others = [metric for metric in Metric if metric not in _FIRST]
    figures = [finished("response-time", partial(_draw, runs, _FIRST))] + [
        finished(metric.replace(".", "-").replace("_", "-"), partial(_draw, runs, (metric,))) for metric in others
    ]
    return tuple(plot for plot in figures if plot is not None)


def look_of(run: HistoryRun) -> str:
    """How a run is drawn: a regressed one as such until it is accepted, every other one by its status."""
    return "regressed" if run.line.verdict == "regressed" and run.status == "waiting" else run.status


def _draw(runs: Sequence[HistoryRun], metrics: tuple[Metric, ...]) -> Drawing | NoData | None:
    keys = list(dict.fromkeys(one.key for run in runs for one in run.measurements.measurements))
    shown = [key for metric in metrics for key in keys if key.metric == metric]
    shown.sort(key=lambda key: (key.traffic, key.stage))
    if not shown:
        return NoData("Response time over runs", "there is no run yet") if metrics == _FIRST else None
    figure, axes = panels(min(len(shown), _MOST), _PANEL_IN, columns=min(_COLUMNS, len(shown)), share_x=False)
    for panel, key in zip(axes, shown, strict=False):
        _panel(panel, runs, key)
        panel.set_title(f"{short(f'{key.traffic} / {key.stage}', _LETTERS)}  {NATURES[key.metric].name}", fontsize=7.5)
    for panel in axes[-_COLUMNS:]:
        panel.set_xlabel("run, in order of start")
    present = [name for name in _LOOKS if any(look_of(run) == name for run in runs)]
    keys_shown = [Line2D([], [], ls="", **_LOOKS[name]) for name in present]
    legend_of(
        figure,
        [*keys_shown, Line2D([], [], color=INK, lw=1), Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 2)))],
        [*present, "median of a segment’s accepted runs", "accepted change"],
    )
    caption = "Scales differ from panel to panel and do not start at zero."
    if len(shown) > _MOST:
        caption += f" The first {_MOST} of {len(shown)} of them."
    return Drawing(_title(runs, shown, metrics), caption, figure)


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


def _title(runs: Sequence[HistoryRun], shown: Sequence[Key], metrics: tuple[Metric, ...]) -> str:
    changes = sum(run.new_segment for run in runs)
    said = {0: "no accepted change", 1: "1 accepted change"}.get(changes, f"{changes} accepted changes")
    name = "response time" if metrics == _FIRST else NATURES[metrics[0]].name
    entries = len({(key.traffic, key.stage) for key in shown})
    of = "1 traffic entry" if entries == 1 else f"{entries} traffic entries"
    many = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    return f"{name[0].upper()}{name[1:]} of {of} over {many}, with {said}"
