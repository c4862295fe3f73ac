"""Which arrivals of the schedule this process offers: all of them, or from each moment on those it was assigned."""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from gevent.event import Event

NEVER: Final = 2**63 - 1
"""A moment that does not come, in ns."""


class Assignment(NamedTuple):
    """Every ``of``-th arrival of each traffic entry from a moment on; none at all where ``of`` is 0."""

    from_ns: int
    """ns since the epoch."""
    place: int
    """Which of them: 0 for the entry's first, and so on."""
    of: int


ALL: Final = Assignment(0, 0, 1)


class Share:
    """The assignments of one process. A new one takes over where the one before was told to stop.

    Args:
        first: what to begin with; None to wait for it.
        last: whether no other assignment can follow.
        held: says whether nothing may be offered right now, whatever is due.
    """

    def __init__(
        self, first: Assignment | None = None, *, last: bool = False, held: Callable[[], bool] = lambda: False
    ) -> None:
        self.last = last
        self.held = held
        self.until_ns = NEVER
        """Arrivals of the assignment under way that are intended from here on are not offered."""
        self.reached_ns = -1
        """Intended start of the last arrival that was offered."""
        self.exhausted = False
        """Whether the schedule holds nothing more for this process, as far as it was told."""
        self._next: deque[tuple[Assignment, int]] = deque([] if first is None else [(first, NEVER)])
        self._more = Event()

    def stop_at(self, cut_ns: int) -> bool:
        """End the newest assignment at ``cut_ns``: nothing that is intended then or later is offered of it.

        Returns:
            False, and nothing is changed, where such an arrival was offered already.
        """
        if self._next:
            self._next[-1] = (self._next[-1][0], cut_ns)
            return True
        if self.reached_ns >= cut_ns:
            return False
        self.until_ns = cut_ns
        return True

    def assign(self, assignment: Assignment) -> None:
        """Give the next assignment. It is to begin where the one before was stopped."""
        self.exhausted = False
        self._next.append((assignment, NEVER))
        self._more.set()

    @property
    def superseded(self) -> bool:
        """Whether the next assignment is there."""
        return bool(self._next)

    def withdraw(self) -> None:
        """Offer nothing at all before the next assignment."""
        self.until_ns = -1
        self._next.clear()

    def take(self) -> Assignment:
        """Wait for the next assignment."""
        while not self._next:
            self._more.clear()
            self._more.wait()
        assignment, self.until_ns = self._next.popleft()
        return assignment
