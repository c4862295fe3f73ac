"""A scenario in Locust's web UI, on this machine. Locust and its workers are child processes."""

import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from loadtest.processes import (
    LOOPBACK,
    address_text,
    check_free,
    free_port,
    interrupt_on_terminate,
    interrupts_for,
    start_child,
    start_worker,
    stop,
)
from loadtest.program import option_words
from loadtest.runs.target import ResolvedTarget, ScenarioOptions, resolved_target

_LOCUSTFILE: Final = Path(__file__).parent.parent / "load" / "locustfile.py"


def serve_ui(*, port: int, output_dir: Path, processes: int, plots: bool, **given: Any) -> int:
    """Serve a scenario in Locust's web UI until Ctrl-C, and return the exit code."""
    options = ScenarioOptions(**given)
    loaded = options.load()
    check_free(port, "--port")
    interrupt_on_terminate()
    with resolved_target(loaded, replace(options, no_preflight=True)) as resolved:
        environment = {
            **resolved.environment,
            **_known_of(resolved),
            "LOADTEST_SCENARIO": str(loaded.path),
            "LOADTEST_OUTPUT_DIR": str(output_dir),
            "LOADTEST_PLOTS": str(int(plots)),
            "LOADTEST_PREFLIGHT": str(int(not options.no_preflight)),
        }
        print(f"{resolved.description} Start runs at http://127.0.0.1:{port}; stop with Ctrl-C.", flush=True)
        words = option_words(
            host=resolved.url,
            web_host=LOOPBACK,
            web_port=port,
            seed=options.seed,
            rate_multiplier=options.rate_multiplier,
            duration=None if options.duration is None else f"{options.duration:.10g}s",
        )
        return _serve(words, environment, processes, loaded.path.parent)


def _known_of(target: ResolvedTarget) -> dict[str, str]:
    """Return environment variables that describe the target to the locustfile."""
    chosen = target.chosen
    if chosen is None:
        return {"LOADTEST_EMBEDDED": "1"}
    if chosen.name is None:
        return {}
    return {"LOADTEST_YES": "1", "LOADTEST_TARGET": chosen.name, "LOADTEST_TARGETS": str(chosen.path)}


def _serve(options: Sequence[str], environment: Mapping[str, str], processes: int, base: Path) -> int:
    ours, theirs = socket.socketpair()
    master_port = free_port()
    command = ["-f", str(_LOCUSTFILE), *options]
    if processes:
        command += option_words(master=True, master_bind_host=LOOPBACK, master_bind_port=master_port)
    process = start_child(
        "locust",
        *command,
        environment={**environment, "LOADTEST_PARENT_FD": str(theirs.fileno())},
        stdin=subprocess.DEVNULL,
        stdout=None,
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    with ExitStack() as ends:
        ends.callback(stop, process)
        # Workers wait for their master. A worker ends with the master, with this process, or with the context.
        for _ in range(processes):
            ends.callback(stop, start_worker(address_text(LOOPBACK, master_port), base, environment))
        # Locust does not get Ctrl-C itself. SIGTERM makes it end and report the current run before it exits.
        with interrupts_for(process, signal.SIGTERM), ours:
            process.wait()
    return process.returncode
