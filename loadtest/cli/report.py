"""``loadtest report``: make a run's report again."""

import subprocess
import sys
from pathlib import Path

import click

from loadtest import runfile
from loadtest.cli._plots import plots_option

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
    # A process of its own: pandas and matplotlib stay out of this one.
    command = [sys.executable, "-m", "loadtest.report", *([] if plots else ["--no-plots"]), str(directory)]
    return subprocess.run(command, check=False).returncode
