"""Pages as GitHub-flavoured Markdown, for a pull request, a job's summary or a wiki.

Text from a record is escaped. Plots are linked as files.
"""

import re
from collections.abc import Iterable
from typing import Final

from loadtest.foreign_text import visible_text
from loadtest.report.page import KeyFigure, NextStep, Page, Plot, Section, Table, TableCell

_MARKS: Final = {"good": "✓", "bad": "✗", "unsure": "?"}


def render_markdown(page: Page, level: int = 1) -> str:
    """Return the page without the lists of links and terms. Its heading has the given ``level``."""
    first = "#" * level
    parts = [
        f"{first} {escape(page.heading)}",
        f"**{escape(page.verdict)}**" if page.verdict else "",
        *(f"**{escape(each)}**" for each in page.statements if each.lower() not in page.verdict.lower()),
        bullets(page.reasons),
        *map(step, page.steps),
        "  ".join(f"{label}: {escape(value)}." for label, value in page.sides),
        *(part for section in page.sections for part in _section(section, level + 1, page.folder)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(section: Section, level: int, folder: str) -> list[str]:
    if section.look == "aside":
        return [folded(table_) for table_ in section.tables] + [image(plot, level, folder) for plot in section.plots]
    inner = level + 1 if section.title else level
    return [
        f"{'#' * level} {escape(section.title)}" if section.title else "",
        escape(section.text),
        _points(section),
        "\n".join(f"- {escape(f'{label}: {value}')}" for label, value in section.facts),
        figures(section.figures),
        bullets(f"{bar.label}: {bar.words}" for bar in section.bars),
        f"Not drawn: {escape(', '.join(section.undrawn))}." if section.undrawn else "",
        *(image(plot, inner, folder) for plot in section.plots),
        *(table(shown, inner) for shown in section.tables),
    ]


def _points(section: Section) -> str:
    begin = "> " if section.look == "warnings" else "- "
    lines = []
    for point in section.points:
        mark = f"{_MARKS.get(point.mark, '')} ".lstrip()
        lines.append(f"{begin}{mark}{escape(point.words)}")
    return ("\n\n" if begin == "> " else "\n").join(lines)


def escape(text: str) -> str:
    """Escape text for Markdown, on one line."""
    one_line = " ".join(visible_text(text).split())
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", one_line).replace("&", "&amp;")


def bullets(texts: Iterable[str]) -> str:
    """Return a list with a point for each text."""
    return "\n".join(f"- {escape(text)}" for text in texts)


def figures(found: Iterable[KeyFigure]) -> str:
    """Return the figures as a list, because a table would be as wide as its longest cell."""
    return "\n".join(f"- **{escape(one.value)}** {escape(one.label)} ({escape(one.words)})" for one in found)


def image(plot: Plot, level: int = 2, folder: str = "plots") -> str:
    """Return a plot's title, a link to its file, and its caption. ``folder`` lies beside the text."""
    title = escape(plot.title)
    return f"{'#' * level} {title}\n\n![{title}]({folder}/{plot.name}.svg)\n\n{escape(plot.caption)}"


def step(one: NextStep) -> str:
    """Return a step's words and its command as a fenced block. The fence is longer than any fence in the command."""
    if not one.command:
        return escape(one.words)
    command = " ".join(one.command.split())
    fence = "`" * max(3, 1 + max((len(run) for run in command.split() if set(run) == {"`"}), default=0))
    return f"{escape(one.words)}\n\n{fence}sh\n{command}\n{fence}"


def table(shown: Table, level: int = 2) -> str:
    """Return a table with its title as a heading of ``level``, and its note below."""
    return f"{'#' * level} {escape(shown.title)}\n\n{_body(shown)}"


def folded(shown: Table) -> str:
    """Return a table that unfolds by a click on its title."""
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
