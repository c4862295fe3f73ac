"""``loadtest advise``: finds the client policy that finishes its work soonest without 429s."""

from typing import Any

import click

from loadtest.cli._options import DURATION, PATH, RATE, shared
from loadtest.runs.advise import advise


@click.command("advise")
@click.argument("scenario", required=False)
@click.option(
    "--from",
    "source",
    metavar="RUN|FILE",
    help="Take limits and execution times from this run, or limits from a probe.json.",
)
@click.option("--target", metavar="NAME", help="Take the limits of this entry of targets.toml.")
@shared("targets")
@click.option("--jobs", type=click.IntRange(1, 200_000), help="Number of jobs to get done.")
@click.option("--runs", type=click.IntRange(1, 200_000), help="Number of sync runs to get done.")
@click.option("--rate", type=RATE, metavar="RATE", help="Rate of an endless stream of jobs, such as 12/s.")
@click.option(
    "--clients", type=click.IntRange(1, 1000), default=1, show_default=True, help="Clients that share the limits."
)
@click.option("--deadline", type=DURATION, help="Exit with 1 if the work takes longer than this, such as 10m.")
@click.option("--execution", type=DURATION, help="Execution time of each job or sync run, such as 2s.")
@click.option("--client", type=PATH, metavar="FILE", help="Write the advised client to this Python file.")
@shared("output_dir")
def command(**options: Any) -> int:
    """Compare clients' policies in virtual time, and advise the policy that finishes soonest without 429s.

    The present policy is that of SCENARIO, or else of the --from run. Without SCENARIO, --from and
    --target, the advice assumes the documented limits, and allows for every algorithm. Nothing is sent. The result is a
    page, advice.json and, if possible, a scenario to confirm the advice.
    """
    return advise(**options)
