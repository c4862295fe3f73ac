"""The master of a run on several workers. It receives reports, and reassigns the schedule as workers come and go."""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Final

import gevent
import msgspec

from loadtest.errors import InputError, LoadtestError
from loadtest.load.distributed import protocol
from loadtest.load.distributed.assignment import Assigner, Assignment, Collector, Member, Reassignment
from loadtest.load.distributed.transport import Mailbox
from loadtest.load.health import Health
from loadtest.load.load_generator import wait_until
from loadtest.load.payloads import JobIds
from loadtest.load.request_budget import QuotaSplit, summed
from loadtest.load.session import Session
from loadtest.record.run_info import AssignmentInfo, BudgetUse, ClockInfo, CpuSample, GeneratorInfo, PeerInfo

logger = logging.getLogger(__name__)
LOST_AFTER_NS: Final = 2_500_000_000
"""A worker that is silent for this long counts as lost. It stops offering earlier (see ``HOLD_NS`` in ``worker``)."""
_TICK: Final = 0.05
_LEAST_MARGIN_NS: Final = 300_000_000
_ASLEEP_NS: Final = 1_000_000_000
_PREPARING_NS: Final = 30_000_000_000
"""Before the run begins, a worker may be silent for this long, because creating its users takes time."""
_CLOSE_PATIENCE: Final = 15.0
WORKERS_GONE: Final = "every worker was lost, or has left"


