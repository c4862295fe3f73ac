"""``loadtest ui``: a scenario in Locust's web UI, on this machine only."""

import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from loadtest.cli import _children as children
from loadtest.credentials import credentials
from loadtest.errors import InputError
from loadtest.scenario import find_scenario, load_scenario
from loadtest.scenario.parse import LoadedScenario
from loadtest.targets import allow

_LOCUSTFILE: Final = Path(__file__).parent.parent / "load" / "locustfile.py"


@click.command("ui")
@click.argument("scenario")
@click.option("--host", help="Base URL of a target on this machine; without it the embedded one is started.")
@click.option("--port", type=click.IntRange(1, 65535), default=8089, show_default=True, help="Port of the web UI.")
@click.option(
    "--output-dir", type=click.Path(path_type=Path), default=Path("reports"), show_default=True, help="Parent of runs."
)
def command(scenario: str, host: str | None, port: int, output_dir: Path) -> int:
    """Open SCENARIO in Locust's web UI: each start there is a run of its own, recorded and reported."""
    loaded = load_scenario(find_scenario(scenario))
    _check_free(port)
    children.interrupt_on_terminate()
    if host is not None:
        return _serve(loaded, allow(host).url, *credentials(), port=port, output_dir=output_dir, embedded=False)
    keys, endpoint = children.own_credentials(loaded.scenario)
    with children.embedded_target(loaded.scenario.target, children.child_environment(keys, endpoint)) as target:
        return _serve(loaded, target.url, keys, endpoint, port=port, output_dir=output_dir, embedded=True)


def _serve(
    loaded: LoadedScenario, url: str, keys: Sequence[str], endpoint: str, *, port: int, output_dir: Path, embedded: bool
) -> int:
    ours, theirs = socket.socketpair()
    environment = {
        **children.child_environment(keys, endpoint),
        "LOADTEST_SCENARIO": str(loaded.path),
        "LOADTEST_OUTPUT_DIR": str(output_dir),
        "LOADTEST_EMBEDDED": "1" if embedded else "0",
        "LOADTEST_PARENT_FD": str(theirs.fileno()),
    }
    arguments = ["-f", str(_LOCUSTFILE), "--host", url, "--web-host", "127.0.0.1", "--web-port", str(port)]
    # A session of its own, so that Ctrl-C reaches only us, and the last run's record is closed before we report it.
    process = subprocess.Popen(
        [sys.executable, "-m", "locust", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )
    theirs.close()
    print(f"Load goes to {url}: loopback only. Start it at http://127.0.0.1:{port}, stop this with Ctrl-C.", flush=True)
    try:
        # Ctrl-C ends Locust, and with it the runs that end here, each of which is still reported.
        with children.Interrupts(process, signal.SIGTERM), ours, ours.makefile(encoding="utf-8") as ended:
            for line in ended:
                children.make_report(Path(line.strip()))
    finally:
        children.stop(process)
    return 0 if process.returncode in {0, 1} else process.returncode


def _check_free(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise InputError(f"--port {port}: cannot listen there: {error.strerror}", "Choose another --port.") from None
