"""The page of a history: its runs, verdicts and decisions, and all metrics over time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from markupsafe import Markup

from loadtest.compare import history_file
from loadtest.compare.amounts import minute
from loadtest.compare.history import History, HistoryRun, RunStatus, growth, segments
from loadtest.errors import InputError
from loadtest.program import command_line, mention
from loadtest.record.run_directory import write_atomically
from loadtest.report.formats.html import render_html
from loadtest.report.page import NextStep, Page, Section, Table, TableCell, TableColumns, Tone, filled, table_of
from loadtest.report.plots import draw_history
from loadtest.report.plots.over_history import headline
from loadtest.report.tables.comparison import commit
from loadtest.words import NOTHING, counted

_STATUSES: Final[dict[RunStatus, Tone]] = {"accepted": "", "waiting": "unsure", "rejected": "faint", "invalid": "faint"}
_VERDICTS: Final[dict[str, Tone]] = {
    "regressed": "bad", "pass": "good", "inconclusive": "unsure", "not comparable": "unsure", "invalid": "bad",
}  # fmt: skip
_MOST_RUNS: Final = 300
"""Maximum number of runs in plots and in the table of runs: the latest."""
_STEPS: Final = 3
"""Maximum number of waiting runs for which the page prints the command."""


def write(file: Path, output: Path) -> None:
    """Write the page of a history.

    Raises:
        InputError: if the history is not there or cannot be read.
    """
    if not file.is_file():
        check = mention("regression", "check", file.stem, history=file)
        raise InputError(f"there is no history {file}", f"{check} begins one.")
    contents = history_file.read(file)
    write_atomically(output, render_html(build(contents.history, file, contents.warnings)))


def build(history: History, file: Path, warnings: Sequence[str] = ()) -> Page:
    """Make the page of a history; ``file`` is as a user may type it, and ``warnings`` state its errors."""
    runs = history.runs[-_MOST_RUNS:]
    name = runs[-1].measurements.scenario if runs else file.stem
    waiting = [one for one in history.runs if one.status == "waiting"]
    steps = tuple(
        NextStep(
            f"{one.measurements.started[:10]}, {one.line.verdict}: accept it if it is right so, else reject it.",
            command_line("regression", "accept", one.id, reason="…", history=file),
        )
        for one in waiting[: -1 - _STEPS : -1]
    )
    plots = draw_history(runs) if runs else ()
    return Page(
        about=("History of checked runs", str(file)),
        tab=f"History of {name}",
        heading=name,
        tone="unsure" if steps or warnings else "good",
        statements=tuple(filter(None, (headline(runs), _sentence(history.runs), growth(history)))),
        sides=tuple(runs[-1].measurements.polling.items()) if runs else (),
        reasons=tuple(warnings),
        steps=steps,
        sections=(
            Section(plots=plots[:1], tables=filled(_segments(history.runs))),
            *(Section(plot.title, "aside", plots=(plot,)) for plot in plots[1:]),
            Section(tables=filled(_runs(runs, whole=len(runs) == len(history.runs))), brief=True),
        ),
        footer=Markup("Made from the history file alone by <code>loadtest regression history --html</code>."),
        style="comparison.css",
    )


def _sentence(runs: Sequence[HistoryRun]) -> str:
    if not runs:
        return "No run has been checked yet."
    numbers = {status: sum(one.status == status for one in runs) for status in _STATUSES}
    became = ", ".join(f"{number} {status}" for status, number in numbers.items() if number)
    regressed = sum(one.line.verdict == "regressed" for one in runs) or "none"
    return f"{counted(len(runs), 'run')} since {runs[0].measurements.started[:10]}: {became}; {regressed} regressed."


def _segments(runs: Sequence[HistoryRun]) -> Table:
    """Return each baseline period's start and reason; empty for a single period."""
    cut = segments([one for one in runs if one.status == "accepted"]) if runs else []
    columns: TableColumns[Sequence[HistoryRun]] = {
        "Since": lambda part: minute(part[0].measurements.started),
        "First run": lambda part: part[0].id,
        "Version": lambda part: part[0].measurements.target_version or NOTHING,
        "Reason": lambda part: part[0].reason or NOTHING,
        "#Accepted runs": len,
    }
    note = "A run is compared with the accepted runs since the last of these changes."
    return table_of("segments", "Accepted changes", columns, cut[1:], note)


def _runs(runs: Sequence[HistoryRun], *, whole: bool) -> Table:
    columns: TableColumns[HistoryRun] = {
        "Started": lambda one: minute(one.measurements.started),
        "Verdict": lambda one: TableCell(one.line.verdict, tone=_VERDICTS.get(one.line.verdict, "faint")),
        "Status": lambda one: TableCell(one.status, one.reason, _STATUSES[one.status]),
        "Finding": lambda one: one.line.sentence or NOTHING,
        "Version": lambda one: TableCell(
            one.measurements.target_version or NOTHING, f"commit {commit(one.measurements)}"
        ),
        "~Run": lambda one: TableCell(one.id, f"confirms {one.line.confirms}" if one.line.confirms else ""),
    }
    return table_of("runs", "Every run" if whole else f"The latest {len(runs)} runs", columns, reversed(runs))
