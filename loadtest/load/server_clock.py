"""The server's clock against ours, from the ``Date`` headers of its answers."""

import time
from typing import Final

from loadtest.http_headers import ClockOffset, parse_date
from loadtest.load.http.exchange import Exchange
from loadtest.record.run_info import ClockInfo

_ROUGH: Final = 0.5


class ServerClock:
    """Estimates the server's clock minus ours, by the bounds that ``ClockOffset`` draws from each new ``Date``.

    Where a ``Date`` jumps, they may contradict each other; then the middle of the last interval is taken, ± 0.5 s.
    """

    def __init__(self) -> None:
        # Wall minus monotonic, taken once: a wall clock that is set during a run must not count.
        self._anchor = time.time_ns() - time.monotonic_ns()
        self._bounds = ClockOffset()
        self._previous: Exchange | None = None
        self._previous_second = 0.0
        self._rough = 0.0
        self.answers = 0

    def anchor(self, monotonic_ns: int, unix_ns: int) -> None:
        """Hold the server's clock against another wall clock than ours, which reads this at that moment of ours."""
        self._anchor = unix_ns - monotonic_ns

    def see(self, exchange: Exchange) -> None:
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
