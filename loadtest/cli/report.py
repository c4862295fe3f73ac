"""``loadtest report``: make a run's report again."""

import subprocess
from pathlib import Path

import click

from loadtest.cli._children import plots_option, report_command
from loadtest.record import run_directory

_SCHEMA = Path(__file__).parents[1] / "report" / "metrics.schema.json"


@click.command()
@click.argument("run", metavar="[RUN]", default=run_directory.LATEST)
@plots_option
@click.option("--schema", is_flag=True, help="Print the JSON schema of metrics.json instead.")
def command(run: str, schema: bool, plots: bool) -> int:
    """Make RUN's report again, from its record, and judge it. The exit code is that of the verdict.

    RUN is a run directory, a run's id, or 'latest', which is the default.
    """
    if schema:
        click.echo(_SCHEMA.read_text(encoding="utf-8"), nl=False)
        return 0
    directory = run_directory.find_run(run)
    return subprocess.run(report_command(directory, plots=plots), check=False).returncode
