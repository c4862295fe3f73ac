"""The master's side of a run on workers: takes in their reports, and assigns the schedule as they come and go."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import gevent
import msgspec

from loadtest.load.distributed import protocol
from loadtest.load.distributed.assignment import Assigner, Assignment, Reassignment
from loadtest.load.distributed.collector import Collector
from loadtest.load.distributed.transport import Mailbox
from loadtest.load.recorder import RunFiles
from loadtest.load.request_budget import QuotaSplit
from loadtest.load.session import Session
from loadtest.record.run_info import CpuSample, GeneratorInfo

logger = logging.getLogger(__name__)
LOST_AFTER_NS: Final = 2_500_000_000
"""Silence after which a worker counts as lost; it has stopped offering by then (``HOLD_NS`` of ``worker_run``)."""
TICK: Final = 0.05
_LEAST_MARGIN_NS: Final = 300_000_000
_ASLEEP_NS: Final = 1_000_000_000
_PREPARING_NS: Final = 30_000_000_000
"""Silence before the epoch, while users are made, after which a worker is given up."""


@dataclass(slots=True)
class Member:
    """One worker of a run, as its master knows it. Moments without another word are ns of the master's clock."""

    worker: str
    """Its Locust id."""
    index: int
    hello: protocol.Hello
    worker_count: int
    """How many there were when it was told to make its users."""
    heard_ns: int
    report: protocol.WorkerReport | None = None
    """The last one."""
    joined_ns: int | None = None
    """When its first assignment began; since the epoch."""
    gone_ns: int | None = None
    """When it left, or was lost; since the epoch."""
    lost: bool = False
    returned: int = 0
    """How often it was lost and came back: what it was assigned until then may be missing."""
    leaving: bool = False
    closed: bool = False
    """It has sent everything that it recorded."""
    handed: int = 0
    """Arrivals of others that it was sent."""
    cpu: list[CpuSample] = field(default_factory=list)
    generator: GeneratorInfo | None = None

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.gone_ns is None

    def has_offered_all(self, assignment: int, *, stopped: bool) -> bool:
        """Whether it has nothing left to offer.

        Args:
            assignment: number of the last one: earlier reports do not include it.
            stopped: whether all workers were told to offer nothing more.
        """
        if self.joined_ns is None:
            return True
        report = self.report
        return report is not None and report.exhausted and (self.leaving or stopped or report.assignment == assignment)

    @property
    def quiet(self) -> bool:
        """Whether nothing waits to be sent by it, and nothing is in flight, as it last reported."""
        return self.report is not None and self.report.quiet and self.report.taken_over == self.handed


