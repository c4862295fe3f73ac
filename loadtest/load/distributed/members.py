"""The workers of a run as its master knows them, and what the record and run.json say of them at the end."""

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
    """One worker of a run, as its master knows it. Moments without another word are ns of the master's clock."""

    worker: str
    """Its Locust id."""
    index: int
    hello: Hello
    worker_count: int
    """How many there were when it was told to make its users."""
    heard_ns: int
    report: WorkerReport | None = None
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

    def has_offered_all(self, assignment: int, *, stopped: bool) -> bool:
        """Whether nothing is left to offer by the last assignment, which earlier reports do not include."""
        if self.joined_ns is None:
            return True
        report = self.report
        return report is not None and report.exhausted and (self.leaving or stopped or report.assignment == assignment)

    @property
    def quiet(self) -> bool:
        return self.report is not None and self.report.quiet and self.report.taken_over == self.handed

    def described(self, samples: int) -> WorkerInfo:
        """The worker as run.json has it, with the number of its samples."""
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
    """Record as lost what was assigned and is not in the record, once workers have sent all that they will.

    They were told to offer nothing more at ``ended_ns`` (since the epoch); None where they were not.
    """
    arrivals, finished = collector.arrivals, session.info.end == "finished"
    # Where the run was cut short, only workers that are gone had arrivals that nobody offered.
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
    """Fill in the workers and their assignments, for run.json."""
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
