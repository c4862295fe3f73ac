"""Which workers share the schedule from when on: the master's side of it. Pure, given moments and what workers say.

A change of the workers takes two steps, so that nothing is sent twice or forgotten. First a cut is proposed, ahead of
now: each worker of the epoch under way offers nothing from there on. When all that are alive have said so, the next
epoch begins at the cut, with the workers that are wanted then. Whoever passed the cut before it heard of it says how
far it got, and a later cut is proposed; so it is where somebody is lost before it has answered, since a worker that
hears nothing goes on for a while (shorter than it takes to be believed lost).

A worker, as its master knows it.

Which arrivals the record tells of: what is missing at the end was lost with a worker. Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from loadtest.load.distributed.protocol import Hello, Report
from loadtest.record.run_info import CpuSample, GeneratorInfo
from loadtest.schedule import Arrival, TrafficSchedule

SLACK: Final = 2
"""How much further ahead the next cut is proposed, after one that came too late."""


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """From a moment on (ns since the run's epoch), these workers share the schedule, in this order."""

    number: int
    from_ns: int
    workers: tuple[str, ...]


@dataclass(slots=True)
class Proposal:
    """A cut that was proposed, and whose answers are missing."""

    number: int
    cut_ns: int
    waiting: set[str] = field(default_factory=set)
    too_late_ns: int | None = None
    """How far somebody had got already."""


class Roster:
    """Keeps the epochs of one run."""

    def __init__(self) -> None:
        self.epochs: list[EpochPlan] = []
        self.wanted: list[str] = []
        """Workers that should share the schedule, in the order in which they came."""
        self._proposal: Proposal | None = None
        self._number = 0

    def begin(self) -> EpochPlan:
        """Let the workers that are wanted now share the schedule from its begin."""
        return self._next(0)

    def join(self, worker: str) -> None:
        """Want a worker."""
        if worker not in self.wanted:
            self.wanted.append(worker)

    def leave(self, worker: str, *, gone: bool) -> None:
        """Want a worker no longer.

        Args:
            worker: which.
            gone: whether it can't be asked any more, either.
        """
        if worker in self.wanted:
            self.wanted.remove(worker)
        proposal = self._proposal
        if gone and proposal is not None and worker in proposal.waiting:
            # It never heard of the cut, so it may have passed it: nothing of before now may be given to others.
            proposal.waiting.discard(worker)
            proposal.too_late_ns = proposal.too_late_ns or 0

    def answer(self, worker: str, number: int, reached_ns: int, *, accepted: bool) -> None:
        """Take in what a worker says to a proposal."""
        proposal = self._proposal
        if proposal is None or proposal.number != number:
            return
        proposal.waiting.discard(worker)
        if not accepted:
            proposal.too_late_ns = max(reached_ns, proposal.too_late_ns or 0)

    def step(self, now_ns: int, margin_ns: int, alive: set[str]) -> Proposal | EpochPlan | None:
        """What has to be told to the workers now, if anything.

        Args:
            now_ns: since the run's epoch.
            margin_ns: how far ahead a cut is to be.
            alive: the workers that can be asked.

        Returns:
            A proposal for those of the epoch under way, or an epoch for all.
        """
        proposal = self._proposal
        if proposal is None:
            if not self.wanted or tuple(self.wanted) == self.epochs[-1].workers:
                return None
            return self._propose(now_ns + margin_ns, alive)
        if proposal.waiting & alive:
            return None
        if proposal.too_late_ns is not None:
            return self._propose(max(now_ns, proposal.too_late_ns) + SLACK * margin_ns, alive)
        if not self.wanted:
            return None
        self._proposal = None
        return self._next(proposal.cut_ns)

    def _propose(self, cut_ns: int, alive: set[str]) -> Proposal:
        self._number += 1
        # The epoch under way may have been proposed far ahead.
        cut_ns = max(cut_ns, self.epochs[-1].from_ns + 1)
        self._proposal = Proposal(self._number, cut_ns, set(self.epochs[-1].workers) & alive)
        return self._proposal

    def _next(self, from_ns: int) -> EpochPlan:
        self._number += 1
        self.epochs.append(EpochPlan(self._number, from_ns, tuple(self.wanted)))
        return self.epochs[-1]


@dataclass(slots=True)
class Member:
    """One worker of a run. Moments without another word are ns of the master's monotonic clock."""

    worker: str
    """Its Locust id."""
    index: int
    hello: Hello
    of: int
    """How many there were when it was told to make its users."""
    heard_ns: int
    report: Report | None = None
    """The last one."""
    joined_ns: int | None = None
    """When its first epoch began; since the run's epoch."""
    gone_ns: int | None = None
    """When it left, or was believed lost; since the run's epoch."""
    lost: bool = False
    returned: int = 0
    """How often it was lost and came back: what it was assigned until then may be missing."""
    leaving: bool = False
    closed: bool = False
    """It has sent everything that it recorded."""
    given: int = 0
    """Arrivals of others that it was given."""
    cpu: list[CpuSample] = field(default_factory=list)
    generator: GeneratorInfo | None = None

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.gone_ns is None

    def has_offered_all(self, epoch: int, *, stopped: bool) -> bool:
        """Whether it has nothing left to offer.

        Args:
            epoch: number of the last one: a report of before it says nothing of what it was given with it.
            stopped: whether everybody was told to offer nothing more.
        """
        if self.joined_ns is None:
            return True
        report = self.report
        return report is not None and report.exhausted and (self.leaving or stopped or report.epoch == epoch)

    @property
    def quiet(self) -> bool:
        """Whether nothing waits to be sent by it, and nothing is in flight, as far as was heard."""
        return self.report is not None and self.report.quiet and self.report.given == self.given


_GROWTH: Final = 1 << 16


class Seen:
    """Notes the arrivals of each traffic entry whose operation is in the record: a byte for each."""

    def __init__(self) -> None:
        self._known: dict[str, npt.NDArray[np.uint8]] = {}
        self.twice = 0
        """Arrivals that came a second time, which must not be."""

    def add(self, traffic: str, numbers: npt.NDArray[np.int64]) -> None:
        """Note arrivals."""
        if not len(numbers):
            return
        known = self._known.get(traffic, np.zeros(0, np.uint8))
        if numbers.max() >= len(known):
            grown = np.zeros(max(int(numbers.max()) + _GROWTH, 2 * len(known)), np.uint8)
            grown[: len(known)] = known
            known = self._known[traffic] = grown
        self.twice += int(known[numbers].sum()) + len(numbers) - len(np.unique(numbers))
        known[numbers] = 1

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Note the arrivals of a batch's operations."""
        traffic = batch.column("traffic")
        numbers = batch.column("arrival")
        operations = ~np.asarray(numbers.is_null())
        codes = traffic.indices.to_numpy(zero_copy_only=False)
        values = numbers.fill_null(-1).to_numpy(zero_copy_only=False)
        for code, name in enumerate(traffic.dictionary.to_pylist()):
            self.add(name, values[operations & (codes == code)])

    def count(self, traffic: str) -> int:
        """How many of an entry's arrivals are known."""
        return int(self._known.get(traffic, np.zeros(0, np.uint8)).sum())

    def has(self, arrival: Arrival) -> bool:
        """Whether an arrival is known."""
        known = self._known.get(arrival.traffic)
        return known is not None and arrival.number < len(known) and bool(known[arrival.number])

    def missing(
        self, schedule: TrafficSchedule, epochs: Sequence[EpochPlan], until_ns: int, whose: set[str] | None
    ) -> Iterator[tuple[Arrival, str]]:
        """Yield the arrivals that were assigned and are not known, and the worker that had each.

        Args:
            schedule: of the entry.
            epochs: who shared the schedule from when on.
            until_ns: arrivals from here on were not offered by anybody.
            whose: workers to look at; None for all.
        """
        ends = [*(epoch.from_ns for epoch in epochs[1:]), until_ns]
        for epoch, end in zip(epochs, ends, strict=True):
            for place, worker in enumerate(epoch.workers):
                if whose is not None and worker not in whose:
                    continue
                for arrival in schedule.share(place, len(epoch.workers), epoch.from_ns):
                    if arrival.intended_ns >= min(end, until_ns):
                        break
                    if not self.has(arrival):
                        yield arrival, worker
