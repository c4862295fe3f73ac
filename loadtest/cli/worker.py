"""``loadtest worker``: starts a worker for a distributed run."""

import signal
from pathlib import Path

import click

from loadtest.credentials import credentials
from loadtest.processes import interrupts_for, start_worker, stop, whole_address


@click.command("worker")
@click.option("--master", required=True, metavar="HOST[:PORT]", help="Address of the master.")
@click.option(
    "--scenario-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("scenarios"),
    show_default=True,
    help="Local folder of the files that scenarios refer to.",
)
def command(master: str, scenario_dir: Path) -> int:
    """Start a worker for a distributed run. The master is `loadtest run SCENARIO --master`.

    The master sends the scenario, but neither keys nor endpoint: set WORKFLOW_API_KEYS and WORKFLOW_ENDPOINT as on the
    master. On Ctrl-C or SIGTERM the worker leaves, and the remaining workers take over its share.
    """
    address = whole_address(master, "--master")
    # The credentials are checked here, because the worker's process would show a traceback.
    credentials()
    print(f"Worker of {address}. Press Ctrl-C to leave.", flush=True)
    process = start_worker(address, scenario_dir, with_parent=False)
    try:
        with interrupts_for(process, signal.SIGTERM):
            return process.wait()
    finally:
        stop(process)
