"""When a request is sent again: what a 429 asks for, and when the next poll is due. Pure: times in, times out."""

from datetime import datetime

from loadtest.http_headers import parse_date, parse_retry_after
from loadtest.scenario.traffic import Polling


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


def next_poll(
    polling: Polling, accepted_ns: int, last_answer_ns: int, number: int = 1, draw: float = 1.0
) -> int | None:
    """When to poll next (ns), or None to give up.

    Args:
        polling: the policy.
        accepted_ns: when the submit was answered.
        last_answer_ns: when the last answer came, of the submit or of a poll.
        number: of the poll, from 1.
        draw: an evenly distributed number from 0 to 1, for the jitter.
    """
    due = last_answer_ns + round(polling.wait(number, draw) * 1e9)
    return due if due <= last_poll(polling, accepted_ns) else None


def last_poll(polling: Polling, accepted_ns: int) -> int:
    """The last moment (ns) at which a poll is sent."""
    return accepted_ns + round(polling.give_up * 1e9)


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
