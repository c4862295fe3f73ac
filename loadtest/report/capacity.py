"""``python -m loadtest.report.capacity DIR``: make a capacity search's pages from its ``capacity.json``."""

import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from markupsafe import Markup

from loadtest.capacity.results import FILE_NAME, Capacity, Constraint, EntryLevel, Level, load
from loadtest.errors import ExitCode, RecordError
from loadtest.record import run_directory
from loadtest.record.effective_scenario import polling
from loadtest.report.__main__ import make_pages
from loadtest.report.page import Page, Section, Table, TableCell, TableColumns, table_of, tone_of
from loadtest.report.plots import draw_plots
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import BAD, BAND, LIMITS, LINES, OPERATIONS, panels, plain_log
from loadtest.words import NOTHING, count, share

_BESIDE: Final = 1.3
"""Factor by which the axis extends beyond the lowest and highest tested rate."""
_MARKERS: Final = "osDv^"


def build(directory: Path) -> Page:
    """Make the page of a directory's capacity search. Raises ``RecordError`` if ``capacity.json`` cannot be read."""
    found = load(directory)
    plots, levels = draw_plots({"capacity": partial(_draw, found)}), _levels(found, _polled(directory, found))
    return Page(
        about=("Capacity and bottleneck", f"{found.scenario} / {found.stage}"),
        tab=f"Capacity of {found.scenario}",
        heading=found.title,
        tone="good" if found.exit_code == ExitCode.PASS else "unsure",
        statements=(found.sentence,),
        reasons=found.reasons,
        sections=(Section(plots=plots, tables=(levels,), brief=True),),
        footer=Markup("{} Each level is a run with a report of its own.").format(found.target),
        folder="plots",
    )


def _draw(found: Capacity) -> Drawing | None:
    """Draw each entry's p95 (or else p50) and each limit's share of 429s against the rate, which has a log scale."""
    valid = (level for level in found.levels if level.outcome != "invalid")
    levels = sorted(valid, key=lambda level: level.multiplier)
    if not levels:
        return None
    figure, (times, rejected) = panels(2, 1.7)
    for place, (name, entry) in enumerate(levels[0].entries.items()):
        look = {"color": OPERATIONS[entry.operation], "ls": LINES[entry.operation]}
        look["marker"] = _MARKERS[place % len(_MARKERS)]
        points = [(level.multiplier, level.entries[name]) for level in levels if name in level.entries]
        timed = [(x, y) for x, each in points if (y := each.typical_ms) is not None]
        times.plot(*zip(*timed, strict=True), label=name, **look) if timed else None
    for limit in sorted({name for level in levels for name in level.limits}):
        on = [(level.multiplier, level.limits[limit].throttled_rate * 100) for level in levels if limit in level.limits]
        look = {"color": LIMITS[limit], "marker": "x", "ls": ":"}
        rejected.plot(*zip(*on, strict=True), label=f"on {limit}", **look)
    times.set(ylim=(0, times.get_ylim()[1] * 1.05), ylabel="response time p95 (ms)")
    rejected.set(ylim=(0, max(1.0, rejected.get_ylim()[1] * 1.05)), ylabel="requests with 429 (%)")
    rejected.set_xlabel("rate, in multiples of the scenario's rates")
    for panel in (times, rejected):
        panel.set(xscale="log", xlim=(levels[0].multiplier / _BESIDE, levels[-1].multiplier * _BESIDE))
        if found.multiplier is not None and found.low is not None and found.high is not None:
            panel.axvspan(found.low, found.high, zorder=0, label="capacity", **BAND)
            panel.axvline(found.multiplier, color=BAD, lw=1.2, ls=(0, (4, 2)))
    plain_log(rejected.xaxis)
    caption = (
        "Points are valid runs; a time is the p50 if the p95 is unknown; a band is the capacity, its middle dashed."
    )
    title = "The tested rates give no range for the capacity"
    called = f"the {found.limit} limit"
    if found.low is not None and found.high is not None and found.constraint is not None:
        what = {Constraint.LIMIT: called, Constraint.POLL_BUDGET: f"polls, which exhaust {called}"}
        bottleneck = what.get(found.constraint, found.constraint)
        title = f"Bottleneck above {found.low:.3g} to {found.high:.3g} times the rate: {bottleneck}"
    return Drawing(title, caption, figure)


def _polled(directory: Path, found: Capacity) -> dict[str, str]:
    """Return each traffic entry's polling interval, from the first level whose record can be read."""
    for level in found.levels:
        with suppress(RecordError):
            info = run_directory.load(directory / level.directory)
            return {name: polling(info, name) for name in info.traffic}
    return {}


def _levels(found: Capacity, polled: dict[str, str]) -> Table:
    def stopped(level: Level) -> str:
        if level.constraint is None or level.limit is None:
            return level.constraint or NOTHING
        return f"{level.constraint}: {level.limit}, {share(level.limits[level.limit].throttled_rate)} got 429"

    columns: TableColumns[tuple[Level, str, EntryLevel]] = {
        "#Times the rate": lambda row: f"{row[0].multiplier:.3g}",
        "Outcome": lambda row: TableCell(row[0].outcome, tone=tone_of(row[0].outcome)),
        "Traffic": lambda row: TableCell(row[1], polled.get(row[1], "")),
        "#Per minute": lambda row: count(row[2].offered_rate * 60),
        "#429": lambda row: share(row[2].throttled_rate),
        "#p50 ms": lambda row: count(row[2].response_p50_ms),
        "#p95 ms": lambda row: count(row[2].response_p95_ms),
        "#Exec. p50": lambda row: count(row[2].execution_p50_ms),
        "Stopped by": lambda row: TableCell(stopped(row[0]), ", ".join(row[0].broken)),
        "~Run": lambda row: row[0].directory,
    }
    levels = sorted(found.levels, key=lambda level: level.multiplier)
    rows = [(level, name, entry) for level in levels for name, entry in level.entries.items()]
    return table_of("Every level", columns, rows)


if __name__ == "__main__":
    sys.exit(make_pages(FILE_NAME, build))
