"""Pages as GitHub-flavoured Markdown, for a pull request, a job's summary or a wiki.

Everything that comes from a record is escaped. Plots are linked as files beside it.
"""

import re
from collections.abc import Iterable

from loadtest.foreign_text import visible_text
from loadtest.report.page import KeyFigure, NextStep, Plot, Table, TableCell


def document(*parts: str) -> str:
    """A text of those parts that are not empty."""
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    one_line = " ".join(visible_text(text).split())
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", one_line).replace("&", "&amp;")


def bullets(texts: Iterable[str]) -> str:
    """A list with a point for each text."""
    return "\n".join(f"- {escape(text)}" for text in texts)


def figures(found: Iterable[KeyFigure]) -> str:
    """As a list: a table would be as wide as its longest cell."""
    return "\n".join(f"- **{escape(one.value)}** {escape(one.label)} ({escape(one.words)})" for one in found)


def image(plot: Plot) -> str:
    """A plot's file in ``plots/`` beside the text, and how to read it."""
    picture = f"![{escape(plot.title)}](plots/{plot.name}.svg)\n\n" if plot.svg else ""
    return f"{picture}{escape(plot.caption)}"


def step(one: NextStep) -> str:
    """A command is a block of its own, so that it can be copied; a fence longer than any in it keeps it whole."""
    if not one.command:
        return escape(one.words)
    command = " ".join(one.command.split())
    fence = "`" * max(3, 1 + max((len(run) for run in command.split() if set(run) == {"`"}), default=0))
    return f"{escape(one.words)}\n\n{fence}sh\n{command}\n{fence}"


def table(shown: Table, level: int = 2) -> str:
    """A table with its title as a heading of that level, and its note below."""
    return f"{'#' * level} {escape(shown.title)}\n\n{_body(shown)}"


def folded(shown: Table) -> str:
    """A table that unfolds by a click on its title."""
    return f"<details><summary>{escape(shown.title)}</summary>\n\n{_body(shown)}\n\n</details>"


def _body(shown: Table) -> str:
    head = "| " + " | ".join(escape(label) for label, _ in shown.columns) + " |"
    rule = "|" + "|".join(" ---: " if number else " --- " for _, number in shown.columns) + "|"
    rows = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in shown.rows]
    note = f"\n\n{escape(shown.note)}" if shown.note else ""
    return "\n".join([head, rule, *rows]) + note


def _cell(cell: TableCell) -> str:
    text = escape(cell.text)
    if cell.tone in ("bad", "unsure", "head") and text:
        text = f"**{text}**"
    return f"{text} ({escape(cell.detail)})" if cell.detail else text
