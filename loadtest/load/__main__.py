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
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import gevent
from gevent.event import Event
from locust.env import Environment
from locust.log import setup_logging
from locust.runners import LocalRunner, MasterRunner

from loadtest.credentials import credentials, side_environment
from loadtest.errors import ExitCode, InputError, LoadtestError, TargetError
from loadtest.faults import CONTROL_VARIABLE
from loadtest.load.distributed.master import DistributedGenerator
from loadtest.load.distributed.transport import Mailbox
from loadtest.load.engine import Engine, LoadGenerator
from loadtest.load.load_generator import LocalGenerator
from loadtest.load.request_budget import RequestBudget, remaining
from loadtest.load.session import Session, make_endpoint
from loadtest.load.shutdown import on_end_of, on_signals
from loadtest.load.users import user_classes
from loadtest.processes import LOOPBACK, address_text, parse_address, start_worker, stop
from loadtest.record import blocks as comparison
from loadtest.record import run_directory
from loadtest.record.blocks import Block, BlockPlan
from loadtest.record.progress import BlockBegins, Failure, ProgressLine, WaitingForWorkers, encode_progress
from loadtest.record.run_info import BudgetUse, RunInfo
from loadtest.scenario import Scenario

_LOOK: Final = 0.05
_REPORT_EVERY: Final = 0.5
_PATIENCE: Final = 60.0
"""Seconds that workers of this machine may take to come up; others are waited for until an interrupt."""
_STOP_TIMEOUT: Final = 10.0


class LoadOptions(argparse.Namespace):
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


