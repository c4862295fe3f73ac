"""``loadtest export``: a run's samples as CSV or Parquet."""

from pathlib import Path

import click

from loadtest.cli._options import run_argument
from loadtest.errors import InputError
from loadtest.record import run_directory


@click.command()
@run_argument
@click.option("--to", "form", type=click.Choice(["csv", "parquet"]), required=True, help="Format of the file.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Path of the file. Default: samples.csv or samples.parquet in the run directory.",
)
def command(run: str, form: str, output: Path | None) -> None:
    """Export the samples of RUN, one row for each operation and each request, and print the file's path.

    RUN is a run directory, a run's id, or 'latest' (the default). Times are in ns since the run's epoch.
    """
    # Late: Arrow is slow to import, and `--help` needs none of it.
    from pyarrow import csv, parquet  # noqa: PLC0415 - see above

    from loadtest.record import samples  # noqa: PLC0415 - see above

    directory = run_directory.find_run(run)
    path = output or directory / f"samples.{form}"
    table = samples.read_table(directory)
    try:
        with run_directory.replacing(path) as temporary:
            if form == "csv":
                csv.write_csv(samples.safe_cells(table), temporary)
            else:
                parquet.write_table(table, temporary)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}", "Name another --output.") from error
    click.echo(path)
