"""The report as one HTML file: offline, light and dark, readable without JavaScript.

The one script sorts tables; the page's policy allows it by its hash, and no other.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtest.report.report import Plot, Report
from loadtest.report.tables.table import Table

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


def render(report: Report) -> str:
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
