"""``python -m loadtest.load.distributed HOST:PORT BASE``: a worker of the master that listens there.

Keys and endpoint come from the environment. SIGTERM and Ctrl-C let it leave politely: it hands back what it has not
sent, waits for what is in flight, and goes; a second one ends it at once.
"""

import locust  # isort: skip - first, since it patches the interpreter
import argparse
import atexit
import gc
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import gevent
from gevent import os as gevent_os
from locust.env import Environment
from locust.log import setup_logging
from locust.runners import WorkerRunner

from loadtest.credentials import credentials
from loadtest.errors import ExitCode, InputError, LoadtestError, TargetError
from loadtest.load.distributed.worker import Worker
from loadtest.processes import parse_address
from loadtest.program import pasteable

_FLUSH: Final = 0.2
"""Seconds for the last message to get away."""


def main(master: tuple[str, int], base: Path, *, with_parent: bool) -> int:
    """Take part in the runs of a master until it ends.

    Args:
        master: host and port.
        base: what a relative path in a scenario starts from.
        with_parent: whether to end when standard input does.

    Raises:
        LoadtestError: if there is no master, or it does not want this worker.
    """
    setup_logging("INFO", None)
    keys, workflow_endpoint = credentials()
    environment = Environment(user_classes=[], events=locust.events)
    runner = _connect(environment, *master)
    refusals: list[str] = []
    worker = Worker(
        environment,
        runner,
        keys=keys,
        workflow_endpoint=workflow_endpoint,
        base=base,
        on_refused=refusals.append,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, worker.interrupt)
    if with_parent:
        gevent.spawn(_leave_with_parent)
    over = gevent.spawn(runner.greenlet.join)
    refused = gevent.spawn(_until, refusals)
    left = gevent.spawn(worker.left.wait)
    gevent.wait([over, refused, left], count=1)
    if not over.ready():
        environment.events.quitting.fire(environment=environment, reverse=True)
        gevent.sleep(_FLUSH)
        runner.quit()
    if refusals:
        raise InputError(f"this worker can't take part: {refusals[0]}")
    return ExitCode.INVALID if worker.gave_up else ExitCode.PASS


def _connect(environment: Environment, host: str, port: int) -> WorkerRunner:
    try:
        return environment.create_worker_runner(host, port)
    except (OSError, RecursionError) as error:
        raise TargetError(
            f"no master answers at {host}:{port}", "Start it first: `loadtest run SCENARIO --master`."
        ) from error


def _until(refusals: list[str]) -> None:
    while not refusals:
        gevent.sleep(_FLUSH)


def _leave_with_parent() -> None:
    while gevent_os.tp_read(sys.stdin.fileno(), 1024):
        pass
    # The master is gone, or done: nothing can be handed back.
    gevent.sleep(_FLUSH)
    os._exit(int(ExitCode.INTERRUPTED))


def _run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.load.distributed")
    parser.add_argument("master", type=parse_address)
    parser.add_argument("base", type=Path)
    parser.add_argument("--with-parent", action="store_true")
    options = parser.parse_args(arguments)
    try:
        return main(options.master, options.base, with_parent=options.with_parent)
    except LoadtestError as error:
        sys.stderr.write(pasteable(f"loadtest: {error}\n"))
        return int(error.exit_code)


if __name__ == "__main__":
    atexit.register(gc.freeze)  # as in loadtest.load
    sys.exit(_run(sys.argv[1:]))
