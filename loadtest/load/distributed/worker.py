"""One worker of a run: takes part in what its master conducts, and reports to it."""

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
from loadtest.load.distributed.protocol import (
    PROTOCOL,
    Beat,
    Close,
    CutAnswer,
    Epoch,
    FromWorker,
    Give,
    HandBack,
    Hello,
    Jobs,
    Leave,
    Propose,
    Refuse,
    Setup,
    Stop,
    Trouble,
    boot_id,
    host_name,
)
from loadtest.load.distributed.worker_run import TakingPart

logger = logging.getLogger(__name__)
REPORT_INTERVAL: Final = 0.5
_FIRST_REPORTS: Final = 8
_SHORT_INTERVAL: Final = 0.05
_SILENCE: Final = 15.0
"""Seconds without any word of the master after which a run is given up."""
_LEAVE_PATIENCE: Final = 10.0


class Worker:
    """Connects a Locust worker with its master's runs. One run after the other.

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
        self._part: TakingPart | None = None
        self._leaving = False
        self._reporter: gevent.Greenlet | None = None
        runner.register_message(protocol.NAME, self._receive)
        environment.events.test_stopping.add_listener(self._stopping)
        environment.events.test_stop.add_listener(self._stopped)
        self._say(Hello(protocol=PROTOCOL, version=package_version(), host=host_name(), boot=boot_id(), keys=len(keys)))

    def interrupt(self) -> None:
        """Do what a signal wants: leave politely, or end the process at once if that was wanted before."""
        if self._leaving:
            os._exit(int(ExitCode.INTERRUPTED))
        logger.info("Leaving: what was not sent is handed back.")
        self.leave()

    def leave(self) -> None:
        """Leave politely: hand back what was not sent, wait for what is in flight, and go."""
        if not self._leaving:
            self._leaving = True
            gevent.spawn(self._leave)

    def _say(self, said: FromWorker) -> None:
        try:
            self._runner.send_message(protocol.NAME, {"body": protocol.encode(said)})
        except RPCError as error:
            logger.warning("The master can't be told: %s", error)

    def _receive(self, msg: Any, **_: Any) -> None:
        received = time.monotonic_ns()
        try:
            said = protocol.from_master(msg.data["body"])
        except msgspec.MsgspecError as error:
            logger.warning("The master said something that this version does not know: %s", error)
            return
        match said:
            case Refuse():
                self._on_refused(said.message)
            case Setup():
                self._set_up(said)
            case _ if self._part is not None and said.run == self._part.run:
                try:
                    self._obey(self._part, said, received)
                except Exception:  # noqa: BLE001 - ours, whatever it is: the run says so
                    self._part.session.bug = traceback.format_exc()

    def _set_up(self, setup: Setup) -> None:
        if self._reporter is not None:
            self._reporter.kill()
        try:
            self._part = TakingPart(
                self._environment, setup, keys=self._keys, workflow_endpoint=self._endpoint, base=self._base
            )
        except LoadtestError as error:
            self._part = None
            self._say(Trouble(run=setup.run, message=str(error)))
            self._on_refused(str(error))
            return
        self._reporter = gevent.spawn(self._report_forever, self._part)

    def _obey(self, part: TakingPart, said: Any, received: int) -> None:
        match said:
            case Beat():
                part.answered(said, received)
            case Jobs():
                part.know(said)
            case Propose():
                accepted = part.crew.share.stop_at(said.cut_ns)
                reached = part.crew.share.reached_ns
                self._say(
                    CutAnswer(
                        run=part.run,
                        number=said.number,
                        accepted=accepted,
                        reached_ns=reached,
                        reserved=part.reserve(),
                    )
                )
            case Epoch():
                part.enter(said, self._runner.client_id)
            case Give():
                part.take(said.arrivals)
            case Stop():
                part.stop(discard=said.discard)
            case Close():
                self._finish(part, aborted=said.aborted)

    def _report_forever(self, part: TakingPart) -> None:
        while True:
            hurry = part.reports < _FIRST_REPORTS or (part.closed and not part.settled)
            gevent.sleep(_SHORT_INTERVAL if hurry else REPORT_INTERVAL)
            self._report(part)
            if part.silent_s > _SILENCE and not part.settled:
                logger.error("The master was not heard of for %g s: this run is given up.", _SILENCE)
                self.gave_up = True
                self.left.set()
                return

    def _report(self, part: TakingPart) -> None:
        report = part.report()
        if not self._environment.runner or report is None:
            return
        self._say(report)

    def _finish(self, part: TakingPart, *, aborted: bool) -> None:
        """Stop what is still in flight, and send everything."""
        if part.closed:
            return
        part.stop(discard=aborted)
        part.crew.unwatch()
        self._runner.stop_users(self._runner.user_classes_count)
        part.close(aborted=aborted)
        self._report(part)

    def _stopping(self, **_: Any) -> None:
        if self._part is not None and not self._part.closed:
            self._part.stop(discard=False)
            self._part.crew.unwatch()

    def _stopped(self, **_: Any) -> None:
        """All users are gone, because Locust's master said so."""
        if self._part is not None and not self._part.closed:
            self._part.close(aborted=False)
            self._report(self._part)

    def _leave(self) -> None:
        part = self._part
        if part is not None and part.begun and not part.closed:
            epoch = part.epoch
            self._say(Leave(run=part.run))
            deadline = time.monotonic() + _LEAVE_PATIENCE
            while time.monotonic() < deadline and not part.crew.share.exhausted and not part.closed:
                if part.epoch == epoch and part.silent_s > REPORT_INTERVAL * 4:
                    break
                gevent.sleep(_SHORT_INTERVAL)
            part.stop(discard=False)
            self._say(HandBack(run=part.run, arrivals=part.hand_back()))
            deadline = time.monotonic() + part.session.scenario.drain
            while time.monotonic() < deadline and not part.crew.quiet:
                gevent.sleep(_SHORT_INTERVAL)
            self._finish(part, aborted=False)
            deadline = time.monotonic() + _LEAVE_PATIENCE
            while time.monotonic() < deadline and not part.settled:
                gevent.sleep(_SHORT_INTERVAL)
        self.left.set()
