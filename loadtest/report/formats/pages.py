"""The report as pages: one HTML file, and Markdown.

The HTML file works offline, light and dark, and is readable without JavaScript. Its one script sorts tables; the page
allows it by its hash, and no other. Markdown is for a pull request or a wiki; plots are linked as files beside it.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtest.analysis.validity import Check
from loadtest.report.headline import KeyFigure
from loadtest.report.report import Plot, Report
from loadtest.report.tables.table import Cell, Table

_SECTIONS: Final = (
    ("Limits and 429s", ("rates", "throttling", "windows"), ("limits",)),
    (
        "How long it took",
        ("response-time", "heat", "by-rate", "service-time", "spectrum", "execution-time"),
        ("latency-",),
    ),
    ("executionTime", ("execution-over-time", "execution-latency", "overhead"), ()),
    ("Jobs", ("waiting", "polling"), ("waits", "polling", "pending")),
    ("Outcomes", (), ("outcomes", "answers", "errors", "oddities", "jobs")),
    ("The slowest", ("slowest",), ("slowest",)),
    ("How good the load was", ("start-lag",), ("load", "generators")),
)
"""Heading, plots by name, tables by the beginning of their name."""


@dataclass(frozen=True)
class _Section:
    title: str
    plots: tuple[Plot, ...]
    tables: tuple[Table, ...]


def render_html(report: Report) -> str:
    """The whole page. Every text from the record is escaped by the template; only our own drawings are not."""
    script = (Path(__file__).parent / "sorting.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A drawing is made by matplotlib, which escapes the names in it.
    environment.filters["drawing"] = Markup
    environment.filters["script"] = Markup
    sections = [
        _Section(
            title,
            tuple(plot for plot in report.plots if plot.name in plots),
            tuple(table for table in report.tables if table.rows and table.name.startswith(tables)),
        )
        for title, plots, tables in _SECTIONS
    ]
    return environment.get_template("report.html.j2").render(
        report=report, sections=sections, script=script, script_hash=f"sha256-{digest}"
    )


def render_markdown(report: Report) -> str:
    """The whole report as GitHub-flavoured Markdown. Everything that comes from the record is escaped."""
    parts = [
        f"# {escape(report.title)}",
        f"**{escape(report.verdict.sentence)}**",
        f"**{escape(report.headline)}**" if not report.leads_with_verdict else escape(report.headline),
        "\n".join(f"- {escape(reason)}" for reason in report.verdict.reasons),
        _figures(report.figures),
        f"Run {escape(report.run_id)}, exit code {int(report.verdict.exit_code)}.",
    ]
    if report.thresholds is not None:
        parts.append(_table(report.thresholds))
    checks = "\n".join(f"- {_mark(c)} {escape(f'{c.name}: {c.value} ({c.limit}), {c.words}')}" for c in report.checks)
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


def _mark(check: Check) -> str:
    if not check.ok:
        return "✗"
    return "✓" if check.judged else "?"


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
