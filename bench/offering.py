"""Shared parts of the benches: a load in a process of its own, on loopback, for a bounded time."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from loadtest.prepare import prepare_run
from loadtest.record import samples
from loadtest.scenario import load_scenario
from loadtest.targets import NamedEntry


def cpu_s(process: psutil.Process) -> float:
    """Return the user and system CPU time of a process in s."""
    times = process.cpu_times()
    return float(times.user + times.system)


@dataclass
class Noting:
    """A minimal server (``peers/noting.py``). It notes when requests arrive, in monotonic ns."""

    process: psutil.Process
    url: str
    times: list[int] = field(default_factory=list)


@contextmanager
def noting() -> Iterator[Noting]:
    """Start the server on a free port, and stop it at the end of the block. Its times are known afterwards."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "peers" / "noting.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise SystemExit("no pipes")
        server = Noting(psutil.Process(process.pid), f"http://127.0.0.1:{int(process.stdout.readline())}")
        try:
            yield server
        finally:
            process.stdin.close()
        server.times += json.loads(process.stdout.read())


def known_job(text: str, folder: Path) -> str:
    """Change a scenario of retrievals so that it retrieves a known job and submits none before the run."""
    ids = folder / "ids.txt"
    ids.write_text("j\n")
    return text.replace('workflow = "echo"', f'job_ids = "{ids}"')


def go_first() -> str:
    """Give this process and its children real-time priority (SCHED_FIFO) if possible. Return a note about it.

    Without it, the machine's other work is measured too, and delays a sender that uses more CPU more often.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, OSError):
        return "real-time priority: not allowed, so that whatever else runs is measured, too"
    return "real-time priority: yes"


def retrievals(rate: int, seconds: float, users: int) -> str:
    """Return a scenario of even retrievals as TOML."""
    return (
        f'title = "Even retrievals"\nseed = 1\n[traffic.lookups]\noperation = "retrieval"\nworkflow = "echo"\n'
        f'timeout = "10s"\nmax_users = {users}\n'
        f'stages = [{{ name = "steady", rate = "{rate}/s", duration = "{seconds}s" }}]\n'
    )


@contextmanager
def offered(text: str, url: str, folder: Path, *arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Start the load of a scenario in a process of its own, and wait for its end after the block.

    Args:
        text: the scenario, as TOML.
        url: the target's base URL.
        folder: where the scenario and the run directory go.
        arguments: further arguments of ``python -m loadtest.load``.

    Yields:
        The process, and the run directory.
    """
    path = folder / "bench.toml"
    path.write_text(text, encoding="utf-8")
    directory, _ = prepare_run(
        load_scenario(path), url=url, chosen=NamedEntry(), keys=1, command=["bench"], output_dir=folder
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WORKFLOW_")}
    command = [sys.executable, "-m", "loadtest.load", str(directory), str(folder), *arguments]
    with (
        (directory / "load.log").open("wb") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, env=environment
        ) as process,
    ):
        yield process, directory
        process.wait()
    if process.returncode != 0:
        raise SystemExit(f"the load ended with {process.returncode}: {(directory / 'load.log').read_text()}")


def operations(directory: Path) -> list[dict[str, Any]]:
    """Return the operation rows of a run, in the order of its arrivals."""
    rows = [row for batch in samples.read_batches(directory) for row in batch.to_pylist() if row["row"] == "operation"]
    return sorted(rows, key=lambda row: row["arrival"])


def quantile(values: list[float], share: float) -> float:
    """Return a quantile (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
