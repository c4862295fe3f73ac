"""``python -m loadtest.load DIR BASE``: generate the load of a prepared run.

With ``--series N``, DIR is the directory of a comparison, and the blocks of its N-th series are run. The process writes
its progress to standard output (see ``record.progress``). It ends the run early when standard input closes, so that no
load outlives a killed parent. API keys and the workflow endpoint come from the environment.
"""

import atexit
import gc

gc.disable()  # imported objects are never freed, and scanning them takes a sixth of the start-up time
import locust  # isort: skip - must be first, because it patches the interpreter

import argparse
import contextlib
import os
import subprocess
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import gevent
from gevent.event import Event
from locust.env import Environment
from locust.log import setup_logging
from locust.runners import LocalRunner, MasterRunner

from loadtest.credentials import credentials, side_environment
from loadtest.errors import AbortedError, ExitCode, InputError, LoadtestError, TargetError
from loadtest.faults import CONTROL_VARIABLE
from loadtest.load.distributed.transport import Mailbox
from loadtest.load.engine import Engine
from loadtest.load.load_generator import on_end_of, on_signals
from loadtest.load.request_budget import RequestBudget, remaining
from loadtest.load.session import Session, make_endpoint
from loadtest.load.users import user_classes
from loadtest.processes import LOOPBACK, address_text, parse_address, start_worker, stop
from loadtest.record import blocks as comparison
from loadtest.record import run_directory
from loadtest.record.blocks import Block
from loadtest.record.progress import BlockBegins, Failure, ProgressLine, WaitingForWorkers, encode_progress
from loadtest.record.run_info import BudgetUse, RunInfo
from loadtest.record.samples import warm_up_without_pandas
from loadtest.scenario import Scenario

_LOOK: Final = 0.05
_REPORT_EVERY: Final = 0.5
_PATIENCE: Final = 60.0
"""Workers that this process starts must connect within this many seconds. Other workers have no such limit."""
_STOP_TIMEOUT: Final = 10.0


