"""``loadtest probe``: find out by experiments which limits a service enforces."""

from typing import Any

import click

from loadtest.cli._options import TARGET, shared
from loadtest.contract import LIMIT_NAMES
from loadtest.runs.probe import probe


@click.command("probe")
@click.argument("limits", metavar="[LIMIT]...", nargs=-1, type=click.Choice([str(name) for name in LIMIT_NAMES]))
@shared(*TARGET)
@click.option(
    "--documented",
    metavar="LIMIT=N/W",
    multiple=True,
    help="Compare with this limit instead of the documented one, as retrieval=50/10s.",
)
@click.option("--rate", type=click.FloatRange(1, 1000), default=100.0, show_default=True, help="Requests/s at most.")
@click.option(
    "--workflow", metavar="NAME", help="Run this workflow where requests that execute nothing draw on no limit."
)
@click.option("--save", metavar="NAME", help="Write what is sure into this entry of targets.toml.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(**options: Any) -> int:
    """Find out which LIMITs are enforced, how they are counted, and whether that is what the documentation says.

    Sends at most five and a half times each limit's count, as volleys and streams, in about eight of its windows.
    Requests name a workflow or a job that does not exist, so that nothing is executed. Exit code 6 if something cannot
    be told.
    """
    return probe(**options)
