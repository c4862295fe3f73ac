"""The report as pages: one HTML file, and Markdown.

The HTML file works offline, light and dark, and is readable without JavaScript: a few plots that carry the answer, then
sections that unfold by a click, by a link, by the browser's search, and on paper. Its one script sorts tables, and
unfolds what a browser does not by itself; the page allows it by its hash, and no other. Markdown is for a pull request
or a wiki; plots are linked as files beside it.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtest.analysis.validity import Check
from loadtest.foreign_text import visible_text
from loadtest.report.glossary import TERMS, anchor, explained, linked
from loadtest.report.page import Cell, Chapter, KeyFigure, Plot, Table
from loadtest.report.report import Report

_TABLES: Final[dict[Chapter, tuple[str, ...]]] = {
    Chapter.COMPARED: ("pairs-",),
    Chapter.LIMITS: ("limits",),
    Chapter.TIMES: ("latency-", "intervals"),
    Chapter.EXECUTION: (),
    Chapter.JOBS: ("waits", "polling", "pending"),
    Chapter.OUTCOMES: ("outcomes", "answers", "errors", "oddities", "jobs"),
    Chapter.SLOWEST: ("slowest",),
    Chapter.LOAD: ("load", "generators"),
}
"""Of each section the tables, by the beginning of their name."""
_FEWEST: Final = 3
_MOST: Final = 5
"""How many plots stand before all sections: no fewer, if there are as many, and no more, with that of the answer."""

_FOLDERS: Final = (Path(__file__).parent, Path(__file__).parents[1] / "regression")
"""Where templates are: of every page, and of comparisons."""


@dataclass(frozen=True)
class _Folded:
    """A section that unfolds: its heading, where a link leads, and what is in it."""

    title: str
    anchor: str
    plots: tuple[Plot, ...]
    tables: tuple[Table, ...]

    @property
    def size(self) -> str:
        """How much there is to see."""
        counts = ((len(self.plots), "plot"), (len(self.tables), "table"))
        return ", ".join(f"{n} {noun}{'s' if n > 1 else ''}" for n, noun in counts if n)


def _leading(report: Report) -> tuple[Plot, ...]:
    """The few that carry the answer, less its own picture; where most have nothing to show, others take their place."""
    drawn = [plot for plot in report.plots if plot.svg and plot is not report.picture]
    chosen = [plot for plot in drawn if plot.leads]
    rest = [plot for plot in drawn if not plot.leads]
    shown = 0 if report.picture is None else 1
    return tuple((chosen + rest[: max(0, _FEWEST - len(chosen))])[: _MOST - shown])


def _sections(report: Report, leading: tuple[Plot, ...]) -> list[_Folded]:
    """Those that hold anything."""
    found = []
    for section in Chapter:
        open_ones = (*leading, report.picture)
        plots = tuple(p for p in report.plots if p.chapter == section and p.svg and p not in open_ones)
        tables = tuple(t for t in report.tables if t.rows and t.name.startswith(_TABLES[section]))
        if plots or tables:
            found.append(_Folded(section, section.name.lower(), plots, tables))
    return found


def render_html(report: Report) -> str:
    """The whole page."""
    leading = _leading(report)
    return render_template(
        "report.html.j2",
        terms=TERMS,
        report=report,
        leading=leading,
        sections=_sections(report, leading),
        missing=_missing(report),
        anchor=anchor,
    )


def _missing(report: Report) -> tuple[str, ...]:
    """What could not be drawn, and why: one line each, and no empty frame."""
    return tuple(
        f"{plot.title}: {plot.caption}" for plot in report.plots if not plot.svg and plot is not report.picture
    )


def render_template(name: str, *, terms: Mapping[str, str] | None = None, **values: object) -> str:
    """A page from a template of the report's: every value is escaped; only our own drawings and script are not.

    Args:
        name: of the template, in one of the folders of pages.
        terms: those that the page explains, which are linked where they stand.
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
    terms = terms or {}
    environment.filters["linked"] = partial(linked, terms=terms)
    environment.filters["explained"] = partial(explained, terms=terms)
    script_hash = f"sha256-{digest}"
    page = environment.get_template(name).render(script=script, script_hash=script_hash, terms=terms, **values)
    return visible_text(page)


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
    leading = _leading(report)
    drawn = [one for one in report.plots if one.png and one is not report.picture and one not in leading]
    for plot in (*leading, *drawn):
        parts += _picture(plot)
    parts += [markdown_table(table) for table in report.tables if table.rows]
    parts.append("\n".join(f"- {escape(one)}" for one in _missing(report)))
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
    one_line = " ".join(visible_text(text).split())
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
