"""What a comparison prints: the sentence first, then only the metrics that matter, then what to do next."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from loadtest.regression.results import Comparison
from loadtest.report.formats.terminal import TONES, WIDTH, rich_table
from loadtest.report.regression import ci
from loadtest.report.regression.content import ComparisonReport
from loadtest.report.regression.tables import metrics_table
from loadtest.report.tables.table import Table

PAGE: Final = "comparison.html"
_MOST: Final = 6
"""Rows beyond those of suspects."""
_COLUMNS: Final = ("Traffic", "Metric", "Verdict", "Base", "Head", "Difference", "Change", "Would see")


def show(report: ComparisonReport, files: Path, console: Console | None = None) -> None:
    """Print the comparison; without colour where the output isn't a terminal.

    Args:
        report: the report.
        files: its directory, as the user may type it.
        console: where to print; standard output by default.
    """
    console = console or Console(highlight=False, markup=False, soft_wrap=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    comparison = report.comparison
    console.print()
    word = f"{comparison.word[0].upper()}{comparison.word[1:]}: "
    sentence = comparison.sentence
    if sentence.lower().startswith(word.lower().rstrip(": ")):
        word = ""
    console.print(Text(f"{word}{sentence}", style=f"bold {TONES[report.tone].removeprefix('bold ')}"))
    for reason in comparison.reasons:
        console.print(Text(f"  {reason}"))
    matters = _what_matters(comparison)
    if matters.rows:
        console.print()
        console.print(rich_table(matters))
    left = len(comparison.metrics) - len(matters.rows)
    if left:
        console.print(Text(f"{left} more metric{'' if left == 1 else 's'} in {PAGE}", style="dim"))
    console.print()
    for step in report.steps:
        console.print(Text(step.words))
        if step.command:
            console.print(Text(f"  {step.command}"), soft_wrap=True)
    console.print(Text.assemble(("page  ", "dim"), str(files / PAGE)), soft_wrap=True)


def _what_matters(comparison: Comparison) -> Table:
    """Suspects and what regressed, and a few more gated ones; of what can't decide the verdict nothing."""
    whole = metrics_table(comparison)
    place = [[label for label, _ in whole.columns].index(name) for name in _COLUMNS]
    found = sum(one.gated and (one.suspect or one.verdict == "regressed") for one in comparison.metrics)
    gated = sum(one.gated for one in comparison.metrics)
    rows = tuple(tuple(row[k] for k in place) for row in whole.rows[: min(gated, max(found, _MOST))])
    return Table(whole.name, whole.title, tuple(whole.columns[k] for k in place), rows)


def tell_github(comparison: Comparison, page: Path, environment: Mapping[str, str] = os.environ) -> None:
    """In a GitHub job print annotations, and write its outputs; elsewhere nothing."""
    if environment.get("GITHUB_ACTIONS") == "true":
        for line in ci.annotations(comparison):
            print(line)
    if path := environment.get("GITHUB_OUTPUT"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(ci.outputs(comparison, page))
