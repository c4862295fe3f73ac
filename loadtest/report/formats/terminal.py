"""The terminal's summary: what was measured, the verdict in a sentence, where the report is, what to do next."""

from collections.abc import Collection
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from loadtest.analysis.verdict import Word
from loadtest.program import open_command, typed
from loadtest.report.page import Cell, KeyFigure, Table
from loadtest.report.report import Report

WIDTH: Final = 100
_COLOURS: Final[dict[Word, str]] = {
    "pass": "green",
    "fail": "red",
    "invalid": "red",
    "aborted": "red",
    "regressed": "red",
    "inconclusive": "yellow",
}
TONES: Final = {"good": "green", "bad": "bold red", "unsure": "yellow", "faint": "dim", "head": "bold", "": ""}
_LEFT_OUT: Final = {"Rate"}
"""Columns of the summary that a terminal has no room for."""


def show(report: Report, files: Path, console: Console | None = None) -> None:
    """Print the summary; without colour where the output isn't a terminal."""
    console = console or Console(highlight=False, markup=False, soft_wrap=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    console.print()
    _answers(report, console)
    console.print(rich_table(report.summary))
    console.print()
    console.print(_figures(report.figures))
    if report.thresholds is not None:
        console.print()
        console.print(rich_table(report.thresholds))
    console.print()
    for check in report.checks:
        if not check.ok:
            console.print(Text(f"✗ {check.name}: {check.value} (limit: {check.limit})", style="red"))
    for note in report.caveats:
        console.print(Text(f"! {note}", style="yellow"))
    for sentence in report.target:
        console.print(Text.assemble(("About the target  ", "dim"), sentence))
    if report.differences is not None:
        console.print(Text.assemble((f"{report.differences.title}  ", "dim"), report.differences.sentence))
        for reason in report.differences.reasons:
            console.print(Text(f"  {reason}"))
    console.print(Text.assemble(("Binding constraint  ", "dim"), report.bottleneck.words))
    if report.not_tested:
        phrases = "; ".join(one.what for one in report.not_tested)
        console.print(Text.assemble(("Not tested  ", "dim"), phrases, "."))
    console.print()
    console.print(Text(report.headline))
    console.print()
    console.print(Text(report.verdict.sentence, style=f"bold {_COLOURS[report.verdict.word]}"))
    for reason in report.verdict.reasons[1:]:
        console.print(Text(f"  also {reason}"))
    console.print()
    # Paths are printed unwrapped, so that they can be copied.
    console.print(Text.assemble(("next    ", "dim"), _next(report, files)), soft_wrap=True)
    console.print(Text.assemble(("report  ", "dim"), open_command(files / "report.html")), soft_wrap=True)


def _answers(report: Report, console: Console) -> None:
    for table in report.answers:
        console.print(Text(table.title, style="bold"))
        console.print(rich_table(table, details=True))
        console.print()


def _next(report: Report, files: Path) -> str:
    if report.verdict.word == "invalid":
        then = "after reading why; then run it again, on a quieter machine or at a lower rate"
        return f"{typed('loadtest report')} {files}   # {then}"
    return f"{typed('loadtest export')} {files} --to csv   # every sample, for your own questions"


def _figures(figures: tuple[KeyFigure, ...]) -> RichTable:
    rich = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False, collapse_padding=True)
    rich.add_column(justify="right", no_wrap=True, style="bold")
    rich.add_column(overflow="fold")
    rich.add_column(overflow="fold", style="dim")
    for one in figures:
        rich.add_row(Text(one.value), Text(one.label), Text(one.words))
    return rich


def rich_table(table: Table, whole: Collection[str] = (), *, details: bool = False) -> RichTable:
    """A table for the terminal, without the columns that it has no room for.

    Args:
        table: what to show.
        whole: labels of columns of text that are never broken into lines; those of numbers never are.
        details: whether a cell's detail stands below its text.
    """
    rich = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", collapse_padding=True)
    shown = [place for place, (label, _) in enumerate(table.columns) if label not in _LEFT_OUT]
    for place in shown:
        label, number = table.columns[place]
        rich.add_column(label, justify="right" if number else "left", overflow="fold", no_wrap=number or label in whole)
    for row in table.rows:
        cells = [row[place] for place in shown]
        rich.add_row(*(_text(cell, details=details) for cell in cells))
    return rich


def _text(cell: Cell, *, details: bool) -> Text:
    text = Text(cell.text, style=TONES[cell.tone])
    return text.append(f"\n{cell.detail}", style="not bold dim") if details and cell.detail else text