def read_options() -> LoadOptions:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.load")
    parser.add_argument("directory", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--bind", type=parse_address)
    parser.add_argument("--expect-workers", type=int, default=1)
    parser.add_argument("--series", type=int)
    parser.add_argument("--metrics-port", type=int)
    return parser.parse_args(namespace=LoadOptions())


def main(options: LoadOptions) -> int:
    """Make the load of the run, or of the blocks, prepared in a directory; their records are there afterwards.

    Returns:
        0 when the record is closed, whatever it holds; else an ``ExitCode``.
    """
    gc.freeze()
    gc.enable()
    setup_logging("INFO", None)
    os.set_blocking(sys.stdout.fileno(), False)
    directory, base = options.directory, options.base
    if options.series is not None:
        return _Blocks(directory, options.series, base).run()
    info = run_directory.load(directory)
    scenario = Scenario.model_validate(info.scenario.effective)
    endpoint = make_endpoint(info, *credentials())
    environment = _environment(scenario, info, base)
    with _runner(environment, options, endpoint.key_count) as (runner, make_generator):
        environment.events.init.fire(environment=environment, runner=runner, web_ui=None)
        session = Session(environment, directory, info, scenario, endpoint, base=base)
        engine = Engine(environment, lambda: session, make_generator=make_generator, on_progress=_write)
        if options.metrics_port is not None:
            # Flask and what else the web UI needs, for those alone who ask for it.
            from loadtest.load.web.metrics import serve_metrics  # noqa: PLC0415

            serve_metrics(engine, options.metrics_port)
        _end_early(engine.interrupt)
        _make_load(engine, runner, info)
        runner.quit()
    if session.bug is not None and session.user_error is None:
        return ExitCode.BUG
    if engine.error is not None:
        raise engine.error
    return ExitCode.PASS


def _environment(scenario: Scenario, info: RunInfo, base: Path) -> Environment:
    # Locust's own events, so that listeners beside a scenario's user classes hear of every request.
    return Environment(user_classes=user_classes(scenario, info.traffic, base), events=locust.events)


def _make_load(engine: Engine, runner: LocalRunner | MasterRunner, info: RunInfo) -> None:
    """Have a run's users made, and wait until it needs them no longer."""
    # Locust begins in a greenlet of its own: until then, `done` would be that of the run before.
    engine.done.clear()
    users = sum(plan.users for plan in info.traffic.values())
    runner.start(users, spawn_rate=users)
    engine.done.wait()


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
    interrupted = Event()
    handlers = on_signals(interrupted.set)
    expected = options.processes or options.expect_workers
    try:
        while (connected := len(mailbox.connected())) < expected:
            if interrupted.is_set():
                raise LoadtestError(f"interrupted while {connected} of {expected} workers were connected")
            if any(process.poll() is not None for process in processes):
                raise LoadtestError("a worker process ended at once; see load.log")
            if processes and time.monotonic() - begun > _PATIENCE:
                raise LoadtestError(f"only {connected} of {expected} worker processes came up within {_PATIENCE:g} s")
            if time.monotonic() - reported > _REPORT_EVERY:
                reported = time.monotonic()
                _write(WaitingForWorkers(connected, expected))
            gevent.sleep(_LOOK)
        _cancel(handlers)
        yield runner, lambda session: DistributedGenerator(session, mailbox)
    finally:
        _cancel(handlers)
        for process in processes:
            stop(process, _STOP_TIMEOUT, terminate=False)


def _cancel(handlers: list[Any]) -> None:
    """Cancel handlers of signals that are still there."""
    while handlers:
        handlers.pop().cancel()


def _listen(environment: Environment, host: str, port: int) -> MasterRunner:
    try:
        return environment.create_master_runner(host, port)
    except SystemExit:
        # Locust's log says that the port is busy.
        reason = "the port is in use"
    except Exception as error:  # noqa: BLE001 - Locust's, of several kinds
        reason = str(error)
    raise InputError(f"--bind {host}:{port}: cannot listen there: {reason}", "Choose another --bind.")


@dataclass
class _Target:
    """What the blocks against one base URL share: both sides may have the same one."""

    ended_unix_s: float | None = None
    """When the last block against it ended."""
    used: list[BudgetUse] = field(default_factory=list)
    """By each block."""
    budget: RequestBudget | None = None
    """Of the last block, if this process made it."""


class _Blocks:
    """The blocks of a comparison that are one series, made one after the other by one set of user classes.

    One process, so that both sides are measured by the same generator, as warm as it is after the first pair. Both
    sides get the same arrivals and inputs, because a schedule is a pure function of scenario and seed.
    """

    def __init__(self, directory: Path, series: int, base: Path) -> None:
        self._directory, self._base = directory, base
        self._plan: BlockPlan = comparison.load(directory)
        self._blocks = self._plan.of(series)
        # Both sides have the same traffic, and so the same users.
        info = self._info(self._blocks[0])
        self._environment = _environment(Scenario.model_validate(info.scenario.effective), info, base)
        self._interrupted = Event()
        self._block = self._blocks[0]
        """The one that is about to begin, or under way."""
        self._targets: defaultdict[str, _Target] = defaultdict(_Target)
        """By base URL."""
        for block in self._plan.blocks:
            if block.series < series:
                self._note_end(self._info(block))

    def run(self) -> int:
        """Run block after block, until all are done or one ends before its time.

        Returns:
            0 when every record that was begun is closed; else an ``ExitCode``.

        Raises:
            LoadtestError: if a block could not begin or be recorded.
            TargetError: if nothing answered in a whole block.
        """
        runner = self._environment.create_local_runner()
        self._environment.events.init.fire(environment=self._environment, runner=runner, web_ui=None)
        engine = Engine(self._environment, self._make_session, on_progress=_write)

        def interrupt() -> None:
            self._interrupted.set()
            engine.interrupt()

        _end_early(interrupt)
        try:
            return self._run_all(engine, runner)
        finally:
            runner.quit()

    def _make_session(self) -> Session:
        block, info = self._block, self._info(self._block)
        info.started = datetime.now(UTC).isoformat(timespec="milliseconds")
        target = self._targets[info.target.url]
        if info.target.budget is not None:
            info.target.budget = remaining(info.target.budget, target.used)
        environment = side_environment(block.side)
        endpoint = make_endpoint(info, *credentials(environment))
        if target.budget is not None:
            endpoint.budget.count_earlier(target.budget.recent)
        target.budget = endpoint.budget
        return Session(
            self._environment,
            self._directory / block.directory,
            info,
            Scenario.model_validate(info.scenario.effective),
            endpoint,
            base=self._base,
            control=environment.get(CONTROL_VARIABLE),
        )

    def _run_all(self, engine: Engine, runner: LocalRunner) -> int:
        for number, block in enumerate(self._blocks, 1):
            self._block = block
            self._await_silence(number)
            if self._interrupted.is_set():
                break
            _make_load(engine, runner, self._info(block))
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
        return ExitCode.PASS

    def _await_silence(self, number: int) -> None:
        """Wait until no limit counts requests of the block before on the same target, where the plan asks for it."""
        block, info = self._block, self._info(self._block)
        target = self._targets[info.target.url]
        silence = self._plan.silence_s
        if info.target.budget is not None and target.budget is None:
            # An earlier process sent there, and nobody here knows how much of a window's share is left.
            silence = max(silence, *(limit.window_s for limit in info.target.limits.values()))
        ended = target.ended_unix_s
        left = 0.0 if ended is None else max(0.0, ended + silence - time.time())
        _write(
            BlockBegins(
                number=number,
                blocks=len(self._blocks),
                side=block.side,
                series=block.series,
                silence_s=round(left, 1),
            )
        )
        self._interrupted.wait(left)

    def _note_end(self, info: RunInfo) -> None:
        target = self._targets[info.target.url]
        target.ended_unix_s = comparison.ended_unix_s(info) or target.ended_unix_s
        budget = info.target.budget
        if budget is not None and budget.used is not None:
            target.used.append(budget.used)

    def _info(self, block: Block) -> RunInfo:
        return run_directory.load(self._directory / block.directory)


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
        sys.exit(main(read_options()))
    except LoadtestError as error:
        with contextlib.suppress(OSError, LoadtestError):
            _abort(Path(sys.argv[1]), error.message)
        sys.stdout.write(encode_progress(Failure(str(error))).decode() + "\n")
        sys.exit(int(error.exit_code))
    except Exception:  # noqa: BLE001 - ours, whatever it is: the exit code says so
        traceback.print_exc()
        sys.exit(int(ExitCode.BUG))
