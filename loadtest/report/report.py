"""The finished report as a value: what the terminal, Markdown and HTML show, and nothing that they must compute."""

from dataclasses import dataclass

from loadtest.analysis.findings import Findings
from loadtest.analysis.limit_use import binding_limit
from loadtest.analysis.validity import Check
from loadtest.analysis.verdict import Verdict
from loadtest.plan import CONCURRENCY
from loadtest.report import facts, numbers, tables
from loadtest.report.plots import Plot, draw_all
from loadtest.report.table import Cell, Table


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        run_id: of the run.
        title: of the scenario.
        verdict: word, sentence, reasons, exit code.
        thresholds: each with value, margin and n; None if the scenario sets none.
        checks: of validity.
        binding: which limit bound the run, in a sentence.
        summary: one row for each traffic entry and stage.
        facts: what was loaded, with what, by what: (label, value).
        notes: warnings that belong beside the numbers.
        tables: every other table, in order.
        plots: every plot, in order.
        command: the run's command line, as it can be typed again.
    """

    run_id: str
    title: str
    verdict: Verdict
    thresholds: Table | None
    checks: tuple[Check, ...]
    binding: str
    summary: Table
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    tables: tuple[Table, ...]
    plots: tuple[Plot, ...]
    command: str


def build(findings: Findings) -> Report:
    """Make the report of a run's findings, plots included."""
    info = findings.record.info
    return Report(
        run_id=info.id,
        title=info.scenario.title or info.scenario.name,
        verdict=findings.verdict,
        thresholds=tables.thresholds(findings.judged) if findings.judged else None,
        checks=tuple(findings.checks),
        binding=binding(findings),
        summary=tables.summary(findings),
        facts=facts.facts(findings.record),
        notes=facts.notes(findings),
        tables=tables.all_others(findings),
        plots=draw_all(findings),
        command=" ".join(info.command),
    )


def binding(findings: Findings) -> str:
    """The binding constraint, in a sentence."""
    use = binding_limit(findings.uses)
    if use is None:
        return "None can be named: no request was sent in a judged stage."
    belief = findings.record.belief
    called = numbers.limit_name(use.limit)
    words = numbers.limit_of(belief.limit_on(use.limit), belief)
    if use.throttled and belief.spec.algorithm == CONCURRENCY:
        return (
            f"The {called} ({words}): in “{use.stretch}” {numbers.share(use.share)} of that was in use on average, and "
            f"{numbers.share(use.throttled_rate)} of the requests got 429."
        )
    if use.throttled:
        return (
            f"The {called} ({words}): in “{use.stretch}” it was asked {numbers.times(use.share)} of what it "
            f"allows, and {numbers.share(use.throttled_rate)} of the requests got 429."
        )
    if use.share > 1:
        return (
            f"None: no request got 429, though “{use.stretch}” asked the {called} ({words}) for "
            f"{numbers.times(use.share)} of what it allows."
        )
    return (
        f"None was reached. The {called} ({words}) came nearest: “{use.stretch}” asked for "
        f"{numbers.share(use.share)} of what it allows."
    )


__all__ = ["Cell", "Report", "Table", "build"]
