"""The page of a history, with its runs, verdicts, decisions, and all metrics over time."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final, get_args

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from loadtest.compare import amounts, history_file
from loadtest.compare.history import History, HistoryRun, RunStatus, growth, segments
from loadtest.compare.measurements import NATURES, Key, Measurement, Metric
from loadtest.compare.verdict import weights
from loadtest.errors import InputError
from loadtest.program import command_line, mention
from loadtest.record.run_directory import write_atomically
from loadtest.report.formats import render_html
from loadtest.report.page import NextStep, Page, Section, Table, TableCell, TableColumns, table_of, tone_of
from loadtest.report.plots import draw_plots, style
from loadtest.report.plots.drawing import Drawing
from loadtest.report.tables.comparison import commit
from loadtest.words import NOTHING, counted

_MOST_RUNS: Final = 300
"""Plots and the table of runs show at most this many runs. Older runs are left out."""
_TIMES: Final = (Metric.RESPONSE_TIME_P50, Metric.RESPONSE_TIME_P95)
_FIGURES: Final[dict[str, tuple[Metric, ...]]] = {"response-time": _TIMES} | {
    metric.replace(".", "-").replace("_", "-"): (metric,) for metric in Metric if metric not in _TIMES
}
"""Metrics by the name of their figure. Response times share a figure; other metrics have their own."""
_MOST_PANELS: Final = 12
_COLUMNS: Final = 2
_LOOKS: Final[dict[str, dict[str, Any]]] = {
    "accepted": {"color": style.MUTED, "marker": "o", "ms": 3.5},
    "waiting": {"color": style.UNSURE, "marker": "D", "ms": 5},
    "rejected": {"color": style.FADED, "marker": "x", "ms": 5},
    "invalid": {"color": style.FADED, "marker": "+", "ms": 6},
    "regressed": {"color": style.BAD, "marker": "X", "ms": 6.5},
}


def write(file: Path, output: Path) -> None:
    """Write the page of a history. Raises ``InputError`` if the history does not exist or cannot be read."""
    if not file.is_file():
        check = mention("regression", "check", file.stem, history=file)
        raise InputError(f"there is no history {file}", f"{check} creates it.")
    contents = history_file.read(file)
    write_atomically(output, render_html(build(contents.history, file, contents.warnings)))


def build(history: History, file: Path, warnings: Sequence[str] = ()) -> Page:
    """Make the page of a history. ``file`` is the path as the user types it; ``warnings`` name the file's defects."""
    runs = history.runs[-_MOST_RUNS:]
    name = runs[-1].measurements.scenario if runs else file.stem
    steps = tuple(
        NextStep(
            f"Run of {one.measurements.started[:10]}, {one.line.verdict}: accept it if its change is intended, else "
            "reject it.",
            command_line("regression", "accept", one.id, reason="…", history=file),
        )
        for one in [one for one in reversed(history.runs) if one.status == "waiting"][:3]
    )
    columns: dict[Key, list[Measurement]] = {}
    for one in (one for run in runs if run.status == "accepted" for one in run.measurements.measurements):
        columns.setdefault(one.key, []).append(one)
    tested = [key for key, weight in weights(columns).items() if weight]
    plots = draw_plots({name: partial(_draw, runs, metrics) for name, metrics in _FIGURES.items()})
    return Page(
        about=("History of checked runs", str(file)),
        tab=f"History of {name}",
        heading=name,
        tone="unsure" if steps or warnings else "good",
        statements=tuple(filter(None, (_title(runs, tested), _sentence(history.runs), growth(history)))),
        sides=tuple(runs[-1].measurements.polling.items()) if runs else (),
        reasons=tuple(warnings),
        steps=steps,
        sections=(
            Section(plots=plots[:1], tables=(_segments(history.runs),)),
            *(Section(plot.title, "aside", plots=(plot,)) for plot in plots[1:]),
            Section(tables=(_runs(runs, whole=len(runs) == len(history.runs)),), brief=True),
        ),
        footer=Markup("Made from the history file alone by <code>loadtest regression history --html</code>."),
        style="comparison.css",
    )


def _sentence(runs: Sequence[HistoryRun]) -> str:
    if not runs:
        return "No run has been checked yet."
    numbers = Counter(one.status for one in runs)
    became = ", ".join(f"{numbers[status]} {status}" for status in get_args(RunStatus) if numbers[status])
    regressed = sum(one.line.verdict == "regressed" for one in runs) or "none"
    return f"{counted(len(runs), 'run')} since {runs[0].measurements.started[:10]}: {became}; {regressed} regressed."


def _segments(runs: Sequence[HistoryRun]) -> Table:
    """Return a table with the start and reason of each baseline period after the first."""
    cut = segments([one for one in runs if one.status == "accepted"]) if runs else []
    columns: TableColumns[Sequence[HistoryRun]] = {
        "Since": lambda part: amounts.minute(part[0].measurements.started),
        "First run": lambda part: part[0].id,
        "Version": lambda part: part[0].measurements.target_version or NOTHING,
        "Reason": lambda part: part[0].reason or NOTHING,
        "#Accepted runs": len,
    }
    note = "A new run is compared with the accepted runs since the last of these changes."
    return table_of("Accepted changes", columns, cut[1:], note)


