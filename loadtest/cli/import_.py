"""``loadtest import``: makes a run from access logs or HAR files."""

from pathlib import Path
from subprocess import DEVNULL
from typing import IO, Any

import click
from rich.progress import Progress

from loadtest.cli._options import LIMIT, shared
from loadtest.console import Console
from loadtest.contract import LimitName
from loadtest.errors import ExitCode
from loadtest.logs.importing import ImportOptions, import_logs
from loadtest.processes import make_report
from loadtest.program import open_command
from loadtest.record.figures import read_figures
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
    help="Property that identifies a client.  [default: the first of these that the log has]",
)
@click.option(
    "--stamp",
    type=click.Choice(["start", "end"]),
    help="Whether the time in a line is the request's start or end.  [default: end; start for HAProxy and HAR]",
)
@shared("output_dir", "plots")
def command(
    logs: tuple[str, ...], limits: tuple[tuple[LimitName, Limit], ...], output_dir: Path, plots: bool, **options: Any
) -> int:
    """Make a run from LOG…, which are access logs or HAR files.

    Logs may be rotated or gzipped; '-' is standard input. The run has a report without a verdict. Keys and addresses
    are recorded as numbers.
    """
    with Progress(console=Console(stderr=True), transient=True) as progress:

        def opened(name: str) -> IO[bytes]:
            return progress.open(name, "rb", description="Reading the log")

        directory = import_logs(logs, output_dir, ImportOptions(limits=dict(limits), **options), opened)
    code = make_report(directory, plots=plots, stdout=DEVNULL)
    if code == ExitCode.PASS:
        print(f"report  {open_command(directory / 'report.html')}")
        print("\n".join(read_figures(directory).reasons))
    return code
