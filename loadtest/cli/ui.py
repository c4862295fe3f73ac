"""``loadtest ui``: a scenario in Locust's web UI, on this machine only."""

import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from loadtest.cli import _children as children
from loadtest.cli._children import plots_option
from loadtest.cli._options import (
    Named,
    Ready,
    Workers,
    get_ready,
    preflight_option,
    processes_option,
    target_options,
    tell_pending,
)
from loadtest.errors import InputError
from loadtest.scenario import find_scenario, load_scenario
from loadtest.scenario.parse import LoadedScenario

_LOCUSTFILE: Final = Path(__file__).parent.parent / "load" / "locustfile.py"


@click.command("ui")
@click.argument("scenario")
@target_options
@preflight_option
@click.option("--port", type=click.IntRange(1, 65535), default=8089, show_default=True, help="Port of the web UI.")
@click.option(
    "--output-dir", type=click.Path(path_type=Path), default=Path("reports"), show_default=True, help="Parent of runs."
)
@processes_option
@plots_option
def command(scenario: str, port: int, output_dir: Path, processes: int, plots: bool, **named: Any) -> int:
    """Open SCENARIO in Locust's web UI: each start there is a run of its own, recorded and reported."""
    loaded = load_scenario(find_scenario(scenario))
    _check_free(port)
    children.interrupt_on_terminate()
    target = Named(**named)
    if not target.embedded:
        ready = get_ready(loaded, target)
        environment = {**children.child_environment(ready.keys, ready.endpoint), **_about(ready)}
        workers = Workers(processes, loaded.path.parent, environment)
        return _serve(
            loaded, ready.where, ready.chosen.target.url, workers, port=port, output_dir=output_dir, plots=plots
        )
    keys, endpoint = children.own_credentials(loaded.scenario)
    environment = children.child_environment(keys, endpoint)
    with children.embedded_target(loaded.scenario.target, environment) as embedded:
        environment |= {"LOADTEST_EMBEDDED": "1", **embedded.environment}
        where = f"Load goes to {embedded.url}: loopback only, embedded target."
        workers = Workers(processes, loaded.path.parent, environment)
        return _serve(loaded, where, embedded.url, workers, port=port, output_dir=output_dir, plots=plots)


def _about(ready: Ready) -> dict[str, str]:
    """What the locustfile has to know of a target that was confirmed and looked at already."""
    chosen = ready.chosen
    about = {"LOADTEST_PREFLIGHT": msgspec.json.encode(ready.preflight.sent).decode(), "LOADTEST_YES": "1"}
    if chosen.name is not None:
        about |= {"LOADTEST_TARGET": chosen.name, "LOADTEST_TARGETS": str(chosen.path)}
    return about


def _serve(
    loaded: LoadedScenario, where: str, url: str, workers: Workers, *, port: int, output_dir: Path, plots: bool
) -> int:
    ours, theirs = socket.socketpair()
    environment = {
        **workers.environment,
        "LOADTEST_SCENARIO": str(loaded.path),
        "LOADTEST_OUTPUT_DIR": str(output_dir),
        "LOADTEST_PARENT_FD": str(theirs.fileno()),
    }
    arguments = ["-f", str(_LOCUSTFILE), "--host", url, "--web-host", "127.0.0.1", "--web-port", str(port)]
    # A session of its own, so that Ctrl-C reaches only us, and the last run's record is closed before we report it.
    process = subprocess.Popen(
        [sys.executable, "-m", "locust", *arguments, *workers.arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )
    theirs.close()
    print(f"{where} Start it at http://127.0.0.1:{port}, stop this with Ctrl-C.", flush=True)
    try:
        # Ctrl-C ends Locust, and with it the runs that end here, each of which is still reported.
        with (
            workers.running(),
            children.Interrupts(process, signal.SIGTERM),
            ours,
            ours.makefile(encoding="utf-8") as ended,
        ):
            for line in ended:
                children.make_report(Path(line.strip()), plots=plots)
                tell_pending(Path(line.strip()))
    finally:
        children.stop(process)
    return 0 if process.returncode in {0, 1} else process.returncode


def _check_free(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise InputError(f"--port {port}: cannot listen there: {error.strerror}", "Choose another --port.") from None
