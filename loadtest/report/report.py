"""The finished report as a value: what the terminal, Markdown and HTML show, and nothing that they must compute."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from loadtest.analysis.findings import Findings
from loadtest.analysis.validity import Check
from loadtest.analysis.verdict import Verdict
from loadtest.report import facts
from loadtest.report.bottleneck import Binding, binding
from loadtest.report.headline import headline
from loadtest.report.key_figures import KeyFigure, key_figures
from loadtest.report.not_tested import Untested, untested
from loadtest.report.plots import Plot, draw_all
from loadtest.report.tables import main
from loadtest.report.tables.table import Cell, Table
from loadtest.report.tables.target import about_target


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        run_id: of the run.
        title: of the scenario.
        verdict: word, sentence, reasons, exit code.
        thresholds: each with value, margin and n; None if the scenario sets none.
        headline: what was found out, in a sentence or two.
        figures: the three numbers that matter most.
        checks: of validity.
        binding: what bound the run.
        target: what else a reader should know of the target, a sentence each.
        untested: what the run says nothing about.
        summary: one row for each traffic entry and stage.
        facts: what was loaded, with what, by what: (label, value).
        notes: warnings that belong beside the numbers.
        tables: every other table, in order.
        draw: draws every plot, in order; see ``plots``.
        command: the run's command line, as it can be typed again.
    """

    run_id: str
    title: str
    verdict: Verdict
    thresholds: Table | None
    headline: str
    figures: tuple[KeyFigure, ...]
    checks: tuple[Check, ...]
    binding: Binding
    target: tuple[str, ...]
    untested: tuple[Untested, ...]
    summary: Table
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    tables: tuple[Table, ...]
    draw: Callable[[], tuple[Plot, ...]]
    command: str

    @cached_property
    def plots(self) -> tuple[Plot, ...]:
        """Every plot, in order; drawn when the first is looked at, since that takes longer than all the rest."""
        return self.draw()


def build(findings: Findings) -> Report:
    """Make the report of a run's findings."""
    info = findings.record.info
    return Report(
        run_id=info.id,
        title=info.scenario.title or info.scenario.name,
        verdict=findings.verdict,
        thresholds=main.thresholds(findings.judged) if findings.judged else None,
        headline=headline(findings),
        figures=key_figures(findings),
        checks=tuple(findings.checks),
        binding=binding(findings),
        target=about_target(findings),
        untested=untested(findings),
        summary=main.summary(findings),
        facts=facts.facts(findings.record),
        notes=facts.notes(findings),
        tables=main.all_others(findings),
        draw=lambda: draw_all(findings),
        command=" ".join(info.command),
    )


def without_plots(report: Report) -> Report:
    """The same report without its plots, which says so."""
    note = f"Plots were left out (--no-plots); they are drawn by: loadtest report {report.run_id}"
    return replace(report, draw=tuple, notes=(*report.notes, note))


__all__ = ["Cell", "Report", "Table", "build", "without_plots"]
