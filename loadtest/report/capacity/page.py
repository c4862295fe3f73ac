"""The page of a capacity search: its answer, times and 429s over the rate, and every level."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtest.capacity.results import Capacity, Level, load
from loadtest.errors import ExitCode
from loadtest.record.run_directory import write_atomically
from loadtest.report.formats.pages import escape, markdown_table, render_template
from loadtest.report.page import Cell, Plot, Row, Table, Tone, table_of
from loadtest.report.plots import draw_capacity
from loadtest.report.write import write_plots
from loadtest.words import NOTHING, grouped

HTML: Final = "capacity.html"
_FOLDER: Final = "plots"
_TONES: Final[dict[str, Tone]] = {"holds": "good", "breaks": "bad", "inconclusive": "unsure", "invalid": "unsure"}


@dataclass(frozen=True)
class CapacityPage:
    """What the page shows.

    Attributes:
        found: by the search.
        tone: whether there is an answer.
        plot: times and 429s over the rate; None without a level.
        levels: every run, by rate.
    """

    found: Capacity
    tone: Tone
    plot: Plot | None
    levels: Table


def write(directory: Path) -> None:
    """Write capacity.html, capacity.md and plots/capacity.png beside ``capacity.json``.

    Raises:
        RecordError: if it cannot be read.
    """
    found = load(directory)
    tone: Tone = "good" if found.exit_code == ExitCode.PASS else "unsure"
    page = CapacityPage(found, tone, next(iter(draw_capacity(found)), None), levels_table(found))
    write_plots([page.plot] if page.plot else [], directory / _FOLDER)
    write_atomically(directory / HTML, render_template("capacity.html.j2", page=page))
    write_atomically(directory / "capacity.md", markdown(page))


def levels_table(found: Capacity) -> Table:
    """Every level by rate: each traffic entry's rate, 429s and times, and what stopped it."""
    columns = (
        "#Times the rate | Outcome | Traffic | #Per minute | #Throttled | #Response p50 (ms) | #p95 (ms) | "
        "#executionTime p50 (ms) | Stopped by | Run"
    )
    rows: tuple[Row, ...] = tuple(
        (
            f"{level.multiplier:.3g}",
            Cell("scout", f"{level.stage_s:g} s, not judged")
            if level.scout
            else Cell(level.outcome, tone=_TONES[level.outcome]),
            name,
            grouped(round(entry.offered_rate * 60)),
            f"{entry.throttled_rate:.1%}",
            *(_ms(value) for value in (entry.response_p50_ms, entry.response_p95_ms, entry.execution_p50_ms)),
            Cell(_stopped(level), ", ".join(level.broken)),
            level.directory,
        )
        for level in sorted(found.levels, key=lambda level: level.multiplier)
        for name, entry in level.entries.items()
    )
    return table_of("levels", "Every level", columns, rows)


def markdown(page: CapacityPage) -> str:
    """The same as Markdown."""
    found = page.found
    parts = [
        f"# How much gets through: {escape(found.title)}",
        f"**{escape(found.sentence)}**",
        "\n".join(f"- {escape(reason)}" for reason in found.reasons),
        f"![{escape(page.plot.title)}]({_FOLDER}/{page.plot.name}.png)\n\n{escape(page.plot.caption)}"
        if page.plot
        else "",
        markdown_table(page.levels),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _stopped(level: Level) -> str:
    if level.constraint is None:
        return NOTHING
    if level.limit is None:
        return level.constraint
    return f"{level.constraint}: {level.limit}, {level.limits[level.limit].throttled_rate:.1%} got 429"


def _ms(value: float | None) -> str:
    return NOTHING if value is None else grouped(round(value))
