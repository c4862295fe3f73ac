"""A worker process. In each run of its master, it has a session, and parts of the schedule and the request budget."""

import gc
import logging
import os
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import gevent
import msgspec
from gevent.event import Event
from locust.env import Environment
from locust.exception import RPCError
from locust.runners import WorkerRunner

from loadtest.errors import ExitCode, InputError, LoadtestError
from loadtest.http_headers import package_version
from loadtest.load.dispatcher import Partition, Stride
from loadtest.load.distributed import protocol
from loadtest.load.distributed.assignment import Outbox
from loadtest.load.distributed.transport import part_of
from loadtest.load.health import WorkerClock
from loadtest.load.load_generator import LocalGenerator, wait_until
from loadtest.load.session import Session, make_endpoint
from loadtest.load.users import user_classes
from loadtest.record.run_info import BudgetUse, RunInfo

logger = logging.getLogger(__name__)
HOLD_NS: Final = 2_000_000_000
"""A worker stops offering when the master is silent for this long.

This is shorter than ``LOST_AFTER_NS`` in ``master``, so that the worker stops before other workers get its arrivals.
"""
_EXCHANGES: Final = 5
"""A worker is ready only after this many exchanges of messages. They serve to estimate the master's clock."""
_REPORT_INTERVAL: Final = 0.5
_FIRST_REPORTS: Final = 8
_SHORT_INTERVAL: Final = 0.05
_SILENCE: Final = 15.0
"""A worker abandons a run after this many seconds without an acknowledgement from the master."""
_LEAVE_PATIENCE: Final = 10.0


