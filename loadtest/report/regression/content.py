"""A finished report of a comparison as a value: what every format shows, and nothing that it must compute."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Final

from loadtest.compare.history import History
from loadtest.compare.results import ComparisonVerdict, MetricComparison, RunComparison
from loadtest.compare.rule import LEAST_RUNS
from loadtest.compare.sentences import in_percent
from loadtest.errors import ExitCode
from loadtest.report import amounts
from loadtest.report.page import KeyFigure, NextStep, Plot, Table, Tone
from loadtest.report.regression import tables

TONES: Final[dict[ComparisonVerdict, Tone]] = {
    "regressed": "bad",
    "pass": "good",
    "inconclusive": "unsure",
    "learning": "unsure",
    "not comparable": "bad",
    "invalid": "bad",
}
SUSPECTS: Final = "suspects.json"
"""What a check leaves for a rerun on another machine, beside ``comparison.json``."""

_RUN_AGAIN: Final = "Read in the run’s own report why it is invalid, then run it again."
_WHY_INVALID: Final = {
    int(ExitCode.TARGET): "Make sure that the target is up and can be reached from here, then compare again.",
    int(ExitCode.ABORTED): "Read in the last run’s own report why it was stopped, then compare again.",
    int(ExitCode.INTERRUPTED): "It was interrupted: compare again.",
}


@dataclass(frozen=True)
class ComparisonReport:
    """A report.

    Attributes:
        name: of the comparison: its directory; of a history, the run in question.
        heading: of the page: the scenario's question.
        figures: the numbers that matter most.
        findings: what changed, and its symptoms.
        metrics: the table of every metric.
        controls: of what the service cannot touch.
        identities: who was measured by whom.
        runs: every run that it rests on.
        draw: draws every plot, in order.
    """

    comparison: RunComparison
    name: str
    heading: str
    steps: tuple[NextStep, ...]
    figures: tuple[KeyFigure, ...]
    findings: Table
    metrics: Table
    controls: Table
    identities: Table
    runs: Table
    draw: Callable[[], tuple[Plot, ...]]

    @property
    def tone(self) -> Tone:
        """How its verdict is meant."""
        return TONES[self.comparison.word]

    @property
    def rerun(self) -> str:
        """What to say beside the verdict's word of a rerun that decided; empty if there was none."""
        if not self.comparison.confirmed:
            return ""
        return " · confirmed by a rerun" if self.comparison.word == "regressed" else " · after a rerun"

    @cached_property
    def plots(self) -> tuple[Plot, ...]:
        """Every plot, in order; drawn when the first is looked at, since that takes longest."""
        return self.draw()


def build(comparison: RunComparison, directory: Path, history: History | None = None) -> ComparisonReport:
    """Make the report of a comparison."""
    return ComparisonReport(
        comparison=comparison,
        name=_name(comparison, directory),
        heading=comparison.title or f"Did {comparison.scenario} get slower?",
        steps=next_steps(comparison, directory),
        figures=key_figures(comparison),
        findings=tables.findings_table(comparison),
        metrics=tables.metrics_table(comparison),
        controls=tables.controls_table(comparison),
        identities=tables.identities_table(comparison),
        runs=tables.runs_table(comparison),
        draw=lambda: _draw(comparison, history),
    )


def _name(comparison: RunComparison, directory: Path) -> str:
    if comparison.kind == "paired":
        return directory.resolve().name
    return comparison.runs[-1] if comparison.runs else ""


def _draw(comparison: RunComparison, history: History | None) -> tuple[Plot, ...]:
    from loadtest.report.plots import draw_comparison  # noqa: PLC0415 - matplotlib is slow to import

    return draw_comparison(comparison, history)


def key_figures(comparison: RunComparison) -> tuple[KeyFigure, ...]:
    """What was compared, what changed most for the worse, and how small a change would have been found."""
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


def next_steps(comparison: RunComparison, directory: Path) -> tuple[NextStep, ...]:
    """What a reader does now, with the command where there is one."""
    run = comparison.runs[-1] if comparison.runs else "RUN"
    paired = comparison.kind == "paired"
    if comparison.word == "regressed":
        if paired:
            return (NextStep("Nothing needs to be accepted: a comparison of two versions keeps no history."),)
        return (
            NextStep(
                "If the change is intended, accept it; later runs are then compared with this one.",
                f"loadtest regression accept {run} --reason '…'",
            ),
        )
    if comparison.word == "inconclusive":
        if paired:
            return (
                NextStep(
                    "More pairs, or longer blocks, would settle it.",
                    f"loadtest compare {comparison.scenario} --pairs …",
                ),
            )
        suspects = directory / SUSPECTS
        if suspects.is_file():
            return (NextStep("A rerun on another machine would settle it.", f"loadtest regression confirm {suspects}"),)
        return (NextStep("Another run would settle it.", f"loadtest regression check {comparison.scenario}"),)
    if comparison.word == "learning":
        return (
            NextStep(
                "Let it run as it does: each valid run is added to the history.",
                f"loadtest regression check {comparison.scenario}",
            ),
        )
    if comparison.word == "not comparable":
        return (
            NextStep("Compare like with like: restore what differs, or begin a history of its own with --history."),
        )
    if comparison.word == "invalid":
        return (NextStep(_WHY_INVALID.get(comparison.exit_code, _RUN_AGAIN)),)
    return ()
