"""The engine of a run. It awaits users, offers the schedule, awaits operations in flight, and closes the record."""

import gc
import logging
import os
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Final

import gevent
import msgspec
from gevent.event import Event
from locust.env import Environment

from loadtest.errors import LoadtestError, RecordError
from loadtest.load.abort import CircuitBreakers, LiveThreshold
from loadtest.load.connection import Address
from loadtest.load.distributed.master import WORKERS_GONE, DistributedGenerator
from loadtest.load.distributed.transport import Mailbox
from loadtest.load.exchange import HttpConnection, Timeouts
from loadtest.load.live import LATE
from loadtest.load.load_generator import LocalGenerator, wait_until
from loadtest.load.operation import Seeder
from loadtest.load.request_budget import BudgetSpentError
from loadtest.load.session import Session
from loadtest.record.generator_limits import bottleneck, full_pools
from loadtest.record.progress import Phase, Progress
from loadtest.record.run_directory import save
from loadtest.record.run_info import RunInfo
from loadtest.record.samples import Sample
from loadtest.targets import allow

logger = logging.getLogger(__name__)
LoadGenerator = LocalGenerator | DistributedGenerator
_LOOK_INTERVAL: Final = 0.5
_READY_PATIENCE: Final = 120.0
_SHORT_DRAIN: Final = 3.0
_AHEAD_NS: Final = 100_000_000
"""If the target has faults, the epoch is at least this far ahead, so that the target receives it in time."""
_TRIES: Final = 5


