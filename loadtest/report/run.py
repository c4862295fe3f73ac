"""A run's report: what its findings come to, and how its page, its Markdown and its short form show that."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from markupsafe import Markup
from rich.console import Console

from loadtest.analysis.findings import Findings
from loadtest.analysis.validity import ValidityCheck
from loadtest.analysis.verdict import Verdict, VerdictWord
from loadtest.program import open_command, typed
from loadtest.report.facts import NotTested, caveats, facts, not_tested
from loadtest.report.formats import html, markdown
from loadtest.report.formats.markdown import bullets, escape
from loadtest.report.formats.terminal import Terminal
from loadtest.report.headline import headline
from loadtest.report.key_figures import key_figures, outcome_bars
from loadtest.report.limits import Bottleneck, bottleneck, window_phase
from loadtest.report.page import (
    ANSWER,
    Chapter,
    KeyFigure,
    OutcomeBar,
    Page,
    Plot,
    Point,
    Section,
    Table,
    Tone,
    filled,
)
from loadtest.report.tables import main
from loadtest.report.tables.answers import answer_tables
from loadtest.report.tables.target import about_target

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
"""Of each chapter the tables, by the beginning of their name."""
_FEWEST: Final = 3
_MOST: Final = 5
"""How many plots stand before all chapters: no fewer, if there are as many, and no more, with that of the answer."""
_TONES: Final[dict[VerdictWord, Tone]] = {"pass": "good", "inconclusive": "unsure"}
_COLOURS: Final = {"good": "green", "unsure": "yellow", "bad": "red"}
_FOOTER: Final = Markup(
    "Made from the record alone by <code>loadtest report</code>. The same numbers are in <code>metrics.json</code> and "
    "<code>report.md</code>, every sample in <code>samples.arrows</code>."
)


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
    checks: tuple[ValidityCheck, ...]
    bottleneck: Bottleneck
    target: tuple[str, ...]
    not_tested: tuple[NotTested, ...]
    summary: Table
    facts: tuple[tuple[str, str], ...]
    caveats: tuple[str, ...]
    tables: tuple[Table, ...]
    draw: Callable[[], tuple[Plot, ...]]
    differences: Differences | None = None

    @property
    def tone(self) -> Tone:
        return _TONES.get(self.verdict.word, "bad")

    @property
    def leads_with_verdict(self) -> bool:
        """Whether the broken threshold is what a reader has to know first."""
        return self.verdict.word in ("fail", "regressed")

    @cached_property
    def plots(self) -> tuple[Plot, ...]:
        """Every plot, in order; drawn when the first is looked at, since that takes longer than all the rest."""
        return self.draw()

    @cached_property
    def picture(self) -> Plot | None:
        return next((plot for plot in self.plots if plot.name == ANSWER), None)

    @cached_property
    def leading(self) -> tuple[Plot, ...]:
        """The few that carry the answer, less its own; where most have nothing to show, others take their place."""
        drawn = [plot for plot in self.plots if plot.svg and plot is not self.picture]
        chosen = [plot for plot in drawn if plot.leads]
        rest = [plot for plot in drawn if not plot.leads]
        return tuple((chosen + rest[: max(0, _FEWEST - len(chosen))])[: _MOST - (self.picture is not None)])

    @property
    def folded(self) -> tuple[Plot, ...]:
        return tuple(p for p in self.plots if p.svg and p is not self.picture and p not in self.leading)

    @property
    def missing(self) -> tuple[str, ...]:
        """What could not be drawn, and why: one line each, and no empty frame."""
        return tuple(f"{p.title}: {p.caption}" for p in self.plots if not p.svg and p is not self.picture)


def build(findings: Findings, *, png: bool = False) -> Report:
    """Make the report of a run's findings; with ``png`` its plots have PNGs, too."""
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
        draw=lambda: _draw(findings, png=png),
    )


def _draw(findings: Findings, *, png: bool) -> tuple[Plot, ...]:
    from loadtest.report.plots import draw_all  # noqa: PLC0415 - matplotlib is slow to import; not every report has plots

    return draw_all(findings, png=png)


def without_plots(report: Report) -> Report:
    """The same report without its plots, which says so."""
    return replace(report, draw=tuple, caveats=(*report.caveats, "Plots were left out, as --no-plots asks."))


def render_html(report: Report) -> str:
    """The whole page."""
    verdict = report.verdict
    statements = (report.headline, f"{verdict.statement[0].upper()}{verdict.statement[1:]}")
    page = Page(
        about=("Load test of the Workflow API", report.run_id),
        tab=f"{verdict.word} · {report.title}",
        heading=report.title,
        tone=report.tone,
        word=verdict.word + (" · interrupted" if verdict.interrupted else ""),
        statements=statements[::-1] if report.leads_with_verdict else statements,
        reasons=verdict.reasons if len(verdict.reasons) > 1 else (),
        figures=report.figures,
        bars=report.bars,
        sections=tuple(_sections(report)),
        footer=_FOOTER,
        folder="plots",
        explains=True,
    )
    return html.render_html(page)