class WorkerRun:
    """A worker's part of one run. The constructor raises ``LoadtestError`` if the worker cannot take part."""

    def __init__(
        self, environment: Environment, setup: protocol.Setup, keys: Sequence[str], workflow_endpoint: str, base: Path
    ) -> None:
        self.id = setup.run
        self.reports = 0
        self.assignment = 0
        """Number of the last received assignment."""
        self.begun = self.closed = False
        info = msgspec.json.decode(setup.info, type=RunInfo)
        for plan in info.traffic.values():
            plan.max_users = part_of(plan.max_users or plan.users, setup.worker_count)
            plan.users = part_of(plan.users, setup.worker_count)
        if environment.user_classes and {each.__name__ for each in environment.user_classes} != info.traffic.keys():
            raise InputError(
                f"this worker was started for another scenario: its master runs {info.scenario.name!r}",
                "Set LOADTEST_SCENARIO to this scenario, or use `loadtest worker`, which receives it from the master.",
            )
        endpoint = make_endpoint(info, keys, workflow_endpoint)
        # Preflight requests count for the master only.
        endpoint.budget.used = BudgetUse()
        self._outbox = Outbox()
        self.session = Session(
            environment,
            base,
            info,
            endpoint,
            base=base,
            output=self._outbox,
            worker=setup.worker,
            trace=setup.trace,
        )
        if not environment.user_classes:
            environment.user_classes = user_classes(self.session.scenario, info.traffic, base)
            # Locust fired this event before the modules of these classes were imported.
            environment.events.init.fire(environment=environment, runner=environment.runner, web_ui=None)
        self._clock = WorkerClock(shared=bool(setup.boot) and setup.boot == protocol.boot_id())
        self.generator = LocalGenerator(self.session, Partition(held=lambda: self.silent_ns > HOLD_NS))
        self._heard_ns = time.monotonic_ns()
        self._waiting = True
        self._taken_over = self._cpu_sent = 0
        self._stopped = False

    @property
    def silent_ns(self) -> int:
        """Time since the last acknowledged report was sent."""
        return time.monotonic_ns() - self._heard_ns

    @property
    def settled(self) -> bool:
        return self.closed and self._outbox.empty

    def act(self, message: protocol.FromMaster, worker: str, received_ns: int) -> protocol.FromWorker | None:
        match message:
            case protocol.Acknowledge():
                self._heard_ns = max(self._heard_ns, message.echo_ns)
                self._clock.see(message.echo_ns, message.received_ns, message.replied_ns, received_ns)
                self._outbox.acknowledged(message.batch)
                if message.rejoin:
                    self.generator.partition.withdraw()
                    self._waiting = True
            case protocol.KnownJobs():
                known = self.session.own_jobs if message.entry is None else self.session.entries[message.entry].job_ids
                for job_id, key in message.jobs:
                    known.add(job_id, key)
            case protocol.ProposeCut():
                return protocol.CutAnswer(
                    run=self.id,
                    number=message.number,
                    accepted=self.generator.partition.stop_at(message.cut_ns),
                    reached_ns=self.generator.partition.reached_ns,
                    reserved=self.session.endpoint.budget.reserve_half(),
                )
            case protocol.Assign():
                self._assign(message, worker)
            case protocol.TakeOver():
                self._taken_over += len(message.arrivals)
                for arrival in message.arrivals:
                    self.generator.dispatcher.offer(arrival)
            case protocol.Stop():
                self.stop(discard=message.discard)
        return None

    def _assign(self, message: protocol.Assign, worker: str) -> None:
        """Take an assignment of the schedule. The first assignment begins the run."""
        session = self.session
        if not self.begun:
            self.begun = True
            session.epoch_ns = message.epoch_ns + self._clock.offset_ns
            session.info.epoch_unix_ns = message.epoch_unix_ns
            session.clock.anchor(session.epoch_ns, message.epoch_unix_ns)
            gc.collect()
            gc.freeze()
            self.generator.begin()
        self.assignment = message.number
        takes_part = worker in message.workers
        self._waiting = self._waiting and not takes_part
        worker_count = len(message.workers)
        for entry in session.entries.values():
            if entry.pacer is not None:
                entry.pacer.share_by(max(1, worker_count))
        session.endpoint.budget.share_by(max(1, worker_count))
        if message.allowed is not None:
            session.endpoint.budget.allowed = message.allowed.get(worker, BudgetUse())
        place = message.workers.index(worker) if takes_part else 0
        self.generator.partition.assign(Stride(message.from_ns, place, worker_count if takes_part else 0))

    def stop(self, *, discard: bool) -> None:
        self._stopped = True
        self.generator.stop(discard=discard)

    def close(self, *, aborted: bool) -> None:
        """Record the arrivals that no user has taken, and pack all samples."""
        self.stop(discard=aborted)
        self.generator.unwatch()
        gc.unfreeze()
        self.generator.end(aborted=aborted)
        self.session.recorder.close()
        self.closed = True

    def report(self) -> protocol.WorkerReport:
        session, generator = self.session, self.generator
        self.reports += 1
        offset, uncertainty = self._clock.estimate
        cpu, self._cpu_sent = generator.cpu[self._cpu_sent :], len(generator.cpu)
        # ``take`` marks its batch as sent, so it must come before ``all_sent``.
        batch = self._outbox.take()
        return protocol.WorkerReport(
            run=self.id,
            sent_ns=time.monotonic_ns(),
            ready=generator.ready and len(self._clock.exchanges) >= _EXCHANGES,
            waiting=self._waiting,
            assignment=self.assignment,
            taken_over=self._taken_over,
            exhausted=self._stopped or generator.offered_all,
            quiet=generator.quiet,
            closed=self.closed and self._outbox.all_sent,
            offered=dict(session.live.offered),
            late=session.live.late,
            newly_offered=session.live.take_offered(),
            batch=batch,
            used=session.endpoint.budget.used,
            cpu=cpu,
            generator=generator.generators[0] if self.begun else None,
            peers=generator.peers,
            clock=generator.clock,
            offset_ns=offset,
            uncertainty_ns=uncertainty,
            shared_clock=self._clock.is_shared,
            abort=session.endpoint.budget.spent,
            bug=session.bug,
            user_error=session.user_error,
        )