class Engine:
    """Conducts successive runs in a Locust environment, whose test events begin and end a run.

    Without a ``mailbox`` of workers, this process generates the load. ``on_progress`` is called twice a second, and
    ``on_end`` after the record is closed.
    """

    def __init__(
        self,
        environment: Environment,
        make_session: Callable[[], Session],
        *,
        mailbox: Mailbox | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.phase: Phase = "over"
        self.done = Event()
        """Set when the run no longer needs its users."""
        self.error: LoadtestError | None = None
        """Error that prevented the run or ended it early."""
        self._make_session = make_session
        self._mailbox = mailbox
        self._on_progress = on_progress
        self._on_end = on_end
        self.latest: tuple[Session, LoadGenerator] | None = None
        """The current or last run."""
        self._interrupted = Event()
        self._closed = Event()
        self._closed.set()
        self._abort_reason: str | None = None
        self._conductor: gevent.Greenlet | None = None
        self._observer: gevent.Greenlet | None = None
        environment.events.test_start.add_listener(self._begin)
        environment.events.test_stopping.add_listener(self._stopping)
        environment.events.test_stop.add_listener(self.close)

    def interrupt(self) -> None:
        """End the schedule now. Operations in flight have at most 3 s to end."""
        self._interrupted.set()
        if self.phase == "preparing" and self._conductor not in (None, gevent.getcurrent()):
            # Seeding may be waiting for a slow target. No operation is in flight yet.
            self._conductor.kill(block=False)

    def abort(self, reason: str | LoadtestError) -> None:
        """Abort the run. Operations in flight have at most 3 s to end. Only the first reason is kept."""
        if self._abort_reason is None:
            if isinstance(reason, LoadtestError):
                self.error, reason = reason, reason.message
            self._abort_reason = reason
            logger.warning("Aborted: %s.", reason)
            self.interrupt()

    def _begin(self, **_: Any) -> None:
        self.done.clear()
        self._interrupted.clear()
        self.error = self._abort_reason = None
        try:
            session = self._make_session()
            mailbox = self._mailbox
            generator = (
                LocalGenerator(session) if mailbox is None else DistributedGenerator(session, mailbox, self.abort)
            )
        except LoadtestError as error:
            self._fail(error)
            self.done.set()
            return
        self.latest = session, generator
        self.phase = "preparing"
        plans = session.info.traffic
        live = session.live
        pending = session.recorder.pending
        expected = {name: entry.expected for name, entry in session.entries.items()}
        thresholds = [LiveThreshold(each.parsed, plans, live) for each in session.scenario.threshold if each.abort]
        breakers = CircuitBreakers(session.scenario.breakers, pending, expected, session.directory, thresholds)

        def watch(sample: Sample) -> None:
            if (reason := breakers.see(sample)) is not None:
                self.abort(reason)

        session.recorder.watch = watch
        session.endpoint.budget.on_spent = self.abort
        self._observer = gevent.spawn(self._look_after, session, generator, breakers)
        self._conductor = gevent.spawn(self._conduct, session, generator)

    def _fail(self, error: LoadtestError) -> None:
        self.error = error
        logger.error("%s", error)

    def _conduct(self, session: Session, generator: LoadGenerator) -> None:
        try:
            seeder = Seeder(session)
            seeder.seed()
            self._set_epoch(session, generator)
            seeder.record()
            self._offer(session, generator)
            self.phase = "draining"
            self._drain(session, generator)
            generator.finish()
        except LoadtestError as error:
            self._fail(error)
            session.info.end, session.info.end_reason = "aborted", error.message
        except (gevent.GreenletExit, BudgetSpentError):
            self._note_early_end(session)
        except Exception:  # noqa: BLE001 - the record is closed after any error, and names it
            session.bug = traceback.format_exc()
        finally:
            generator.unwatch()
            gc.unfreeze()
            self.done.set()

    def _set_epoch(self, session: Session, generator: LoadGenerator) -> None:
        # All users must be ready. Otherwise creating them would count as start lag.
        if not wait_until(_READY_PATIENCE, lambda: generator.ready):
            raise LoadtestError("Locust did not start all users within two minutes", "Lower max_users.")
        # Objects that exist now are not garbage, and scanning them in the middle of a run would delay users.
        gc.collect()
        gc.freeze()
        session.epoch_ns = _announced_epoch(session.info, session.control, generator.lead_ns)
        session.info.epoch_unix_ns = time.time_ns() + session.epoch_ns - time.monotonic_ns()
        save(session.info, session.directory)
        self.phase = "running"

    def _offer(self, session: Session, generator: LoadGenerator) -> None:
        try:
            generator.begin()
            end_ns = session.epoch_ns + int(session.duration * 1e9)
            self._interrupted.wait(max(0.0, (end_ns - time.monotonic_ns()) / 1e9))
            while not generator.offered_all and not self._interrupted.is_set():
                # Arrivals that are overdue at the end are still offered.
                self._interrupted.wait(0.01)
            if self._interrupted.is_set():
                self._note_early_end(session)
            else:
                session.info.end = "finished"
        finally:
            generator.stop(discard=self._abort_reason is not None)
            session.info.elapsed_s = session.elapsed_s

    def _drain(self, session: Session, generator: LoadGenerator) -> None:
        begun = time.monotonic()
        deadline = begun + session.scenario.drain
        while time.monotonic() < deadline and not generator.quiet:
            if self._interrupted.is_set():
                self._note_early_end(session)
                generator.stop(discard=self._abort_reason is not None)
                deadline = min(deadline, begun + _SHORT_DRAIN)
            gevent.sleep(0.02)

    def _note_early_end(self, session: Session) -> None:
        reason = self._abort_reason or (None if self.error is None else self.error.message)
        session.info.end, session.info.end_reason = "aborted" if reason else "interrupted", reason

    def _stopping(self, **_: Any) -> None:
        """End the run when Locust stops its users, as after a click on its page or the loss of the last worker."""
        if self.latest is None or self._conductor is None or self._conductor.ready():
            return
        session, generator = self.latest
        if isinstance(generator, DistributedGenerator) and not generator.has_workers:
            gevent.sleep(0)  # the last message of a worker may state the cause
            self.abort(WORKERS_GONE)
        self._conductor.kill()
        if session.info.end == "running":  # the conductor had not yet started
            self._note_early_end(session)

    def close(self, **_: Any) -> None:
        """Record unsent arrivals and close the record. Call this after all users have ended.

        A call during another call waits until the record is closed.
        """
        if self.latest is None or self.phase == "over":
            self._closed.wait()
            return
        self.phase = "over"
        self._closed.clear()
        if self._observer is not None:
            self._observer.kill()
        try:
            self._record_end(*self.latest)
        finally:
            self._closed.set()

    def _record_end(self, session: Session, generator: LoadGenerator) -> None:
        info = session.info
        generator.end(aborted=self._abort_reason is not None)
        info.cpu, info.generators = generator.cpu, generator.generators
        info.clock, info.peers = generator.clock, generator.peers
        session.recorder.close()
        for name in session.entries:
            info.traffic[name].offered = session.live.offered[name]
        info.samples = session.recorder.count
        info.pending_jobs = len(session.recorder.pending)
        if info.target.budget is not None:
            info.target.budget.used = generator.budget_used
        info.ended = datetime.now(UTC).isoformat(timespec="milliseconds")
        if session.bug is not None:
            info.end, info.end_reason = "aborted", session.user_error or "the harness had an error; see load.log"
            logger.error("%s", session.bug)
        save(info, session.directory)
        self._on_end()

    def _look_after(self, session: Session, generator: LoadGenerator, breakers: CircuitBreakers) -> None:
        """Report progress and update live figures. End the run if a breaker trips or an error has occurred."""
        warned, second = set[str](), -1
        live = session.live
        plans = session.info.traffic
        while True:
            elapsed = session.elapsed_s
            if session.epoch_ns and int(elapsed) > second and elapsed >= 0:
                second = int(elapsed)
                live.tick(elapsed, len(session.recorder.pending), full_pools(generator.generators))
                full = {name: plan.max_users or plan.users for name, plan in plans.items() if name in live.held}
                why = bottleneck(generator.cpu, late=LATE in live.held, full=full)
                live.bottleneck = why if self.phase == "running" else ""
            if (problem := live.bottleneck.partition(":")[0]) and problem not in warned:
                logger.warning("%s", live.bottleneck)  # appears in Locust's web UI
                warned.add(problem)
            self._on_progress(session.progress(self.phase))
            if (reason := breakers.check(elapsed)) is not None:
                self.abort(reason)
            gevent.sleep(_LOOK_INTERVAL - session.elapsed_s % _LOOK_INTERVAL)
            failure = session.recorder.failure
            if failure is not None and self.error is None:
                why = os.strerror(failure.errno) if failure.errno else str(failure)
                where = f"cannot write the record in {session.directory}: {why}"
                self._fail(RecordError(where, "Free some space, or name another --output-dir."))
            if session.bug is not None or self.error is not None:
                self.interrupt()


def _announced_epoch(info: RunInfo, control: str | None, ahead_ns: int) -> int:
    """Return a future epoch (monotonic ns). If ``control`` is given, a target with faults has confirmed the epoch."""
    if control is None or not info.target.faults:
        return time.monotonic_ns() + ahead_ns
    ahead_ns = max(ahead_ns, _AHEAD_NS)
    target = allow(control)
    head = f"POST /epoch HTTP/1.1\r\nhost: {target.host}\r\ncontent-type: application/json\r\ncontent-length: "
    with closing(HttpConnection(Address(target.address, target.port))) as connection:
        for _ in range(_TRIES):
            epoch = time.monotonic_ns() + ahead_ns
            body = msgspec.json.encode({"unix_s": time.time() + ahead_ns / 1e9})
            answer = connection.exchange(f"{head}{len(body)}\r\n\r\n".encode() + body, Timeouts(5.0))
            if answer.status == 200 and time.monotonic_ns() < epoch:
                return epoch
    raise LoadtestError(
        "the embedded target did not confirm the start of its faults in time", "Is this machine overloaded?"
    )
