"""Terminal output with colours and tables. Control characters in foreign text are escaped."""

import sys
from collections.abc import Iterable
from typing import Any, Final

import rich.console
from rich import box
from rich.segment import Segment
from rich.table import Table

from loadtest.foreign_text import visible_text

WIDTH: Final = 100
"""Width in columns without a terminal. It is also the maximum width of a plan and of a page's first screen."""


class Console(rich.console.Console):
    """A Rich console that escapes invisible characters, except in Rich's own control sequences.

    By default it highlights nothing, and prints markup and emoji codes as they are, because names may contain them.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "markup": False, "emoji": False, **options})

    def render(
        self, renderable: rich.console.RenderableType, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control or text.isprintable() else visible_text(text), style, control)


def page_console(*, fixed: bool = False) -> Console:
    """Return a console as wide as the terminal, or 100 columns wide if ``fixed`` or if there is no terminal."""
    return Console(width=None if sys.stdout.isatty() and not fixed else WIDTH)


def page_table(*columns: str | dict[str, Any]) -> Table:
    """Return a table with a ruled header. A column is a name or a dict of options. Long names are folded."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    for column in columns:
        table.add_column(**{"overflow": "fold", **({"header": column} if isinstance(column, str) else column)})
    return table
