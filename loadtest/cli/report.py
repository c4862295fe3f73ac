"""``loadtest report``: make a run's report again."""

import subprocess
import sys

import click

from loadtest import runfile


@click.command()
@click.argument("run", metavar="[RUN]", default=runfile.LATEST)
def command(run: str) -> int:
    """Make RUN's report again from its record alone, and judge it: the exit code is the verdict's.

    RUN is a run directory, a run's id, or 'latest', which is the default.
    """
    directory = runfile.find_run(run)
    # A process of its own: pandas and matplotlib stay out of this one.
    return subprocess.run([sys.executable, "-m", "loadtest.report", str(directory)], check=False).returncode
