"""``python -m loadtest.report.regression DIR``: make the pages of DIR's comparison, and exit with its exit code.

With ``--history FILE``, plots also show that history's latest accepted runs before the last accepted change. With
``--history`` and ``--output PAGE``, but without DIR, the command makes the page of the history instead.
"""

import math
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final

from markupsafe import Markup

from loadtest.compare import amounts, history_file
from loadtest.compare.history import growth
from loadtest.compare.results import RunComparison, load
from loadtest.errors import ExitCode, InputError, RecordError
from loadtest.program import DEFAULT_PORT, command_line
from loadtest.record.figures import SlowOperation, read_slowest
from loadtest.record.run_directory import write_atomically
from loadtest.report.__main__ import guarded, short
from loadtest.report.formats import ci, render_html, render_markdown, show, write_plots
from loadtest.report.page import KeyFigure, NextStep, Page, Plot, Section, Table, tone_of
from loadtest.report.tables import comparison as tables
from loadtest.words import capital

_SUSPECTS: Final = "suspects.json"
"""A check writes this file beside ``comparison.json`` for a rerun on another machine."""
FOLDER: Final = "comparison-plots"
"""Folder beside ``comparison.json`` with its plots. It is separate from the plots of a run."""
_FOLDED: Final = "over-runs-others"
"""A plot that the page shows only after a click."""
MOST_BYTES: Final = 65_000
"""The Markdown has at most this many bytes, because GitHub cuts a comment at 65,536 characters."""
_WHY_INVALID: Final = {
    int(ExitCode.TARGET): "Make sure that the target is up and can be reached from here, then compare again.",
    int(ExitCode.ABORTED): "See in the last run’s own report why the run was stopped, then compare again.",
    int(ExitCode.INTERRUPTED): "The last run was interrupted: compare again.",
}
_SHARED: Final = ("target", "targets", "set", "seed", "output-dir")
"""The command that compares two builds repeats these options of the check."""
_FOOTER: Final = Markup(
    "Made from <code>comparison.json</code>. The same numbers are in <code>comparison.md</code>, "
    "<code>comparison.junit.xml</code> and <code>comparison.openmetrics.txt</code>."
)


def build(comparison: RunComparison, directory: Path, plots: Sequence[Plot] = ()) -> Page:
    """Make the page of a comparison, with ``plots`` in order. ``directory`` is a path as the user types it."""
    last_run, paired = comparison.runs[-1] if comparison.runs else "", comparison.kind == "paired"
    after = "confirmed by a rerun" if comparison.word == "regressed" else "after a rerun"
    word = f"{comparison.word} · {after}" if comparison.confirmed else comparison.word
    heading = comparison.title or f"Did {comparison.scenario} get slower?"
    begins_with_it = comparison.sentence.lower().startswith(comparison.word)
    kind = "Two versions compared, pair by pair" if paired else "A run against accepted earlier runs"
    return Page(
        about=(f"{kind} · {comparison.scenario}", directory.resolve().name if paired else last_run),
        tab=f"{comparison.word} · {heading}",
        heading=heading,
        tone=tone_of(comparison.word),
        word=word,
        verdict=comparison.sentence if begins_with_it else f"{capital(comparison.word)}. {comparison.sentence}",
        statements=(comparison.sentence,),
        reasons=comparison.reasons,
        steps=tuple(_next_steps(comparison, last_run or "RUN", directory)),
        sides=(("Base", comparison.base), ("Head", comparison.head)),
        sections=tuple(_sections(comparison, plots)),
        exit_code=comparison.exit_code,
        footer=_FOOTER,
        folder=FOLDER,
        style="comparison.css",
    )


def _sections(comparison: RunComparison, plots: Sequence[Plot]) -> Iterator[Section]:
    metrics = tables.metrics_table(comparison)
    yield Section(figures=_key_figures(comparison))
    yield Section(tables=(tables.findings_table(comparison),))
    yield Section(plots=tuple(plot for plot in plots if plot.name != _FOLDED))
    by = "pair by pair" if comparison.kind == "paired" else "run by run"
    folded = tuple(plot for plot in plots if plot.name == _FOLDED)
    yield Section(f"The other metrics, {by}", "aside", plots=folded)
    yield Section(tables=(metrics,), text="" if metrics.rows else "No metric was compared.", brief=True)
    yield Section(tables=(tables.controls_table(comparison), tables.identities_table(comparison)))
    yield Section("All runs of this comparison", "aside", tables=(tables.runs_table(comparison),))


