"""``loadtest export``: writes a run's operations and requests as CSV or Parquet."""

from pathlib import Path

import click

from loadtest.cli._options import shared
from loadtest.processes import run_module
from loadtest.record import run_directory


@click.command()
@shared("run")
@click.option("--to", "form", type=click.Choice(["csv", "parquet"]), required=True, help="Format of the files.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the files. Default: the run directory.",
)
def command(run: str, form: str, output: Path | None) -> int:
    """Export the operations and the requests of RUN to two files, and print their paths.

    RUN is a run directory, a run's id, or 'latest' (the default). docs/notebooks.md explains the columns.
    """
    directory = run_directory.find_run(run)
    return run_module("loadtest.analysis", "export", form, str(output or directory), str(directory))
