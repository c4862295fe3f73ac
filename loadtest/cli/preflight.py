"""``loadtest preflight``: checks whether a target can be loaded, with at most five requests."""

from typing import Any, Final

import click
from rich.table import Table
from rich.text import Text

from loadtest.cli._options import RUNNING, shared
from loadtest.console import Console
from loadtest.errors import ExitCode
from loadtest.prepare import check_before_run
from loadtest.program import pasteable
from loadtest.record.run_info import REFUSED, Preflight
from loadtest.runs.target import ScenarioOptions, child_environment, credentials_for
from loadtest.targets import Target, choose, confirm, make_preflight, refused
from loadtest.words import counted

_STYLES: Final = {"ok": "green", "failed": "bold red", "unknown": "dim"}


@click.command("preflight")
@click.argument("scenario")
@shared(*RUNNING, "set")
def command(**given: Any) -> int:
    """Check a target with the first workflow of SCENARIO, before it is loaded.

    The check sends at most five requests, which consume quota and execute the workflow once. The exit code is 5 if the
    target cannot be loaded.
    """
    options = ScenarioOptions(**given)
    loaded = options.load()
    chosen = choose(options.host, options.target, options.targets)
    keys, endpoint = credentials_for(chosen)
    check_before_run(loaded, chosen, keys=len(keys), preflight=True, starts_s=())
    confirm(chosen, yes=options.yes)
    preflight = make_preflight(chosen, loaded.effective, child_environment(keys, endpoint))
    _show(preflight, chosen.target)
    return int(ExitCode.PASS if preflight.failure is None else ExitCode.TARGET)


def _show(preflight: Preflight, target: Target) -> None:
    console = Console()
    console.print(f"Preflight of {target.url}: {counted(len(preflight.sent), 'request')}.", soft_wrap=True)
    if console.is_terminal:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        for check in preflight.checks:
            table.add_row(check.name, Text(check.result, style=_STYLES[check.result]), check.words)
        console.print(table)
    else:
        for check in preflight.checks:
            print(f"{check.name:<11}{check.result:<9}{check.words}")
    if preflight.failure is not None:
        known = refused(target).remedy if preflight.failure.words == REFUSED else preflight.failure.remedy
        console.print(pasteable(known), soft_wrap=True)
