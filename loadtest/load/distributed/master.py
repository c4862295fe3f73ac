"""A run on workers, for the engine to conduct as it conducts one in its own process; and how such a run ends.

At its end, what is missing in the record counts as lost, and run.json lists the workers.
"""

import time
from collections.abc import Callable
from typing import Final

import gevent

from loadtest.contract import Outcome, Reason
from loadtest.errors import LoadtestError
from loadtest.load.distributed.coordinator import TICK, Coordinator, Member
from loadtest.load.distributed.protocol import Close, Stop
from loadtest.load.distributed.transport import Mailbox
from loadtest.load.health import Health
from loadtest.load.session import Session
from loadtest.record import run_info
from loadtest.record.samples import Sample

_CLOSE_PATIENCE: Final = 15.0


class DistributedGenerator:
    """A ``LoadGenerator`` whose load is made by the workers that take part in the run."""

    def __init__(self, session: Session, mailbox: Mailbox) -> None:
        self.on_abort: Callable[[str], None] = lambda _: None
        self._session = session
        self._coordinator = Coordinator(session, mailbox, self._abort)
        self._health = Health({})

    @property
    def lead_ns(self) -> int:
        """Far enough ahead for the epoch to reach every worker."""
        return 2 * self._coordinator.margin_ns

    @property
    def ready(self) -> bool:
        """Whether every worker is, and there is one.

        Raises:
            LoadtestError: if one can't take part.
        """
        if self._coordinator.setup_failure is not None:
            raise LoadtestError(self._coordinator.setup_failure)
        alive = self._coordinator.alive()
        return bool(alive) and all(member.report is not None and member.report.ready for member in alive)

    @property
    def offered_all(self) -> bool:
        """Whether no worker has anything left to offer."""
        coordinator = self._coordinator
        last, stopped = coordinator.assigner.assignments[-1].number, coordinator.ended_ns is not None
        return all(member.has_offered_all(last, stopped=stopped) for member in coordinator.alive())

    @property
    def quiet(self) -> bool:
        """Whether nothing waits or is in flight at any worker."""
        return self.offered_all and all(member.quiet for member in self._coordinator.alive())

    @property
    def cpu(self) -> list[run_info.CpuSample]:
        """Of the master (index 0) and of every worker."""
        of_workers = [sample for member in self._coordinator.members.values() for sample in member.cpu]
        return [*self._health.cpu, *of_workers]

    @property
    def generators(self) -> list[run_info.GeneratorInfo]:
        """Of the master, and what every worker last reported."""
        known = [self._health.figures()]
        for member in self._coordinator.members.values():
            if member.generator is not None:
                member.generator.lost = member.lost
                known.append(member.generator)
        return known

    @property
    def budget_used(self) -> run_info.BudgetUse:
        """What master and workers have used together, as they last reported."""
        return self._coordinator.quota_split.total()

    @property
    def clock(self) -> run_info.ClockInfo | None:
        """The estimate of the worker that knows it best."""
        reports = [member.report for member in self._coordinator.members.values()]
        clocks = [report.clock for report in reports if report is not None and report.clock is not None]
        return min(clocks, key=lambda clock: clock.uncertainty_s, default=None)

    @property
    def peers(self) -> dict[str, run_info.PeerInfo]:
        """What the master, which seeds jobs, and every worker connected to, as they last reported."""
        reports = [member.report for member in self._coordinator.members.values()]
        of_processes = [self._session.endpoint.address.resolver.peers, *(each.peers for each in reports if each)]
        total: dict[str, run_info.PeerInfo] = {}
        for peers in of_processes:
            for address, peer in peers.items():
                known = total.setdefault(address, run_info.PeerInfo())
                known.connections += peer.connections
                known.failed += peer.failed
        return total

    def begin(self) -> None:
        """Let the workers share the schedule from the session's epoch on."""
        self._health.start(self._session.epoch_ns)
        self._coordinator.begin()

    def stop(self, *, discard: bool = False) -> None:
        """Let no worker offer anything more."""
        coordinator = self._coordinator
        if coordinator.ended_ns is None and coordinator.begun:
            coordinator.ended_ns = coordinator.now_ns()
        coordinator.send_all(Stop(run=coordinator.run, discard=discard))

    def finish(self) -> None:
        """Wait until every worker has sent what it recorded."""
        self._finish(aborted=False)

    def unwatch(self) -> None:
        """Watch the master's process no longer."""
        self._health.stop()

    def end(self, *, aborted: bool) -> None:
        """Record what is missing: it was lost with a worker."""
        self._finish(aborted=aborted)
        self._coordinator.end()
        record_lost_arrivals(self._session, self._coordinator)
        describe_workers(self._session, self._coordinator)

    def _abort(self, reason: str) -> None:
        self.on_abort(reason)

    def _finish(self, *, aborted: bool) -> None:
        coordinator = self._coordinator
        if coordinator.closing:
            return
        coordinator.closing = True
        coordinator.send_all(Close(run=coordinator.run, aborted=aborted))
        deadline = time.monotonic() + _CLOSE_PATIENCE
        while time.monotonic() < deadline and not all(member.closed for member in coordinator.alive()):
            gevent.sleep(TICK)
        for member in coordinator.alive():
            if not member.closed:
                coordinator.remove(member, lost=True)


