"""The end of a run on several workers: what is missing is recorded as lost, and run.json says who took part.

The crew of a master: workers elsewhere, for the engine to conduct as it conducts this process.
"""

import time
from collections.abc import Callable
from typing import Final

import gevent

from loadtest.contract import Outcome, Reason
from loadtest.errors import LoadtestError
from loadtest.load.distributed.assignment import Member
from loadtest.load.distributed.coordinator import TICK, Conducting
from loadtest.load.distributed.protocol import Close, Stop
from loadtest.load.distributed.transport import Mailbox
from loadtest.load.health import Health
from loadtest.load.session import Session
from loadtest.record.run_info import ClockInfo, CpuSample, EpochInfo, GeneratorInfo, PeerInfo, WorkerInfo
from loadtest.record.samples import Sample


def close_books(session: Session, crew: Conducting) -> None:
    """Record every arrival that was assigned and is not in the record as lost, and fill in run.json.

    Args:
        session: the run.
        crew: whose workers have sent all that they will send.
    """
    info, members = session.info, crew.members
    index = {member.worker: member.index for member in members.values()}
    finished = info.end == "finished"
    # Where the run was cut short, only those that are gone had arrivals that nobody offered.
    whose = None if finished else {m.worker for m in members.values() if not m.alive or m.returned}
    for schedule in session.schedules if crew.roster.epochs else ():
        entry = session.entries[schedule.traffic]
        until = int(schedule.duration * 1e9) + 1 if finished or crew.ended_ns is None else crew.ended_ns
        lost = 0
        for arrival, worker in crew.merging.seen.missing(schedule, crew.roster.epochs, until, whose):
            lost += 1
            session.recorder.append(
                Sample(
                    row="operation",
                    traffic=entry.name,
                    operation=entry.operation,
                    stage=arrival.stage,
                    outcome=Outcome.LOST,
                    reason=Reason.WORKER_LOST,
                    arrival=arrival.number,
                    intended_start=arrival.intended_ns,
                    key_index=entry.key_index(arrival.number),
                    worker=index[worker],
                    request_id=session.trace_id(entry, arrival.number),
                )
            )
        session.live.offered[entry.name] = crew.merging.seen.count(entry.name) + lost
    if crew.merging.seen.twice:
        session.bug = f"{crew.merging.seen.twice} arrivals were sent by two workers"
    session.endpoint.budget.used = crew.allowances.total()
    if crew.roster.epochs:
        info.workers = len(crew.roster.epochs[0].workers)
    info.crew = [_worker_info(member, crew) for member in members.values()]
    info.epochs = [
        EpochInfo(number=each.number, from_s=round(each.from_ns / 1e9, 3), workers=[index[w] for w in each.workers])
        for each in crew.roster.epochs
    ]


def _worker_info(member: Member, crew: Conducting) -> WorkerInfo:
    report = member.report
    return WorkerInfo(
        worker=member.index,
        host=member.hello.host,
        joined_s=round((member.joined_ns or 0) / 1e9, 3),
        left_s=None if member.gone_ns is None else round(member.gone_ns / 1e9, 3),
        end="lost" if member.lost else "stayed" if member.alive else "left",
        returned=member.returned,
        samples=crew.merging.rows.get(member.worker, 0),
        offset_ms=round((report.offset_ns if report else 0) / 1e6, 3),
        uncertainty_ms=round((report.uncertainty_ns if report else 0) / 1e6, 3),
        shared_clock=report is not None and report.shared_clock,
    )


_CLOSE_PATIENCE: Final = 15.0


