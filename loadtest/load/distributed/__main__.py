"""``python -m loadtest.load.distributed HOST:PORT BASE``: a worker of the master at HOST:PORT.

API keys and the workflow endpoint come from the environment. After SIGTERM or Ctrl-C, the worker hands back unsent
arrivals, waits for operations in flight, and ends. A second signal ends it at once.
"""

import locust  # isort: skip - must be first, because it patches the interpreter
import argparse
import atexit
import gc
import os
import sys
from pathlib import Path
from typing import Final

import gevent
from gevent.event import AsyncResult
from locust.env import Environment
from locust.log import setup_logging

from loadtest.credentials import credentials
from loadtest.errors import ExitCode, InputError, TargetError
from loadtest.load.distributed.worker import Worker
from loadtest.load.load_generator import on_end_of, on_signals, plain_refusal
from loadtest.processes import parse_address
from loadtest.record.samples import warm_up_without_pandas

_FLUSH: Final = 0.2
"""The last message has this many seconds to be sent."""


def main(master: tuple[str, int], base: Path, *, with_parent: bool) -> int:
    """Take part in a master's runs until the master ends or this worker leaves. Return the exit code.

    With a parent, the worker also ends when standard input closes. If no master answers or this worker cannot take
    part, ``LoadtestError`` is raised.
    """
    setup_logging("INFO", None)
    warm_up_without_pandas()
    keys, workflow_endpoint = credentials()
    environment = Environment(user_classes=[], events=locust.events)
    try:
        runner = environment.create_worker_runner(*master)
    except (OSError, RecursionError) as error:
        raise TargetError(
            f"no master answers at {master[0]}:{master[1]}",
            "Start the master first; see --bind in `loadtest run --help`.",
        ) from error
    refusal = AsyncResult()
    worker = Worker(
        environment, runner, keys=keys, workflow_endpoint=workflow_endpoint, base=base, on_refused=refusal.set
    )
    on_signals(worker.interrupt)
    if with_parent:
        on_end_of(sys.stdin.fileno(), _leave_with_parent)
    over = gevent.spawn(runner.greenlet.join)
    gevent.wait([over, refusal, worker.left], count=1)
    if not over.ready():
        if refusal.ready():
            runner.greenlet.kill()  # otherwise Locust would start users whose classes are missing here
        environment.events.quitting.fire(environment=environment, reverse=True)
        gevent.sleep(_FLUSH)
        runner.quit()
    if refusal.ready():
        raise InputError(f"this worker cannot take part: {refusal.get()}")
    return ExitCode.INVALID if worker.gave_up else ExitCode.PASS


def _leave_with_parent() -> None:
    # The parent was also the master, so nothing can be handed back.
    gevent.sleep(_FLUSH)
    os._exit(int(ExitCode.INTERRUPTED))


if __name__ == "__main__":
    atexit.register(gc.freeze)  # skips Python's final garbage collection, as in loadtest.load
    parser = argparse.ArgumentParser(prog="python -m loadtest.load.distributed")
    parser.add_argument("master", type=parse_address)
    parser.add_argument("base", type=Path)
    parser.add_argument("--with-parent", action="store_true")
    with plain_refusal():
        sys.exit(main(**vars(parser.parse_args())))
