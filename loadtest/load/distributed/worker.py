"""One worker: takes part in the runs that its master coordinates, one after the other, and reports to it."""

import logging
import os
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

from loadtest.errors import ExitCode, LoadtestError
from loadtest.http_headers import package_version
from loadtest.load.distributed import protocol
from loadtest.load.distributed.worker_run import WorkerRun

logger = logging.getLogger(__name__)
REPORT_INTERVAL: Final = 0.5
_FIRST_REPORTS: Final = 8
_SHORT_INTERVAL: Final = 0.05
_SILENCE: Final = 15.0
"""Seconds without any message of the master after which a run is given up."""
_LEAVE_PATIENCE: Final = 10.0


class Worker:
    """Connects a Locust worker with its master's runs.

    Args:
        environment: Locust's.
        runner: its runner, which is connected.
        keys: API keys, which never travel.
        workflow_endpoint: value of ``x-wf-endpoint``.
        base: what a relative path in a scenario starts from.
        on_refused: called where the master does not want this worker, or the worker can't take part.
    """

    def __init__(
        self,
        environment: Environment,
        runner: WorkerRunner,
        *,
        keys: Sequence[str],
        workflow_endpoint: str,
        base: Path,
        on_refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.left = Event()
        """Set when it has left, or has given up."""
        self.gave_up = False
        self._environment = environment
        self._runner = runner
        self._keys = keys
        self._endpoint = workflow_endpoint
        self._base = base
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
                host=protocol.host_name(),
                boot=protocol.boot_id(),
                keys=len(keys),
            )
        )

    def interrupt(self) -> None:
        """React to a signal: leave politely, or end the process at once if it is leaving already."""
        if self._leaving:
            os._exit(int(ExitCode.INTERRUPTED))
        logger.info("Leaving: what was not sent is handed back.")
        self.leave()

    def leave(self) -> None:
        """Leave politely: hand back what was not sent, wait for what is in flight, and go."""
        if not self._leaving:
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
            logger.warning("The master sent a message that this version does not know: %s", error)
            return
        match message:
            case protocol.Refuse():
                self._on_refused(message.message)
            case protocol.Setup():
                self._set_up(message)
            case _ if self._run is not None and message.run == self._run.id:
                try:
                    self._act(self._run, message, received_ns)
                except Exception:  # noqa: BLE001 - ours, whatever it is: the run says so
                    self._run.session.bug = traceback.format_exc()

    def _set_up(self, setup: protocol.Setup) -> None:
        if self._reporter is not None:
            self._reporter.kill()
        try:
            self._run = WorkerRun(
                self._environment, setup, keys=self._keys, workflow_endpoint=self._endpoint, base=self._base
            )
        except LoadtestError as error:
            self._run = None
            self._send(protocol.SetupFailed(run=setup.run, message=str(error)))
            self._on_refused(str(error))
            return
        self._reporter = gevent.spawn(self._report_forever, self._run)

    def _act(self, run: WorkerRun, message: protocol.FromMaster, received_ns: int) -> None:
        """Do what the master's message asks."""
        match message:
            case protocol.Acknowledge():
                run.acknowledged(message, received_ns)
            case protocol.KnownJobs():
                run.learn_jobs(message)
            case protocol.ProposeCut():
                self._send(self._answer_cut(run, message))
            case protocol.Assign():
                run.assign(message, self._runner.client_id)
            case protocol.TakeOver():
                run.take_over(message.arrivals)
            case protocol.Stop():
                run.stop(discard=message.discard)
            case protocol.Close():
                self._finish(run, aborted=message.aborted)

    def _answer_cut(self, run: WorkerRun, proposal: protocol.ProposeCut) -> protocol.CutAnswer:
        partition = run.generator.partition
        accepted = partition.stop_at(proposal.cut_ns)
        return protocol.CutAnswer(
            run=run.id,
            number=proposal.number,
            accepted=accepted,
            reached_ns=partition.reached_ns,
            reserved=run.reserve(),
        )

    def _report_forever(self, run: WorkerRun) -> None:
        while True:
            hurry = run.reports < _FIRST_REPORTS or (run.closed and not run.settled)
            gevent.sleep(_SHORT_INTERVAL if hurry else REPORT_INTERVAL)
            self._report(run)
            if run.silent_s > _SILENCE and not run.settled:
                logger.error("No message of the master for %g s: this run is given up.", _SILENCE)
                self.gave_up = True
                self.left.set()
                return

    def _report(self, run: WorkerRun) -> None:
        report = run.report()
        if self._environment.runner:
            self._send(report)

    def _finish(self, run: WorkerRun, *, aborted: bool) -> None:
        """Stop what is still in flight, and send everything."""
        if run.closed:
            return
        run.stop(discard=aborted)
        run.generator.unwatch()
        self._runner.stop_users(self._runner.user_classes_count)
        run.close(aborted=aborted)
        self._report(run)

    def _stopping(self, **_: Any) -> None:
        if self._run is not None and not self._run.closed:
            self._run.stop(discard=False)
            self._run.generator.unwatch()

    def _stopped(self, **_: Any) -> None:
        """All users are gone, because Locust's master asked for it."""
        if self._run is not None and not self._run.closed:
            self._run.close(aborted=False)
            self._report(self._run)

    def _leave(self) -> None:
        run = self._run
        if run is not None and run.begun and not run.closed:
            self._leave_run(run)
        self.left.set()

    def _leave_run(self, run: WorkerRun) -> None:
        assignment = run.assignment
        self._send(protocol.Leave(run=run.id))
        deadline = time.monotonic() + _LEAVE_PATIENCE
        while time.monotonic() < deadline and not run.generator.partition.exhausted and not run.closed:
            if run.assignment == assignment and run.silent_s > REPORT_INTERVAL * 4:
                break
            gevent.sleep(_SHORT_INTERVAL)
        run.stop(discard=False)
        self._send(protocol.HandBack(run=run.id, arrivals=run.hand_back()))
        deadline = time.monotonic() + run.session.scenario.drain
        while time.monotonic() < deadline and not run.generator.quiet:
            gevent.sleep(_SHORT_INTERVAL)
        self._finish(run, aborted=False)
        deadline = time.monotonic() + _LEAVE_PATIENCE
        while time.monotonic() < deadline and not run.settled:
            gevent.sleep(_SHORT_INTERVAL)
