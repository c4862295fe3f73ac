"""What HTTP headers say: dates, waits, the server's clock; and who we say that we are. Pure."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Final

PACKAGE: Final = "workflow-loadtest"
_ENDLESS: Final = 1e18


def package_version(package: str = PACKAGE) -> str:
    """The version of a package, by default of this one; ``unknown`` in a checkout that was never installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def user_agent(about: str) -> str:
    """What requests say of their sender: product, version, and what they are for."""
    return f"{PACKAGE}/{package_version()} ({about})"


def parse_date(text: str) -> datetime | None:
    """Read a date of HTTP (RFC 9110, section 5.6.7); without a zone it is GMT, not the zone of this machine."""
    try:
        moment = parsedate_to_datetime(text)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        moment.timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return moment


def parse_retry_after(text: str) -> float | datetime | None:
    """Read a ``Retry-After`` (RFC 9110, section 10.2.3): seconds, or a date; None for anything else."""
    text = text.strip()
    # Twelve digits are more than any wait; int() would refuse thousands of them.
    return float(text[:12]) if text.isascii() and text.isdecimal() else parse_date(text)


class ClockOffset:
    """Bounds of the server's clock minus ours, in s, from the ``Date`` headers of its answers.

    A ``Date`` of D means that the server's clock read something in [D, D+1) between our send and our receipt, so
    the offset lies in (D − receipt, D + 1 − send). Those intervals are intersected: the answers around a change of
    second narrow it to about a round trip.
    """

    __slots__ = ("high", "low")

    def __init__(self) -> None:
        self.low = -_ENDLESS
        self.high = _ENDLESS

    def see(self, date_s: float, sent_s: float, received_s: float) -> None:
        """Take a ``Date`` into account, which came in an answer between two moments of our clock; unix seconds."""
        self.low = max(self.low, date_s - received_s)
        self.high = min(self.high, date_s + 1 - sent_s)

    @property
    def known(self) -> bool:
        """Whether any ``Date`` was seen."""
        return self.high < _ENDLESS