class RemoteCrew:
    """Workers that have agreed to take part in a run. See ``Crew`` for what each of this is for.

    Args:
        session: the run, on the master: its pools have no users.
        mailbox: where workers talk.
    """

    def __init__(self, session: Session, mailbox: Mailbox) -> None:
        self.on_abort: Callable[[str], None] = lambda _: None
        self._session = session
        self._conducting = Conducting(session, mailbox, self._abort)
        self._health = Health({})

    @property
    def lead_ns(self) -> int:
        """Far enough ahead for the epoch to reach everybody."""
        return 2 * self._conducting.margin_ns

    @property
    def ready(self) -> bool:
        """Whether every worker is, and there is one.

        Raises:
            LoadtestError: if one can't take part.
        """
        if self._conducting.trouble is not None:
            raise LoadtestError(self._conducting.trouble)
        alive = self._conducting.alive()
        return bool(alive) and all(member.report is not None and member.report.ready for member in alive)

    @property
    def offered_all(self) -> bool:
        """Whether nobody has anything left to offer."""
        conducting = self._conducting
        epoch, stopped = conducting.roster.epochs[-1].number, conducting.ended_ns is not None
        return all(member.has_offered_all(epoch, stopped=stopped) for member in conducting.alive())

    @property
    def quiet(self) -> bool:
        """Whether nothing waits or is in flight anywhere."""
        return self.offered_all and all(member.quiet for member in self._conducting.alive())

    @property
    def cpu(self) -> list[CpuSample]:
        """Of the master (index 0) and of every worker."""
        theirs = [sample for member in self._conducting.members.values() for sample in member.cpu]
        return [*self._health.cpu, *theirs]

    @property
    def generators(self) -> list[GeneratorInfo]:
        """Of the master, and what was last heard of every worker."""
        told = [self._health.figures()]
        for member in self._conducting.members.values():
            if member.generator is not None:
                member.generator.lost = member.lost
                told.append(member.generator)
        return told

    @property
    def clock(self) -> ClockInfo | None:
        """As the worker tells it that knows it best."""
        reports = [member.report for member in self._conducting.members.values()]
        told = [report.clock for report in reports if report is not None and report.clock is not None]
        return min(told, key=lambda clock: clock.uncertainty_s, default=None)

    @property
    def peers(self) -> dict[str, PeerInfo]:
        """What the master, which seeds jobs, and every worker connected to, as far as was heard."""
        reports = [member.report for member in self._conducting.members.values()]
        told = [self._session.endpoint.address.names.peers, *(report.peers for report in reports if report)]
        together: dict[str, PeerInfo] = {}
        for address, peer in (pair for each in told for pair in each.items()):
            known = together.setdefault(address, PeerInfo())
            known.connections += peer.connections
            known.failed += peer.failed
        return together

    def begin(self) -> None:
        """Let the workers share the schedule from the session's epoch on."""
        self._health.start(self._session.epoch_ns)
        self._conducting.begin()

    def stop(self, *, discard: bool = False) -> None:
        """Let nobody offer anything more."""
        conducting = self._conducting
        if conducting.ended_ns is None and conducting.begun:
            conducting.ended_ns = conducting.now_ns()
        conducting.tell_all(Stop(run=conducting.run, discard=discard))

    def finish(self) -> None:
        """Wait until every worker has sent what it recorded."""
        self._finish(aborted=False)

    def unwatch(self) -> None:
        """Watch the master's process no longer."""
        self._health.stop()

    def end(self, *, aborted: bool) -> None:
        """Close the books: what is missing was lost with a worker."""
        self._finish(aborted=aborted)
        self._conducting.end()
        close_books(self._session, self._conducting)

    def _abort(self, reason: str) -> None:
        self.on_abort(reason)

    def _finish(self, *, aborted: bool) -> None:
        conducting = self._conducting
        if conducting.closing:
            return
        conducting.closing = True
        conducting.tell_all(Close(run=conducting.run, aborted=aborted))
        deadline = time.monotonic() + _CLOSE_PATIENCE
        while time.monotonic() < deadline and not all(member.closed for member in conducting.alive()):
            gevent.sleep(TICK)
        for member in conducting.alive():
            if not member.closed:
                conducting.give_up(member, lost=True)
