"""``loadtest capacity``: finds the highest rate that meets a scenario's thresholds, and the bottleneck above it."""

from typing import Any

import click

from loadtest.cli._options import TARGET, NumberRange, shared
from loadtest.runs.capacity import find_capacity


@click.command("capacity")
@click.argument("scenario")
@click.option(
    "--stage", metavar="NAME", help="Stage to judge. Default: the only stage, or the only stage that thresholds name."
)
@shared(*TARGET, "set", "seed")
@click.option(
    "--max-runs", type=click.IntRange(2, 200), help="Maximum number of runs.  [default: 10; none with --minutes]"
)
@click.option(
    "--minutes", type=NumberRange(min=0, min_open=True), help="Search for at most this time, for a narrower range."
)
@click.option(
    "--max-requests",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    help="Stop before a run that would exceed this total of requests.",
)
@click.option(
    "--plan", "plan_only", is_flag=True, help="Only print the expected capacity and the cost of the first run."
)
@shared("output_dir")
def command(**options: Any) -> int:
    """Find the highest rate that meets the thresholds of SCENARIO, and its bottleneck.

    Each run has only the judged stage, at a chosen rate with a fresh seed. The answer is a range. Exit codes: 0 found,
    6 inconclusive, 3 the load generator was the bottleneck, 5 target unreachable, 7 no range, because
    the target's request budget allows no further run, or because a run was aborted.
    """
    return find_capacity(**options)
