"""The assignments of the schedule to the workers of a run, and the transfer of the workers' samples into the record.

The assignment changes in two steps, so that each arrival belongs to exactly one worker. First the master proposes a
cut: a moment slightly ahead of now. A worker that agrees ends its share of the schedule at the cut. Once all workers
have agreed, the next assignment begins at the cut. A worker that has passed the cut (offered a later arrival) rejects
it, and the master proposes a later cut. The master also proposes a later cut if it loses a worker that has not
answered. A disconnected worker offers arrivals for a while, but stops before it counts as lost.

A worker packs its samples into batches, and keeps each batch until the master has recorded it. Only the master
has all samples, so it detects duplicate job ids of two workers, and arrivals that a lost worker did not record.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from loadtest.contract import POLLED_OPERATIONS, Outcome, Reason
from loadtest.load.distributed.protocol import Batch, Hello, WorkerReport
from loadtest.load.payloads import JobNumbers
from loadtest.load.recorder import Recorder
from loadtest.record.run_info import CpuSample, WorkerInfo
from loadtest.record.samples import Sample
from loadtest.schedule import Arrival, TrafficSchedule

if TYPE_CHECKING:  # tests import this module without Locust, which patches the interpreter
    from loadtest.load.session import Session

SLACK: Final = 2
"""A cut that replaces an earlier proposal is at least this many times ``margin_ns`` ahead (see ``Assigner.step``)."""
_AGAIN_NS: Final = 3_000_000_000
"""A batch that is not acknowledged for this long is sent again: a broken connection may have lost it."""
_AT_ONCE: Final = 50
"""``Outbox.write`` packs this many samples between two calls of ``rest``. This takes about 0.05 ms."""
_GROWTH: Final = 1 << 16

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Sample]).decode


@dataclass(frozen=True, slots=True)
class Assignment:
    """The workers that share the schedule from ``from_ns`` (since the epoch) on.

    A worker's place in ``workers`` determines its arrivals.
    """

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
    """Set if a worker may have passed the cut. The next cut must be later than this time (ns since the epoch)."""


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
        """Return the next message: a reassignment for its ``waiting`` workers, an assignment for all workers, or None.

        ``now_ns`` counts from the epoch. A new cut is at least ``margin_ns`` after ``now_ns``.
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
    """Its silence counts from this time (ns on the master's monotonic clock)."""
    report: WorkerReport = field(default_factory=lambda: WorkerReport(run="", sent_ns=0))
    """Its last report."""
    joined_ns: int | None = None
    """Time since the epoch when its first assignment began."""
    gone_ns: int | None = None
    """Time since the epoch when it left or was lost."""
    lost: bool = False
    returned: int = 0
    """Number of times that it returned after it counted as lost. Arrivals around these times may have no sample."""
    leaving: bool = False
    closed: bool = False
    """Whether the master has recorded all samples of this worker."""
    handed: int = 0
    """Number of other workers' arrivals that the master has sent to it."""
    cpu: list[CpuSample] = field(default_factory=list)

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


class Outbox:
    """The ``Output`` of a worker's recorder. It keeps each batch of samples until the master acknowledges it."""

    def __init__(self) -> None:
        self.count = 0
        self._number = 0
        self._packed: list[bytes] = []
        """Packed samples that are not yet in a batch."""
        self._kept: dict[int, tuple[Batch, int]] = {}
        """Batches by number, each with the monotonic time (ns) when it was last sent, or 0 if it was never sent."""

    def write(self, samples: list[Sample], rest: Callable[[], None] = lambda: None) -> None:
        packed = []
        for begin in range(0, len(samples), _AT_ONCE):
            rest()
            packed.append(_pack(samples[begin : begin + _AT_ONCE]))
        self._packed += packed
        self.count += len(samples)

    def write_jobs(self, jobs: Sequence[tuple[str, int]]) -> None: ...  # the master gets the jobs from the samples

    def end(self, pending: dict[str, int]) -> None: ...

    @property
    def all_sent(self) -> bool:
        return not self._packed and all(sent for _, sent in self._kept.values())

    @property
    def empty(self) -> bool:
        return not self._packed and not self._kept

    def take(self) -> Batch | None:
        """Put the newest samples into a new batch. Return the oldest batch that must be sent now, or None."""
        now = time.monotonic_ns()
        if self._packed:
            self._number += 1
            self._kept[self._number] = Batch(number=self._number, samples=self._packed), 0
            self._packed = []
        for number, (batch, sent) in self._kept.items():
            if now - sent >= _AGAIN_NS:
                self._kept[number] = batch, now
                return batch
        return None

    def acknowledged(self, number: int) -> None:
        self._kept = {each: kept for each, kept in self._kept.items() if each > number}


