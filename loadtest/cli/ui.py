"""``loadtest ui``: a scenario in Locust's web UI, on this machine only."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from loadtest.cli import _children as children
from loadtest.cli._options import (
    TargetOptions,
    output_dir_option,
    plots_option,
    processes_option,
    target_options,
)
from loadtest.cli._target import ResolvedTarget, resolved_target
from loadtest.processes import LOOPBACK, address_text, check_free, start_worker, stop
from loadtest.scenario import find_scenario, load_scenario

_LOCUSTFILE: Final = Path(__file__).parent.parent / "load" / "locustfile.py"


@click.command("ui")
@click.argument("scenario")
@target_options(embedded=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8089, show_default=True, help="Port of the web UI.")
@output_dir_option
@processes_option
@plots_option
def command(scenario: str, *, target: TargetOptions, port: int, output_dir: Path, processes: int, plots: bool) -> int:
    """Open SCENARIO in Locust's web UI. Each start there makes a run of its own, recorded and reported.

    A running target is looked at by a preflight before each run.
    """
    loaded = load_scenario(find_scenario(scenario))
    check_free(port, "--port")
    children.interrupt_on_terminate()
    with resolved_target(loaded, replace(target, no_preflight=True)) as resolved:
        environment = {
            **resolved.environment,
            **_known_of(resolved),
            "LOADTEST_SCENARIO": str(loaded.path),
            "LOADTEST_OUTPUT_DIR": str(output_dir),
            "LOADTEST_PLOTS": str(int(plots)),
            "LOADTEST_PREFLIGHT": str(int(not target.no_preflight)),
        }
        return _serve(resolved, environment, port, processes, loaded.path.parent)


def _known_of(target: ResolvedTarget) -> dict[str, str]:
    """Tell the locustfile what was done already: the embedded target started, or the target confirmed."""
    chosen = target.chosen
    if chosen is None:
        return {"LOADTEST_EMBEDDED": "1"}
    if chosen.name is None:
        return {}
    return {"LOADTEST_YES": "1", "LOADTEST_TARGET": chosen.name, "LOADTEST_TARGETS": str(chosen.path)}


def _serve(target: ResolvedTarget, environment: Mapping[str, str], port: int, processes: int, base: Path) -> int:
    ours, theirs = socket.socketpair()
    master_port = _free_port()
    command = [sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--host", target.url]
    command += ["--web-host", LOOPBACK, "--web-port", str(port)]
    if processes:
        command += ["--master", "--master-bind-host", LOOPBACK, "--master-bind-port", str(master_port)]
    # A session of its own, so that Ctrl-C reaches only us: the last run's record is closed and reported before it ends.
    process = subprocess.Popen(
        command,
        env={**environment, "LOADTEST_PARENT_FD": str(theirs.fileno())},
        stdin=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )
    theirs.close()
    print(f"{target.description} Start it at http://127.0.0.1:{port}, stop this with Ctrl-C.", flush=True)
    try:
        # Ctrl-C ends Locust, and with it the run that ends here, which is still reported.
        with _workers(processes, master_port, base, environment), children.Interrupts(process, signal.SIGTERM), ours:
            process.wait()
    finally:
        stop(process)
    return process.returncode


@contextmanager
def _workers(count: int, port: int, base: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Worker processes. They wait for their master, and end with it, with us, or with the block."""
    processes = [start_worker(address_text(LOOPBACK, port), base, environment) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            stop(process)


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
