"""Tells an embedded target when the epoch is: the faults that it was started with count from there.

Conducts a run: waits for its users, sets the epoch, has the schedule offered, drains, and closes the record.
"""

import gc
import logging
import os
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import gevent
import msgspec
from gevent.event import Event
from locust.env import Environment

from loadtest.errors import LoadtestError, RecordError
from loadtest.faults import CONTROL_VARIABLE
from loadtest.load.abort import Breakers, make_breakers
from loadtest.load.http.connection import Address
from loadtest.load.http.exchange import Timeouts, Wire
from loadtest.load.load_generator import Crew, LocalCrew
from loadtest.load.request_budget import BudgetSpentError
from loadtest.load.seeding import Seeder
from loadtest.load.session import Session
from loadtest.record.progress import LiveFigures, Phase
from loadtest.record.run_directory import save
from loadtest.record.run_info import RunInfo
from loadtest.record.samples import Sample
from loadtest.targets import allow

_AHEAD_NS: Final = 100_000_000
"""How far ahead the epoch is set, for the target to know of it before the first arrival."""
_TRIES: Final = 5


def set_epoch(info: RunInfo, ahead_ns: int = 0) -> int:
    """Choose the epoch, and tell it to a target with faults.

    Args:
        info: the run.
        ahead_ns: how far ahead it is to be.

    Returns:
        The epoch in monotonic ns: so far ahead, and shortly ahead at least where a target has to know of it.

    Raises:
        LoadtestError: if the target with faults can't be told.
    """
    control = os.environ.get(CONTROL_VARIABLE)
    if control is None or not info.target.faults:
        return time.monotonic_ns() + ahead_ns
    ahead_ns = max(ahead_ns, _AHEAD_NS)
    target = allow(control)
    wire = Wire(Address(target.address, target.port))
    try:
        for _ in range(_TRIES):
            epoch = time.monotonic_ns() + ahead_ns
            answer = wire.exchange(_request(target.host, time.time() + ahead_ns / 1e9), Timeouts(5.0))
            if answer.status == 200 and time.monotonic_ns() < epoch:
                return epoch
    finally:
        wire.close()
    raise LoadtestError("the embedded target could not be told when its faults begin", "Is this machine overloaded?")


