"""What verbs share that make a report: the option, and the command of the process that makes it."""

import sys
from pathlib import Path

import click

plots_option = click.option(
    "--plots/--no-plots",
    default=True,
    envvar="LOADTEST_PLOTS",
    show_envvar=True,
    help="Draw plots, too: more than half of the time that a short run's report takes.",
)


def report_command(directory: Path, *, plots: bool) -> list[str]:
    """What makes a run's report. A process of its own: pandas and matplotlib stay out of ours, and gevent out of it."""
    return [sys.executable, "-m", "loadtest.report", *([] if plots else ["--no-plots"]), str(directory)]
