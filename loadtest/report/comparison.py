"""The report of a comparison, made of ``comparison.json`` alone: its page, its Markdown, its short form, CI's files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
from markupsafe import Markup
from rich.console import Console

from loadtest.compare import history_file
from loadtest.compare.history import History
from loadtest.compare.results import ComparisonVerdict, MetricComparison, RunComparison, load
from loadtest.compare.rule import LEAST_RUNS
from loadtest.compare.sentences import in_percent
from loadtest.errors import ExitCode
from loadtest.program import typed
from loadtest.record.run_directory import write_atomically
from loadtest.report import amounts
from loadtest.report.formats import comparison_ci, html, markdown
from loadtest.report.formats.markdown import escape
from loadtest.report.formats.picture import write_plots
from loadtest.report.formats.terminal import TONES, Terminal
from loadtest.report.page import KeyFigure, NextStep, Page, Plot, Section, Table, Tone, filled
from loadtest.report.tables import comparison as tables

WORD_TONES: Final[dict[ComparisonVerdict, Tone]] = {
    "regressed": "bad",
    "pass": "good",
    "inconclusive": "unsure",
    "learning": "unsure",
    "not comparable": "bad",
    "invalid": "bad",
}
SUSPECTS: Final = "suspects.json"
"""What a check leaves for a rerun on another machine, beside ``comparison.json``."""
FOLDER: Final = "comparison-plots"
"""Where the plots' files are, beside ``comparison.json``; a run's own plots are elsewhere."""
FOLDED: Final = ("over-runs-others",)
"""Plots that the page shows only when asked to."""
MOST_BYTES: Final = 65_000
"""Of the Markdown: GitHub cuts a comment at 65,536 characters."""
_FOLDED_FROM: Final = 12
"""Rows from which the Markdown's table of every metric is folded."""
_LARGEST: Final = 3
"""Metrics that the short form shows where nothing was found."""
_COLUMNS: Final = ("Traffic", "Metric", "Verdict", "Base", "Head", "Difference", "Change", "Would see")
_RUN_AGAIN: Final = "Read in the run’s own report why it is invalid, then run it again."
_WHY_INVALID: Final = {
    int(ExitCode.TARGET): "Make sure that the target is up and can be reached from here, then compare again.",
    int(ExitCode.ABORTED): "Read in the last run’s own report why it was stopped, then compare again.",
    int(ExitCode.INTERRUPTED): "It was interrupted: compare again.",
}
_FOOTER: Final = Markup(
    "Made from <code>comparison.json</code> alone. The same numbers are in <code>comparison.md</code>, "
    "<code>comparison.junit.xml</code> and <code>comparison.openmetrics.txt</code>."
)


@dataclass(frozen=True)
class ComparisonReport:
    """A report.

    Attributes:
        name: of the comparison: its directory; of a history, the run in question.
        heading: of the page: the scenario's question.
        draw: draws every plot, in order.
    """

    comparison: RunComparison
    name: str
    heading: str
    steps: tuple[NextStep, ...]
    figures: tuple[KeyFigure, ...]
    draw: Callable[[], tuple[Plot, ...]]

    @property
    def rerun(self) -> str:
        if not self.comparison.confirmed:
            return ""
        return " · confirmed by a rerun" if self.comparison.word == "regressed" else " · after a rerun"

    @cached_property
    def plots(self) -> tuple[Plot, ...]:
        """Every plot, in order; drawn when the first is looked at, since that takes longest."""
        return self.draw()


def build(comparison: RunComparison, directory: Path, history: History | None = None) -> ComparisonReport:
    """Make the report of a comparison."""
    last_run = comparison.runs[-1] if comparison.runs else ""
    step = _next_step(comparison, last_run or "RUN", directory)
    return ComparisonReport(
        comparison=comparison,
        name=directory.resolve().name if comparison.kind == "paired" else last_run,
        heading=comparison.title or f"Did {comparison.scenario} get slower?",
        steps=(step,) if step else (),
        figures=_key_figures(comparison),
        draw=lambda: _draw(comparison, history),
    )


def _draw(comparison: RunComparison, history: History | None) -> tuple[Plot, ...]:
    from loadtest.report.plots import draw_comparison  # noqa: PLC0415 - matplotlib is slow to import

    return draw_comparison(comparison, history)


