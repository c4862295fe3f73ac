"""What a comparison prints: the sentence first, then only the metrics that matter, then what to do next."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.text import Text

from loadtest.compare.results import RunComparison
from loadtest.program import typed
from loadtest.report import amounts
from loadtest.report.formats.terminal import TONES, WIDTH, rich_table
from loadtest.report.page import Table
from loadtest.report.regression import ci
from loadtest.report.regression.content import ComparisonReport
from loadtest.report.regression.tables import metrics_table

PAGE: Final = "comparison.html"
MARKDOWN: Final = "comparison.md"
_LARGEST: Final = 3
"""Metrics that are shown where nothing was found."""
_COLUMNS: Final = ("Traffic", "Metric", "Verdict", "Base", "Head", "Difference", "Change", "Would see")


def show(report: ComparisonReport, files: Path, console: Console | None = None) -> None:
    """Print the comparison; without colour where the output isn't a terminal."""
    console = console or Console(highlight=False, markup=False, soft_wrap=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    comparison = report.comparison
    console.print()
    word = f"{comparison.word[0].upper()}{comparison.word[1:]}. "
    begins_with_it = comparison.sentence.lower().startswith(comparison.word)
    style = f"bold {TONES[report.tone].removeprefix('bold ')}"
    console.print(Text(f"{'' if begins_with_it else word}{comparison.sentence}", style=style))
    for reason in comparison.reasons:
        console.print(Text(f"  {reason}"))
    matters = _what_matters(comparison)
    if matters.rows:
        console.print()
        console.print(rich_table(matters, whole=("Verdict",)))
    left = len(comparison.metrics) - len(matters.rows)
    if left:
        more = "more " if matters.rows else ""
        console.print(Text(f"{left} {more}metric{'' if left == 1 else 's'} in the page", style="dim"))
    console.print()
    for step in report.steps:
        console.print(Text(step.words))
        if step.command:
            console.print(Text(f"  {typed(step.command)}"), soft_wrap=True)
    console.print(Text.assemble(("page  ", "dim"), str(files / PAGE)), soft_wrap=True)


def _what_matters(comparison: RunComparison) -> Table:
    """What is suspected, regressed or improved; where nothing is, the largest changes for the worse."""
    found = [one for one in comparison.metrics if amounts.is_changed(one)]
    tested = sorted((one for one in comparison.metrics if one.p is not None), key=amounts.telling, reverse=True)
    whole = metrics_table(msgspec.structs.replace(comparison, metrics=tuple(found or tested[:_LARGEST])))
    place = [[label for label, _ in whole.columns].index(name) for name in _COLUMNS]
    rows = tuple(tuple(row[k] for k in place) for row in whole.rows)
    return Table(whole.name, whole.title, tuple(whole.columns[k] for k in place), rows)


def tell_github(comparison: RunComparison, directory: Path, environment: Mapping[str, str] = os.environ) -> None:
    """In a GitHub job print annotations, and append to its outputs and its summary; elsewhere nothing.

    Args:
        comparison: what was found.
        directory: with the comparison's pages.
        environment: in which ``GITHUB_ACTIONS``, ``GITHUB_OUTPUT`` and ``GITHUB_STEP_SUMMARY`` are looked for.
    """
    if environment.get("GITHUB_ACTIONS") == "true":
        for line in ci.annotations(comparison):
            print(line)
    texts = {
        "GITHUB_OUTPUT": ci.outputs(comparison, directory / PAGE),
        "GITHUB_STEP_SUMMARY": (directory / MARKDOWN).read_text(encoding="utf-8"),
    }
    for name, text in texts.items():
        if path := environment.get(name):
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(text)
