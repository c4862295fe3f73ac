"""The page of a capacity search: its answer, times and 429s over the rate, and every level; from ``capacity.json``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from markupsafe import Markup

from loadtest.capacity.results import Capacity, Level, load
from loadtest.errors import ExitCode
from loadtest.record.run_directory import write_atomically
from loadtest.report.formats import html, markdown
from loadtest.report.formats.markdown import escape
from loadtest.report.page import Cell, Page, Row, Section, Table, Tone, table_of, write_plots
from loadtest.report.plots import draw_capacity
from loadtest.words import NOTHING, count

HTML: Final = "capacity.html"
_TONES: Final[dict[str, Tone]] = {"holds": "good", "breaks": "bad", "inconclusive": "unsure", "invalid": "unsure"}


def write(directory: Path) -> None:
    """Write capacity.html, capacity.md and plots/capacity.png beside ``capacity.json``.

    Raises:
        RecordError: if it cannot be read.
    """
    found = load(directory)
    plots, levels = draw_capacity(found), _levels(found)
    page = Page(
        about=("How much gets through, and what stops more", f"{found.scenario} / {found.stage}"),
        tab=f"Capacity of {found.scenario}",
        heading=found.title,
        tone="good" if found.exit_code == ExitCode.PASS else "unsure",
        statements=(found.sentence,),
        reasons=found.reasons,
        sections=(Section(plots=plots, tables=(levels,)),),
        footer=Markup("{} Each level is a run with a report of its own.").format(found.target),
    )
    text = markdown.document(
        f"# How much gets through: {escape(found.title)}",
        f"**{escape(found.sentence)}**",
        markdown.bullets(found.reasons),
        *map(markdown.image, plots),
        markdown.table(levels),
    )
    write_plots(plots, directory / "plots")
    write_atomically(directory / HTML, html.render_html(page))
    write_atomically(directory / "capacity.md", text)


def _levels(found: Capacity) -> Table:
    """Every level by rate: each traffic entry's rate, 429s and times, and what stopped it."""
    columns = (
        "#Times the rate | Outcome | Traffic | #Per minute | #Throttled | #Response p50 (ms) | #p95 (ms) | "
        "#executionTime p50 (ms) | Stopped by | Run"
    )
    rows: Iterator[Row] = (
        (
            f"{level.multiplier:.3g}",
            Cell("scout", f"{level.stage_s:g} s, not judged")
            if level.scout
            else Cell(level.outcome, tone=_TONES[level.outcome]),
            name,
            count(entry.offered_rate * 60),
            f"{entry.throttled_rate:.1%}",
            *map(count, (entry.response_p50_ms, entry.response_p95_ms, entry.execution_p50_ms)),
            Cell(_stopped(level), ", ".join(level.broken)),
            level.directory,
        )
        for level in sorted(found.levels, key=lambda level: level.multiplier)
        for name, entry in level.entries.items()
    )
    return table_of("levels", "Every level", columns, rows)


def _stopped(level: Level) -> str:
    if level.constraint is None:
        return NOTHING
    if level.limit is None:
        return level.constraint
    return f"{level.constraint}: {level.limit}, {level.limits[level.limit].throttled_rate:.1%} got 429"