def _key_figures(comparison: RunComparison) -> tuple[KeyFigure, ...]:
    if comparison.word == "learning":
        known = f"{len(comparison.base_runs)} of {LEAST_RUNS}"
        return (KeyFigure("accepted runs", known, why="fewer tell nothing of how much runs differ anyway"),)
    metrics = [one for one in comparison.metrics if one.gated]
    if not metrics:
        return ()
    others = len(comparison.metrics) - len(metrics)
    words = f"{others} more are not judged" if others else "each may decide the verdict"
    figures = [KeyFigure("metrics judged", str(len(metrics)), why=words)]
    if worst := _worst(comparison, metrics):
        place = f"{amounts.where(worst, stages=amounts.has_stages(comparison.metrics))}: {amounts.name(worst)}"
        share = amounts.is_share(worst)
        size = amounts.difference(worst.metric, worst.difference) if share else amounts.change(worst)
        label = "what changed" if comparison.findings else "largest change for the worse"
        aside = "" if comparison.findings or all(map(in_percent, metrics)) else "; short and polled times aside"
        figures.append(KeyFigure(label, size, why=place + aside))
    seen = sorted(abs(amounts.detectable_log(one)) for one in metrics if one.detectable and in_percent(one))
    if seen:
        low, high = (amounts.size(bound) for bound in (seen[0], seen[-1]))
        words = f"median; by metric {low} to {high}, without short and polled times, in 80 % of cases"
        figures.append(KeyFigure("smallest change that would be found", amounts.size(median(seen)), why=words))
    return tuple(figures)


def _worst(comparison: RunComparison, metrics: Sequence[MetricComparison]) -> MetricComparison | None:
    """Where the first finding shows; without one the time or rate that changed most for the worse, if any did."""
    if comparison.findings:
        return comparison.findings[0].cause
    worse = [one for one in metrics if not amounts.is_share(one) and amounts.worsening(one) > 0]
    return max(worse, key=amounts.telling, default=None)


def _next_step(comparison: RunComparison, run: str, directory: Path) -> NextStep | None:
    """What a reader does now; None where there is nothing to do."""
    scenario, suspects = comparison.scenario, directory / SUSPECTS
    check = f"loadtest regression check {scenario}"
    match comparison.word, comparison.kind:
        case "regressed", "paired":
            return NextStep("Nothing needs to be accepted: a comparison of two versions keeps no history.")
        case "regressed", _:
            why = "If the change is intended, accept it; later runs are then compared with this one."
            return NextStep(why, f"loadtest regression accept {run} --reason '…'")
        case "inconclusive", "paired":
            return NextStep("More pairs, or longer blocks, would settle it.", f"loadtest compare {scenario} --pairs …")
        case "inconclusive", _ if suspects.is_file():
            return NextStep("A rerun on another machine would settle it.", f"loadtest regression confirm {suspects}")
        case "inconclusive", _:
            return NextStep("Another run would settle it.", check)
        case "learning", _:
            return NextStep("Let it run as it does: each valid run is added to the history.", check)
        case "not comparable", _:
            restore = "restore what differs, or begin a history of its own with --history."
            return NextStep(f"Compare like with like: {restore}")
        case "invalid", _:
            return NextStep(_WHY_INVALID.get(comparison.exit_code, _RUN_AGAIN))
    return None


def render_html(report: ComparisonReport) -> str:
    """The page: one file, which works offline and without JavaScript."""
    comparison, paired = report.comparison, report.comparison.kind == "paired"
    kind = "Two versions compared, pair by pair" if paired else "A run against accepted earlier ones"
    metrics = filled(tables.metrics_table(comparison))
    none = Section(look="nothing", text="No metric was compared.")
    sections = [
        Section(tables=filled(tables.findings_table(comparison))),
        Section(plots=tuple(plot for plot in report.plots if plot.name not in FOLDED)),
        *(
            Section(f"The other gated metrics, {'pair by pair' if paired else 'run by run'}", "aside", plots=(plot,))
            for plot in report.plots
            if plot.name in FOLDED
        ),
        Section(tables=metrics) if metrics else none,
        Section(tables=(*filled(tables.controls_table(comparison)), tables.identities_table(comparison))),
    ]
    if runs := filled(tables.runs_table(comparison)):
        sections.append(Section("Every run that this rests on", "aside", tables=runs))
    page = Page(
        about=(f"{kind} · {comparison.scenario}", report.name),
        tab=f"{comparison.word} · {report.heading}",
        heading=report.heading,
        tone=WORD_TONES[comparison.word],
        word=f"{comparison.word}{report.rerun}",
        statements=(comparison.sentence,),
        reasons=comparison.reasons,
        steps=report.steps,
        sides=(("Base", comparison.base), ("Head", comparison.head)),
        figures=report.figures,
        sections=tuple(sections),
        footer=_FOOTER,
        folder=FOLDER,
        style="comparison.css",
    )
    return html.render_html(page)


