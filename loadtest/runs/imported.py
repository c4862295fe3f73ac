"""Imports logs as a run, makes its report, and prints what they show."""

from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from loadtest.console import Console
from loadtest.errors import ExitCode
from loadtest.logs.importing import ImportOptions, import_logs
from loadtest.processes import make_report
from loadtest.program import open_command
from loadtest.record.figures import read_figures


def import_as_run(names: tuple[str, ...], *, output_dir: Path, plots: bool, **options: Any) -> int:
    """Make a run directory of logs and its report, and print requests, 429s and limits, a line each.

    ``options`` are those of ``ImportOptions``.

    Raises:
        InputError: if a log cannot be read, or nothing is left.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Reading the log", total=_size(names))
        directory = import_logs(names, output_dir, ImportOptions(**options), lambda read: progress.advance(task, read))
    code = make_report(directory, plots=plots, quiet=True)
    if code == ExitCode.PASS:
        print(f"report  {open_command(directory / 'report.html')}")
        print("\n".join(read_figures(directory).reasons))
    return code


def _size(names: tuple[str, ...]) -> int | None:
    """Return the files' total size in bytes; None if it is unknown."""
    paths = [Path(name) for name in names]
    return sum(path.stat().st_size for path in paths) if all(path.is_file() for path in paths) else None
