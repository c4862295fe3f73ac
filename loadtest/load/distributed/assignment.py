"""The master's view of a run's workers, and the assignments of the schedule to these workers.

The assignment changes in two steps, so that each arrival is sent exactly once. First the master proposes a cut: a
moment slightly ahead of now. A worker that agrees offers nothing from the cut on. Once all workers have agreed,
the next assignment begins at the cut. A worker that has passed the cut rejects it, and the master proposes a later cut.
The master also proposes a later cut if it loses a worker that has not answered. A disconnected worker continues for a
while, but it stops before it counts as lost.
"""

from dataclasses import dataclass, field
from typing import Final

from loadtest.load.distributed.protocol import Hello, WorkerReport
from loadtest.record.run_info import CpuSample, GeneratorInfo, WorkerInfo

SLACK: Final = 2
"""A cut that replaces an earlier proposal is at least this many times ``margin_ns`` ahead (see ``Assigner.step``)."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """From ``from_ns`` (since the epoch) on, these workers share the schedule in this order."""

    number: int
    from_ns: int
    workers: tuple[str, ...]


@dataclass(slots=True)
class Reassignment:
    """A proposed cut, and the workers that have not answered the proposal."""

    number: int
    cut_ns: int
    waiting: set[str] = field(default_factory=set)
    too_late_ns: int | None = None
    """Set if a worker had passed the cut, or may have. The next cut must be later than this."""


class Assigner:
    """Keeps the assignments of one run, and changes them as workers come and go."""

    def __init__(self) -> None:
        self.assignments: list[Assignment] = []
        self.wanted: list[str] = []
        """Workers for the next assignment, in the order in which they joined."""
        self._change: Reassignment | None = None
        self._number = 0

    def join(self, worker: str) -> None:
        if worker not in self.wanted:
            self.wanted.append(worker)

    def leave(self, worker: str, *, gone: bool) -> None:
        """Remove a worker. If it is gone, do not wait for its answer."""
        if worker in self.wanted:
            self.wanted.remove(worker)
        change = self._change
        if gone and change is not None and worker in change.waiting:
            # The worker may have missed the proposal and passed the cut, so the next cut must be later than now.
            change.waiting.discard(worker)
            change.too_late_ns = change.too_late_ns or 0

    def answer(self, worker: str, number: int, reached_ns: int, *, accepted: bool) -> None:
        change = self._change
        if change is None or change.number != number:
            return
        change.waiting.discard(worker)
        if not accepted:
            change.too_late_ns = max(reached_ns, change.too_late_ns or 0)

    def step(self, now_ns: int, margin_ns: int, alive: set[str]) -> Reassignment | Assignment | None:
        """Return a change to propose to its waiting workers, or a new assignment for all workers, or None.

        Args:
            now_ns: current time since the epoch.
            margin_ns: a new cut is at least this far ahead.
            alive: workers that are connected.
        """
        change = self._change
        if change is None:
            if not self.wanted or tuple(self.wanted) == self.assignments[-1].workers:
                return None
            return self._propose(now_ns + margin_ns, alive)
        if change.waiting & alive:
            return None
        if change.too_late_ns is not None:
            return self._propose(max(now_ns, change.too_late_ns) + SLACK * margin_ns, alive)
        if not self.wanted:
            return None
        self._change = None
        return self.assign(change.cut_ns)

    def _propose(self, cut_ns: int, alive: set[str]) -> Reassignment:
        self._number += 1
        # The current assignment may begin later than this cut.
        cut_ns = max(cut_ns, self.assignments[-1].from_ns + 1)
        self._change = Reassignment(self._number, cut_ns, set(self.assignments[-1].workers) & alive)
        return self._change

    def assign(self, from_ns: int) -> Assignment:
        """Assign the schedule to the wanted workers. The assignment begins at ``from_ns`` (since the epoch)."""
        self._number += 1
        self.assignments.append(Assignment(self._number, from_ns, tuple(self.wanted)))
        return self.assignments[-1]


@dataclass(slots=True)
class Member:
    """A worker of a run, as the master knows it."""

    worker: str
    """Its Locust id."""
    index: int
    hello: Hello
    worker_count: int
    """Number of workers in the run when this worker was set up."""
    heard_ns: int
    """Time of its last message, on the master's clock."""
    report: WorkerReport = field(default_factory=lambda: WorkerReport(run="", sent_ns=0))
    """Its last report. Before the first report, this is empty."""
    joined_ns: int | None = None
    """Time since the epoch when its first assignment began."""
    gone_ns: int | None = None
    """Time since the epoch when it left or was lost."""
    lost: bool = False
    returned: int = 0
    """Number of times that it returned after it was lost. Arrivals from before a loss may be missing."""
    leaving: bool = False
    closed: bool = False
    """Whether it has sent all its samples."""
    handed: int = 0
    """Number of arrivals that it received from other workers."""
    cpu: list[CpuSample] = field(default_factory=list)
    generator: GeneratorInfo | None = None

    def has_offered_all(self, assignment: int, *, stopped: bool) -> bool:
        """Whether it has offered all its arrivals. A report from before the last ``assignment`` does not count."""
        if self.joined_ns is None:
            return True
        return self.report.exhausted and (self.leaving or stopped or self.report.assignment == assignment)

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
            offset_ms=round(report.offset_ns / 1e6, 3),
            uncertainty_ms=round(report.uncertainty_ns / 1e6, 3),
            shared_clock=report.shared_clock,
        )
