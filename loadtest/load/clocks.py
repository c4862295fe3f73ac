"""Other clocks against ours: the target's, from the ``Date`` headers of its answers, and a worker's. Pure."""

import time
from typing import Final

from loadtest.http_headers import ClockOffset, parse_date
from loadtest.load.http.exchange import HttpExchange
from loadtest.record.run_info import ClockInfo

_ROUGH: Final = 0.5
_KEPT: Final = 64


class ServerClock:
    """Estimates the server's clock minus ours, by the bounds that ``ClockOffset`` draws from each new ``Date``.

    Where a ``Date`` jumps, they may contradict each other; then the middle of the last interval is taken, ± 0.5 s.
    """

    def __init__(self) -> None:
        # Wall minus monotonic, taken once: a wall clock that is set during a run must not count.
        self._anchor = time.time_ns() - time.monotonic_ns()
        self._bounds = ClockOffset()
        self._previous: HttpExchange | None = None
        self._previous_second = 0.0
        self._rough = 0.0
        self.answers = 0

    def anchor(self, monotonic_ns: int, unix_ns: int) -> None:
        """Compare the server's clock with another wall clock than ours, which reads this at that moment of ours."""
        self._anchor = unix_ns - monotonic_ns

    def see(self, exchange: HttpExchange) -> None:
        """Take an answer into account; cheap unless its ``Date`` differs from the last one's."""
        date = exchange.date
        if date is None:
            return
        self.answers += 1
        previous = self._previous
        if previous is not None and previous.date == date:
            self._previous = exchange
            return
        moment = parse_date(date.decode("latin-1"))
        if moment is None:
            return
        second = moment.timestamp()
        if previous is not None:
            # The last answer before the change of second tells more than the first one of its own.
            self._bounds.high = min(self._bounds.high, self._previous_second + 1 - self._wall(previous.start))
        self._bounds.see(second, self._wall(exchange.start), self._wall(exchange.end))
        self._rough = second + 0.5 - self._wall((exchange.start + exchange.end) // 2)
        self._previous, self._previous_second = exchange, second

    def estimate(self, *, exact: bool) -> ClockInfo | None:
        """The offset and its uncertainty in s; None before any ``Date`` was seen.

        Args:
            exact: whether the server is known to take each ``Date`` anew, as the embedded one does. Others may renew
                it once a second at a phase of their own (uvicorn does), which no answer tells: theirs may be up to a
                second old, and only the lower bound holds.
        """
        if self._previous is None:
            return None
        low, high = self._bounds.low, self._bounds.high + (0.0 if exact else 1.0)
        if low <= high:
            middle, half = (low + high) / 2, (high - low) / 2
            return ClockInfo(offset_s=round(middle, 4), uncertainty_s=round(half, 4), answers=self.answers)
        return ClockInfo(offset_s=round(self._rough, 3), uncertainty_s=_ROUGH, answers=self.answers)

    def _wall(self, monotonic_ns: int) -> float:
        return (monotonic_ns + self._anchor) / 1e9


class WorkerClock:
    """Estimates a worker's monotonic clock minus the master's, from reports and their answers.

    As NTP has it (RFC 5905, section 8): with a report sent at t1 (worker), received at t2 and answered at t3 (master),
    and the answer received at t4 (worker), the worker is ahead by ((t1 − t2) + (t4 − t3)) / 2, and wrong by at most
    half of the round trip (t4 − t1) − (t3 − t2). The exchange with the shortest round trip is used.

    Args:
        shared: whether both seem to read the same clock, being processes of one machine. That is assumed for as long
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
        """Offset and its uncertainty in ns, by the exchanges; (0, 0) before any."""
        if not self._kept:
            return 0, 0
        trip, offset = min(self._kept)
        return offset, (trip + 1) // 2

    @property
    def is_shared(self) -> bool:
        """Whether both read the same clock, as far as the exchanges show."""
        offset, uncertainty = self.estimate
        return self.shared and abs(offset) <= uncertainty

    @property
    def offset_ns(self) -> int:
        """What to add to a moment of the master's clock to get the worker's."""
        return 0 if self.is_shared else self.estimate[0]