class Worker:
    """Connects a Locust worker to its master's runs. No message contains an API key.

    Relative paths in a scenario start from ``base``. If the worker cannot take part or the master rejects it,
    ``on_refused`` is called with the reason.
    """

    def __init__(
        self,
        environment: Environment,
        runner: WorkerRunner,
        *,
        keys: Sequence[str],
        workflow_endpoint: str,
        base: Path,
        on_refused: Callable[[str], None],
    ) -> None:
        self.left = Event()
        """Set when the worker has left or given up."""
        self.gave_up = False
        self._environment = environment
        self._runner = runner
        self._part = (keys, workflow_endpoint, base)
        self._on_refused = on_refused
        self._run: WorkerRun | None = None
        self._leaving = False
        self._reporter: gevent.Greenlet | None = None
        runner.register_message(protocol.NAME, self._receive)
        environment.events.test_stopping.add_listener(self._stopping)
        environment.events.test_stop.add_listener(self._stopped)
        self._send(
            protocol.Hello(
                protocol=protocol.PROTOCOL,
                version=package_version(),
                host=socket.gethostname(),
                keys=len(keys),
            )
        )

    def interrupt(self) -> None:
        """Leave the run after a signal. If the worker is already leaving, end the process at once."""
        if self._leaving:
            os._exit(int(ExitCode.INTERRUPTED))
        logger.info("Leaving: unsent arrivals are handed back.")
        self._leaving = True
        gevent.spawn(self._leave)

    def _send(self, message: protocol.FromWorker) -> None:
        try:
            self._runner.send_message(protocol.NAME, {"body": protocol.encode(message)})
        except RPCError as error:
            logger.warning("A message to the master failed: %s", error)

    def _receive(self, msg: Any, **_: Any) -> None:
        received_ns = time.monotonic_ns()
        try:
            message = protocol.from_master(msg.data["body"])
        except msgspec.MsgspecError as error:
            logger.warning("The master sent an unknown message: %s", error)
            return
        match message:
            case protocol.Refuse():
                self._on_refused(message.message)
            case protocol.Setup():
                self._set_up(message)
            case _ if self._run is not None and message.run == self._run.id:
                try:
                    if isinstance(message, protocol.Close):
                        self._finish(self._run, aborted=message.aborted)
                    elif (answer := self._run.act(message, self._runner.client_id, received_ns)) is not None:
                        self._send(answer)
                except Exception:  # noqa: BLE001 - the run reports every error of the harness
                    self._run.session.bug = traceback.format_exc()

    def _set_up(self, setup: protocol.Setup) -> None:
        if self._reporter is not None:
            self._reporter.kill()
        try:
            self._run = WorkerRun(self._environment, setup, *self._part)
        except LoadtestError as error:
            self._run = None
            self._send(protocol.SetupFailed(run=setup.run, message=str(error)))
            self._on_refused(str(error))
            return
        self._reporter = gevent.spawn(self._report_forever, self._run)

    def _report_forever(self, run: WorkerRun) -> None:
        while True:
            hurry = run.reports < _FIRST_REPORTS or (run.closed and not run.settled)
            gevent.sleep(_SHORT_INTERVAL if hurry else _REPORT_INTERVAL)
            self._send(run.report())
            if run.silent_ns > _SILENCE * 1e9 and not run.settled:
                logger.error("No message from the master for %g s: this worker abandons the run.", _SILENCE)
                self.gave_up = True
                self.left.set()
                return

    def _finish(self, run: WorkerRun, *, aborted: bool) -> None:
        if run.closed:
            return
        run.stop(discard=aborted)
        run.generator.unwatch()
        self._runner.stop_users(self._runner.user_classes_count)
        run.close(aborted=aborted)
        self._send(run.report())

    def _stopping(self, **_: Any) -> None:
        if self._run is not None and not self._run.closed:
            self._run.stop(discard=False)
            self._run.generator.unwatch()

    def _stopped(self, **_: Any) -> None:
        """Close the run after Locust has stopped all users of this worker."""
        if self._run is not None and not self._run.closed:
            self._run.close(aborted=False)
            self._send(self._run.report())

    def _leave(self) -> None:
        if (run := self._run) is not None and run.begun and not run.closed:
            assignment = run.assignment
            self._send(protocol.Leave(run=run.id))
            unheard_ns = _REPORT_INTERVAL * 4e9
            wait_until(
                _LEAVE_PATIENCE,
                lambda: (
                    run.generator.partition.exhausted
                    or run.closed
                    or (run.assignment == assignment and run.silent_ns > unheard_ns)
                ),
            )
            run.stop(discard=False)
            waiting = [arrival for pool in run.session.pools.values() for arrival in pool.surrender()]
            for arrival in waiting:
                run.session.live.offer(arrival, -1)
            run.session.live.fold()
            self._send(protocol.HandBack(run=run.id, arrivals=waiting))
            wait_until(run.session.scenario.drain, lambda: run.generator.quiet)
            self._finish(run, aborted=False)
            wait_until(_LEAVE_PATIENCE, lambda: run.settled)
        self.left.set()
