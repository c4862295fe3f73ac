"""``loadtest advise``: which client gets its work done soonest without 429s."""

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
@click.option("--rate", type=RATE, metavar="RATE", help="Jobs without end at this rate, such as 12/s.")
@click.option(
    "--clients", type=click.IntRange(1, 1000), default=1, show_default=True, help="Clients that share the limits."
)
@click.option("--deadline", type=DURATION, help="Exit with 1 if the work takes longer, such as 10m.")
@click.option("--execution", type=DURATION, help="Execution time of each job or run, such as 2s.")
@click.option("--client", type=PATH, metavar="FILE", help="Write the advised client to this Python file.")
@shared("output_dir")
def command(**options: Any) -> int:
    """Compare clients' policies in virtual time, and advise the policy that finishes soonest without 429s.

    The present policy is that of SCENARIO, or else of the run's scenario. Without either, the documented limits hold
    under any algorithm. Nothing is sent. The result has a page, advice.json, and a scenario that confirms the advice.
    """
    return advise(**options)
