"""A run's page, made from its findings, and the files of its report, made from its record."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from markupsafe import Markup
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from loadtest.analysis import findings as analysis
from loadtest.analysis import measurements
from loadtest.analysis.findings import Findings
from loadtest.analysis.run_record import load_record
from loadtest.compare.measurements import RunMeasurements, read
from loadtest.compare.rule import judge_history
from loadtest.console import Console
from loadtest.errors import InputError
from loadtest.record import run_directory
from loadtest.record.run_directory import write_atomically
from loadtest.report.answers import answer_tables
from loadtest.report.deciding import MainEntry, listed, main_entry
from loadtest.report.facts import LOG_TERMS, caveats, facts, not_tested, times_note
from loadtest.report.formats import ci, render_html, render_markdown, write_plots
from loadtest.report.headline import headline, key_figures, outcome_bars
from loadtest.report.limits import bottleneck, window_phase
from loadtest.report.page import TERMS, Page, Plot, Point, Section, tone_of
from loadtest.report.tables import chapter_tables, summary, thresholds
from loadtest.report.tables.comparison import metrics_table
from loadtest.report.tables.target import about_target
from loadtest.words import capital, counted

_LEADING: Final = 2
"""At most this many plots stand before the chapters."""
_NO_PLOTS: Final = Point("plots", "left out by --no-plots")
_FOOTER: Final = Markup(
    "Made from the record by <code>loadtest report</code>. The same numbers are in <code>metrics.json</code> and "
    "<code>report.md</code>, every sample in <code>samples.arrows</code>."
)
LONG: Final = 2_000_000
"""A progress bar is shown for a record of at least this many samples, because reading them takes a while."""


def build(findings: Findings, drawn: Sequence[Plot | Point] = (), differs: Section = Section()) -> Page:  # noqa: B008 - it is frozen
    """Make the page of a run's findings.

    ``drawn`` has the plots in order, and the reason for each missing plot. ``differs`` is the section about baselines.
    """
    info, verdict = findings.record.info, findings.verdict
    title = info.scenario.title or info.scenario.name
    entry, plots = main_entry(findings), [plot for plot in drawn if isinstance(plot, Plot)]
    first = sorted(plots, key=lambda plot: not plot.leads)[:_LEADING]
    missing = [each for each in drawn if isinstance(each, Point)] if drawn else [_NO_PLOTS]
    statements = verdict.reasons if info.imported else (headline(findings, entry), capital(verdict.statement))
    return Page(
        about=("Log of the Workflow API" if info.imported else "Load test of the Workflow API", info.id),
        tab=f"{verdict.word} · {title}",
        heading=title,
        tone=tone_of(verdict.word),
        word=verdict.word + (" · interrupted" if verdict.interrupted else ""),
        verdict=verdict.sentence,
        # A reader must see the broken threshold first.
        statements=statements[::-1] if verdict.word == "fail" else statements,
        reasons=() if info.imported else verdict.reasons[1:],
        sections=(
            *_first_screen(findings, entry, differs),
            Section(plots=tuple(first)),
            *_chapters(findings, [plot for plot in plots if plot not in first], missing),
        ),
        exit_code=int(verdict.exit_code),
        footer=_FOOTER,
        folder="plots",
        terms=LOG_TERMS if info.imported else TERMS,
    )


def _first_screen(findings: Findings, entry: MainEntry | None, differs: Section) -> Iterable[Section]:
    answers, source = answer_tables(findings), findings.record.info.source
    yield Section("Compared" if answers else "", tables=answers, brief=True)
    # A comparison needs no key figures, because the table above has its metrics.
    yield Section(figures=() if findings.answers else key_figures(findings, entry))
    bars, undrawn = outcome_bars(findings)
    yield Section(tables=(listed(findings, summary(findings, entry)),), brief=True, bars=bars, undrawn=undrawn)
    yield Section(tables=(thresholds(findings),), brief=True)
    if source is None:
        yield Section(text="" if findings.judged else "The scenario sets no thresholds.", brief=True)
        broken = (each for each in findings.checks if not each.ok and each.words not in findings.verdict.reasons)
        named = (Point(f"{check.name}: {check.value} ({check.limit})") for check in broken)
        yield Section(look="warnings", points=(*named, *caveats(findings)), brief=True)
        yield Section("Bottleneck", text=bottleneck(findings), brief=True)
    else:
        yield Section(look="warnings", points=(times_note(source),), brief=True)
    yield Section("About the target", points=tuple(about_target(findings)), brief=True)
    yield differs
    yield Section(look="contents")


def _chapters(findings: Findings, plots: Sequence[Plot], missing: Sequence[Point]) -> Iterable[Section]:
    """Yield the chapters with tables and ``plots``, then validity, ``missing`` data and facts."""
    for chapter, tables in chapter_tables(findings).items():
        shown = tuple(listed(findings, table) for table in tables)
        plots_of = tuple(plot for plot in plots if plot.chapter == chapter)
        yield Section(chapter, "chapter", chapter.name.lower(), plots=plots_of, tables=shown)
    checks = tuple(
        Point(
            check.value,
            f"({check.limit}) {check.words}",
            check.name,
            ("good" if check.judged else "unsure") if check.ok else "bad",
        )
        for check in findings.checks
    )
    imported = findings.record.info.imported
    title = "Unknown to a log" if imported else "Not tested or without data"
    yield Section("Validity of the run", "chapter", "validity", points=() if imported else checks)
    yield Section(title, "chapter", "untested", points=(*not_tested(findings), *missing))
    yield Section("The run", "chapter", "run", facts=facts(findings.record, window_phase(findings)))


def differences(run: RunMeasurements, baselines: Sequence[RunMeasurements]) -> Section:
    """Judge a run against baselines as if they were its accepted history. The run's own verdict does not change.

    Raises ``InputError`` if the run is one of its baselines.
    """
    if any(one.run == run.run for one in baselines):
        raise InputError(f"{run.run} cannot be its own baseline", "Give an earlier run to --baseline.")
    by_start = sorted({one.run: one for one in baselines}.values(), key=lambda one: (one.started, one.run))
    found = judge_history(by_start, run)
    return Section(
        f"Against {counted(len(by_start), 'baseline')}",
        "notice",
        brief=True,
        tone=tone_of(found.word),
        text=found.sentence,
        points=tuple(map(Point, found.reasons)),
        tables=(replace(metrics_table(found), title="All metrics and their baselines"),),
    )


@contextmanager
def reading(directory: Path, console: Console | None = None) -> Iterator[Callable[[int], None] | None]:
    """Show a progress bar on a terminal (by default standard error) while a long record is read.

    Yield a function that takes the number of samples read so far; None without a bar. Raises ``RecordError`` if there
    is no readable run.json.
    """
    console = console or Console(stderr=True)
    samples = run_directory.load(directory).samples or 0
    if samples < LONG or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Reading the record", total=samples)

        def show(rows: int) -> None:
            text = "Analysing and drawing" if rows >= samples else "Reading the record"
            progress.update(task, completed=rows, description=text)

        yield show


def make(directory: Path, *, plots: bool = True, png: bool = False, baselines: Sequence[Path] = ()) -> Page:
    """Read the record in ``directory`` and write its report there in every form. Equal records give equal bytes.

    ``baselines`` are directories of earlier runs. The report states how this run differs from them.

    Raises:
        RecordError: if a directory holds no readable record.
        InputError: if a threshold can't be read, the run is its own baseline, a log is given with baselines or as a
            baseline, or a file can't be written.
    """
    with reading(directory) as on_progress:
        found = analysis.find(load_record(directory, on_progress))
    # The thread of the progress bar has ended here. While it runs, forks are unsafe, so only one process would draw.
    drawn: tuple[Plot | Point, ...] = ()
    if plots:
        gc.disable()  # as in loadtest/load/__main__.py
        from loadtest.report.plots import draw_all  # noqa: PLC0415 - matplotlib is slow to import

        gc.freeze()  # frozen objects stay in memory that is shared with child processes
        gc.enable()
        drawn = draw_all(found, png=png)
    if baselines:
        run_directory.refuse_imported(directory)
    measured = None if found.record.info.imported else measurements.measure(found)
    differs = Section()
    if measured and baselines:
        differs = differences(measured, [load_measurements(one) for one in baselines])
    page = build(found, drawn, differs)
    try:
        _write(found, measured, page)
    except OSError as error:
        state = next((f"{capital(check.words)}. " for check in found.checks if check.name == "record complete"), "")
        remedy = f"{state}Free some space, or copy the run directory; then make the report again."
        raise InputError(f"cannot write the report to {directory}: {error.strerror}", remedy) from error
    return page


def _write(found: Findings, measured: RunMeasurements | None, page: Page) -> None:
    directory = found.record.directory
    analysis.write(found)
    write_plots(page.plots, directory / "plots")
    write_atomically(directory / "report.md", render_markdown(page))
    write_atomically(directory / "report.html", render_html(page))
    if measured is not None:  # a log gets no files for CI systems
        measurements.write(measured, directory)
        write_atomically(directory / "junit.xml", ci.render_junit(found))
        write_atomically(directory / "load-performance.json", ci.render_gitlab(found))
        write_atomically(directory / "stats.csv", ci.render_locust_csv(found))


def load_measurements(directory: Path) -> RunMeasurements:
    """Return a run's measurements from its report, or from its record if there is no report of this version.

    Raises ``RecordError`` if the directory holds no readable record, or ``InputError`` if the run is from a log.
    """
    try:
        return read(directory)
    except InputError:  # If the record is unreadable, too, its error names the cause.
        run_directory.refuse_imported(directory)
        return measurements.measure(analysis.find(load_record(directory)))