class DistributedGenerator:
    """Generates the load of a run on workers. It has the same interface as ``LocalGenerator``.

    To abort the run, it calls ``abort`` with the reason.
    """

    def __init__(self, session: Session, mailbox: Mailbox, abort: Callable[[str | LoadtestError], None]) -> None:
        self._abort = abort
        self._members: dict[str, Member] = {}
        self._assigner = Assigner()
        self._ended_ns: int | None = None
        """Time since the epoch when the master told the workers to offer nothing more."""
        self._begun = self._closing = False
        self._collector = Collector(session.recorder, self._share_jobs)
        self._quota_split = QuotaSplit(session.endpoint.budget, session.info.target.budget)
        self._session = session
        self._mailbox = mailbox
        self._health = Health({})
        self._run = session.info.id
        self._info = msgspec.json.encode(session.info)
        self._wants_jobs = any(entry.traffic.job_ids == "run" for entry in session.entries.values())
        mailbox.on_message = self._receive
        mailbox.worker_counts = lambda: {member.worker: member.worker_count for member in self._alive()}
        connected = mailbox.connected()
        for worker, hello in connected.items():
            self._set_up(worker, hello, len(connected))
        self._ticker = gevent.spawn(self._tick_forever)

    @property
    def lead_ns(self) -> int:
        """The epoch is announced this many ns ahead, so that every worker receives it in time."""
        return 2 * self._margin_ns

    @property
    def ready(self) -> bool:
        alive = self._alive()
        return bool(alive) and all(member.report.ready for member in alive)

    @property
    def has_workers(self) -> bool:
        """Whether any worker is connected, including workers that do not take part."""
        return bool(self._mailbox.connected())

    @property
    def offered_all(self) -> bool:
        """Whether each worker has offered all its arrivals.

        A report from before the last assignment counts only if the worker is leaving or the run was stopped.
        """
        last, stopped = self._assigner.assignments[-1].number, self._ended_ns is not None
        return all(
            member.joined_ns is None
            or (member.report.exhausted and (member.leaving or stopped or member.report.assignment == last))
            for member in self._alive()
        )

    @property
    def quiet(self) -> bool:
        return self.offered_all and all(
            member.report.quiet and member.report.taken_over == member.handed for member in self._alive()
        )

    @property
    def cpu(self) -> list[CpuSample]:
        return [*self._health.cpu, *(sample for member in self._members.values() for sample in member.cpu)]

    @property
    def generators(self) -> list[GeneratorInfo]:
        known = [self._health.figures()]
        for member in self._members.values():
            if (figures := member.report.generator) is not None:
                figures.lost = member.lost
                known.append(figures)
        return known

    @property
    def budget_used(self) -> BudgetUse:
        """Part of the request budget that all processes have used so far."""
        return summed([self._session.endpoint.budget.used, *(report.used for report in self._reports())])

    @property
    def clock(self) -> ClockInfo | None:
        clocks = [report.clock for report in self._reports() if report.clock is not None]
        return min(clocks, key=lambda clock: clock.uncertainty_s, default=None)

    @property
    def peers(self) -> dict[str, PeerInfo]:
        """Connections of all processes by address. The master also connects, because it seeds jobs."""
        total = defaultdict[str, PeerInfo](PeerInfo)
        for peers in (self._session.endpoint.address.resolver.peers, *(report.peers for report in self._reports())):
            for address, peer in peers.items():
                total[address].connections += peer.connections
                total[address].failed += peer.failed
        return total

    def begin(self) -> None:
        self._health.start(self._session.epoch_ns)
        for member in self._alive():
            self._admit(member)
        self._begun = True
        self._assign(self._assigner.assign(0))

    def stop(self, *, discard: bool = False) -> None:
        if self._ended_ns is None and self._begun:
            self._ended_ns = time.monotonic_ns() - self._session.epoch_ns
        self._send_all(protocol.Stop(run=self._run, discard=discard))

    def finish(self, *, aborted: bool = False) -> None:
        """Collect the remaining samples of all workers. A worker that does not send them in time counts as lost."""
        if self._closing:
            return
        self._closing = True
        self._send_all(protocol.Close(run=self._run, aborted=aborted))
        wait_until(
            _CLOSE_PATIENCE, lambda: not self._mailbox.connected() or all(member.closed for member in self._alive())
        )
        for member in self._alive():
            if not member.closed:
                self._remove(member, lost=True)

    def unwatch(self) -> None:
        self._health.stop()

    def end(self, *, aborted: bool) -> None:
        """Record assigned arrivals without a sample as lost, and disconnect from the mailbox."""
        self.finish(aborted=aborted)
        self._ticker.kill()
        self._mailbox.on_message, self._mailbox.worker_counts = lambda *_: None, dict
        session, assignments = self._session, self._assigner.assignments
        if assignments:
            self._collector.record_lost(session, self._members, assignments, self._ended_ns)
            session.info.workers = len(assignments[0].workers)
        session.info.worker_processes = [
            member.described(self._collector.rows[member.worker]) for member in self._members.values()
        ]
        session.info.assignments = [
            AssignmentInfo(
                number=each.number,
                from_s=round(each.from_ns / 1e9, 3),
                workers=[self._members[worker].index for worker in each.workers],
            )
            for each in assignments
        ]

    def _receive(self, worker: str, message: protocol.FromWorker, received_ns: int) -> None:
        member = self._members.get(worker)
        if isinstance(message, protocol.Hello):
            if member is None and not self._closing and self._ended_ns is None:
                self._set_up(worker, message, len(self._alive()) + 1)
                self._mailbox.give_users()
            return
        if member is None or message.run != self._run:
            return
        match message:
            case protocol.WorkerReport():
                self._take_report(member, message, received_ns)
            case protocol.CutAnswer():
                self._quota_split.reserved[worker] = message.reserved
                self._assigner.answer(worker, message.number, message.reached_ns, accepted=message.accepted)
            case protocol.Leave():
                member.leaving = True
                self._assigner.leave(worker, gone=False)
            case protocol.HandBack():
                self._hand_on(message)
            case protocol.SetupFailed():
                self._remove(member, lost=False)
                if not self._begun:
                    why = f"the worker on {member.hello.host} cannot take part: {message.message}"
                    self._abort(InputError(why))

    @property
    def _margin_ns(self) -> int:
        """A cut is proposed this many ns ahead: two round trips to the slowest worker, but at least 0.3 s."""
        away = max((member.report.uncertainty_ns for member in self._alive()), default=0)
        return max(_LEAST_MARGIN_NS, 4 * away)

    def _alive(self) -> list[Member]:
        return [member for member in self._members.values() if member.gone_ns is None]

    def _reports(self) -> list[protocol.WorkerReport]:
        return [member.report for member in self._members.values()]

    def _send_all(self, message: protocol.FromMaster) -> None:
        for member in self._alive():
            self._mailbox.send(member.worker, message)

    def _remove(self, member: Member, *, lost: bool) -> None:
        member.gone_ns = time.monotonic_ns() - self._session.epoch_ns if self._begun else 0
        member.lost = lost
        self._assigner.leave(member.worker, gone=True)
        if lost:
            logger.warning("Worker %d on %s is lost.", member.index, member.hello.host)

    def _set_up(self, worker: str, hello: protocol.Hello, worker_count: int) -> None:
        member = Member(worker, len(self._members) + 1, hello, worker_count, heard_ns=time.monotonic_ns())
        self._members[worker] = member
        setup = protocol.Setup(
            run=self._run,
            worker=member.index,
            info=self._info,
            trace=self._session.trace,
            worker_count=worker_count,
            boot=protocol.boot_id(),
        )
        self._mailbox.send(worker, setup)

    def _take_report(self, member: Member, report: protocol.WorkerReport, received_ns: int) -> None:
        member.heard_ns = max(member.heard_ns, received_ns)
        rejoin = member.lost and self._begun and not self._closing and self._ended_ns is None
        if rejoin:
            member.gone_ns, member.lost = None, False
            member.returned += 1
        if report.batch is not None:
            self._collector.take(member.worker, report.batch)
        member.report = report
        member.cpu += report.cpu
        session = self._session
        session.live.offered = sum((Counter(each.offered) for each in self._reports()), Counter())
        session.live.late = sum(each.late for each in self._reports())
        session.live.add_offered(report.newly_offered)
        if report.bug is not None:
            session.bug, session.user_error = report.bug, report.user_error
        if report.abort is not None:
            self._abort(report.abort)
        last = self._collector.last[member.worker]
        if report.closed and last >= (report.batch.number if report.batch else 0):
            member.closed = True
            if member.leaving:
                self._remove(member, lost=False)
        acknowledge = protocol.Acknowledge(
            run=self._run,
            echo_ns=report.sent_ns,
            received_ns=received_ns,
            replied_ns=time.monotonic_ns(),
            batch=last,
            rejoin=rejoin,
        )
        self._mailbox.send(member.worker, acknowledge)

    def _admit(self, member: Member) -> None:
        """Include a ready worker in the next assignment."""
        known: dict[str | None, JobIds] = {
            name: each.job_ids for name, each in self._session.entries.items() if each.traffic.job_ids == "seeded"
        }
        if self._wants_jobs:
            known[None] = self._session.own_jobs
        for name, ids in known.items():
            if jobs := ids.all():
                self._mailbox.send(member.worker, protocol.KnownJobs(run=self._run, entry=name, jobs=jobs))
        self._assigner.join(member.worker)

    def _share_jobs(self, worker: str, jobs: list[tuple[str, int]]) -> None:
        if not self._wants_jobs:
            return
        for job_id, key in jobs:
            self._session.own_jobs.add(job_id, key)
        for member in self._alive():
            if member.worker != worker:
                self._mailbox.send(member.worker, protocol.KnownJobs(run=self._run, entry=None, jobs=jobs))

    def _assign(self, assignment: Assignment) -> None:
        workers = list(assignment.workers)
        message = protocol.Assign(
            run=self._run,
            number=assignment.number,
            epoch_ns=self._session.epoch_ns,
            epoch_unix_ns=self._session.info.epoch_unix_ns or 0,
            from_ns=assignment.from_ns,
            workers=workers,
            allowed=self._quota_split.split(workers),
        )
        for worker in workers:
            if self._members[worker].joined_ns is None:
                self._members[worker].joined_ns = assignment.from_ns
        self._send_all(message)

    def _hand_on(self, message: protocol.HandBack) -> None:
        sharing = self._assigner.assignments[-1].workers
        takers = [member for member in self._alive() if member.worker in sharing and not member.leaving]
        for place, member in enumerate(takers):
            arrivals = message.arrivals[place :: len(takers)]
            if arrivals:
                member.handed += len(arrivals)
                self._mailbox.send(member.worker, protocol.TakeOver(run=self._run, arrivals=arrivals))

    def _tick_forever(self) -> None:
        due = time.monotonic_ns()
        while True:
            due += round(_TICK * 1e9)
            gevent.sleep(_TICK)
            now = time.monotonic_ns()
            if now - due > _ASLEEP_NS:
                # The master itself stalled, so it must read waiting messages before a worker counts as lost.
                for member in self._alive():
                    member.heard_ns = max(member.heard_ns, now - _ASLEEP_NS)
            due = now
            if self._mailbox.bug is not None:
                self._session.bug = self._mailbox.bug
            self._tick(now)

    def _tick(self, now: int) -> None:
        patience = LOST_AFTER_NS if self._begun else _PREPARING_NS
        for member in self._alive():
            if not member.closed and now - member.heard_ns > patience:
                self._remove(member, lost=True)
        if self._ended_ns is not None or self._closing:
            return
        if not self._begun:
            if self._members and not self._alive():
                self._abort(WORKERS_GONE)
            return
        for member in self._alive():
            report = member.report
            waits = report.ready and report.waiting and not member.leaving
            if waits and member.worker not in self._assigner.wanted:
                self._admit(member)
        if not self._assigner.wanted:
            self._abort(WORKERS_GONE)
            return
        alive = {member.worker for member in self._alive()}
        step = self._assigner.step(now - self._session.epoch_ns, self._margin_ns, alive)
        if isinstance(step, Reassignment):
            for worker in step.waiting:
                self._mailbox.send(worker, protocol.ProposeCut(run=self._run, number=step.number, cut_ns=step.cut_ns))
        elif step is not None:
            self._assign(step)