class Coordinator:
    """Coordinates the workers that take part in a run."""

    def __init__(self, session: Session, mailbox: Mailbox, on_abort: Callable[[str], None]) -> None:
        self.members: dict[str, Member] = {}
        self.assigner = Assigner()
        self.ended_ns: int | None = None
        """When the workers were told to offer nothing more; since the epoch."""
        self.begun = self.closing = False
        self.setup_failure: str | None = None
        """Why the run can't begin."""
        if not isinstance(session.recorder.output, RunFiles):
            raise TypeError("a master writes the record of the run itself")
        self.collector = Collector(session.recorder, session.recorder.output, self._share_jobs)
        self.quota_split = QuotaSplit(session.endpoint.budget, session.info.target.budget)
        self._session = session
        self._mailbox = mailbox
        self._on_abort = on_abort
        self._info = msgspec.json.encode(session.info)
        self._wants_jobs = any(entry.traffic.job_ids == "run" for entry in session.entries.values())
        mailbox.listener = self
        connected = mailbox.connected()
        for worker, hello in connected.items():
            self._set_up(worker, hello, len(connected))
        self._ticker = gevent.spawn(self._tick_forever)

    @property
    def run(self) -> str:
        """The run's id."""
        return self._session.info.id

    @property
    def margin_ns(self) -> int:
        """How far ahead something has to be announced: a few times as long as the slowest worker's round trip."""
        away = max((member.report.uncertainty_ns for member in self.alive() if member.report is not None), default=0)
        return max(_LEAST_MARGIN_NS, 4 * away)

    def now_ns(self) -> int:
        """Since the epoch."""
        return time.monotonic_ns() - self._session.epoch_ns

    def alive(self) -> list[Member]:
        """Workers that can be asked."""
        return [member for member in self.members.values() if member.alive]

    def send_all(self, message: protocol.FromMaster) -> None:
        """Send every worker a message."""
        for member in self.alive():
            self._mailbox.send(member.worker, message)

    def begin(self) -> None:
        """Let the workers share the schedule from the session's epoch on."""
        self.begun = True
        for member in self.alive():
            self._admit(member)
        self._assign(self.assigner.begin())

    def end(self) -> None:
        """Listen to no worker any longer."""
        self._ticker.kill()
        self._mailbox.listener = None

    def worker_came(self, worker: str, hello: protocol.Hello) -> None:
        """Let a worker that came later take part, too."""
        if worker in self.members or self.closing or self.ended_ns is not None:
            return
        self._set_up(worker, hello, len(self.alive()) + 1)
        self._mailbox.give_users()

    def worker_counts(self) -> dict[str, int]:
        """Workers that take part, and how many there were when each was set up."""
        return {member.worker: member.worker_count for member in self.alive()}

    def receive(self, worker: str, message: protocol.FromWorker, received_ns: int) -> None:
        """Act on a worker's message."""
        member = self.members.get(worker)
        if member is None or isinstance(message, protocol.Hello) or message.run != self.run:
            return
        match message:
            case protocol.WorkerReport():
                self._take_report(member, message, received_ns)
            case protocol.CutAnswer():
                self.quota_split.note_reserved(worker, message.reserved)
                self.assigner.answer(worker, message.number, message.reached_ns, accepted=message.accepted)
            case protocol.Leave():
                member.leaving = True
                self.assigner.leave(worker, gone=False)
            case protocol.HandBack():
                self._hand_on(message)
            case protocol.SetupFailed():
                self.setup_failure = f"the worker on {member.hello.host} can't take part: {message.message}"
                self.remove(member, lost=False)

    def remove(self, member: Member, *, lost: bool) -> None:
        """Count on a worker no longer: it has left, or counts as lost."""
        member.gone_ns = self.now_ns() if self.begun else 0
        member.lost = lost
        self.assigner.leave(member.worker, gone=True)
        if lost:
            logger.warning("Worker %d on %s is lost.", member.index, member.hello.host)

    def _set_up(self, worker: str, hello: protocol.Hello, worker_count: int) -> None:
        member = Member(worker, len(self.members) + 1, hello, worker_count, heard_ns=time.monotonic_ns())
        self.members[worker] = member
        setup = protocol.Setup(
            run=self.run,
            worker=member.index,
            info=self._info,
            trace=self._session.trace,
            worker_count=worker_count,
            boot=protocol.boot_id(),
        )
        self._mailbox.send(worker, setup)

    def _take_report(self, member: Member, report: protocol.WorkerReport, received_ns: int) -> None:
        member.heard_ns = max(member.heard_ns, received_ns)
        rejoin = member.lost and self.begun and not self.closing and self.ended_ns is None
        if rejoin:
            member.gone_ns, member.lost = None, False
            member.returned += 1
        if report.batch is not None:
            self.collector.take(member.worker, report.batch)
        member.report, member.generator = report, report.generator or member.generator
        member.cpu += report.cpu
        self.quota_split.note_used(member.worker, report.used)
        self._session.live.offered = sum(
            (Counter(m.report.offered) for m in self.members.values() if m.report), Counter()
        )
        self._session.live.add_offered(report.newly_offered)
        if report.bug is not None:
            self._session.bug, self._session.user_error = report.bug, report.user_error
        if report.abort is not None:
            self._on_abort(report.abort)
        last = self.collector.last(member.worker)
        if report.closed and last >= (report.batch.number if report.batch else 0):
            member.closed = True
            if member.leaving:
                self.remove(member, lost=False)
        acknowledge = protocol.Acknowledge(
            run=self.run,
            echo_ns=report.sent_ns,
            received_ns=received_ns,
            replied_ns=time.monotonic_ns(),
            batch=last,
            rejoin=rejoin,
        )
        self._mailbox.send(member.worker, acknowledge)

    def _admit(self, member: Member) -> None:
        """Let a worker that is ready share the schedule, from the next assignment on."""
        for name, entry in self._session.entries.items():
            if entry.traffic.job_ids == "seeded" and (jobs := entry.job_ids.all()):
                self._mailbox.send(member.worker, protocol.KnownJobs(run=self.run, entry=name, jobs=jobs))
        if self._wants_jobs and (jobs := self._session.own_jobs.all()):
            self._mailbox.send(member.worker, protocol.KnownJobs(run=self.run, entry=None, jobs=jobs))
        self.assigner.join(member.worker)

    def _share_jobs(self, worker: str, jobs: list[tuple[str, int]]) -> None:
        if not self._wants_jobs:
            return
        for job_id, key in jobs:
            self._session.own_jobs.add(job_id, key)
        for member in self.alive():
            if member.worker != worker:
                self._mailbox.send(member.worker, protocol.KnownJobs(run=self.run, entry=None, jobs=jobs))

    def _assign(self, assignment: Assignment) -> None:
        workers = list(assignment.workers)
        message = protocol.Assign(
            run=self.run,
            number=assignment.number,
            epoch_ns=self._session.epoch_ns,
            epoch_unix_ns=self._session.info.epoch_unix_ns or 0,
            from_ns=assignment.from_ns,
            workers=workers,
            allowed=self.quota_split.split(workers),
        )
        for worker in workers:
            if self.members[worker].joined_ns is None:
                self.members[worker].joined_ns = assignment.from_ns
        self.send_all(message)

    def _hand_on(self, message: protocol.HandBack) -> None:
        sharing = self.assigner.assignments[-1].workers
        takers = [member for member in self.alive() if member.worker in sharing and not member.leaving]
        for place, member in enumerate(takers):
            if arrivals := message.arrivals[place :: len(takers)]:
                member.handed += len(arrivals)
                self._mailbox.send(member.worker, protocol.TakeOver(run=self.run, arrivals=arrivals))

    def _tick_forever(self) -> None:
        due = time.monotonic_ns()
        while True:
            due += round(TICK * 1e9)
            gevent.sleep(TICK)
            now = time.monotonic_ns()
            if now - due > _ASLEEP_NS:
                # We were asleep, not they: the messages that came meanwhile have to be read first.
                for member in self.alive():
                    member.heard_ns = max(member.heard_ns, now - _ASLEEP_NS)
            due = now
            if self._mailbox.bug is not None:
                self._session.bug = self._mailbox.bug
            self._tick(now)

    def _tick(self, now: int) -> None:
        patience = LOST_AFTER_NS if self.begun else _PREPARING_NS
        for member in self.alive():
            if not member.closed and now - member.heard_ns > patience:
                self.remove(member, lost=True)
        if self.ended_ns is not None or self.closing:
            return
        if not self.begun:
            if self.members and not self.alive():
                self.setup_failure = self.setup_failure or "every worker was lost before the run began"
            return
        for member in self.alive():
            report = member.report
            waits = report is not None and report.ready and report.waiting and not member.leaving
            if waits and member.worker not in self.assigner.wanted:
                self._admit(member)
        self._reassign(now)

    def _reassign(self, now: int) -> None:
        if not self.assigner.wanted:
            self._on_abort("every worker was lost, or has left")
            return
        alive = {member.worker for member in self.alive()}
        step = self.assigner.step(now - self._session.epoch_ns, self.margin_ns, alive)
        if isinstance(step, Reassignment):
            for worker in step.waiting:
                self._mailbox.send(worker, protocol.ProposeCut(run=self.run, number=step.number, cut_ns=step.cut_ns))
        elif step is not None:
            self._assign(step)
