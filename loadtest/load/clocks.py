"""Estimates of the target's clock, from ``Date`` headers, and of a worker's clock."""

import time
from typing import Final

from loadtest.http_headers import ClockOffset, parse_date
from loadtest.load.http.exchange import HttpExchange
from loadtest.record.run_info import ClockInfo

_ROUGH: Final = 0.5
_KEPT: Final = 64


class ServerClock:
    """Estimates the server's clock minus our clock. Each new ``Date`` gives bounds (see ``ClockOffset``).

    If the server's clock jumps, the bounds contradict each other. The estimate then uses only the last new ``Date``,
    and its uncertainty is 0.5 s.
    """

    def __init__(self) -> None:
        # The wall clock is read only once, so that setting it during a run has no effect.
        self._anchor = time.time_ns() - time.monotonic_ns()
        self._bounds = ClockOffset()
        self._previous: HttpExchange | None = None
        self._previous_second = 0.0
        self._rough = 0.0
        self.answers = 0

    def anchor(self, monotonic_ns: int, unix_ns: int) -> None:
        """Use the master's wall clock. It read ``unix_ns`` when our monotonic clock read ``monotonic_ns``."""
        self._anchor = unix_ns - monotonic_ns

    def see(self, exchange: HttpExchange) -> None:
        """Add an answer. This is cheap if the previous answer had the same ``Date``."""
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
            # The last answer of the previous second gives a tighter bound than the first answer of that second.
            self._bounds.high = min(self._bounds.high, self._previous_second + 1 - self._wall(previous.start))
        self._bounds.see(second, self._wall(exchange.start), self._wall(exchange.end))
        self._rough = second + 0.5 - self._wall((exchange.start + exchange.end) // 2)
        self._previous, self._previous_second = exchange, second

    def estimate(self, *, exact: bool) -> ClockInfo | None:
        """Return the offset and its uncertainty in s, or None before the first ``Date``.

        Args:
            exact: whether the server renews ``Date`` for each answer, as the embedded server does. Some servers, such
                as uvicorn, renew it once a second. Their ``Date`` may be 1 s old, so the upper bound is 1 s higher.
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
    """Estimates a worker's monotonic clock minus the master's. It uses reports and their acknowledgements.

    The method is that of NTP (RFC 5905, section 8). The worker sends a report at t1. The master receives it at t2 and
    answers at t3. The worker receives the answer at t4. The offset is ((t1 − t2) + (t4 − t3)) / 2. Its error is at most
    half of the round trip (t4 − t1) − (t3 − t2). The exchange with the shortest round trip is used.

    Args:
        shared: whether both processes seem to run on one machine. They then have the same clock, unless an exchange
            shows a difference: a process in a time namespace has another clock.
    """

    def __init__(self, *, shared: bool = False) -> None:
        self.shared = shared
        self.exchanges = 0
        self._kept: list[tuple[int, int]] = []

    def see(self, sent_ns: int, received_ns: int, replied_ns: int, answered_ns: int) -> None:
        """Add an exchange. The arguments are t1, t2, t3 and t4."""
        self.exchanges += 1
        trip = (answered_ns - sent_ns) - (replied_ns - received_ns)
        offset = ((sent_ns - received_ns) + (answered_ns - replied_ns)) // 2
        self._kept = [*self._kept[-_KEPT + 1 :], (trip, offset)]

    @property
    def estimate(self) -> tuple[int, int]:
        """Measured offset and its uncertainty in ns. Both are 0 before the first exchange."""
        if not self._kept:
            return 0, 0
        trip, offset = min(self._kept)
        return offset, (trip + 1) // 2

    @property
    def is_shared(self) -> bool:
        """Whether both processes seem to run on one machine, and no exchange shows a difference of their clocks."""
        offset, uncertainty = self.estimate
        return self.shared and abs(offset) <= uncertainty

    @property
    def offset_ns(self) -> int:
        """Nanoseconds to add to a time on the master's clock to get the time on the worker's clock."""
        return 0 if self.is_shared else self.estimate[0]
