"""The master's side of a run on workers: takes in what they say, and shares the schedule out as they come and go."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import gevent
import msgspec

from loadtest.load.distributed.assignment import EpochPlan, Member, Proposal, Roster
from loadtest.load.distributed.collector import Merging
from loadtest.load.distributed.protocol import (
    Beat,
    CutAnswer,
    Epoch,
    FromMaster,
    FromWorker,
    Give,
    HandBack,
    Hello,
    Jobs,
    Leave,
    Propose,
    Report,
    Setup,
    Trouble,
    boot_id,
)
from loadtest.load.distributed.quota_split import Allowances
from loadtest.load.distributed.transport import Mailbox
from loadtest.load.recorder import RunFiles
from loadtest.load.session import Session

logger = logging.getLogger(__name__)
LOST_AFTER_NS: Final = 2_500_000_000
"""Silence after which a worker is believed lost; it has stopped offering by then (``HOLD_NS`` of ``taking_part``)."""
TICK: Final = 0.05
_LEAST_MARGIN_NS: Final = 300_000_000
_ASLEEP_NS: Final = 1_000_000_000
_PREPARING_NS: Final = 30_000_000_000
"""Silence before the begin, while users are made, after which a worker is given up."""


class Conducting:
    """Conducts the workers that have agreed to take part in a run.

    Args:
        session: the run, on the master: its pools have no users.
        mailbox: where workers talk.
        on_abort: told why the run should end, if it should.
    """

    def __init__(self, session: Session, mailbox: Mailbox, on_abort: Callable[[str], None]) -> None:
        self.members: dict[str, Member] = {}
        self.roster = Roster()
        self.ended_ns: int | None = None
        """When it was told to offer nothing more; ns since the run's epoch."""
        self.begun = self.closing = False
        self.trouble: str | None = None
        """Why the run can't begin."""
        if not isinstance(session.recorder.output, RunFiles):
            raise TypeError("a master writes the record of the run itself")
        self.merging = Merging(session.recorder, session.recorder.output, self._share_jobs)
        self.allowances = Allowances(session.endpoint.budget, session.info.target.budget)
        self._session = session
        self._mailbox = mailbox
        self._on_abort = on_abort
        self._info = msgspec.json.encode(session.info)
        self._wants_jobs = any(entry.traffic.job_ids == "run" for entry in session.entries.values())
        mailbox.listener = self
        here = mailbox.connected()
        for worker, hello in here.items():
            self._set_up(worker, hello, len(here))
        self._ticker = gevent.spawn(self._tick_forever)

    @property
    def run(self) -> str:
        """The run's id."""
        return self._session.info.id

    @property
    def margin_ns(self) -> int:
        """How far ahead something has to be announced: a few times as long as the slowest worker is away."""
        away = max((member.report.uncertainty_ns for member in self.alive() if member.report is not None), default=0)
        return max(_LEAST_MARGIN_NS, 4 * away)

    def now_ns(self) -> int:
        """Since the run's epoch."""
        return time.monotonic_ns() - self._session.epoch_ns

    def alive(self) -> list[Member]:
        """Workers that can be asked."""
        return [member for member in self.members.values() if member.alive]

    def tell_all(self, said: FromMaster) -> None:
        """Tell every worker."""
        for member in self.alive():
            self._mailbox.say(member.worker, said)

    def begin(self) -> None:
        """Let the workers share the schedule from the session's epoch on."""
        self.begun = True
        for member in self.alive():
            self._admit(member)
        self._start(self.roster.begin())

    def end(self) -> None:
        """Listen to nobody any longer."""
        self._ticker.kill()
        self._mailbox.listener = None

    def welcome(self, worker: str, hello: Hello) -> None:
        """Let a worker that came later take part, too."""
        if worker in self.members or self.closing or self.ended_ns is not None:
            return
        self._set_up(worker, hello, len(self.alive()) + 1)
        self._mailbox.give_users()

    def parts(self) -> dict[str, int]:
        """Workers that take part, and how many there were when each was told so."""
        return {member.worker: member.of for member in self.alive()}

    def take(self, worker: str, said: FromWorker, received_ns: int) -> None:
        """Take in what a worker says."""
        member = self.members.get(worker)
        if member is None or isinstance(said, Hello) or said.run != self.run:
            return
        match said:
            case Report():
                self._take_report(member, said, received_ns)
            case CutAnswer():
                self.allowances.reserved(worker, said.reserved)
                self.roster.answer(worker, said.number, said.reached_ns, accepted=said.accepted)
            case Leave():
                member.leaving = True
                self.roster.leave(worker, gone=False)
            case HandBack():
                self._hand_on(said)
            case Trouble():
                self.trouble = f"the worker on {member.hello.host} can't take part: {said.message}"
                self.give_up(member, lost=False)

    def _set_up(self, worker: str, hello: Hello, of: int) -> None:
        member = Member(worker, len(self.members) + 1, hello, of, heard_ns=time.monotonic_ns())
        self.members[worker] = member
        self._mailbox.say(
            worker,
            Setup(
                run=self.run,
                worker=member.index,
                info=self._info,
                trace=self._session.trace,
                workers=of,
                boot=boot_id(),
            ),
        )

    def _take_report(self, member: Member, report: Report, received_ns: int) -> None:
        member.heard_ns = max(member.heard_ns, received_ns)
        rejoin = member.lost and self.begun and not self.closing and self.ended_ns is None
        if rejoin:
            member.gone_ns, member.lost = None, False
            member.returned += 1
        if report.batch is not None:
            self.merging.take(member.worker, report.batch)
        member.report, member.generator = report, report.generator or member.generator
        member.cpu += report.cpu
        self.allowances.used(member.worker, report.used)
        self._session.live.offered = sum(
            (Counter(m.report.offered) for m in self.members.values() if m.report), Counter()
        )
        if report.bug is not None:
            self._session.bug = report.bug
        if report.abort is not None:
            self._on_abort(report.abort)
        last = self.merging.last(member.worker)
        if report.closed and last >= (report.batch.number if report.batch else 0):
            member.closed = True
            if member.leaving:
                self.give_up(member, lost=False)
        beat = Beat(
            run=self.run,
            echo_ns=report.sent_ns,
            received_ns=received_ns,
            replied_ns=time.monotonic_ns(),
            batch=last,
            rejoin=rejoin,
        )
        self._mailbox.say(member.worker, beat)

    def _admit(self, member: Member) -> None:
        """Let a worker that is ready share the schedule, from the next epoch on."""
        for name, entry in self._session.entries.items():
            if entry.traffic.job_ids == "seeded" and (jobs := entry.job_ids.all()):
                self._mailbox.say(member.worker, Jobs(run=self.run, entry=name, jobs=jobs))
        if self._wants_jobs and (jobs := self._session.own_jobs.all()):
            self._mailbox.say(member.worker, Jobs(run=self.run, entry=None, jobs=jobs))
        self.roster.join(member.worker)

    def _share_jobs(self, worker: str, jobs: list[tuple[str, int]]) -> None:
        if not self._wants_jobs:
            return
        for job_id, key in jobs:
            self._session.own_jobs.add(job_id, key)
        for member in self.alive():
            if member.worker != worker:
                self._mailbox.say(member.worker, Jobs(run=self.run, entry=None, jobs=jobs))

    def _start(self, plan: EpochPlan) -> None:
        session, workers = self._session, list(plan.workers)
        epoch = Epoch(
            run=self.run,
            number=plan.number,
            start_ns=session.epoch_ns,
            start_unix_ns=session.info.epoch_unix_ns or 0,
            from_ns=plan.from_ns,
            workers=workers,
            allowed=self.allowances.share_out(workers),
        )
        for worker in workers:
            if self.members[worker].joined_ns is None:
                self.members[worker].joined_ns = plan.from_ns
        self.tell_all(epoch)

    def _hand_on(self, said: HandBack) -> None:
        takers = [member for member in self.alive() if member.worker in self.roster.epochs[-1].workers]
        takers = [member for member in takers if not member.leaving]
        for place, member in enumerate(takers):
            if arrivals := said.arrivals[place :: len(takers)]:
                member.given += len(arrivals)
                self._mailbox.say(member.worker, Give(run=self.run, arrivals=arrivals))

    def give_up(self, member: Member, *, lost: bool) -> None:
        """Count on a worker no longer: it has left, or is believed lost."""
        member.gone_ns = self.now_ns() if self.begun else 0
        member.lost = lost
        self.roster.leave(member.worker, gone=True)
        if lost:
            logger.warning("Worker %d on %s is lost.", member.index, member.hello.host)

    def _tick_forever(self) -> None:
        due = time.monotonic_ns()
        while True:
            due += round(TICK * 1e9)
            gevent.sleep(TICK)
            now = time.monotonic_ns()
            if now - due > _ASLEEP_NS:
                # We were asleep, not they: what they said meanwhile has to be heard first.
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
                self.give_up(member, lost=True)
        if self.ended_ns is not None or self.closing:
            return
        if not self.begun:
            if self.members and not self.alive():
                self.trouble = self.trouble or "every worker was lost before the run began"
            return
        for member in self.alive():
            report = member.report
            waits = report is not None and report.ready and report.waiting and not member.leaving
            if waits and member.worker not in self.roster.wanted:
                self._admit(member)
        self._change(now)

    def _change(self, now: int) -> None:
        alive = {member.worker for member in self.alive()}
        if not self.roster.wanted:
            self._on_abort("every worker was lost, or has left")
            return
        order = self.roster.step(now - self._session.epoch_ns, self.margin_ns, alive)
        if isinstance(order, Proposal):
            for worker in order.waiting:
                self._mailbox.say(worker, Propose(run=self.run, number=order.number, cut_ns=order.cut_ns))
        elif order is not None:
            self._start(order)
