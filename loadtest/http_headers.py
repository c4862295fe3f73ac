"""Parsing of HTTP headers (dates, waits, the server's clock) and the User-Agent that we send. Pure."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Final

PACKAGE: Final = "workflow-loadtest"
_ENDLESS: Final = 1e18


def package_version(package: str = PACKAGE) -> str:
    """Return the version of a package, or ``unknown`` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def user_agent(about: str) -> str:
    """Return the ``User-Agent`` of requests: product, version and purpose."""
    return f"{PACKAGE}/{package_version()} ({about})"


def parse_date(text: str) -> datetime | None:
    """Parse an HTTP date (RFC 9110, section 5.6.7). A date without a zone is in GMT. Return None for other text."""
    try:
        moment = parsedate_to_datetime(text)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        moment.timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return moment


def parse_retry_after(text: str) -> float | datetime | None:
    """Parse ``Retry-After`` (RFC 9110, section 10.2.3). Return seconds or a date, or None for other text."""
    text = text.strip()
    # No wait has more than twelve digits, and hundreds of digits would become infinity.
    return float(text[:12]) if text.isascii() and text.isdecimal() else parse_date(text)


class ClockOffset:
    """Bounds of the server's clock minus ours, in s. They follow from the ``Date`` headers of the server's responses.

    A ``Date`` of D means that the server's clock was in [D, D+1) between our send and our receipt, so the offset lies
    in (D − receipt, D + 1 − send). Responses around a change of second narrow the intersection of these intervals to
    about one round trip.
    """

    __slots__ = ("high", "low")

    def __init__(self) -> None:
        self.low = -_ENDLESS
        self.high = _ENDLESS

    def see(self, date_s: float, sent_s: float, received_s: float) -> None:
        """Update the bounds with a response's ``Date`` (unix s). ``sent_s`` and ``received_s`` use our clock."""
        self.low = max(self.low, date_s - received_s)
        self.high = min(self.high, date_s + 1 - sent_s)

    @property
    def known(self) -> bool:
        return self.high < _ENDLESS
