"""A page on a terminal or in a log, as a command's closing block or in full. A log gets no colours."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final, Literal

from rich.table import Table as RichTable
from rich.text import Text

from loadtest.console import Console
from loadtest.program import typed
from loadtest.report.page import KeyFigure, NextStep, Page, Point, Section, Table

_WIDTH: Final = 100
_FULL_WIDTH: Final = 120
"""Width of the full page, whose tables have all columns."""
_MOST_LINES: Final = 40
"""A closing block has at most this many lines."""
_MOST_ROWS: Final = 14
"""A table in a closing block has at most this many rows, and fewer if the block would be too long."""
_MOST_POINTS: Final = 5
"""A section in a closing block has at most this many points, each on one line."""
TONES: Final = {"good": "green", "bad": "bold red", "unsure": "yellow", "faint": "dim", "head": "bold", "": ""}


def show(page: Page, steps: Iterable[tuple[str, str]], *, full: bool = False, console: Console | None = None) -> None:
    """Print a page's verdict, its first screen and the steps, which are (label, command) pairs.

    This closing block has at most 40 lines of 100 columns. With ``full``, print every section, but no plots.
    """
    console = console or Console()
    widest = _FULL_WIDTH if full else _WIDTH
    console.width = min(console.width, widest) if console.is_terminal else widest
    steps = tuple(steps)
    if full:
        _Printer(console, None).page(page, steps)
        return
    for rows in range(_MOST_ROWS, 1, -1):
        with console.capture() as block:
            _Printer(console, rows).page(page, steps)
        if block.get().count("\n") <= _MOST_LINES:
            break
    print(block.get(), end="", file=console.file, flush=True)


class _Printer:
    """Prints a page to a console. Tables have at most ``rows`` rows; None prints the whole page."""

    def __init__(self, console: Console, rows: int | None) -> None:
        self._console = console
        self._rows = rows
        self._tall = True

    def page(self, page: Page, steps: Iterable[tuple[str, str]]) -> None:
        """Print the verdict, the sections and the steps."""
        self.line()
        self.line(page.verdict, f"bold {TONES[page.tone].removeprefix('bold ')}")
        for statement in page.statements:
            if statement.lower() not in page.verdict.lower():
                self.line(statement)
        for reason in page.reasons[: None if self._rows is None else _MOST_POINTS]:
            self.line(f"  {reason}")
        for section in page.sections:
            if self._rows is None or section.brief:
                self._section(section)
        self.line()
        self._steps(page.steps)
        for label, command in steps:
            self.labelled(label, command)

    def line(self, text: str = "", style: str = "", *, whole: bool = False) -> None:
        """Print a line. With ``whole``, the line is not wrapped, so that it can be copied."""
        self._console.print(Text(text, style=style), soft_wrap=whole)

    def labelled(self, label: str, text: str) -> None:
        """Print a text after a faint label, unwrapped."""
        self._console.print(Text.assemble((f"{label}  ", "dim"), text), soft_wrap=True)

    def _steps(self, steps: Iterable[NextStep]) -> None:
        for step in steps:
            self.line(step.words)
            if step.command:
                self.line(f"  {typed(step.command)}", whole=True)

    def _section(self, section: Section) -> None:
        tall = bool(section.tables or section.figures or section.facts)
        if tall or self._tall or self._rows is None:
            self.line()
        self._tall = tall
        if section.title and self._rows is None:
            self.line(section.title, "bold")
        if section.text:
            self.line(f"{section.title}: {section.text}" if self._rows and section.title else section.text)
        self._points(section.points)
        for label, value in section.facts:
            self.labelled(label, value)
        if section.figures:
            self._figures(section.figures)
        for place, table in enumerate(section.tables):
            if place:
                self.line()
            self._table(table, titled=self._rows is None or len(section.tables) > 1)

    def _points(self, points: Collection[Point]) -> None:
        shown = list(points) if self._rows is None else list(points)[:_MOST_POINTS]
        for point in shown:
            style = {"good": "green", "bad": "red"}.get(point.mark, "yellow")
            mark = {"good": "✓", "bad": "✗"}.get(point.mark, "!")
            self.line(f"{mark} {(point if self._rows is None else replace(point, detail='')).words}", style)
        if len(points) > len(shown):
            self.line(f"  {len(points) - len(shown)} more", "dim")

    def _figures(self, figures: Collection[KeyFigure]) -> None:
        rich = _grid(head=False)
        rich.add_column(justify="right", no_wrap=True, style="bold")
        rich.add_column(overflow="fold")
        rich.add_column(overflow="fold", style="dim")
        for one in figures:
            rich.add_row(Text(one.value), Text(one.label), Text(one.words))
        self._console.print(rich)

    def _table(self, table: Table, *, titled: bool) -> None:
        if titled:
            self.line(table.title, "bold")
        shown = table if self._rows is None else table.brief(self._rows)
        self._console.print(_rich(shown, details=self._rows is None))
        if left := len(table.rows) - len(shown.rows):
            self.line(f"{left} more of {len(table.rows)} rows", "dim")
        if table.note and self._rows is None:
            self.line(table.note, "dim")


def _grid(*, head: bool = True) -> RichTable:
    rich = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", collapse_padding=True)
    rich.show_header = head
    return rich


def _rich(table: Table, *, details: bool) -> RichTable:
    """Return a table. With ``details``, it includes the extra columns, and shows details below the cells."""
    rich = _grid()
    shown = [place for place, (label, _) in enumerate(table.columns) if details or label not in table.extra]
    for place in shown:
        label, number = table.columns[place]
        justify: Literal["right", "left"] = "right" if number else "left"
        # A header may wrap between words. Figures and names of usual length may not wrap.
        longest = max((len(row[place].text) for row in table.rows), default=0)
        least = longest if number else min(longest, 16) if place == 0 else 0
        rich.add_column(label, justify=justify, overflow="fold", min_width=least)
    for row in table.rows:
        texts = [Text(row[place].text, style=TONES[row[place].tone]) for place in shown]
        for text, place in zip(texts, shown, strict=True):
            if details and row[place].detail:
                text.append(f"\n{row[place].detail}", style="not bold dim")
        rich.add_row(*texts)
    return rich
