"""The finished report as a value: what the terminal, Markdown and HTML show, and nothing that they must compute.

Beside figures, tables and plots it has facts (what was loaded, with what, and by what) and caveats.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.record import Record
from loadtest.analysis.validity import Check, all_workers
from loadtest.analysis.verdict import Verdict
from loadtest.assumed_limits import AssumedLimits
from loadtest.contract import ALL
from loadtest.record.run_info import PeerInfo, TargetInfo
from loadtest.report.bottleneck import Bottleneck, bottleneck
from loadtest.report.headline import headline
from loadtest.report.key_figures import key_figures
from loadtest.report.not_tested import NotTested, not_tested
from loadtest.report.outcome_bars import OutcomeBar, outcome_bars
from loadtest.report.page import ANSWER, KeyFigure, Plot, Table, Tone
from loadtest.report.prediction import window_phase
from loadtest.report.tables import main
from loadtest.report.tables.answers import answer_tables
from loadtest.report.tables.target import about_target

_WELL_KNOWN_S: Final = 0.05
"""Uncertainty of the server's clock below which it is given in ms."""
_PEERS_NAMED: Final = 10
"""Addresses of a target that are listed."""


def facts(record: Record, windows: str = "") -> tuple[tuple[str, str], ...]:
    """(label, value) pairs that say what a run was."""
    info = record.info
    where = "embedded target, loopback only" if info.target.embedded else "not started by the run"
    warmup = max((s.duration_s for t in info.traffic.values() for s in t.stages if s.warmup), default=0.0)
    keys = "1 API key" if info.keys == 1 else f"{info.keys} API keys"
    if info.keys > 1:
        keys += ", each with limits of its own" if record.assumed_limits.per_key else " that share limits"
    processes = "1 process"
    if info.worker_processes:
        processes = "1 worker" if len(info.worker_processes) == 1 else f"{len(info.worker_processes)} workers"
    clock = "not measured"
    if info.clock is not None:
        offset, reach = info.clock.offset_s, info.clock.uncertainty_s
        clock = f"server {offset:+.2f} ± {reach:.2f} s from ours"
        if reach < _WELL_KNOWN_S:
            clock = f"server {offset * 1e3:+.1f} ± {reach * 1e3:.1f} ms from ours"
    found = [
        ("Target", f"{info.target.url} ({where})"),
        ("Limits assumed", _limits(info.target)),
        ("Faults on purpose", "; ".join(fault.words for fault in info.target.faults)),
        ("Scenario", f"{info.scenario.name}, hash {info.scenario.hash}, seed {info.seed}"),
        ("Started", info.started.replace("T", " ").replace("Z", " UTC").replace("+00:00", " UTC")),
        ("Covered", f"{words.seconds(record.covered_s)}, of which {_warmup(warmup)}"),
        ("Load", f"{keys}, made by {processes}"),
        ("Workers", all_workers(info)),
        ("Connected to", _peers(info.peers)),
        ("Clock", clock),
        ("Windows", windows),
        (
            "Machine",
            ", ".join(f"{value}" if name != "cores" else f"{value} cores" for name, value in info.machine.items()),
        ),
        ("Versions", ", ".join(f"{name} {version}" for name, version in info.versions.items())),
        ("Command", " ".join(info.command)),
    ]
    return tuple((label, value) for label, value in found if value)


def _limits(target: TargetInfo) -> str:
    try:
        assumed_limits = AssumedLimits.recorded(target)
    except ValueError as error:
        return f"unknown: {error}"
    named = (
        {ALL: assumed_limits.limit_all}
        if assumed_limits.limit_all is not None and assumed_limits.one_for_all
        else assumed_limits.limits
    )
    limits = ", ".join(f"{name} {assumed_limits.limit_text(limit)}" for name, limit in named.items())
    return f"{limits}; {assumed_limits.words}"


def _peers(peers: dict[str, PeerInfo]) -> str:
    """The addresses of a target that has several; nothing of one that has a single one."""
    if len(peers) < 2:
        return ""
    found = []
    for address, peer in sorted(peers.items(), key=lambda one: -one[1].connections):
        made = "1 connection" if peer.connections == 1 else f"{words.count(peer.connections)} connections"
        found.append(f"{address} ({made}{f', {words.count(peer.failed)} failed' if peer.failed else ''})")
    more = f" and {len(found) - _PEERS_NAMED} more" if len(found) > _PEERS_NAMED else ""
    return ", ".join(found[:_PEERS_NAMED]) + more