def _key_figures(comparison: RunComparison) -> tuple[KeyFigure, ...]:
    if comparison.word == "learning":
        known = str(len(comparison.base_runs))
        return (KeyFigure("accepted runs", known, why="too few to know the variation between runs"),)
    metrics = [one for one in comparison.metrics if one.gated]
    if not metrics:
        return ()
    others = len(comparison.metrics) - len(metrics)
    words = f"{others} more are not judged" if others else "each can decide the verdict"
    figures = [KeyFigure("metrics judged", str(len(metrics)), why=words)]
    worse = [one for one in metrics if not amounts.is_share(one) and amounts.worsening(one) > 0]
    # Without a finding, show the time or rate that worsened most; short and polled times come last.
    causes = (finding.cause for finding in comparison.findings)
    if worst := next(causes, max(worse, key=amounts.telling, default=None)):
        label = "what changed" if comparison.findings else "largest change for the worse"
        aside = (
            "" if comparison.findings or all(map(amounts.in_percent, metrics)) else "; without short and polled times"
        )
        place = amounts.full_name(worst, comparison.metrics)
        figures.append(KeyFigure(label, amounts.change(worst), why=place + aside))
    if seen := sorted(abs(math.log(one.detectable)) for one in metrics if one.detectable and amounts.in_percent(one)):
        low, high = (amounts.size(bound) for bound in (seen[0], seen[-1]))
        words = f"median over metrics ({low} to {high}), found in 80 % of cases; without short and polled times"
        figures.append(KeyFigure("minimum detectable change", amounts.size(median(seen)), why=words))
    return tuple(figures)


def _next_steps(comparison: RunComparison, run: str, directory: Path) -> Iterator[NextStep]:
    """Yield the next steps. Commands that repeat the check have the options that the user gave."""
    suspects, place = directory / _SUSPECTS, comparison.place
    judged = [one for one in comparison.metrics if one.gated]
    lost = any(one.head is None and one.base is not None for one in comparison.metrics)
    check = comparison.command or command_line("regression", "check", comparison.scenario)
    match comparison.word, comparison.kind:
        case "regressed", "paired":
            yield from _first_look(comparison, directory)
            yield NextStep("Nothing needs to be accepted: a comparison of two versions keeps no history.")
        case "regressed", _:
            yield from _first_look(comparison, directory)
            why = "To compare two builds, serve the old build at the URL of --base, and the new at that of --head."
            yield NextStep(why, _builds(comparison))
            why = "If the change is intended, accept it; later runs are then compared with this run."
            yield NextStep(why, command_line("regression", "accept", run, reason="…") + place)
        case "inconclusive", "paired" if comparison.findings:
            yield NextStep("Repeat the comparison at another time or on another machine.", comparison.command)
        case "inconclusive", "paired" if lost and not any(one.verdict == "inconclusive" for one in judged):
            yield NextStep("Find out why the head side lacks metrics that the base side has.")
        case "inconclusive", "paired":
            why = "More pairs, or longer blocks, may settle the verdict."
            yield NextStep(why, comparison.command or command_line("compare", comparison.scenario))
        case "inconclusive", _ if suspects.is_file():
            confirm = command_line("regression", "confirm", suspects) + place
            yield NextStep("A rerun on another machine may settle the verdict.", comparison.confirm or confirm)
        case "inconclusive", _:
            yield NextStep("Another run may settle the verdict.", check)
        case "learning", _:
            yield NextStep("Repeat this check: each valid run is added to the history.", check)
        case "not comparable", _:
            restore = "restore the field that differs, or begin another history with --history."
            yield NextStep(f"Compare like with like: {restore}")
        case "invalid", _:
            other = "See in the run’s own report why the run is invalid, then repeat it."
            yield NextStep(_WHY_INVALID.get(comparison.exit_code, other))


def _first_look(comparison: RunComparison, directory: Path) -> Iterator[NextStep]:
    """Yield the entry and metric to look at first, the slowest operations, and other recorded differences."""
    for first in (each.cause for each in comparison.findings[:1]):
        where = f"Look first at {amounts.full_name(first, comparison.metrics)}"
        if comparison.kind == "paired":
            block = directory / comparison.head_runs[-1].run.partition("/")[2]
            yield NextStep(f"{where}, in the report of the last block.", command_line("report", block))
        else:
            found: list[SlowOperation] = []
            with suppress(InputError, RecordError):  # the run's figures may be missing
                found = read_slowest(directory).get(first.traffic, [])
            ids = [each.request_id for each in found[:3] if each.request_id]
            slowest = f"; its slowest operations have the trace ids {', '.join(ids)}" if ids else ""
            yield NextStep(f"{where}{slowest}.", command_line("slow", directory, traffic=first.traffic))
    changed = [label for label in tables.differing(comparison) if label != tables.SUBJECT]
    named = f"In the test environment, these differ: {', '.join(changed)}. Rule them out as the cause."
    yield NextStep(named if changed else "No other recorded fact of the test environment differs.")


