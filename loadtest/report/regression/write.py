"""A comparison as a page and as Markdown (for a pull request, a job's summary), and every form written as a file."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from loadtest.compare import history_file
from loadtest.compare.results import load
from loadtest.record.run_directory import write_atomically
from loadtest.report.formats.pages import escape, markdown_table, render_template
from loadtest.report.page import Table
from loadtest.report.plots import FOLDED, FOLDER
from loadtest.report.regression import ci
from loadtest.report.regression.content import ComparisonReport, build
from loadtest.report.regression.tables import metrics_table
from loadtest.report.write import write_plots

MOST_BYTES: Final = 65_000
"""Of the Markdown: GitHub cuts a comment at 65,536 characters."""
_FOLDED_FROM: Final = 12
"""Rows from which the table of every metric is folded."""


def render_html(report: ComparisonReport) -> str:
    """The page: one file, which works offline and without JavaScript."""
    return render_template("comparison.html.j2", report=report, folded=FOLDED, folder=FOLDER)


def render_markdown(report: ComparisonReport) -> str:
    """The same figures as GitHub-flavoured Markdown, shorter than GitHub's limit; what is left out, it says."""
    comparison = report.comparison
    metrics = metrics_table(comparison)
    while len((text := _markdown(report, metrics)).encode()) > MOST_BYTES and metrics.rows:
        kept = len(metrics.rows) // 2
        note = f"{len(report.metrics.rows) - kept} more rows are in comparison.html."
        metrics = Table(metrics.name, metrics.title, metrics.columns, metrics.rows[:kept], note)
    return text


def _markdown(report: ComparisonReport, metrics: Table) -> str:
    comparison = report.comparison
    word = comparison.word[0].upper() + comparison.word[1:]
    parts = [
        f"## {escape(report.heading)}",
        f"**{word}{report.rerun}.** {escape(comparison.sentence)}",
        "\n".join(f"- {escape(reason)}" for reason in comparison.reasons),
        "\n\n".join(_step(step.words, step.command) for step in report.steps),
        f"Base: {escape(comparison.base)}. Head: {escape(comparison.head)}. Exit code {comparison.exit_code}.",
        "\n".join(f"- **{escape(one.value)}** {escape(one.label)} ({escape(one.words)})" for one in report.figures),
    ]
    if report.findings.rows:
        parts.append(markdown_table(report.findings, level=3))
    if metrics.rows:
        parts.append(_folded(metrics) if len(metrics.rows) > _FOLDED_FROM else markdown_table(metrics, level=3))
    if report.controls.rows:
        parts.append(markdown_table(report.controls, level=3))
    parts.append(_folded(report.identities))
    return "\n\n".join(part for part in parts if part) + "\n"


def _step(words: str, command: str) -> str:
    """A command is a block of its own, so that it can be copied; a fence longer than any in it keeps it whole."""
    if not command:
        return escape(words)
    one_line = " ".join(command.split())
    fence = "`" * max(3, 1 + max((len(run) for run in one_line.split() if set(run) == {"`"}), default=0))
    return f"{escape(words)}\n\n{fence}sh\n{one_line}\n{fence}"


def _folded(table: Table) -> str:
    body = markdown_table(table, level=4).split("\n", 2)[2]
    return f"<details><summary>{escape(table.title)}</summary>\n\n{body}\n\n</details>"


def make(directory: Path, shown: Path, history: Path | None = None, *, plots: bool = True) -> ComparisonReport:
    """Write comparison.html, .md, .junit.xml, .openmetrics.txt and the plots' files beside ``comparison.json``.

    Args:
        directory: where ``comparison.json`` is.
        shown: the same, as a user may type it.
        history: the file that the run was compared with; the pages then show the runs before the last accepted change.
        plots: draw them, too.

    Raises:
        RecordError: if it cannot be read.
        InputError: if the history cannot be read.
    """
    runs = None if history is None else history_file.read(history).history
    report = build(load(directory), shown, runs)
    if not plots:
        report = replace(report, draw=tuple)
    write_plots(report.plots, directory / FOLDER)
    write_atomically(directory / "comparison.md", render_markdown(report))
    write_atomically(directory / "comparison.html", render_html(report))
    write_atomically(directory / "comparison.junit.xml", ci.render_junit(report))
    write_atomically(directory / "comparison.openmetrics.txt", ci.render_openmetrics(report.comparison))
    return report
