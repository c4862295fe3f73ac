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
from loadtest.report.key_figures import KeyFigure
from loadtest.report.report import Plot, Report
from loadtest.report.tables.table import Cell, Table

_SECTIONS: Final = (
    ("What was compared", (), ("pairs-",)),
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


_FOLDERS: Final = (Path(__file__).parent, Path(__file__).parents[1] / "regression")
"""Where templates are: of every page, and of comparisons."""


@dataclass(frozen=True)
class _Section:
    title: str
    plots: tuple[Plot, ...]
    tables: tuple[Table, ...]


def render_html(report: Report) -> str:
    """The whole page."""
    sections = [
        _Section(
            title,
            tuple(plot for plot in report.plots if plot.name in plots),
            tuple(table for table in report.tables if table.rows and table.name.startswith(tables)),
        )
        for title, plots, tables in _SECTIONS
    ]
    return render_template("report.html.j2", report=report, sections=sections)


def render_template(name: str, **values: object) -> str:
    """A page from a template of the report's: every value is escaped; only our own drawings and script are not.

    Args:
        name: of the template, in one of the folders of pages.
        **values: what it shows.
    """
    script = (_FOLDERS[0] / "sorting.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(_FOLDERS), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    # A drawing is made by matplotlib, which escapes the names in it.
    environment.filters["drawing"] = Markup
    environment.filters["script"] = Markup
    return environment.get_template(name).render(script=script, script_hash=f"sha256-{digest}", **values)


def render_markdown(report: Report) -> str:
    """The whole report as GitHub-flavoured Markdown. Everything that comes from the record is escaped."""
    parts = [
        f"# {escape(report.title)}",
        f"**{escape(report.verdict.sentence)}**",
        f"**{escape(report.headline)}**" if not report.leads_with_verdict else escape(report.headline),
        "\n".join(f"- {escape(reason)}" for reason in report.verdict.reasons),
        _figures(report.figures),
        *(markdown_table(table) for table in report.answers),
        *(_picture(report.picture) if report.picture else ()),
        "\n".join(f"- {escape(f'{bar.traffic} · {bar.stage}: {bar.words}')}" for bar in report.bars),
        f"Run {escape(report.run_id)}, exit code {int(report.verdict.exit_code)}.",
    ]
    if report.thresholds is not None:
        parts.append(markdown_table(report.thresholds))
    checks = "\n".join(f"- {_mark(c)} {escape(f'{c.name}: {c.value} ({c.limit}), {c.words}')}" for c in report.checks)
    parts += ["## Validity", checks, f"**Binding constraint.** {escape(report.bottleneck.words)}"]
    if report.target:
        parts += ["**About the target**", "\n".join(f"- {escape(one)}" for one in report.target)]
    if report.differences is not None:
        parts.append(f"**{escape(report.differences.title)}.** {escape(report.differences.sentence)}")
        parts.append("\n".join(f"- {escape(reason)}" for reason in report.differences.reasons))
        parts += [markdown_table(report.differences.table)] if report.differences.table.rows else []
    parts += [f"> {escape(note)}" for note in report.caveats]
    if report.not_tested:
        parts += ["**Not tested**", "\n".join(f"- {escape(one.words)}" for one in report.not_tested)]
    parts.append(markdown_table(report.summary))
    for plot in report.plots:
        if plot is not report.picture:
            parts += _picture(plot)
    parts += [markdown_table(table) for table in report.tables if table.rows]
    parts += ["## The run", "\n".join(f"- {escape(label)}: {escape(value)}" for label, value in report.facts)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _picture(plot: Plot) -> list[str]:
    """A plot's title, its file beside the page, and how to read it."""
    image = [f"![{escape(plot.title)}](plots/{plot.name}.png)"] if plot.png else []
    return [f"## {escape(plot.title)}", *image, escape(plot.caption)]


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


def markdown_table(table: Table, level: int = 2) -> str:
    """A table with its title as a heading of that level, and its note below."""
    head = "| " + " | ".join(escape(label) for label, _ in table.columns) + " |"
    rule = "|" + "|".join(" ---: " if number else " --- " for _, number in table.columns) + "|"
    rows = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    note = f"\n\n{escape(table.note)}" if table.note else ""
    return "\n".join([f"{'#' * level} {escape(table.title)}\n", head, rule, *rows]) + note


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.tone in ("bad", "unsure", "head") and text:
        text = f"**{text}**"
    return f"{text} ({escape(cell.detail)})" if cell.detail else text
