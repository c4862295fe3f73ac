"""``loadtest capacity``: the highest rate of a scenario that holds, and what stops more."""

from typing import Any

import click

from loadtest.cli._options import TARGET, shared
from loadtest.runs.capacity import find_capacity


@click.command("capacity")
@click.argument("scenario")
@click.option("--stage", metavar="NAME", help="Stage to judge. Default: the only one that thresholds are about.")
@shared(*TARGET, "set", "seed")
@click.option("--max-runs", type=click.IntRange(2, 40), default=10, show_default=True, help="Most runs to make.")
@click.option(
    "--max-requests", type=click.IntRange(min=1), help="Stop before a run that would send more than this in all."
)
@click.option("--plan", "plan_only", is_flag=True, help="Only print what is expected, and what the first run costs.")
@shared("output_dir")
def command(**options: Any) -> int:
    """Find the highest rate at which the thresholds of SCENARIO hold, and what stops more.

    Each run has the judged stage alone, at another rate. Exit codes: 0 found, 6 cannot tell, 3 the load generator was
    the bottleneck, 5 target unreachable, 7 the target's request budget allows no more.
    """
    return find_capacity(**options)