def record_lost_arrivals(session: Session, coordinator: Coordinator) -> None:
    """Record as lost what was assigned and is not in the record, once workers have sent all that they will."""
    members, arrivals = coordinator.members, coordinator.collector.arrivals
    assignments = coordinator.assigner.assignments
    finished = session.info.end == "finished"
    # Where the run was cut short, only workers that are gone had arrivals that nobody offered.
    workers = None if finished else {m.worker for m in members.values() if not m.alive or m.returned}
    for schedule in session.schedules if assignments else ():
        entry = session.entries[schedule.traffic]
        until = int(schedule.duration * 1e9) + 1 if finished or coordinator.ended_ns is None else coordinator.ended_ns
        lost = 0
        for arrival, worker in arrivals.missing(schedule, assignments, until, workers):
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
                    worker=members[worker].index,
                    request_id=session.trace_id(entry, arrival.number),
                )
            )
        session.live.offered[entry.name] = arrivals.count(entry.name) + lost
    if arrivals.repeated:
        session.bug = f"{arrivals.repeated} arrivals were sent by two workers"


def describe_workers(session: Session, coordinator: Coordinator) -> None:
    """Fill in the workers, their assignments, and what they used of the request budget, for run.json."""
    info, members = session.info, coordinator.members
    assignments = coordinator.assigner.assignments
    session.endpoint.budget.used = coordinator.quota_split.total()
    if assignments:
        info.workers = len(assignments[0].workers)
    info.worker_processes = [_worker_info(member, coordinator.collector.rows) for member in members.values()]
    info.assignments = [
        run_info.AssignmentInfo(
            number=each.number,
            from_s=round(each.from_ns / 1e9, 3),
            workers=[members[worker].index for worker in each.workers],
        )
        for each in assignments
    ]


def _worker_info(member: Member, rows: dict[str, int]) -> run_info.WorkerInfo:
    report = member.report
    return run_info.WorkerInfo(
        worker=member.index,
        host=member.hello.host,
        joined_s=round((member.joined_ns or 0) / 1e9, 3),
        left_s=None if member.gone_ns is None else round(member.gone_ns / 1e9, 3),
        end="lost" if member.lost else "stayed" if member.alive else "left",
        returned=member.returned,
        samples=rows.get(member.worker, 0),
        offset_ms=round((report.offset_ns if report else 0) / 1e6, 3),
        uncertainty_ms=round((report.uncertainty_ns if report else 0) / 1e6, 3),
        shared_clock=report is not None and report.shared_clock,
    )
