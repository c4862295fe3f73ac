"""Writing every form of a comparison's report beside its ``comparison.json``."""

from dataclasses import replace
from pathlib import Path

from loadtest.record.run_directory import write_atomically
from loadtest.regression import history_file
from loadtest.regression.results import load
from loadtest.report.regression import ci, formats
from loadtest.report.regression.content import ComparisonReport, build
from loadtest.report.regression.plots import FOLDER
from loadtest.report.write import write_plots


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
    write_atomically(directory / "comparison.md", formats.render_markdown(report))
    write_atomically(directory / "comparison.html", formats.render_html(report))
    write_atomically(directory / "comparison.junit.xml", ci.render_junit(report))
    write_atomically(directory / "comparison.openmetrics.txt", ci.render_openmetrics(report.comparison))
    return report
