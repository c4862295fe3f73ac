"""``loadtest import``: makes a run of access logs or HAR files."""

from typing import Any

import click

from loadtest.cli._options import shared
from loadtest.contract import LIMIT_NAMES, LimitName
from loadtest.errors import InputError
from loadtest.runs.imported import import_as_run
from loadtest.units import Limit, parse_limit
from loadtest.words import did_you_mean


@click.command("import")
@click.argument("logs", metavar="LOG…", nargs=-1, required=True)
@click.option(
    "--format",
    default="",
    metavar="TEXT",
    help="combined, json, haproxy, or the lines' fields as in nginx's log_format, such as "
    "'$remote_addr [$time_local] \"$request\" $status $request_time'.  [default: detect it]",
)
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="'METHOD /PATH=OPERATION'",
    help="Requests of another path that are an operation: sync_run, async_run or retrieval. A * stands for one part "
    "of the path. Repeatable.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=COUNT/WINDOW",
    help="A limit that differs from the documentation, such as sync_run=10/1s. Repeatable.",
)
@click.option("--host", default="", help="Import only the requests for this host.")
@click.option(
    "--key",
    type=click.Choice(["header", "address", "none"]),
    help="Property that tells clients apart.  [default: the key's header if the log has it, else the address]",
)
@click.option(
    "--stamp",
    type=click.Choice(["start", "end"]),
    help="Whether a line's time is the request's start or end.  [default: end; start for HAProxy and HAR]",
)
@shared("output_dir", "plots")
def command(logs: tuple[str, ...], limits: tuple[str, ...], **options: Any) -> int:
    """Make a run of LOG…: requests that clients sent, from access logs or HAR files.

    Logs may be rotated or gzipped; '-' is standard input. The run has a report without a verdict. Keys and addresses
    are stored as numbers only.
    """
    return import_as_run(logs, limits=dict(map(_limit, limits)), **options)


def _limit(text: str) -> tuple[LimitName, Limit]:
    name, _, value = text.partition("=")
    if name not in LIMIT_NAMES:
        raise InputError(f"--limit {text!r}: {name!r} is not a limit", did_you_mean(name, LIMIT_NAMES))
    try:
        return LimitName(name), parse_limit(value)
    except ValueError as error:
        raise InputError(f"--limit {text!r}: {error}", "Example: --limit sync_run=100/60s") from None
