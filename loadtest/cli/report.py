"""``loadtest report``: make a run's report again."""

import subprocess
from pathlib import Path

import click

from loadtest import runfile
from loadtest.cli._reporting import plots_option, report_command

_SCHEMA = Path(__file__).parents[1] / "report" / "metrics.schema.json"


@click.command()
@click.argument("run", metavar="[RUN]", default=runfile.LATEST)
@plots_option
@click.option("--schema", is_flag=True, help="Print the JSON schema of metrics.json, and make nothing.")
def command(run: str, schema: bool, plots: bool) -> int:
    """Make RUN's report again from its record alone, and judge it: the exit code is the verdict's.

    RUN is a run directory, a run's id, or 'latest', which is the default.
    """
    if schema:
        click.echo(_SCHEMA.read_text(encoding="utf-8"), nl=False)
        return 0
    directory = runfile.find_run(run)
    return subprocess.run(report_command(directory, plots=plots), check=False).returncode
