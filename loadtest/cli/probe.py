"""``loadtest probe``: measures which rate limits a service enforces."""

from typing import Any

import click

from loadtest.cli._options import LIMIT, PROBED, NumberRange, shared
from loadtest.contract import LIMIT_NAMES
from loadtest.runs.probe import probe


@click.command("probe")
@click.argument("limits", metavar="[LIMIT]...", nargs=-1, type=click.Choice([str(name) for name in LIMIT_NAMES]))
@shared(*PROBED)
@click.option(
    "--documented",
    type=LIMIT,
    metavar="LIMIT=N/W",
    multiple=True,
    help="Compare with this limit, such as retrieval=50/10s, instead of the documented limit.",
)
@click.option("--rate", type=NumberRange(1, 1000), default=100.0, show_default=True, help="Maximum requests/s.")
@click.option("--workflow", metavar="NAME", help="Run this workflow if a limit ignores requests that execute nothing.")
@click.option("--save", metavar="NAME", help="Write limits that are as documented into this entry of targets.toml.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON instead of writing a report.")
@shared("output_dir")
def command(**options: Any) -> int:
    """Measure the enforced LIMITs and their algorithms, and compare them with the documentation.

    The probe sends at most 5.5 times the count of each limit, within eight of its windows. Without --workflow, the
    requests name a workflow or a job that does not exist, so nothing is executed. The exit code is 6 if a limit's count
    or window stays unknown.
    """
    return probe(**options)
