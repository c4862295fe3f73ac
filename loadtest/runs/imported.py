"""Imports logs as a run, makes the run's report, and prints its findings."""

from pathlib import Path
from subprocess import DEVNULL
from typing import IO, Any

from rich.progress import Progress

from loadtest.console import Console
from loadtest.errors import ExitCode
from loadtest.logs.importing import ImportOptions, import_logs
from loadtest.processes import make_report
from loadtest.program import open_command
from loadtest.record.figures import read_figures


def import_as_run(names: tuple[str, ...], *, output_dir: Path, plots: bool, **options: Any) -> int:
    """Make a run and its report from logs. Print a line about requests, a line about 429s, and a line about limits.

    ``options`` are fields of ``ImportOptions``.

    Raises:
        InputError: if a log cannot be read, or no request is left to import.
    """
    with Progress(console=Console(stderr=True), transient=True) as progress:

        def opened(name: str) -> IO[bytes]:
            return progress.open(name, "rb", description="Reading the log")

        directory = import_logs(names, output_dir, ImportOptions(**options), opened)
    code = make_report(directory, plots=plots, stdout=DEVNULL)
    if code == ExitCode.PASS:
        print(f"report  {open_command(directory / 'report.html')}")
        print("\n".join(read_figures(directory).reasons))
    return code
