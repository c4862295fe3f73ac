"""``loadtest worker``: make a part of a master's load."""

import signal
import subprocess
import sys
from pathlib import Path

import click

from loadtest.cli import _children as children
from loadtest.cli._options import host_and_port
from loadtest.credentials import credentials


@click.command("worker")
@click.option("--master", required=True, metavar="HOST[:PORT]", help="Where the master waits for workers.")
@click.option(
    "--scenario-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("scenarios"),
    show_default=True,
    help="Where files that a scenario names are on this machine.",
)
def command(master: str, scenario_dir: Path) -> int:
    """Make a part of the load of `loadtest run SCENARIO --master`, on this or another machine.

    The scenario comes from the master; keys and endpoint do not: WORKFLOW_API_KEYS and WORKFLOW_ENDPOINT have to be
    the same here as there. Ctrl-C and SIGTERM let it leave politely: what it has not sent, the others send.
    """
    address = host_and_port(master, "--master")
    # Said here, where it needs no traceback to be understood.
    credentials()
    print(f"A worker of {address}: leave with Ctrl-C.", flush=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtest.load.distributed", address, str(scenario_dir)], start_new_session=True
    )
    try:
        with children.Interrupts(process, signal.SIGTERM):
            return process.wait()
    finally:
        children.stop(process)
