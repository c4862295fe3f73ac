"""How a terminal shows a report's lines, figures and tables; without colour where the output isn't a terminal."""

from collections.abc import Collection
from typing import Final, Literal

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from loadtest.report.page import KeyFigure, Table

_WIDTH: Final = 100
TONES: Final = {"good": "green", "bad": "bold red", "unsure": "yellow", "faint": "dim", "head": "bold", "": ""}
_LEFT_OUT: Final = {"Rate"}
"""Columns that a terminal has no room for."""


class Terminal:
    """Prints to a console, by default standard output."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False, soft_wrap=False)
        self._console.width = min(self._console.width, _WIDTH) if self._console.is_terminal else _WIDTH

    def line(self, text: str = "", style: str = "", *, whole: bool = False) -> None:
        """Print a line; ``whole``: unwrapped, so that it can be copied."""
        self._console.print(Text(text, style=style), soft_wrap=whole)

    def labelled(self, label: str, text: str, *, whole: bool = False) -> None:
        """Print a text after a faint label; ``whole`` as of a line."""
        self._console.print(Text.assemble((f"{label}  ", "dim"), text), soft_wrap=whole)

    def figures(self, figures: Collection[KeyFigure]) -> None:
        rich = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False, collapse_padding=True)
        rich.add_column(justify="right", no_wrap=True, style="bold")
        rich.add_column(overflow="fold")
        rich.add_column(overflow="fold", style="dim")
        for one in figures:
            rich.add_row(Text(one.value), Text(one.label), Text(one.words))
        self._console.print(rich)

    def table(self, table: Table, whole: Collection[str] = (), *, details: bool = False) -> None:
        """Print a table without the columns that there is no room for.

        Args:
            table: what to show.
            whole: labels of columns of text that are never broken into lines; those of numbers never are.
            details: whether a cell's detail stands below its text.
        """
        rich = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", collapse_padding=True)
        shown = [place for place, (label, _) in enumerate(table.columns) if label not in _LEFT_OUT]
        for label, number in (table.columns[place] for place in shown):
            justify: Literal["right", "left"] = "right" if number else "left"
            rich.add_column(label, justify=justify, overflow="fold", no_wrap=number or label in whole)
        for row in table.rows:
            texts = [Text(row[place].text, style=TONES[row[place].tone]) for place in shown]
            for text, place in zip(texts, shown, strict=True):
                if details and row[place].detail:
                    text.append(f"\n{row[place].detail}", style="not bold dim")
            rich.add_row(*texts)
        self._console.print(rich)
