"""``python -m loadtest.load DIR BASE``: make the load of a prepared run, and nothing else.

With ``--series N``, DIR is a comparison's, and the runs are the blocks of its N-th series. The load is made by this
process alone, by workers that it starts, or by workers that connect to it.

Started by the command line as a process of its own. It writes its progress to standard output (see
``record.progress``), and ends the run early when standard input ends: a parent that was killed leaves no load behind.
Keys and endpoint come from the environment.
"""

import atexit
import gc

gc.disable()  # until all is imported: nothing of it goes away, and walking it again and again is a sixth of the start
import locust  # isort: skip - before the rest, since it patches the interpreter

import argparse
import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import gevent
from locust.env import Environment
from locust.log import setup_logging
from locust.runners import LocalRunner, MasterRunner

from loadtest.credentials import credentials
from loadtest.errors import ExitCode, InputError, LoadtestError
from loadtest.load.blocks import BlockSeries
from loadtest.load.distributed.master import DistributedGenerator
from loadtest.load.distributed.transport import Mailbox
from loadtest.load.engine import Engine, LoadGenerator
from loadtest.load.load_generator import LocalGenerator
from loadtest.load.session import Session, make_endpoint
from loadtest.load.shutdown import on_end_of, on_signals
from loadtest.load.users import user_classes
from loadtest.processes import LOOPBACK, address_text, parse_address, start_worker, stop
from loadtest.record import run_directory
from loadtest.record.progress import Failure, ProgressLine, WaitingForWorkers, encode_progress
from loadtest.scenario import Scenario

_LOOK: Final = 0.05
_REPORT_EVERY: Final = 0.5
_PATIENCE: Final = 60.0
"""Seconds that workers of this machine may take to come up; others are waited for until an interrupt."""
_STOP_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """The command line.

    Attributes:
        base: what a relative path in the scenario starts from.
        processes: workers to start on this machine; 0 for this process alone, or where ``bind`` is set.
        bind: host and port to wait for workers at; None if there are none, or all are of this machine.
        expect_workers: how many to wait for there.
        series: which blocks of a comparison to run; None for the single run of ``directory``.
        metrics_port: where to serve metrics; None for nowhere.
    """

    directory: Path
    base: Path
    processes: int
    bind: tuple[str, int] | None
    expect_workers: int
    series: int | None
    metrics_port: int | None


def read_options(arguments: Sequence[str]) -> LoadOptions:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.load")
    parser.add_argument("directory", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--bind", type=parse_address)
    parser.add_argument("--expect-workers", type=int, default=1)
    parser.add_argument("--series", type=int)
    parser.add_argument("--metrics-port", type=int)
    return LoadOptions(**vars(parser.parse_args(arguments)))


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
    endpoint = make_endpoint(info, *credentials())
    # Locust's own events, so that listeners beside a scenario's user classes hear of every request.
    environment = Environment(user_classes=user_classes(scenario, info.traffic, base), events=locust.events)
    with _runner(environment, options, endpoint.key_count) as (runner, make_generator):
        environment.events.init.fire(environment=environment, runner=runner, web_ui=None)
        session = Session(environment, directory, info, scenario, endpoint, base=base)
        engine = Engine(environment, lambda: session, make_generator=make_generator, on_progress=_write)
        if options.metrics_port is not None:
            # Flask and what else the web UI needs, for those alone who ask for it.
            from loadtest.load.web.metrics import serve_metrics  # noqa: PLC0415

            serve_metrics(engine, options.metrics_port)
        _end_early(engine.interrupt)
        users = sum(plan.users for plan in info.traffic.values())
        runner.start(users, spawn_rate=users)
        engine.done.wait()
        runner.quit()
    if session.bug is not None and session.user_error is None:
        return ExitCode.BUG
    if engine.error is not None:
        raise engine.error
    return ExitCode.PASS


def _run_blocks(options: LoadOptions, number: int) -> int:
    series = BlockSeries(options.directory, number, base=options.base, on_progress=_write)
    environment = series.environment
    runner = environment.create_local_runner()
    environment.events.init.fire(environment=environment, runner=runner, web_ui=None)
    engine = Engine(environment, series.make_session, on_progress=_write)

    def interrupt() -> None:
        series.interrupted.set()
        engine.interrupt()

    _end_early(interrupt)
    try:
        return series.run(engine, runner)
    finally:
        runner.quit()


@contextlib.contextmanager
def _runner(
    environment: Environment, options: LoadOptions, keys: int
) -> Iterator[tuple[LocalRunner | MasterRunner, Callable[[Session], LoadGenerator]]]:
    """Have Locust's runner, with all workers connected, and what makes the load generator of a session.

    Workers that were started here end afterwards.

    Raises:
        InputError: if nothing can listen at ``bind``.
        LoadtestError: if the workers of this machine do not come up.
    """
    if not options.processes and options.bind is None:
        yield environment.create_local_runner(), LocalGenerator
        return
    # Locust's master would wait a second for workers to report how many users they have, and hear nothing meanwhile.
    os.environ["LOCUST_WAIT_FOR_WORKERS_REPORT_AFTER_RAMP_UP"] = "0"
    runner = _listen(environment, *(options.bind or (LOOPBACK, 0)))
    mailbox = Mailbox(environment, runner, keys=keys)
    master = address_text(LOOPBACK, runner.server.port)
    processes = [start_worker(master, options.base) for _ in range(options.processes)]
    begun, reported = time.monotonic(), 0.0
    interrupted: list[bool] = []
    handlers = on_signals(lambda: interrupted.append(True))
    expected = options.processes or options.expect_workers
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
                _write(WaitingForWorkers(connected, expected))
            gevent.sleep(_LOOK)
        for handler in handlers:
            handler.cancel()
        yield runner, lambda session: DistributedGenerator(session, mailbox)
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


def _end_early(interrupt: Callable[[], None]) -> None:
    """Let a signal end the load early, and the end of our parent likewise."""
    on_end_of(sys.stdin.fileno(), interrupt)
    on_signals(interrupt)


def _write(progress: ProgressLine) -> None:
    # A line fits into a pipe whole or not at all (it is below PIPE_BUF), and a reader that is asleep or gone must not
    # hold up the load.
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        os.write(sys.stdout.fileno(), encode_progress(progress) + b"\n")


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
