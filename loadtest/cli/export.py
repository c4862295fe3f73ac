"""``loadtest export``: a run's operations and requests as CSV or Parquet."""

import subprocess
import sys
from pathlib import Path

import click

from loadtest.cli._options import run_argument
from loadtest.record import run_directory


@click.command()
@run_argument
@click.option("--to", "form", type=click.Choice(["csv", "parquet"]), required=True, help="Format of the files.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the files. Default: the run directory.",
)
def command(run: str, form: str, output: Path | None) -> int:
    """Export RUN as two files, operations and requests, with derived times, and print their paths.

    RUN is a run directory, a run's id, or 'latest' (the default). docs/notebooks.md explains the columns.
    """
    directory = run_directory.find_run(run)
    arguments = ["export", form, str(output or directory), str(directory)]
    return subprocess.run([sys.executable, "-m", "loadtest.analysis", *arguments], check=False).returncode
