"""The report as Markdown, for a pull request or a wiki; plots are linked as files beside it."""

import re

from loadtest.report.headline import KeyFigure
from loadtest.report.report import Report
from loadtest.report.tables.table import Cell, Table


def render(report: Report) -> str:
    """The whole report as GitHub-flavoured Markdown. Everything that comes from the record is escaped."""
    parts = [
        f"# {escape(report.title)}",
        f"**{escape(report.verdict.sentence)}**",
        escape(report.headline),
        "\n".join(f"- {escape(reason)}" for reason in report.verdict.reasons),
        _figures(report.figures),
        f"Run {escape(report.run_id)}, exit code {int(report.verdict.exit_code)}.",
    ]
    if report.thresholds is not None:
        parts.append(_table(report.thresholds))
    checks = "\n".join(
        f"- {'✓' if c.ok else '✗'} {escape(f'{c.name}: {c.value} ({c.limit}), {c.words}')}" for c in report.checks
    )
    parts += ["## Validity", checks, f"**Binding constraint.** {escape(report.bottleneck.words)}"]
    if report.target:
        parts += ["**About the target**", "\n".join(f"- {escape(one)}" for one in report.target)]
    parts += [f"> {escape(note)}" for note in report.caveats]
    if report.not_tested:
        parts += ["**Not tested**", "\n".join(f"- {escape(one.words)}" for one in report.not_tested)]
    parts.append(_table(report.summary))
    for plot in report.plots:
        parts.append(f"## {escape(plot.title)}")
        if plot.png:
            parts.append(f"![{escape(plot.title)}](plots/{plot.name}.png)")
        parts.append(escape(plot.caption))
    parts += [_table(table) for table in report.tables if table.rows]
    parts += ["## The run", "\n".join(f"- {escape(label)}: {escape(value)}" for label, value in report.facts)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(figures: tuple[KeyFigure, ...]) -> str:
    """As a list: a table would be as wide as its longest cell."""
    return "\n".join(f"- **{escape(one.value)}** {escape(one.label)} ({escape(one.words)})" for one in figures)


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", one_line).replace("&", "&amp;")


def _table(table: Table) -> str:
    head = "| " + " | ".join(escape(label) for label, _ in table.columns) + " |"
    rule = "|" + "|".join(" ---: " if number else " --- " for _, number in table.columns) + "|"
    rows = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    note = f"\n\n{escape(table.note)}" if table.note else ""
    return "\n".join([f"## {escape(table.title)}\n", head, rule, *rows]) + note


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.tone in ("bad", "unsure", "head") and text:
        text = f"**{text}**"
    return f"{text} ({escape(cell.detail)})" if cell.detail else text
