"""``loadtest report``: recreates a run's report."""

import click

from loadtest.cli._options import shared
from loadtest.processes import make_report, run_module
from loadtest.record import run_directory


@click.command()
@shared("run", "plots", "png", "full")
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="RUN",
    help="Show the differences from this earlier run. The verdict stays the same. Repeatable. With five or more "
    "baselines, the differences are judged as in `loadtest regression check`.",
)
@click.option("--schema", is_flag=True, help="Print the JSON schema of metrics.json and exit.")
def command(run: str, baselines: tuple[str, ...], schema: bool, **how: bool) -> int:
    """Recreate the report of RUN from its record. The exit code is the verdict.

    RUN is a run directory, a run's id, or 'latest' (the default).
    """
    if schema:
        return run_module("loadtest.analysis", "schema")
    directory = run_directory.find_run(run)
    return make_report(directory, **how, baselines=[run_directory.find_run(one) for one in baselines])