def render_markdown(report: ComparisonReport) -> str:
    """The same figures as GitHub-flavoured Markdown, shorter than GitHub's limit; what is left out, it says."""
    whole = shown = tables.metrics_table(report.comparison)
    while len((text := _markdown(report, shown)).encode()) > MOST_BYTES and shown.rows:
        kept = len(shown.rows) // 2
        note = f"{len(whole.rows) - kept} more rows are in comparison.html."
        shown = replace(shown, rows=shown.rows[:kept], note=note)
    return text


def _markdown(report: ComparisonReport, metrics: Table) -> str:
    comparison = report.comparison
    every = markdown.table(metrics, 3) if metrics.rows else ""
    return markdown.document(
        f"## {escape(report.heading)}",
        f"**{comparison.word[0].upper()}{comparison.word[1:]}{report.rerun}.** {escape(comparison.sentence)}",
        markdown.bullets(comparison.reasons),
        *map(markdown.step, report.steps),
        f"Base: {escape(comparison.base)}. Head: {escape(comparison.head)}. Exit code {comparison.exit_code}.",
        markdown.figures(report.figures),
        *(markdown.table(table, 3) for table in filled(tables.findings_table(comparison))),
        markdown.folded(metrics) if len(metrics.rows) > _FOLDED_FROM else every,
        *(markdown.table(table, 3) for table in filled(tables.controls_table(comparison))),
        markdown.folded(tables.identities_table(comparison)),
    )


def show(report: ComparisonReport, files: Path, console: Console | None = None) -> None:
    """Print the short form: the sentence first, then only the metrics that matter, then what to do next.

    Args:
        report: what to print.
        files: the comparison's directory, as a user may type it.
        console: where to print it; standard output by default.
    """
    out, comparison = Terminal(console), report.comparison
    out.line()
    word = f"{comparison.word[0].upper()}{comparison.word[1:]}. "
    begins_with_it = comparison.sentence.lower().startswith(comparison.word)
    style = f"bold {TONES[WORD_TONES[comparison.word]].removeprefix('bold ')}"
    out.line(f"{'' if begins_with_it else word}{comparison.sentence}", style)
    for reason in comparison.reasons:
        out.line(f"  {reason}")
    matters = _what_matters(comparison)
    if matters.rows:
        out.line()
        out.table(matters, whole=("Verdict",))
    if left := len(comparison.metrics) - len(matters.rows):
        more = "more " if matters.rows else ""
        out.line(f"{left} {more}metric{'' if left == 1 else 's'} in the page", "dim")
    out.line()
    for step in report.steps:
        out.line(step.words)
        if step.command:
            out.line(f"  {typed(step.command)}", whole=True)
    out.labelled("page", str(files / comparison_ci.PAGE), whole=True)


def _what_matters(comparison: RunComparison) -> Table:
    """What is suspected, regressed or improved; where nothing is, the largest changes for the worse."""
    found = [one for one in comparison.metrics if amounts.is_changed(one)]
    tested = sorted((one for one in comparison.metrics if one.p is not None), key=amounts.telling, reverse=True)
    whole = tables.metrics_table(msgspec.structs.replace(comparison, metrics=tuple(found or tested[:_LARGEST])))
    places = [[label for label, _ in whole.columns].index(name) for name in _COLUMNS]
    rows = tuple(tuple(row[place] for place in places) for row in whole.rows)
    return replace(whole, columns=tuple(whole.columns[place] for place in places), rows=rows, note="")


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
    write_atomically(directory / comparison_ci.MARKDOWN, render_markdown(report))
    write_atomically(directory / comparison_ci.PAGE, render_html(report))
    write_atomically(directory / "comparison.junit.xml", comparison_ci.render_junit(report.comparison))
    write_atomically(directory / "comparison.openmetrics.txt", comparison_ci.render_openmetrics(report.comparison))
    return report
