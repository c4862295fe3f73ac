"""``loadtest import``: makes a run from access logs or HAR files."""

from typing import Any

import click

from loadtest.cli._options import LIMIT, shared
from loadtest.contract import LimitName
from loadtest.runs.imported import import_as_run
from loadtest.units import Limit


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
    help="Count requests to another path as an operation: sync_run, async_run or retrieval. A * stands for one "
    "segment of the path. Repeatable.",
)
@click.option(
    "--limit",
    "limits",
    type=LIMIT,
    multiple=True,
    metavar="NAME=COUNT/WINDOW",
    help="A limit that differs from the documentation, such as sync_run=10/1s. Repeatable.",
)
@click.option("--host", default="", help="Import only the requests for this host.")
@click.option(
    "--key",
    type=click.Choice(["header", "address", "none"]),
    help="Property that identifies a client.  [default: the key's header if the log has it, else the address]",
)
@click.option(
    "--stamp",
    type=click.Choice(["start", "end"]),
    help="Whether the time in a line is the request's start or end.  [default: end; start for HAProxy and HAR]",
)
@shared("output_dir", "plots")
def command(logs: tuple[str, ...], limits: tuple[tuple[LimitName, Limit], ...], **options: Any) -> int:
    """Make a run from LOG…, which are access logs or HAR files.

    Logs may be rotated or gzipped; '-' is standard input. The run has a report without a verdict. Keys and addresses
    are recorded as numbers.
    """
    return import_as_run(logs, limits=dict(limits), **options)
