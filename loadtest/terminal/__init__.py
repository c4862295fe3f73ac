"""Output for a terminal or log: plans, histories, and the progress of a load."""

import sys
from typing import Any, Final

from rich import box
from rich.table import Table

from loadtest.console import Console

WIDTH: Final = 100
"""A plan, and any text that does not go to a terminal, is this many columns wide."""


def page_console(*, fixed: bool = False) -> Console:
    """Return a console as wide as the terminal, or of 100 columns if ``fixed`` or if there is no terminal."""
    width = None if sys.stdout.isatty() and not fixed else WIDTH
    return Console(width=width)


def page_table(*columns: str | dict[str, Any]) -> Table:
    """Return a table with a ruled header. A column is a name or a dict of options. Long names are folded."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    for column in columns:
        table.add_column(**{"overflow": "fold", **({"header": column} if isinstance(column, str) else column)})
    return table


__all__ = ["history", "plan", "progress"]
