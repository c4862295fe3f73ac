"""Which workers share the schedule from when on: the master's side of it. Pure, given moments and what workers say.

A change of the workers takes two steps, so that nothing is sent twice or forgotten. First a cut is proposed, ahead of
now: each worker of the epoch under way offers nothing from there on. When all that are alive have said so, the next
epoch begins at the cut, with the workers that are wanted then. Whoever passed the cut before it heard of it says how
far it got, and a later cut is proposed; so it is where somebody is lost before it has answered, since a worker that
hears nothing goes on for a while (shorter than it takes to be believed lost).
"""

from dataclasses import dataclass, field
from typing import Final

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
