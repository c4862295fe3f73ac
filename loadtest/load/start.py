"""Starts what a run is made with: this process alone, or workers of this machine, or workers that come from others."""

import argparse
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import gevent
from locust.env import Environment
from locust.runners import LocalRunner, MasterRunner

from loadtest.errors import InputError, LoadtestError
from loadtest.load.distributed.master import DistributedGenerator
from loadtest.load.distributed.transport import Mailbox
from loadtest.load.load_generator import LoadGenerator, LocalGenerator
from loadtest.load.session import Session
from loadtest.processes import LOOPBACK, address_text, parse_address, start_worker, stop
from loadtest.record.progress import WaitingForWorkers

_LOOK: Final = 0.05
_REPORT_EVERY: Final = 0.5
_PATIENCE: Final = 60.0
"""Seconds that workers of this machine may take to come up; others are waited for until an interrupt."""
_STOP_TIMEOUT: Final = 10.0
# Locust's master would wait a second for its workers to report how many users they have, and hear nothing meanwhile.
_NO_WAIT: Final = {"LOCUST_WAIT_FOR_WORKERS_REPORT_AFTER_RAMP_UP": "0"}


@dataclass(frozen=True, slots=True)
class ExpectedWorkers:
    """How many workers, and where from.

    Attributes:
        processes: to be started on this machine; 0 for this process alone, or where ``bind`` is set.
        bind: host and port to wait for workers at; None if there are none, or all are of this machine.
        expect: how many to wait for.
    """

    processes: int = 0
    bind: tuple[str, int] | None = None
    expect: int = 1


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What ``python -m loadtest.load`` has to do."""

    directory: Path
    base: Path
    """What a relative path in the scenario starts from."""
    workers: ExpectedWorkers
    series: int | None = None
    """Which blocks of a comparison to run; None for the single run of ``directory``."""
    metrics_port: int | None = None
    """Where to serve metrics; None for nowhere."""


def read_options(arguments: Sequence[str]) -> LoadOptions:
    """Read the command line of ``python -m loadtest.load``."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.load")
    parser.add_argument("directory", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--bind", type=parse_address, default=None)
    parser.add_argument("--expect-workers", type=int, default=1)
    parser.add_argument("--series", type=int, default=None)
    parser.add_argument("--metrics-port", type=int, default=None)
    options = parser.parse_args(arguments)
    workers = ExpectedWorkers(options.processes, options.bind, options.expect_workers)
    return LoadOptions(options.directory, options.base, workers, options.series, options.metrics_port)


@dataclass(frozen=True, slots=True)
class Runner:
    """Locust's runner, and what makes the load generator of a session."""

    locust: LocalRunner | MasterRunner
    make_generator: Callable[[Session], LoadGenerator]


@contextmanager
def start(
    environment: Environment,
    options: ExpectedWorkers,
    *,
    base: Path,
    keys: int,
    on_progress: Callable[[WaitingForWorkers], None],
) -> Iterator[Runner]:
    """Have a runner, and all its workers connected; workers that were started here end afterwards.

    Args:
        environment: Locust's, without a runner.
        options: which workers.
        base: what a relative path in the scenario starts from.
        keys: how many API keys there are.
        on_progress: called while workers are missing.

    Raises:
        InputError: if nothing can listen at ``bind``.
        LoadtestError: if the workers of this machine do not come up.
    """
    if not options.processes and options.bind is None:
        yield Runner(environment.create_local_runner(), LocalGenerator)
        return
    os.environ.update(_NO_WAIT)
    host, port = options.bind or (LOOPBACK, 0)
    runner = _listen(environment, host, port)
    mailbox = Mailbox(environment, runner, keys=keys)
    processes = [start_worker(address_text(LOOPBACK, runner.server.port), base) for _ in range(options.processes)]
    try:
        _await_workers(mailbox, options.processes or options.expect, processes, on_progress)
        yield Runner(runner, lambda session: DistributedGenerator(session, mailbox))
    finally:
        for process in processes:
            stop(process, _STOP_TIMEOUT, terminate=False)


def _listen(environment: Environment, host: str, port: int) -> MasterRunner:
    try:
        return environment.create_master_runner(host, port)
    except SystemExit:
        # Locust's log says that the port is busy.
        reason = "the port is in use"
    except Exception as error:  # noqa: BLE001 - Locust's, of several kinds
        reason = str(error)
    raise InputError(f"--bind {host}:{port}: cannot listen there: {reason}", "Choose another --bind.")


def _await_workers(
    mailbox: Mailbox,
    expected: int,
    processes: "Sequence[subprocess.Popen[bytes]]",
    on_progress: Callable[[WaitingForWorkers], None],
) -> None:
    interrupted = []
    handlers = [
        gevent.signal_handler(number, lambda: interrupted.append(True)) for number in (signal.SIGINT, signal.SIGTERM)
    ]
    begun, reported = time.monotonic(), 0.0
    try:
        while (connected := len(mailbox.connected())) < expected:
            if interrupted:
                raise LoadtestError(f"interrupted while {connected} of {expected} workers were connected")
            if any(process.poll() is not None for process in processes):
                raise LoadtestError("a worker process ended at once; see load.log")
            if processes and time.monotonic() - begun > _PATIENCE:
                raise LoadtestError(f"only {connected} of {expected} worker processes came up within {_PATIENCE:g} s")
            if time.monotonic() - reported > _REPORT_EVERY:
                reported = time.monotonic()
                on_progress(WaitingForWorkers(connected, expected))
            gevent.sleep(_LOOK)
    finally:
        for handler in handlers:
            handler.cancel()
