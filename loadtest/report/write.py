"""Writing a run's report into its directory, from its record alone."""

import shutil
from pathlib import Path

from loadtest.analysis import findings as analysis
from loadtest.analysis.record import load_record
from loadtest.record.run_directory import write_atomically
from loadtest.report.formats import ci, html, markdown
from loadtest.report.progress import reading
from loadtest.report.report import Report, build, without_plots


def make(directory: Path, *, plots: bool = True) -> Report:
    """Read the record in ``directory`` and write its report beside it, in every form.

    metrics.json, report.html, report.md, plots/*.png and *.csv; for CI systems junit.xml, load-performance.json and
    stats.csv.

    The same record always gives the same bytes.

    Args:
        directory: of the run.
        plots: draw them, too; without them it takes less than half as long.

    Raises:
        RecordError: if the directory holds no readable record.
        InputError: if a threshold of the scenario in force can't be read.
    """
    with reading(directory) as on_progress:
        found = analysis.find(load_record(directory, on_progress))
        report = build(found) if plots else without_plots(build(found))
    analysis.write(found)
    folder = directory / "plots"
    # Plots of an earlier report that this one doesn't have would look like part of it.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for plot in report.plots:
        if plot.png:
            (folder / f"{plot.name}.png").write_bytes(plot.png)
            (folder / f"{plot.name}.csv").write_text(plot.csv, encoding="utf-8")
    write_atomically(directory / "report.md", markdown.render(report))
    write_atomically(directory / "report.html", html.render(report))
    write_atomically(directory / "junit.xml", ci.render_junit(found))
    write_atomically(directory / "load-performance.json", ci.render_gitlab(found))
    write_atomically(directory / "stats.csv", ci.render_locust_csv(found))
    return report