def _builds(comparison: RunComparison) -> str:
    """Return the command that compares two builds with the check's options.

    The base has a URL of this machine, and so has the head if the check embedded its target.
    """
    scenario, *words = shlex.split(comparison.command)[3:] or [comparison.scenario]  # without the program and verb
    given = {flag: tuple(value for word, value in pairwise(words) if word == f"--{flag}") for flag in _SHARED}
    last = comparison.head_runs[-1]
    (head,) = given.pop("target") or (f"http://127.0.0.1:{DEFAULT_PORT + 1}" if last.embedded else last.target.host,)
    shared = {flag.replace("-", "_"): values for flag, values in given.items()}
    return command_line("compare", scenario, base=f"http://127.0.0.1:{DEFAULT_PORT}", head=head, **shared)


def render_comparison_markdown(page: Page) -> str:
    """Return the page as GitHub-flavoured Markdown without plots, shortened to GitHub's limit."""
    shown = replace(page, sections=tuple(replace(each, plots=()) for each in page.sections))
    rows = max((len(table.rows) for table in page.tables), default=0)

    def cut(table: Table) -> Table:
        few = table.brief(rows)
        return few if few is table else replace(few, note=f"{few.note} More rows are in comparison.html.".strip())

    while len((text := render_markdown(shown, 2)).encode()) > MOST_BYTES and rows:
        rows //= 2
        shown = replace(
            shown, sections=tuple(replace(each, tables=(*map(cut, each.tables),)) for each in shown.sections)
        )
    return text


def make(directory: Path, shown: Path, history: Path | None = None, *, plots: bool = True) -> Page:
    """Write comparison.html, .md, .junit.xml, .openmetrics.txt and the plots' files beside ``comparison.json``.

    ``shown`` is the directory as the user types it. With a ``history``, plots also show its latest accepted runs before
    the last accepted change.

    Raises:
        RecordError: if ``comparison.json`` cannot be read.
        InputError: if the history cannot be read.
    """
    runs = None if history is None else history_file.read(history).history
    comparison = load(directory)
    drawn: tuple[Plot, ...] = ()
    if plots:
        from loadtest.report.plots import changes  # noqa: PLC0415 - matplotlib is slow to import

        drawn = changes.draw(comparison, runs)
    page = build(comparison, shown, drawn)
    if runs is not None and (grown := growth(runs)):
        page = replace(page, reasons=(*page.reasons, grown))
    write_plots(drawn, directory / FOLDER)
    write_atomically(directory / ci.MARKDOWN, render_comparison_markdown(page))
    write_atomically(directory / ci.PAGE, render_html(page))
    write_atomically(directory / "comparison.junit.xml", ci.render_comparison_junit(comparison))
    write_atomically(directory / "comparison.openmetrics.txt", ci.render_openmetrics(comparison))
    return page


def main(argv: Sequence[str] | None = None) -> int:
    """Make a comparison's pages and print the first screen, or make a history's page."""
    parser = ArgumentParser(prog="python -m loadtest.report.regression", description="Make a comparison's pages.")
    parser.add_argument("directory", nargs="?", type=Path, help="directory of comparison.json")
    parser.add_argument("--no-plots", action="store_true", help="draw no plots")
    parser.add_argument("--history", type=Path, metavar="FILE", help="the history that the run was compared with")
    parser.add_argument("--output", type=Path, metavar="PAGE", help="file for the page of the history")
    options = parser.parse_args(argv)
    directory, history, output = options.directory, options.history, options.output
    if output is None and directory is not None:

        def comparison() -> int:
            page = make(directory, short(directory), history, plots=not options.no_plots)
            show(page, [("page", str(short(directory) / ci.PAGE))])
            ci.tell_github(load(directory), directory)
            return page.exit_code

        return guarded(comparison, f"the pages to {directory}")
    if history is not None and output is not None and directory is None:
        return guarded(lambda: _history(history, output), f"the page {output}")
    print(f"{parser.format_usage()}give a directory, or --history and --output", file=sys.stderr)
    return int(ExitCode.USAGE)


def _history(file: Path, output: Path) -> int:
    from loadtest.report import history  # noqa: PLC0415 - matplotlib is slow to import

    history.write(file, output)
    print(f"page  {short(output)}")
    return int(ExitCode.PASS)


if __name__ == "__main__":
    sys.exit(main())