def main() -> int:
    """Generate the load of a prepared run or of a series of blocks. Return the exit code, 0 or ``BUG``.

    The load comes from this process, from ``--processes`` workers that it starts, or from workers that connect to
    ``--bind``. Relative paths in the scenario start from BASE.
    """
    parser = argparse.ArgumentParser(prog="python -m loadtest.load")
    parser.add_argument("directory", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--bind", type=parse_address)
    parser.add_argument("--expect-workers", type=int, default=1)
    parser.add_argument("--series", type=int)
    parser.add_argument("--metrics-port", type=int)
    options = parser.parse_args()
    gc.freeze()
    gc.enable()
    setup_logging("INFO", None)
    os.set_blocking(sys.stdout.fileno(), False)
    warm_up_without_pandas()
    directory: Path = options.directory
    base: Path = options.base
    if options.series is not None:
        return _Blocks(directory, options.series, base).run()
    info = run_directory.load(directory)
    endpoint = make_endpoint(info, *credentials())
    environment = _environment(info, base)
    with _runner(environment, options, endpoint.key_count) as (runner, mailbox):
        environment.events.init.fire(environment=environment, runner=runner, web_ui=None)
        session = Session(environment, directory, info, endpoint, base=base)
        engine = Engine(environment, lambda: session, mailbox=mailbox, on_progress=_write)
        if options.metrics_port is not None:
            from loadtest.load.web.metrics import serve_metrics  # noqa: PLC0415 - the import is slow and rarely needed

            serve_metrics(engine, options.metrics_port)
        _end_early(engine.interrupt)
        _make_load(engine, runner, info)
        runner.quit()
        engine.close()  # after the loss of the last worker, the record may still be open
    if session.bug is not None and session.user_error is None:
        return ExitCode.BUG
    if engine.error is not None:
        raise engine.error
    return ExitCode.PASS


def _environment(info: RunInfo, base: Path) -> Environment:
    scenario = Scenario.model_validate(info.scenario.effective)
    # Locust's global events are used, so that listeners in the modules of user classes receive every request.
    return Environment(user_classes=user_classes(scenario, info.traffic, base), events=locust.events)


def _make_load(engine: Engine, runner: LocalRunner | MasterRunner, info: RunInfo) -> None:
    """Start a run's users, and wait until the run no longer needs them."""
    # A local runner calls the engine later, in another greenlet. Until then, the previous run would leave `done` set.
    engine.done.clear()
    users = sum(plan.users for plan in info.traffic.values())
    runner.start(users, spawn_rate=users)
    engine.done.wait()


@contextlib.contextmanager
def _runner(
    environment: Environment, options: argparse.Namespace, keys: int
) -> Iterator[tuple[LocalRunner | MasterRunner, Mailbox | None]]:
    """Yield Locust's runner, and a mailbox if workers send the load.

    Before that, wait until the workers have connected. Afterwards, stop the workers that this process started.
    """
    if not options.processes and options.bind is None:
        yield environment.create_local_runner(), None
        return
    # By default, Locust's master waits up to a second until workers report how many users they have.
    os.environ["LOCUST_WAIT_FOR_WORKERS_REPORT_AFTER_RAMP_UP"] = "0"
    runner = _listen(environment, *(options.bind or (LOOPBACK, 0)))
    mailbox = Mailbox(environment, runner, keys=keys)
    master = address_text(LOOPBACK, runner.server.port)
    processes = [start_worker(master, options.base) for _ in range(options.processes)]
    try:
        _await_workers(mailbox, processes, options.processes or options.expect_workers)
        yield runner, mailbox
    finally:
        for process in processes:
            stop(process, _STOP_TIMEOUT, terminate=False)


def _await_workers(mailbox: Mailbox, processes: list["subprocess.Popen[bytes]"], expected: int) -> None:
    begun, reported = time.monotonic(), 0.0
    interrupted = Event()
    handlers = on_signals(interrupted.set)
    try:
        while (connected := len(mailbox.connected())) < expected:
            if interrupted.is_set():
                error = LoadtestError(f"interrupted while {connected} of {expected} workers were connected")
                error.exit_code = ExitCode.INTERRUPTED
                raise error
            if any(process.poll() is not None for process in processes):
                raise AbortedError("a worker process ended before all workers were connected; see load.log")
            if processes and time.monotonic() - begun > _PATIENCE:
                raise AbortedError(f"only {connected} of {expected} worker processes connected within {_PATIENCE:g} s")
            if time.monotonic() - reported > _REPORT_EVERY:
                reported = time.monotonic()
                _write(WaitingForWorkers(connected, expected))
            gevent.sleep(_LOOK)
    finally:
        for handler in handlers:
            handler.cancel()


def _listen(environment: Environment, host: str, port: int) -> MasterRunner:
    try:
        return environment.create_master_runner(host, port)
    except SystemExit:
        # Locust has logged that the port is busy.
        reason = "the port is in use"
    except Exception as error:  # noqa: BLE001 - Locust raises exceptions of several types
        reason = str(error)
    raise InputError(f"--bind {host}:{port}: cannot listen there: {reason}", "Choose another --bind.")


@dataclass
class _Target:
    """State of a target after its latest block. Base and head share a target if their URLs are the same."""

    ended_unix_s: float = 0.0
    used: list[BudgetUse] = field(default_factory=list)
    """Part of the request budget that each block used."""
    budget: RequestBudget | None = None
    """Request budget of the latest block. None if this process has run no block against the target."""


class _Blocks:
    """Runs the blocks of one series of a comparison, with one set of user classes.

    One process runs all these blocks, so the same warm generator measures base and head.
    """

    def __init__(self, directory: Path, series: int, base: Path) -> None:
        self._directory, self._base = directory, base
        self._plan = comparison.load(directory)
        self._blocks = self._plan.of(series)
        # Base and head have the same traffic and therefore the same users.
        self._environment = _environment(self._info(self._blocks[0]), base)
        self._interrupted = Event()
        self._targets = defaultdict[str, _Target](_Target)
        for block in self._plan.blocks:
            if block.series < series:
                self._note_end(self._info(block))

    def run(self) -> int:
        """Run all blocks, but stop after a block that ends early. Return the exit code, 0 or ``BUG``."""
        runner = self._environment.create_local_runner()
        self._environment.events.init.fire(environment=self._environment, runner=runner, web_ui=None)
        # The engine calls this function in each block, after the loop below has set `block` and `info`.
        engine = Engine(self._environment, lambda: self._make_session(block, info), on_progress=_write)

        def interrupt() -> None:
            self._interrupted.set()
            engine.interrupt()

        _end_early(interrupt)
        try:
            for number, block in enumerate(self._blocks, 1):
                info = self._info(block)
                self._await_silence(number, block, info)
                if self._interrupted.is_set():
                    break
                _make_load(engine, runner, info)
                runner.stop()
                if engine.error is not None:
                    raise engine.error
                if engine.latest is None or (session := engine.latest[0]).bug is not None:
                    return ExitCode.BUG
                self._note_end(session.info)
                if session.info.end != "finished":
                    break
                if session.live.all_silent:
                    where = f"block {number} ({block.side}, {session.info.target.url})"
                    raise TargetError(f"nothing answered in {where}: its target is gone")
        finally:
            runner.quit()
        return ExitCode.PASS

    def _make_session(self, block: Block, info: RunInfo) -> Session:
        info.started = datetime.now(UTC).isoformat(timespec="milliseconds")
        target = self._targets[info.target.url]
        if info.target.budget is not None:
            info.target.budget = remaining(info.target.budget, target.used)
        environment = side_environment(block.side)
        endpoint = make_endpoint(info, *credentials(environment))
        if target.budget is not None:
            endpoint.budget.count_earlier(target.budget.recent)
        target.budget = endpoint.budget
        directory = self._directory / block.directory
        control = environment.get(CONTROL_VARIABLE)
        return Session(self._environment, directory, info, endpoint, base=self._base, control=control)

    def _await_silence(self, number: int, block: Block, info: RunInfo) -> None:
        """Announce a block, and wait until the target's limits no longer count requests of the previous block."""
        target = self._targets[info.target.url]
        silence = self._plan.silence_s
        if info.target.budget is not None and target.budget is None:
            # Another process may have sent requests, so this process does not know how much of a limit is left.
            silence = max(silence, *(limit.window for limit in info.target.limits.values()))
        left = max(0.0, target.ended_unix_s + silence - time.time())
        begins = BlockBegins(
            number=number, blocks=len(self._blocks), side=block.side, series=block.series, silence_s=round(left, 1)
        )
        _write(begins)
        self._interrupted.wait(left)

    def _note_end(self, info: RunInfo) -> None:
        target = self._targets[info.target.url]
        if info.ended is not None:
            target.ended_unix_s = datetime.fromisoformat(info.ended).timestamp()
        budget = info.target.budget
        if budget is not None and budget.used is not None:
            target.used.append(budget.used)

    def _info(self, block: Block) -> RunInfo:
        return run_directory.load(self._directory / block.directory)


def _end_early(interrupt: Callable[[], None]) -> None:
    """End the load on a signal, or when standard input closes because the parent process has ended."""
    on_end_of(sys.stdin.fileno(), interrupt)
    on_signals(interrupt)


def _write(progress: ProgressLine) -> None:
    # A write of up to PIPE_BUF (4,096 bytes) is atomic, so a full pipe loses whole lines. A reader that is slow or gone
    # must not delay the load.
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        os.write(sys.stdout.fileno(), encode_progress(progress) + b"\n")


def _abort(directory: Path, reason: str) -> None:
    """Record the reason in run.json, unless the engine has recorded another end."""
    info = run_directory.load(directory)
    if info.end == "running":
        info.end, info.end_reason = "aborted", reason
        try:
            run_directory.save(info, directory)
        except OSError:
            run_directory.overwrite(info, directory)


if __name__ == "__main__":
    atexit.register(gc.freeze)  # skips Python's final garbage collection of 0.1 s
    try:
        sys.exit(main())
    except LoadtestError as error:
        with contextlib.suppress(OSError, LoadtestError):
            _abort(Path(sys.argv[1]), error.message)
        _write(Failure(str(error)))
        sys.exit(int(error.exit_code))
    except Exception:  # noqa: BLE001 - every other error is a bug of the harness
        traceback.print_exc()
        sys.exit(int(ExitCode.BUG))