def _runs(runs: Sequence[HistoryRun], *, whole: bool) -> Table:
    columns: TableColumns[HistoryRun] = {
        "Started": lambda one: amounts.minute(one.measurements.started),
        "Verdict": lambda one: TableCell(one.line.verdict, tone=tone_of(one.line.verdict)),
        "Status": lambda one: TableCell(one.status, one.reason, tone_of(one.status)),
        "Finding": lambda one: one.line.sentence or NOTHING,
        "Version": lambda one: TableCell(
            one.measurements.target_version or NOTHING,
            f"commit {commit(one.measurements)}" if one.measurements.commit else "",
        ),
        "~Run": lambda one: TableCell(one.id, f"confirms {one.line.confirms}" if one.line.confirms else ""),
    }
    return table_of("Every run" if whole else f"The latest {len(runs)} runs", columns, reversed(runs))


def _draw(runs: Sequence[HistoryRun], metrics: Sequence[Metric]) -> Drawing | None:
    """Draw a panel for each traffic entry, stage and metric; None without panels."""
    there = dict.fromkeys(one.key for run in runs for one in run.measurements.measurements)
    shown = [one for metric in metrics for one in there if one.metric == metric]
    shown.sort(key=lambda one: (one.traffic, one.stage))
    if not shown:
        return None
    figure, axes = style.panels(min(len(shown), _MOST_PANELS), 1.5, columns=min(_COLUMNS, len(shown)), share_x=False)
    for panel, metric in zip(axes, shown, strict=False):
        _panel(panel, runs, metric)
    for panel in axes[-_COLUMNS:]:
        panel.set_xlabel("run, in order of start")
    caption = "Scales differ between panels and need not start at zero."
    if len(shown) > _MOST_PANELS:
        caption += f" The figure shows the first {_MOST_PANELS} of {len(shown)} panels."
    return Drawing(_title(runs, shown), caption, figure)


def _panel(panel: Axes, runs: Sequence[HistoryRun], metric: Key) -> None:
    values = [style.drawn_value(run.measurements, metric) for run in runs]
    points = [(k, value, run) for k, (value, run) in enumerate(zip(values, runs, strict=True), 1) if value is not None]

    def look_of(run: HistoryRun) -> str:
        return "regressed" if run.line.verdict == "regressed" and run.status == "waiting" else run.status

    for name, look in _LOOKS.items():
        if chosen := [(place, value) for place, value, run in points if look_of(run) == name]:
            panel.plot(*zip(*chosen, strict=True), ls="", label=name, **look)
    starts = [place for place, run in enumerate(runs, 1) if run.new_segment]
    for start, end in zip([1, *starts], [*starts, len(runs) + 1], strict=True):
        if accepted := [value for place, value, run in points if start <= place < end and run.status == "accepted"]:
            ends, label = (start - 0.4, end - 0.6), "median of a baseline period’s accepted runs"
            panel.hlines(median(accepted), *ends, color=style.INK, lw=1, label=label)
    for start in starts:
        panel.axvline(start - 0.5, lw=0.9, label="accepted change", **style.CHANGED)
    panel.set_xlim(0.5, len(runs) + 0.5)
    panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    style.metric_axis(panel, metric.metric)
    where = style.short(f"{metric.traffic} / {metric.stage}", 28)
    panel.set_title(f"{where}  {NATURES[metric.metric].name}", fontsize=7.5)


def _title(runs: Sequence[HistoryRun], shown: Sequence[Key]) -> str:
    """Name the metric whose value in the last valid run is furthest from the median of the baseline period."""
    start = max((place for place, run in enumerate(runs) if run.new_segment), default=0)
    valid = [run for run in runs[start:] if run.status != "invalid"]
    before = [run.measurements.by_key() for run in valid[:-1] if run.status == "accepted"]
    if found := [one for metric in shown if before and (one := _last(valid[-1], before, metric)) is not None]:
        return max(found, key=lambda one: one[0])[1]
    return f"{NATURES[shown[0].metric].name}: the last valid run cannot be compared" if shown else ""


def _last(run: HistoryRun, before: Sequence[Mapping[Key, Measurement]], metric: Key) -> tuple[float, str] | None:
    """Return a run's distance from the median of the accepted runs ``before`` it, as a sort key and as text."""
    values = [one.value for one in (each.get(metric) for each in before) if one is not None]
    last = run.measurements.by_key().get(metric)
    if last is None or not values:
        return None
    middle, nature = median(values), NATURES[metric.metric]
    if nature.unit == "share" or middle <= 0 or last.value <= 0:
        far, said = abs(last.value - middle), amounts.difference(metric.metric, last.value - middle)
    else:
        far, said = abs(math.log(last.value / middle)), amounts.percent(last.value / middle)
    text = f"{style.short(metric.traffic)} {nature.name}: the last valid run has "
    text += f"{amounts.value(metric.metric, last.value)}, {said} against the median of the accepted runs before it"
    return far, text
