"""When a request is sent again: what a 429 asks for, and when the next poll is due. Pure: times in, times out."""

from dataclasses import dataclass
from datetime import datetime

from loadtest.http_headers import parse_date, parse_retry_after


def retry_after_s(value: str | None, date: bytes | None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for.

    Args:
        value: the header: seconds, or a date.
        date: the answer's own ``Date``, against which a date is read, so that no clock of ours matters.

    Returns:
        None where there is no header, or none that can be understood; never below zero.
    """
    wanted = None if value is None else parse_retry_after(value)
    if not isinstance(wanted, datetime):
        return wanted
    now = None if date is None else parse_date(date.decode("latin-1"))
    return None if now is None else max(0.0, (wanted - now).total_seconds())


@dataclass(frozen=True, slots=True)
class PollingPolicy:
    """A polling policy. Times are in ns.

    Attributes:
        interval: the first wait.
        give_up: since the accepted submit; no poll is sent later than that.
        factor: growth from one wait to the next; 1 polls at a fixed interval.
        max: longest wait.
        jitter: whether each wait is drawn evenly between half and all of its length.
    """

    interval: int
    give_up: int
    factor: float = 1.0
    max: int = 2**62
    jitter: bool = False

    def next_poll(self, accepted: int, last_answer: int, number: int = 1, draw: float = 1.0) -> int | None:
        """When to poll next, or None to give up.

        Args:
            accepted: when the submit was answered.
            last_answer: when the last answer came, of the submit or of a poll.
            number: of the poll, from 1.
            draw: an evenly distributed number from 0 to 1, for the jitter.
        """
        wait = min(float(self.max), self.interval * self.factor ** min(number - 1, 64))
        if self.jitter:
            wait *= 0.5 + draw / 2
        due = last_answer + round(wait)
        return due if due <= accepted + self.give_up else None


class Pacer:
    """Hands out moments so that no more than a rate of them lie together: for all polls of an entry.

    Args:
        rate: moments per second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._next = 0
        self.share_by(1)

    def share_by(self, processes: int) -> None:
        """Hand out one process's part of the rate only."""
        self._gap = round(1e9 / self._rate * processes)

    def slot(self, due: int) -> int:
        """The first free moment (ns) not before ``due``, which is taken by this."""
        moment = max(due, self._next)
        self._next = moment + self._gap
        return moment