def _warmup(seconds: float) -> str:
    return f"{words.seconds(seconds)} warm-up are in no figure" if seconds else "none is warm-up"


def caveats(findings: Findings) -> tuple[str, ...]:
    """Sentences that a reader of the numbers has to know."""
    info, overall = findings.record.info, findings.metrics.overall
    found = []
    if info.end == "interrupted":
        found.append(
            f"The run was interrupted after {words.seconds(findings.record.covered_s)}; rates are over that time."
        )
    if dropped := overall.operations.dropped:
        arrivals = (
            "1 arrival was dropped: it" if dropped == 1 else f"{words.count(dropped)} arrivals were dropped: they"
        )
        found.append(f"{arrivals} came due, and nothing was free to send {'it' if dropped == 1 else 'them'}.")
    if findings.expectation.why_not:
        found.append(f"No 429 could be expected or ruled out: {findings.expectation.why_not}.")
    for name, figures in findings.metrics.traffic.items():
        if late := figures.operations.timed_out:
            timed_out = f"1 operation of {name} timed out. It counts with the time it took"
            if late > 1:
                timed_out = f"{words.count(late)} operations of {name} timed out. They count with the time they took"
            found.append(f"{timed_out}, so that figures marked ≥ are lower bounds.")
    return tuple(found)


@dataclass(frozen=True)
class Differences:
    """How a run differs from its baselines.

    Attributes:
        title: how many baselines there are.
        sentence: what the rule says of it.
        reasons: what else a reader must know.
        tone: how that is meant.
    """

    title: str
    sentence: str
    reasons: tuple[str, ...]
    tone: Tone
    table: Table


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        verdict: word, sentence, reasons, exit code.
        thresholds: each with value, margin and n; None if the scenario sets none.
        headline: what was found out, in a sentence or two.
        figures: the numbers that matter most.
        answers: tables of what the scenario compares, or of its mistakes on purpose; their picture is ``picture``.
        bars: what became of the operations of each traffic entry and stage.
        target: what else a reader should know of the target, a sentence each.
        not_tested: what the run says nothing about.
        summary: one row for each traffic entry and stage.
        facts: what was loaded, with what, by what: (label, value).
        caveats: warnings that belong beside the words.
        tables: every other table, in order.
        draw: draws every plot, in order; see ``plots``.
        command: the run's command line, as it can be typed again.
        differences: from the runs that were given as its baselines; None if none were.
    """

    run_id: str
    title: str
    verdict: Verdict
    thresholds: Table | None
    headline: str
    figures: tuple[KeyFigure, ...]
    answers: tuple[Table, ...]
    bars: tuple[OutcomeBar, ...]
    checks: tuple[Check, ...]
    bottleneck: Bottleneck
    target: tuple[str, ...]
    not_tested: tuple[NotTested, ...]
    summary: Table
    facts: tuple[tuple[str, str], ...]
    caveats: tuple[str, ...]
    tables: tuple[Table, ...]
    draw: Callable[[], tuple[Plot, ...]]
    command: str
    differences: Differences | None = None

    @property
    def leads_with_verdict(self) -> bool:
        """Whether the broken threshold is what a reader has to know first."""
        return self.verdict.word in ("fail", "regressed")

    @cached_property
    def picture(self) -> Plot | None:
        """The plot that belongs to the answer; None without one."""
        return next((plot for plot in self.plots if plot.name == ANSWER), None)

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
        answers=answer_tables(findings),
        bars=outcome_bars(findings),
        checks=tuple(findings.checks),
        bottleneck=bottleneck(findings),
        target=about_target(findings),
        not_tested=not_tested(findings),
        summary=main.summary(findings),
        facts=facts(findings.record, window_phase(findings)),
        caveats=caveats(findings),
        tables=main.all_others(findings),
        draw=lambda: _draw(findings),
        command=" ".join(info.command),
    )


def _draw(findings: Findings) -> tuple[Plot, ...]:
    from loadtest.report.plots import draw_all  # noqa: PLC0415 - matplotlib is slow to import; not every report has plots

    return draw_all(findings)


def without_plots(report: Report) -> Report:
    """The same report without its plots, which says so."""
    return replace(report, draw=tuple, caveats=(*report.caveats, "Plots were left out, as --no-plots asks."))
