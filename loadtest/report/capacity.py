"""``python -m loadtest.report.capacity DIR``: make the pages of DIR's capacity search from its ``capacity.json`` alone.

The pages show the answer, times and 429s over the rate, and all levels.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from markupsafe import Markup

from loadtest.capacity.results import FILE_NAME, Capacity, EntryLevel, Level, load
from loadtest.errors import ExitCode, RecordError
from loadtest.record import run_directory
from loadtest.record.effective_scenario import polling
from loadtest.report.__main__ import make_pages
from loadtest.report.page import Page, Section, Table, TableCell, TableColumns, Tone, table_of
from loadtest.words import NOTHING, count

_TONES: Final[dict[str, Tone]] = {"holds": "good", "breaks": "bad", "inconclusive": "unsure", "invalid": "unsure"}


def main(argv: Sequence[str] | None = None) -> int:
    """Make the pages."""
    return make_pages(argv, FILE_NAME, build)


def build(directory: Path) -> Page:
    """Make the page of a directory's capacity search.

    Raises:
        RecordError: if it cannot be read.
    """
    from loadtest.report.plots import draw_capacity  # noqa: PLC0415 - matplotlib is slow to import

    found = load(directory)
    plots, levels = draw_capacity(found), _levels(found, _polled(directory, found))
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


def _polled(directory: Path, found: Capacity) -> dict[str, str]:
    """Return the polling interval of each traffic entry from the first level whose run is still there."""
    for level in found.levels:
        with suppress(RecordError):
            info = run_directory.load(directory / level.directory)
            return {name: polling(info, name) for name in info.traffic}
    return {}


def _levels(found: Capacity, polled: dict[str, str]) -> Table:
    columns: TableColumns[tuple[Level, str, EntryLevel]] = {
        "#Times the rate": lambda row: f"{row[0].multiplier:.3g}",
        "Outcome": lambda row: TableCell(row[0].outcome, tone=_TONES[row[0].outcome]),
        "Traffic": lambda row: TableCell(row[1], polled.get(row[1], "")),
        "#Per minute": lambda row: count(row[2].offered_rate * 60),
        "#429": lambda row: f"{row[2].throttled_rate:.1%}",
        "#p50 ms": lambda row: count(row[2].response_p50_ms),
        "#p95 ms": lambda row: count(row[2].response_p95_ms),
        "#Exec. p50": lambda row: count(row[2].execution_p50_ms),
        "Stopped by": lambda row: TableCell(_stopped(row[0]), ", ".join(row[0].broken)),
        "~Run": lambda row: row[0].directory,
    }
    levels = sorted(found.levels, key=lambda level: level.multiplier)
    rows = [(level, name, entry) for level in levels for name, entry in level.entries.items()]
    return table_of("levels", "Every level", columns, rows)


def _stopped(level: Level) -> str:
    if level.constraint is None:
        return NOTHING
    if level.limit is None:
        return level.constraint
    return f"{level.constraint}: {level.limit}, {level.limits[level.limit].throttled_rate:.1%} got 429"


if __name__ == "__main__":
    sys.exit(main())
