"""``loadtest preflight``: whether a target can be loaded at all, in at most five requests."""

from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.cli._options import Named, credentials_for, look, target_options
from loadtest.errors import ExitCode
from loadtest.prepare import limits_of
from loadtest.record.run_info import Preflight
from loadtest.scenario import find_scenario, load_scenario
from loadtest.targets import check_leash, choose, confirm, preflight_alone

_STYLES: Final = {"ok": "green", "failed": "bold red", "unknown": "dim"}


@click.command("preflight")
@click.argument("scenario")
@target_options
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the scenario. Repeatable."
)
def command(scenario: str, overrides: tuple[str, ...], **named: Any) -> int:
    """Look at a target with SCENARIO's first workflow, and print what was found.

    It sends at most five requests, which spend quota and one execution. Exit code 5 if the target cannot be loaded.
    """
    loaded = load_scenario(find_scenario(scenario), overrides)
    wanted = Named(**named)
    chosen = choose(wanted.host, wanted.target, wanted.targets)
    keys, endpoint = credentials_for(chosen)
    limits = limits_of(loaded, chosen, embedded=False)
    check_leash(chosen, preflight_alone(loaded.scenario, len(keys)), limits, keys=len(keys), now=datetime.now(UTC))
    confirm(chosen, yes=wanted.yes)
    seen = look(loaded, chosen, keys, endpoint)
    _show(seen, chosen.target.url)
    return int(ExitCode.PASS if seen.failure is None else ExitCode.TARGET)


def _show(seen: Preflight, url: str) -> None:
    console = Console(highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for check in seen.checks:
        table.add_row(check.name, Text(check.result, style=_STYLES[check.result]), check.words)
    requests = "1 request" if len(seen.sent) == 1 else f"{len(seen.sent)} requests"
    console.print(f"Preflight of {url}: {requests}.", soft_wrap=True)
    if console.is_terminal:
        console.print(table)
    else:
        for check in seen.checks:
            print(f"{check.name:<11}{check.result:<9}{check.words}")
    if seen.failure is not None:
        console.print(seen.failure.remedy)
