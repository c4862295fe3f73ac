"""The workers of a run as its master knows them, and the assignments of its schedule to them. Pure.

A change of the assignment takes two steps, so that each arrival is sent exactly once. First the master proposes a cut,
slightly ahead of now, and the present workers offer nothing from the cut on. After all of them have agreed, the next
assignment begins at the cut. A worker that has passed the cut rejects it, and the master proposes a later cut.
The master also proposes a later cut if it loses a worker that has not answered. A disconnected worker continues for a
while, but stops before it counts as lost.
"""

from dataclasses import dataclass, field
from typing import Final

from loadtest.load.distributed.protocol import Hello, WorkerReport
from loadtest.record.run_info import CpuSample, GeneratorInfo, WorkerInfo

SLACK: Final = 2
"""Factor by which a cut's lead is longer if it replaces a rejected cut."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The workers that share the schedule, in this order, from a moment on (ns since the epoch)."""

    number: int
    from_ns: int
    workers: tuple[str, ...]


@dataclass(slots=True)
class Reassignment:
    """A pending change: a proposed cut, and the workers that have not answered."""

    number: int
    cut_ns: int
    waiting: set[str] = field(default_factory=set)
    too_late_ns: int | None = None
    """Intended start of the last arrival offered by a worker that had passed the cut."""


class Assigner:
    """Keeps the assignments of one run, and changes them as workers come and go."""

    def __init__(self) -> None:
        self.assignments: list[Assignment] = []
        self.wanted: list[str] = []
        """Workers for the next assignment, in order of arrival."""
        self._change: Reassignment | None = None
        self._number = 0

    def join(self, worker: str) -> None:
        if worker not in self.wanted:
            self.wanted.append(worker)

    def leave(self, worker: str, *, gone: bool) -> None:
        """Remove a worker; if it is gone, do not wait for its answer."""
        if worker in self.wanted:
            self.wanted.remove(worker)
        change = self._change
        if gone and change is not None and worker in change.waiting:
            # It may have missed the proposal and passed the cut, so the next cut must be later than now.
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
        """Return a change to propose to its waiting workers, a new assignment for all workers, or None.

        Args:
            now_ns: since the epoch.
            margin_ns: minimum lead of a cut.
            alive: connected workers.
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
        # The present assignment may begin far ahead.
        cut_ns = max(cut_ns, self.assignments[-1].from_ns + 1)
        self._change = Reassignment(self._number, cut_ns, set(self.assignments[-1].workers) & alive)
        return self._change

    def assign(self, from_ns: int) -> Assignment:
        """Assign the schedule from a moment on (ns since the epoch) to the present workers."""
        self._number += 1
        self.assignments.append(Assignment(self._number, from_ns, tuple(self.wanted)))
        return self.assignments[-1]


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
    report: WorkerReport = field(default_factory=lambda: WorkerReport(run="", sent_ns=0))
    """Its last report; an empty report before the first."""
    joined_ns: int | None = None
    """Beginning of its first assignment, since the epoch."""
    gone_ns: int | None = None
    """End of its part, by leaving or by loss, since the epoch."""
    lost: bool = False
    returned: int = 0
    """Number of returns after a loss; arrivals assigned before the loss may be missing."""
    leaving: bool = False
    closed: bool = False
    """Whether it has sent all its samples."""
    handed: int = 0
    """Arrivals that it received from other workers."""
    cpu: list[CpuSample] = field(default_factory=list)
    generator: GeneratorInfo | None = None

    def has_offered_all(self, assignment: int, *, stopped: bool) -> bool:
        """Whether it has offered its part of the last assignment, according to a report after that assignment."""
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
