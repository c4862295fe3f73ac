"""``python -m loadtest.load DIR BASE``: make the load of a prepared run, and nothing else.

With ``--series N``, DIR is a comparison's, and the runs are the blocks of its N-th series.

Started by the command line as a process of its own. It writes its progress to standard output (see
``record.progress``), and ends the run early when standard input ends: a parent that was killed leaves no load behind.
Keys and endpoint come from the environment.
"""

import atexit
import gc

gc.disable()  # until all is imported: nothing of it goes away, and walking it again and again is a sixth of the start
import locust  # isort: skip - before the rest, since it patches the interpreter

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import gevent
from gevent import os as gevent_os
from locust.env import Environment
from locust.log import setup_logging

from loadtest.credentials import credentials
from loadtest.errors import ExitCode, LoadtestError
from loadtest.load.blocks import Blocks
from loadtest.load.engine import Engine
from loadtest.load.session import Session, make_endpoint
from loadtest.load.start import LoadOptions, read_options, start
from loadtest.load.users import user_classes
from loadtest.record import run_directory
from loadtest.record.progress import Failure, ProgressLine, encode_progress
from loadtest.scenario import Scenario
from loadtest.targets import allow


def main(options: LoadOptions) -> int:
    """Make the load of the run, or of the blocks, prepared in a directory; their records are there afterwards.

    Returns:
        0 when the record is closed, whatever it holds; else an ``ExitCode``.
    """
    gc.freeze()
    gc.enable()
    setup_logging("INFO", None)
    os.set_blocking(sys.stdout.fileno(), False)
    return _run(options) if options.series is None else _run_blocks(options, options.series)


def _run(options: LoadOptions) -> int:
    directory, base = options.directory, options.base
    info = run_directory.load(directory)
    scenario = Scenario.model_validate(info.scenario.effective)
    keys, workflow_endpoint = credentials()
    target = allow(info.target.url, listed=info.target.budget is not None)
    endpoint = make_endpoint(target, keys, workflow_endpoint, info)
    # Locust's own events, so that listeners beside a scenario's user classes hear of every request.
    environment = Environment(user_classes=user_classes(scenario, info.traffic, base), events=locust.events)
    with start(environment, options.workers, base=base, keys=len(keys), on_progress=_write) as runner:
        environment.events.init.fire(environment=environment, runner=runner.locust, web_ui=None)
        session = Session(environment, directory, info, scenario, endpoint, base=base)
        engine = Engine(environment, lambda: session, make_generator=runner.make_generator, on_progress=_write)
        if options.metrics_port is not None:
            # Flask and what else the web UI needs, for those alone who ask for it.
            from loadtest.load.web.metrics import serve_metrics  # noqa: PLC0415

            serve_metrics(engine, options.metrics_port)
        _end_early(engine.interrupt)
        users = sum(plan.users for plan in info.traffic.values())
        runner.locust.start(users, spawn_rate=users)
        engine.done.wait()
        runner.locust.quit()
    if session.bug is not None and session.user_error is None:
        return ExitCode.BUG
    if engine.error is not None:
        raise engine.error
    return ExitCode.PASS


def _run_blocks(options: LoadOptions, series: int) -> int:
    blocks = Blocks(options.directory, series, base=options.base, on_progress=_write)
    environment = blocks.environment
    runner = environment.create_local_runner()
    environment.events.init.fire(environment=environment, runner=runner, web_ui=None)
    engine = Engine(environment, blocks.make_session, on_progress=_write)
    _end_early(blocks.interrupt, engine.interrupt)
    try:
        return blocks.run(engine, runner)
    finally:
        runner.quit()


def _end_early(*interrupts: Callable[[], None]) -> None:
    """Let a signal end the load early, and the end of our parent likewise."""

    def interrupt() -> None:
        for each in interrupts:
            each()

    gevent.spawn(_interrupt_at_end_of_input, interrupt)
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, interrupt)


def _write(progress: ProgressLine) -> None:
    # A line fits into a pipe whole or not at all (it is below PIPE_BUF), and a reader that is asleep or gone must not
    # hold up the load.
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        os.write(sys.stdout.fileno(), encode_progress(progress) + b"\n")


def _interrupt_at_end_of_input(interrupt: Callable[[], None]) -> None:
    while gevent_os.tp_read(sys.stdin.fileno(), 1024):
        pass
    interrupt()


def _abort(directory: Path, reason: str) -> None:
    """Write into run.json why a run did not begin, unless the engine has written it."""
    info = run_directory.load(directory)
    if info.end == "running":
        info.end, info.end_reason = "aborted", reason
        run_directory.save(info, directory)


if __name__ == "__main__":
    atexit.register(gc.freeze)  # or Python's end looks for garbage in all of it: 0.1 s
    try:
        sys.exit(main(read_options(sys.argv[1:])))
    except LoadtestError as error:
        with contextlib.suppress(OSError, LoadtestError):
            _abort(Path(sys.argv[1]), error.message)
        sys.stdout.write(encode_progress(Failure(str(error))).decode() + "\n")
        sys.exit(int(error.exit_code))
    except Exception:  # noqa: BLE001 - ours, whatever it is: the exit code says so
        traceback.print_exc()
        sys.exit(int(ExitCode.BUG))
