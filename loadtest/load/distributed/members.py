"""The workers of a run as its master knows them, and their part of the record and of run.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadtest.contract import Outcome, Reason
from loadtest.load.distributed.assignment import Assignment
from loadtest.load.distributed.collector import Collector
from loadtest.load.distributed.protocol import Hello, WorkerReport
from loadtest.load.session import Session
from loadtest.record.run_info import AssignmentInfo, CpuSample, GeneratorInfo, WorkerInfo


@dataclass(slots=True)
class Member:
    """A worker of a run."""

    worker: str
    """Its Locust id."""
    index: int
    hello: Hello
    worker_count: int
    """Number of workers at its set-up."""
    heard_ns: int
    """Time of its last message, on the master's clock."""
    report: WorkerReport | None = None
    """Its last report."""
    joined_ns: int | None = None
    """Beginning of its first assignment, since the epoch."""
    gone_ns: int | None = None
    """End of its part, by leaving or by loss, since the epoch."""
    lost: bool = False
    returned: int = 0
    """Number of returns after a loss; earlier assigned arrivals may be missing."""
    leaving: bool = False
    closed: bool = False
    """Whether it has sent all its samples."""
    handed: int = 0
    """Arrivals that it received from other workers."""
    cpu: list[CpuSample] = field(default_factory=list)
    generator: GeneratorInfo | None = None

    def has_offered_all(self, assignment: int, *, stopped: bool) -> bool:
        """Whether it has offered its part of the last assignment, which earlier reports do not include."""
        if self.joined_ns is None:
            return True
        report = self.report
        return report is not None and report.exhausted and (self.leaving or stopped or report.assignment == assignment)

    @property
    def quiet(self) -> bool:
        return self.report is not None and self.report.quiet and self.report.taken_over == self.handed

    def described(self, samples: int) -> WorkerInfo:
        """Return its entry in run.json."""
        report = self.report
        return WorkerInfo(
            worker=self.index,
            host=self.hello.host,
            joined_s=round((self.joined_ns or 0) / 1e9, 3),
            left_s=None if self.gone_ns is None else round(self.gone_ns / 1e9, 3),
            end="lost" if self.lost else "stayed" if self.gone_ns is None else "left",
            returned=self.returned,
            samples=samples,
            offset_ms=round((report.offset_ns if report else 0) / 1e6, 3),
            uncertainty_ms=round((report.uncertainty_ns if report else 0) / 1e6, 3),
            shared_clock=report is not None and report.shared_clock,
        )


def record_lost_arrivals(
    session: Session,
    members: Mapping[str, Member],
    collector: Collector,
    assignments: Sequence[Assignment],
    ended_ns: int | None,
) -> None:
    """Record assigned arrivals without a sample as lost, after the workers have sent all samples.

    A run that was cut short told its workers at ``ended_ns`` (since the epoch) to offer nothing more.
    """
    arrivals, finished = collector.arrivals, session.info.end == "finished"
    # In a run that was cut short, only workers that are gone leave arrivals without a sample.
    gone = {each.worker for each in members.values() if each.gone_ns is not None or each.returned}
    for schedule in session.schedules:
        entry = session.entries[schedule.traffic]
        until = int(schedule.duration * 1e9) + 1 if finished or ended_ns is None else ended_ns
        lost = 0
        for arrival, worker in arrivals.missing(schedule, assignments, until, None if finished else gone):
            lost += 1
            sample = session.unsent(entry, arrival, Outcome.LOST, Reason.WORKER_LOST)
            sample.worker = members[worker].index
            session.recorder.append(sample)
        session.live.offered[entry.name] = arrivals.count(entry.name) + lost
    if arrivals.repeated:
        session.bug = f"{arrivals.repeated} arrivals were sent by two workers"


def describe_workers(
    session: Session, members: Mapping[str, Member], collector: Collector, assignments: Sequence[Assignment]
) -> None:
    """Write the workers and their assignments into the run's info."""
    info = session.info
    if assignments:
        info.workers = len(assignments[0].workers)
    info.worker_processes = [member.described(collector.rows[member.worker]) for member in members.values()]
    info.assignments = [
        AssignmentInfo(
            number=each.number,
            from_s=round(each.from_ns / 1e9, 3),
            workers=[members[worker].index for worker in each.workers],
        )
        for each in assignments
    ]
