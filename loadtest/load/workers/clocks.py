"""A worker's monotonic clock against the master's, from reports and their answers. Pure.

As NTP has it (RFC 5905, section 8): with a report sent at t1 (worker), received at t2 and answered at t3 (master),
and the answer received at t4 (worker), the worker is ahead by ((t1 − t2) + (t4 − t3)) / 2, and wrong by at most half of
the round trip (t4 − t1) − (t3 − t2). The exchange with the shortest round trip is believed.
"""

from typing import Final

_KEPT: Final = 64


class WorkerClock:
    """Estimates a worker's clock minus the master's.

    Args:
        shared: whether both seem to read the same clock, being processes of one machine. That is believed for as long
            as no exchange speaks against it (a time namespace has a clock of its own).
    """

    def __init__(self, *, shared: bool = False) -> None:
        self.shared = shared
        self.exchanges = 0
        self._kept: list[tuple[int, int]] = []

    def see(self, sent_ns: int, received_ns: int, replied_ns: int, answered_ns: int) -> None:
        """Take in one exchange: t1 to t4 of above."""
        self.exchanges += 1
        trip = (answered_ns - sent_ns) - (replied_ns - received_ns)
        offset = ((sent_ns - received_ns) + (answered_ns - replied_ns)) // 2
        self._kept = [*self._kept[-_KEPT + 1 :], (trip, offset)]

    @property
    def estimate(self) -> tuple[int, int]:
        """Offset and its uncertainty in ns, as the exchanges tell them; (0, 0) before any."""
        if not self._kept:
            return 0, 0
        trip, offset = min(self._kept)
        return offset, (trip + 1) // 2

    @property
    def is_shared(self) -> bool:
        """Whether both read the same clock, as far as the exchanges tell."""
        offset, uncertainty = self.estimate
        return self.shared and abs(offset) <= uncertainty

    @property
    def offset_ns(self) -> int:
        """What is to be added to a moment of the master's clock to get the worker's."""
        return 0 if self.is_shared else self.estimate[0]