def _request(host: str, unix_s: float) -> bytes:
    body = msgspec.json.encode({"unix_s": unix_s})
    head = (
        f"POST /epoch HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


logger = logging.getLogger(__name__)
PROGRESS_INTERVAL: Final = 0.5
_READY_PATIENCE: Final = 120.0
_SHORT_DRAIN: Final = 3.0
_LOOK_INTERVAL: Final = 0.5


class Engine:
    """Conducts one run after the other in a Locust environment, whoever starts and stops them.

    Args:
        environment: Locust's; its test_start, test_stopping and test_stop events begin and end a run.
        make_session: makes what a run needs, at its beginning.
        make_crew: who offers the arrivals of a session; this process alone by default.
        on_progress: called about twice a second with live figures and the phase.
        on_end: called with what was recorded, when the record is closed.
        on_error: called with the environment when a run could not begin, or could not be recorded.
    """

    def __init__(
        self,
        environment: Environment,
        make_session: Callable[[], Session],
        *,
        make_crew: Callable[[Session], Crew] = LocalCrew,
        on_progress: Callable[[LiveFigures], None] = lambda _: None,
        on_end: Callable[[RunInfo], None] = lambda _: None,
        on_error: Callable[[Environment, LoadtestError], None] = lambda *_: None,
    ) -> None:
        self.environment = environment
        self.phase: Phase = "over"
        self.done = Event()
        """Set when a run needs its users no longer."""
        self.error: LoadtestError | None = None
        """Why a run could not begin."""
        self._make_session = make_session
        self._make_crew = make_crew
        self._on_progress = on_progress
        self._on_end = on_end
        self._on_error = on_error
        self._session: Session | None = None
        self._crew: Crew | None = None
        self._interrupted = Event()
        self._why: str | None = None
        """Why the run under way is being aborted."""
        self._conductor: gevent.Greenlet | None = None
        self._helpers: list[gevent.Greenlet] = []
        environment.events.test_start.add_listener(self._begin)
        environment.events.test_stopping.add_listener(self._stopping)
        environment.events.test_stop.add_listener(self._close)

    def interrupt(self) -> None:
        """End the schedule now; what is in flight may still end within 3 s."""
        self._interrupted.set()
        if self.phase == "preparing" and self._conductor not in (None, gevent.getcurrent()):
            # Seeding may wait for a slow target; nothing was offered that could be in flight.
            self._conductor.kill(block=False)

    def abort(self, reason: str) -> None:
        """End the schedule now, as aborted; what is in flight may still end within 3 s. Only the first reason counts.

        Args:
            reason: a sentence without its full stop.
        """
        if self._why is None:
            self._why = reason
            logger.warning("Aborted: %s.", reason)
            self.interrupt()

    def _begin(self, **_: Any) -> None:
        self.done.clear()
        self._interrupted.clear()
        self.error = self._why = None
        try:
            self._session = session = self._make_session()
            self._crew = crew = self._make_crew(session)
        except LoadtestError as error:
            self._fail(error)
            self.done.set()
            return
        crew.on_abort = self.abort
        self.phase = "preparing"
        expected = {name: entry.expected for name, entry in session.entries.items()}
        breakers = make_breakers(
            session.scenario, session.info.traffic, session.recorder.pending, expected, session.directory
        )
        session.recorder.watch = lambda sample: self._see(breakers, sample)
        session.endpoint.budget.on_spent = self.abort
        self._helpers = [gevent.spawn(self._tell_progress, session), gevent.spawn(self._look, session, breakers)]
        self._conductor = gevent.spawn(self._conduct, session, crew)

    def _see(self, breakers: Breakers, sample: Sample) -> None:
        if (reason := breakers.see(sample)) is not None:
            self.abort(reason)

    def _look(self, session: Session, breakers: Breakers) -> None:
        while True:
            elapsed = (time.monotonic_ns() - session.epoch_ns) / 1e9 if session.epoch_ns else 0.0
            if (reason := breakers.look(elapsed)) is not None:
                self.abort(reason)
            gevent.sleep(_LOOK_INTERVAL)

    def _fail(self, error: LoadtestError) -> None:
        self.error = error
        self._on_error(self.environment, error)

    def _conduct(self, session: Session, crew: Crew) -> None:
        try:
            seeder = Seeder(session)
            seeder.seed()
            self._await_users(crew)
            self._set_epoch(session, crew)
            seeder.record()
            self._offer(session, crew)
            self.phase = "draining"
            self._drain(session, crew)
            crew.finish()
        except LoadtestError as error:
            self._fail(error)
            session.info.end, session.info.end_reason = "aborted", error.message
        except (gevent.GreenletExit, BudgetSpentError):
            self._cut(session)
        except Exception:  # noqa: BLE001 - ours, whatever it is: the record is still closed, and says so
            session.bug = traceback.format_exc()
        finally:
            crew.unwatch()
            gc.unfreeze()
            self.done.set()

    def _await_users(self, crew: Crew) -> None:
        """Wait until every user has asked for an arrival: before that, making users would look like start lag."""
        deadline = time.monotonic() + _READY_PATIENCE
        while not crew.ready:
            if time.monotonic() > deadline:
                raise LoadtestError("Locust did not start all users within two minutes", "Lower max_users.")
            gevent.sleep(0.01)

    def _set_epoch(self, session: Session, crew: Crew) -> None:
        # Nothing that exists now is garbage later: a collection in the middle of a run would only delay users.
        gc.collect()
        gc.freeze()
        session.epoch_ns = set_epoch(session.info, crew.lead_ns)
        session.info.epoch_unix_ns = time.time_ns() + session.epoch_ns - time.monotonic_ns()
        save(session.info, session.directory)
        self.phase = "running"

    def _offer(self, session: Session, crew: Crew) -> None:
        """Offer the whole schedule, to its very end, unless interrupted."""
        crew.begin()
        try:
            end_ns = session.epoch_ns + int(session.duration * 1e9)
            self._interrupted.wait(max(0.0, (end_ns - time.monotonic_ns()) / 1e9))
            while not crew.offered_all and not self._interrupted.is_set():
                # What is behind the schedule is offered all the same.
                self._interrupted.wait(0.01)
            if self._interrupted.is_set():
                self._cut(session)
            else:
                session.info.end = "finished"
        finally:
            crew.stop(discard=self._why is not None)
            session.info.elapsed_s = (time.monotonic_ns() - session.epoch_ns) / 1e9

    def _drain(self, session: Session, crew: Crew) -> None:
        begun = time.monotonic()
        deadline = begun + session.scenario.drain
        while time.monotonic() < deadline and not crew.quiet:
            if self._interrupted.is_set():
                self._cut(session)
                crew.stop(discard=self._why is not None)
                deadline = min(deadline, begun + _SHORT_DRAIN)
            gevent.sleep(0.02)

    def _cut(self, session: Session) -> None:
        """Note that the run ends early, and why."""
        session.info.end, session.info.end_reason = ("aborted" if self._why else "interrupted"), self._why

    def _stopping(self, **_: Any) -> None:
        """Locust is about to stop the users; if the run has not ended, somebody else wants it to."""
        session, conductor = self._session, self._conductor
        if session is None or conductor is None or conductor.ready():
            return
        conductor.kill()
        if session.info.end == "running":
            self._cut(session)
            if self._crew is not None:
                self._crew.stop(discard=self._why is not None)
        if session.info.elapsed_s is None and session.epoch_ns:
            session.info.elapsed_s = (time.monotonic_ns() - session.epoch_ns) / 1e9

    def _close(self, **_: Any) -> None:
        """All users are gone: count what never was sent, and close the record."""
        session, self._session = self._session, None
        if session is None:
            return
        self.phase = "over"
        gevent.killall(self._helpers)
        if self._crew is not None:
            self._crew.end(aborted=self._why is not None)
            session.info.cpu, session.info.generators = self._crew.cpu, self._crew.generators
            session.info.clock, session.info.peers = self._crew.clock, self._crew.peers
        for name in session.entries:
            session.info.traffic[name].offered = session.live.offered[name]
        session.recorder.close()
        info = session.info
        info.samples = session.recorder.count
        info.pending_jobs = len(session.recorder.pending)
        if info.target.budget is not None:
            info.target.budget.used = session.endpoint.budget.used
        info.ended = datetime.now(UTC).isoformat(timespec="milliseconds")
        if session.bug is not None:
            info.end, info.end_reason = "aborted", "an error of the harness's own; see load.log"
            logger.error("%s", session.bug)
        save(info, session.directory)
        self._on_end(info)

    def _tell_progress(self, session: Session) -> None:
        while True:
            self._on_progress(session.progress(self.phase))
            gevent.sleep(PROGRESS_INTERVAL)
            if session.recorder.failure is not None and self.error is None:
                self._fail(
                    RecordError(
                        f"cannot write the record in {session.directory}: {session.recorder.failure.strerror}",
                        "Free some space, or name another --output-dir.",
                    )
                )
            if session.bug is not None or self.error is not None:
                self.interrupt()