class Collector:
    """Records the samples of all workers."""

    def __init__(self, recorder: Recorder, on_jobs: Callable[[str, list[tuple[str, int]]], None]) -> None:
        self.rows = Counter[str]()
        """Number of samples recorded from each worker."""
        self.last = Counter[str]()
        """Number of each worker's last recorded batch."""
        self._arrivals = defaultdict[str, bytearray](bytearray)
        """By traffic entry, one byte for each arrival: 1 if the arrival is recorded."""
        self._repeated = 0
        self._duplicates = DuplicateJobIds()
        self._recorder = recorder
        self._on_jobs = on_jobs

    def take(self, worker: str, batch: Batch) -> None:
        """Record a batch if it is the worker's next batch. The worker repeats batches that are not acknowledged."""
        if batch.number != self.last[worker] + 1:
            return
        self.last[worker] = batch.number
        jobs: list[tuple[str, int]] = []
        for sample in unpacked(batch):
            self._duplicates.correct(sample)
            if sample.arrival is not None:
                self._note(sample.traffic, sample.arrival)
            if sample.accepted_job is not None:
                jobs.append((sample.accepted_job, sample.key_index or 0))
            self._recorder.append(sample)
            self.rows[worker] += 1
        if jobs:
            self._on_jobs(worker, jobs)

    def _note(self, traffic: str, arrival: int) -> None:
        noted = self._arrivals[traffic]
        if arrival >= len(noted):
            noted.extend(bytes(arrival - len(noted) + _GROWTH))
        self._repeated += noted[arrival]
        noted[arrival] = 1

    def record_lost(
        self, session: "Session", members: Mapping[str, Member], assignments: Sequence[Assignment], ended_ns: int | None
    ) -> None:
        """Record assigned arrivals without a sample as lost.

        Call this after all samples of the workers have arrived. If the run was cut short at ``ended_ns`` (since the
        epoch), arrivals from that time on do not count as lost.
        """
        finished = session.info.end == "finished"
        # If the run was cut short, only workers that left or were lost can have assigned arrivals without a sample.
        gone = {each.worker for each in members.values() if each.gone_ns is not None or each.returned}
        for schedule in session.schedules:
            entry = session.entries[schedule.traffic]
            noted = self._arrivals[entry.name]
            until = int(schedule.duration * 1e9) + 1 if finished or ended_ns is None else ended_ns
            lost = 0
            for arrival, worker in _assigned(schedule, assignments, until, members.keys() if finished else gone):
                if not any(noted[arrival.number : arrival.number + 1]):
                    lost += 1
                    sample = session.operation(entry, arrival, Outcome.LOST, Reason.WORKER_LOST)
                    sample.worker = members[worker].index
                    session.recorder.append(sample)
            session.live.offered[entry.name] = noted.count(1) + lost
        if self._repeated:
            session.bug = f"{self._repeated} arrivals were sent by two workers"


def _assigned(
    schedule: TrafficSchedule, assignments: Sequence[Assignment], until_ns: int, workers: Collection[str]
) -> Iterator[tuple[Arrival, str]]:
    """Yield the arrivals before ``until_ns`` that were assigned to one of ``workers``, each with its worker."""
    ends = [*(each.from_ns for each in assignments[1:]), until_ns]
    for assignment, end in zip(assignments, ends, strict=True):
        for place, worker in enumerate(assignment.workers):
            if worker not in workers:
                continue
            for arrival in schedule.share(place, len(assignment.workers), assignment.from_ns):
                if arrival.intended_ns >= min(end, until_ns):
                    break
                yield arrival, worker


def unpacked(batch: Batch) -> Iterator[Sample]:
    """Yield the samples of a batch. Raise ``msgspec.MsgspecError`` if they are damaged."""
    for packed in batch.samples:
        yield from _unpack(packed)


class DuplicateJobIds:
    """Marks an operation as failed if its submit returned the id of another worker's job.

    The operation whose submit was recorded later fails. Within one process, ``payloads.JobHistory`` does the same.
    """

    def __init__(self) -> None:
        self._accepted = JobNumbers()
        self._found: set[tuple[str, int | None]] = set()
        """Arrivals (traffic entry, number) that got a duplicate id, and whose operation is not recorded yet."""

    def correct(self, sample: Sample) -> None:
        """Note an accepted job, or mark an operation with a duplicate job id as failed."""
        if sample.row == "operation":
            # An operation ends after its submit, so its sample comes after the submit's sample.
            duplicate = (sample.traffic, sample.arrival)
            if duplicate in self._found and sample.operation in POLLED_OPERATIONS:
                self._found.remove(duplicate)
                # A deliberately wrong request is judged by its status only.
                if sample.outcome == Outcome.OK and sample.mistake is None:
                    sample.outcome, sample.reason = Outcome.FAILED, Reason.DUPLICATE_JOB_ID
        elif (job_id := sample.accepted_job) is not None:
            if self._accepted[job_id]:
                self._found.add((sample.traffic, sample.parent_arrival))
            self._accepted[job_id] = 1
