"""Writing a run's report into its directory, from its record alone, with a progress bar where that takes long."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from loadtest.analysis import findings as analysis
from loadtest.analysis import measurements
from loadtest.analysis.run_record import load_record
from loadtest.compare.measurements import RunMeasurements, read
from loadtest.compare.rule import judge_history
from loadtest.errors import InputError
from loadtest.record import run_directory
from loadtest.record.run_directory import write_atomically
from loadtest.report.comparison import WORD_TONES
from loadtest.report.formats import ci
from loadtest.report.formats.picture import write_plots
from loadtest.report.run import Differences, Report, build, render_html, render_markdown, without_plots
from loadtest.report.tables.comparison import metrics_table

LONG: Final = 2_000_000
"""Samples from which reading them takes longer than a reader waits without a word."""


@contextmanager
def reading(directory: Path, console: Console | None = None) -> Iterator[Callable[[int], None] | None]:
    """Show how much of a run's record has been read; gone when it is done.

    Args:
        directory: of the run.
        console: where to show it; standard error by default, so that no output has it.

    Yields:
        What to call with how many samples were read so far; None where nothing is shown: the record is short, its
        length unknown, or nobody looks.

    Raises:
        RecordError: if there is no readable run.json.
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
            progress.update(task, completed=rows)
            if rows >= samples:
                progress.update(task, description="Looking closer, drawing")

        yield show


def make(directory: Path, *, plots: bool = True, png: bool = False, baselines: Sequence[Path] = ()) -> Report:
    """Read the record in ``directory`` and write its report beside it, in every form.

    metrics.json, report.html, report.md, plots/*.svg and *.csv; for CI systems junit.xml, load-performance.json and
    stats.csv; for comparisons measurements.json.

    The same record always gives the same bytes.

    Args:
        directory: of the run.
        plots: draw them, too.
        png: write each plot as PNG, too.
        baselines: directories of earlier runs; the report says how this one differs from them.

    Raises:
        RecordError: if a directory holds no readable record.
        InputError: if a threshold of the scenario in force can't be read, or a run is to be its own baseline.
    """
    with reading(directory) as on_progress:
        found = analysis.find(load_record(directory, on_progress))
        report = build(found, png=png) if plots else without_plots(build(found))
    measured = measurements.measure(found)
    if baselines:
        earlier = [load_measurements(one) for one in baselines]
        report = replace(report, differences=differences(measured, earlier))
    analysis.write(found)
    measurements.write(measured, directory)
    write_plots(report.plots, directory / "plots")
    write_atomically(directory / "report.md", render_markdown(report))
    write_atomically(directory / "report.html", render_html(report))
    write_atomically(directory / "junit.xml", ci.render_junit(found))
    write_atomically(directory / "load-performance.json", ci.render_gitlab(found))
    write_atomically(directory / "stats.csv", ci.render_locust_csv(found))
    return report


def differences(run: RunMeasurements, baselines: Sequence[RunMeasurements]) -> Differences:
    """Judge a run against baselines, as against a history of accepted runs. The run's own verdict stays.

    Raises:
        InputError: if the run is among its own baselines.
    """
    if any(one.run == run.run for one in baselines):
        raise InputError(f"{run.run} cannot be its own baseline", "Give an earlier run to --baseline.")
    by_start = sorted({one.run: one for one in baselines}.values(), key=lambda one: (one.started, one.run))
    found = judge_history(by_start, run)
    title = "Against 1 baseline" if len(by_start) == 1 else f"Against {len(by_start)} baselines"
    table = replace(metrics_table(found), name="differences", title=title)
    return Differences(title, found.sentence, found.reasons, WORD_TONES[found.word], table)


def load_measurements(directory: Path) -> RunMeasurements:
    """What a run tells a comparison: as its report wrote it, or from its record if there is none of this version.

    Raises:
        RecordError: if the directory holds no readable record.
    """
    try:
        return read(directory)
    except InputError:  # made anew from the record, which says why if it cannot be read
        return measurements.measure(analysis.find(load_record(directory)))
