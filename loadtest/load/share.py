"""Which arrivals of the schedule this process offers: all of them, or from each moment on those it was assigned."""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from gevent.event import Event

NEVER: Final = 2**63 - 1
"""A moment that does not come, in ns."""


class Assignment(NamedTuple):
    """Every ``of``-th arrival of each traffic entry from a moment on."""

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
        """Arrivals that are intended from here on are not offered before the next assignment."""
        self.reached_ns = -1
        """Intended start of the last arrival that was offered."""
        self.exhausted = False
        """Whether the schedule holds nothing more for this process, as far as it was told."""
        self._next: deque[Assignment] = deque([first] if first is not None else [])
        self._more = Event()

    def stop_at(self, cut_ns: int) -> bool:
        """Offer nothing that is intended at ``cut_ns`` or later, before the next assignment.

        Returns:
            False, and nothing is changed, where such an arrival was offered already.
        """
        if self.reached_ns >= cut_ns:
            return False
        self.until_ns = cut_ns
        return True

    def assign(self, assignment: Assignment) -> None:
        """Give the next assignment. It is to begin where the one before was stopped."""
        self.exhausted = False
        self._next.append(assignment)
        self._more.set()

    def take(self) -> Assignment:
        """Wait for the next assignment; what stopped the one before holds no longer."""
        while not self._next:
            self._more.clear()
            self._more.wait()
        self.until_ns = NEVER
        return self._next.popleft()
