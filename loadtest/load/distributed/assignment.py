"""Which workers share the schedule from when on, as the master decides it. Pure, given moments and what workers say.

A change of the workers takes two steps, so that no arrival is sent twice or forgotten. First the master proposes a cut,
a little ahead of now: each worker of the present assignment offers nothing from the cut on. When all that are alive
have agreed, the next assignment begins at the cut, with the workers that are wanted then. A worker that had passed the
cut already answers how far it got, and the master proposes a later cut. It also proposes a later one where a worker is
lost before it has answered, since a worker that is cut off goes on for a while (for less time than passes until it
counts as lost).
"""

from dataclasses import dataclass, field
from typing import Final

SLACK: Final = 2
"""How many times further ahead the next cut is proposed, after one that came too late."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """From a moment on (ns since the epoch), these workers share the schedule, in this order."""

    number: int
    from_ns: int
    workers: tuple[str, ...]


@dataclass(slots=True)
class Reassignment:
    """A change under way: a cut that was proposed, and that some workers have not answered yet."""

    number: int
    cut_ns: int
    waiting: set[str] = field(default_factory=set)
    too_late_ns: int | None = None
    """How far a worker had got that had passed the cut already."""


class Assigner:
    """Keeps the assignments of one run, and changes them as workers come and go."""

    def __init__(self) -> None:
        self.assignments: list[Assignment] = []
        self.wanted: list[str] = []
        """Workers that should share the schedule, in the order in which they came."""
        self._change: Reassignment | None = None
        self._number = 0

    def begin(self) -> Assignment:
        """Let the workers that are wanted now share the schedule from its beginning."""
        return self._next(0)

    def join(self, worker: str) -> None:
        if worker not in self.wanted:
            self.wanted.append(worker)

    def leave(self, worker: str, *, gone: bool) -> None:
        """Want a worker no longer; where it is gone, it can't be asked any more, either."""
        if worker in self.wanted:
            self.wanted.remove(worker)
        change = self._change
        if gone and change is not None and worker in change.waiting:
            # It never heard of the cut, so it may have passed it: nothing of before now may be given to others.
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
        """Take the next step of a change, if one is due.

        Args:
            now_ns: since the epoch.
            margin_ns: how far ahead a cut has to be.
            alive: the workers that can be asked.

        Returns:
            A change to propose to the workers of the present assignment, or the next assignment, for all; None if the
            workers have to be sent nothing now.
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
        return self._next(change.cut_ns)

    def _propose(self, cut_ns: int, alive: set[str]) -> Reassignment:
        self._number += 1
        # The present assignment may have been proposed far ahead.
        cut_ns = max(cut_ns, self.assignments[-1].from_ns + 1)
        self._change = Reassignment(self._number, cut_ns, set(self.assignments[-1].workers) & alive)
        return self._change

    def _next(self, from_ns: int) -> Assignment:
        self._number += 1
        self.assignments.append(Assignment(self._number, from_ns, tuple(self.wanted)))
        return self.assignments[-1]
