"""``loadtest worker``: start a worker for a distributed run."""

import signal
from pathlib import Path

import click

from loadtest.cli import _children as children
from loadtest.cli._worker_options import host_and_port
from loadtest.credentials import credentials
from loadtest.processes import start_worker, stop


@click.command("worker")
@click.option("--master", required=True, metavar="HOST[:PORT]", help="Address of the master.")
@click.option(
    "--scenario-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("scenarios"),
    show_default=True,
    help="Folder of the files that a scenario names, on this machine.",
)
def command(master: str, scenario_dir: Path) -> int:
    """Start a worker for `loadtest run SCENARIO --master`, on this or another machine.

    The master sends the scenario, but no secrets: set the same WORKFLOW_API_KEYS and WORKFLOW_ENDPOINT here as there.
    After Ctrl-C or SIGTERM the other workers send what this one has not sent yet.
    """
    address = host_and_port(master, "--master")
    # Checked here, where a mistake is shown without a traceback.
    credentials()
    print(f"A worker of {address}: leave with Ctrl-C.", flush=True)
    process = start_worker(address, scenario_dir, with_parent=False)
    try:
        with children.Interrupts(process, signal.SIGTERM):
            return process.wait()
    finally:
        stop(process)
