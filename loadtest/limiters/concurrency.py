"""A limit on how many requests are carried out at the same time."""

from loadtest.limiters.model import Decision, decided
from loadtest.units import Limit


class ConcurrencyLimit:
    """At most ``limit.count`` requests at the same time; each has to be released when it ends. The window is unused.

    When there is room again depends on what is being carried out, so the times of its decisions are 0.

    Args:
        limit: its count is N.
    """

    __slots__ = ("_free", "_total")

    def __init__(self, limit: Limit) -> None:
        self._total = self._free = limit.count

    def decide(self, now: float) -> Decision:
        """Decide on a request; ``now`` does not matter."""
        if self._free:
            self._free -= 1
            return decided((True, self._free, 0.0, 0.0, 0.0))
        return decided((False, 0, 0.0, 0.0, 0.0))

    def release(self, now: float) -> None:
        """Make room: a request that passed has ended. One release too many makes no room for more than N."""
        if self._free < self._total:
            self._free += 1