def _sections(report: Report) -> list[Section]:
    thresholds = Section(look="note", text="The scenario sets no thresholds.")
    if report.thresholds is not None:
        thresholds = Section(look="bare", tables=(report.thresholds,))
    checks = (Point(f"{c.value}", f"({c.limit}) {c.words}", c.name, _tone(c)) for c in report.checks)
    left = (
        Section("Binding constraint", text=report.bottleneck.words),
        Section("Validity of the run", points=tuple(checks)),
    )
    right = (
        Section("About the target", points=tuple(map(Point, report.target))),
        Section("Not tested", points=tuple(Point(one.what, one.why) for one in report.not_tested)),
    )
    found = [
        Section(look="answer", tables=report.answers),
        Section(plots=(report.picture,) if report.picture else ()),
        thresholds,
        Section(look="columns", parts=(left, tuple(part for part in right if part.points))),
    ]
    if (differs := report.differences) is not None:
        found.append(
            Section(
                differs.title,
                "notice",
                tone=differs.tone,
                text=differs.sentence,
                points=tuple(map(Point, differs.reasons)),
                tables=filled(replace(differs.table, title="Every metric beside its baselines")),
            )
        )
    found += [
        Section(look="warnings", points=tuple(map(Point, report.caveats))),
        Section(look="contents"),
        Section(plots=report.leading, tables=(report.summary,)),
    ]
    for chapter in Chapter:
        plots = tuple(plot for plot in report.folded if plot.chapter == chapter)
        tables = tuple(table for table in filled(*report.tables) if table.name.startswith(_TABLES[chapter]))
        if plots or tables:
            found.append(Section(chapter, "chapter", chapter.name.lower(), plots=plots, tables=tables))
    missing = tuple(map(Point, report.missing))
    return [*found, Section("The run", "chapter", "run", facts=report.facts, points=missing)]


def _tone(check: ValidityCheck) -> Tone:
    if not check.ok:
        return "bad"
    return "good" if check.judged else "unsure"


def render_markdown(report: Report) -> str:
    """The whole report as Markdown."""
    marks = {"good": "✓", "bad": "✗", "unsure": "?"}
    checks = (f"- {marks[_tone(c)]} {escape(f'{c.name}: {c.value} ({c.limit}), {c.words}')}" for c in report.checks)
    differs, plots = report.differences, (*report.leading, *report.folded)
    return markdown.document(
        f"# {escape(report.title)}",
        f"**{escape(report.verdict.sentence)}**",
        escape(report.headline) if report.leads_with_verdict else f"**{escape(report.headline)}**",
        bullets(report.verdict.reasons),
        markdown.figures(report.figures),
        *map(markdown.table, report.answers),
        *map(_titled, (report.picture,) if report.picture else ()),
        bullets(f"{bar.traffic} · {bar.stage}: {bar.words}" for bar in report.bars),
        f"Run {escape(report.run_id)}, exit code {int(report.verdict.exit_code)}.",
        *map(markdown.table, (report.thresholds,) if report.thresholds else ()),
        "## Validity",
        "\n".join(checks),
        f"**Binding constraint.** {escape(report.bottleneck.words)}",
        "**About the target**" if report.target else "",
        bullets(report.target),
        f"**{escape(differs.title)}.** {escape(differs.sentence)}" if differs else "",
        bullets(differs.reasons) if differs else "",
        *map(markdown.table, filled(differs.table) if differs else ()),
        *(f"> {escape(note)}" for note in report.caveats),
        "**Not tested**" if report.not_tested else "",
        bullets(one.words for one in report.not_tested),
        markdown.table(report.summary),
        *map(_titled, plots),
        *map(markdown.table, filled(*report.tables)),
        bullets(report.missing),
        "## The run",
        bullets(f"{label}: {value}" for label, value in report.facts),
    )


def _titled(plot: Plot) -> str:
    return f"## {escape(plot.title)}\n\n{markdown.image(plot)}"


def show(report: Report, files: Path, console: Console | None = None) -> None:
    """Print the short form: what was measured, the verdict, what to do next, and where the report is.

    Args:
        report: what to print.
        files: the run's directory, as a user may type it.
        console: where to print it; standard output by default.
    """
    out = Terminal(console)
    out.line()
    for table in report.answers:
        out.line(table.title, "bold")
        out.table(table, details=True)
        out.line()
    out.table(report.summary)
    out.line()
    out.figures(report.figures)
    if report.thresholds is not None:
        out.line()
        out.table(report.thresholds)
    out.line()
    _notes(report, out)
    out.line()
    out.line(report.headline)
    out.line()
    out.line(report.verdict.sentence, f"bold {_COLOURS[report.tone]}")
    for reason in report.verdict.reasons[1:]:
        out.line(f"  also {reason}")
    out.line()
    then = f"{typed('loadtest export')} {files} --to csv   # every sample, for your own questions"
    if report.verdict.word == "invalid":
        why = "after reading why; then run it again, on a quieter machine or at a lower rate"
        then = f"{typed('loadtest report')} {files}   # {why}"
    out.labelled("next  ", then, whole=True)
    out.labelled("report", open_command(files / "report.html"), whole=True)


def _notes(report: Report, out: Terminal) -> None:
    for check in report.checks:
        if not check.ok:
            out.line(f"✗ {check.name}: {check.value} (limit: {check.limit})", "red")
    for note in report.caveats:
        out.line(f"! {note}", "yellow")
    for sentence in report.target:
        out.labelled("About the target", sentence)
    if report.differences is not None:
        out.labelled(report.differences.title, report.differences.sentence)
        for reason in report.differences.reasons:
            out.line(f"  {reason}")
    out.labelled("Binding constraint", report.bottleneck.words)
    if report.not_tested:
        out.labelled("Not tested", f"{'; '.join(one.what for one in report.not_tested)}.")
