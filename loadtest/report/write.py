"""Writes a run's report into its directory, from its record, with a progress bar for long records."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from loadtest.analysis import findings as analysis
from loadtest.analysis import measurements
from loadtest.analysis.findings import Findings
from loadtest.analysis.run_record import load_record
from loadtest.compare.measurements import RunMeasurements, read
from loadtest.console import Console
from loadtest.errors import InputError
from loadtest.record import run_directory
from loadtest.record.run_directory import write_atomically
from loadtest.report.formats import ci
from loadtest.report.formats.html import render_html, write_plots
from loadtest.report.formats.markdown import render_markdown
from loadtest.report.page import Page, Plot, Section
from loadtest.report.run import build, differences
from loadtest.words import capital

LONG: Final = 2_000_000
"""Minimum number of samples whose reading takes long enough to print a progress line."""


@contextmanager
def reading(directory: Path, console: Console | None = None) -> Iterator[Callable[[int], None] | None]:
    """Show a progress bar while a run's record is read, by default on standard error.

    Yields:
        A function that takes the number of samples read so far; None without a bar, because the record is short, its
        length is unknown, or the console is not a terminal.

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
                progress.update(task, description="Analysing and drawing")

        yield show


def make(directory: Path, *, plots: bool = True, png: bool = False, baselines: Sequence[Path] = ()) -> Page:
    """Read the record in ``directory`` and write its report there, in every form; the same record gives the same bytes.

    The files are metrics.json, report.html, report.md, plots/*.svg and *.csv; for CI systems junit.xml,
    load-performance.json and stats.csv; for comparisons measurements.json.

    The report states the differences from ``baselines``, the directories of earlier runs.

    Raises:
        RecordError: if a directory holds no readable record.
        InputError: if a threshold of the scenario can't be read, a run is its own baseline, or a file can't be written.
    """
    with reading(directory) as on_progress:
        found = analysis.find(load_record(directory, on_progress))
    # The progress bar's thread has ended: with another thread, only one process may draw.
    drawn = _draw(found, png=png) if plots else ()
    if baselines:
        run_directory.refuse_imported(directory)
    measured = None if found.record.info.imported else measurements.measure(found)
    differs = (
        differences(measured, [load_measurements(one) for one in baselines]) if measured and baselines else Section()
    )
    page = build(found, drawn, differs)
    try:
        _write(found, measured, page, drawn)
    except OSError as error:
        state = next((f"{capital(check.words)}. " for check in found.checks if check.name == "record complete"), "")
        remedy = f"{state}Free some space, or copy the run directory; then make the report again."
        raise InputError(f"cannot write the report to {directory}: {error.strerror}", remedy) from error
    return page


def _write(found: Findings, measured: RunMeasurements | None, page: Page, drawn: Sequence[Plot]) -> None:
    directory = found.record.directory
    analysis.write(found)
    write_plots(drawn, directory / "plots")
    write_atomically(directory / "report.md", render_markdown(page))
    write_atomically(directory / "report.html", render_html(page))
    if measured is None:  # CI systems judge runs
        return
    measurements.write(measured, directory)
    write_atomically(directory / "junit.xml", ci.render_junit(found))
    write_atomically(directory / "load-performance.json", ci.render_gitlab(found))
    write_atomically(directory / "stats.csv", ci.render_locust_csv(found))


def _draw(findings: Findings, *, png: bool) -> tuple[Plot, ...]:
    gc.disable()  # as in loadtest.load
    from loadtest.report.plots import draw_all  # noqa: PLC0415 - matplotlib is slow to import; not every report has plots

    gc.freeze()  # children share the objects that garbage collection does not touch
    gc.enable()
    return draw_all(findings, png=png)


def load_measurements(directory: Path) -> RunMeasurements:
    """Return a run's measurements: those that its report wrote, or, without a report of this version, of its record.

    Raises:
        RecordError: if the directory holds no readable record.
    """
    try:
        return read(directory)
    except InputError:  # the record raises an error that names the cause
        run_directory.refuse_imported(directory)
        return measurements.measure(analysis.find(load_record(directory)))
