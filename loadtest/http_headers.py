"""HTTP headers: dates, waits, the server's clock, rate limits, and the User-Agent that we send. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Final

PACKAGE: Final = "workflow-loadtest"
_ENDLESS: Final = 1e18
_DIGITS_MOST: Final = 12
"""Numbers are cut to this many digits. Larger numbers make no sense, and int() raises on thousands of digits."""


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
    return float(text[:_DIGITS_MOST]) if text.isascii() and text.isdecimal() else parse_date(text)


class ClockOffset:
    """Bounds of the server's clock minus ours, in s. They follow from the ``Date`` headers of the server's responses.

    A ``Date`` of D means that the server's clock was in [D, D+1) at a moment between our send and our receipt, so the
    offset lies in [D − receipt, D + 1 − send). Responses around a change of second narrow the intersection of
    these intervals to about one round trip.
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


# Drafts of the RateLimit headers (httpapi-ratelimit-headers) up to 7 send ``RateLimit-Policy: 100;w=60`` and
# ``RateLimit: limit=100, remaining=50, reset=30``. Later drafts name each limit: ``"default";q=100;w=60`` and
# ``"default";r=50;t=30``.
_ITEM: Final = re.compile(r"""("[^"]*"|[\w*.-]+)((?:\s*;\s*[a-z*][\w.*-]*(?:=(?:"[^"]*"|:[^:]*:|[^;,\s]*))?)*)""")
_PARAMETER: Final = re.compile(r""";\s*([a-z*][\w.*-]*)(?:=("[^"]*"|:[^:]*:|[^;,\s]*))?""")
_MEMBER: Final = re.compile(r"\b(limit|remaining|reset)\s*=\s*(\d+)")


@dataclass(frozen=True, slots=True)
class StatedLimit:
    """A limit that a header states.

    Attributes:
        name: the policy's name; empty if it has none.
        count: the limit; None if it is unreadable.
        window_s: the window in seconds; None if it is not stated.
        unit: the unit that is counted; empty for requests.
        partitioned: whether a partition key (pk) is stated.
    """

    header: str
    name: str
    count: int | None
    window_s: float | None
    unit: str = ""
    partitioned: bool = False

    def __str__(self) -> str:
        count = "an unreadable number" if self.count is None else str(self.count)
        window = "" if self.window_s is None else f" per {self.window_s:g} s"
        named = f"{self.header} {self.name}".rstrip()
        return f"{named}: {count} {self.unit or 'requests'}{window}" + ", for a partition (pk)" * self.partitioned


def stated_limits(headers: Mapping[str, str]) -> list[StatedLimit]:
    """Return the limits that headers state. Names of headers are in lower case."""
    found = []
    for name, value in headers.items():
        kind = _kind(name)
        if kind in {"limit", "policy"}:
            items = [_stated(name, item, dict(_PARAMETER.findall(rest))) for item, rest in _ITEM.findall(value)]
            # An old RateLimit-Limit repeats its count with a window: "100, 100;w=60".
            found += [each for each in items if each.window_s is not None] or items[:1]
        elif kind == "state":
            found += [
                StatedLimit(name, "", _count(count), None) for key, count in _MEMBER.findall(value) if key == "limit"
            ]
    return found


def remaining(headers: Mapping[str, str]) -> int | None:
    """Return the smallest number of remaining requests that headers state. Names of headers are in lower case."""
    counts: list[str] = []
    for name, value in headers.items():
        kind = _kind(name)
        if kind == "remaining":
            counts.append(value.strip())
        elif kind == "state":
            counts += [count for key, count in _MEMBER.findall(value) if key == "remaining"]
            counts += [each["r"] for _, rest in _ITEM.findall(value) if "r" in (each := dict(_PARAMETER.findall(rest)))]
    return min((count for each in counts if (count := _count(each)) is not None), default=None)


def _kind(name: str) -> str:
    """Return the part of a name after ``ratelimit-``, such as ``limit``, or ``state`` for the header ``ratelimit``.

    The prefix ``x-`` is ignored. For any other header, return an empty text.
    """
    parts = name.removeprefix("x-").replace("rate-limit", "ratelimit").split("-", 1)
    return (parts[1] if len(parts) > 1 else "state") if parts[0] == "ratelimit" else ""


def _stated(header: str, item: str, parameters: Mapping[str, str]) -> StatedLimit:
    window = _count(parameters.get("w", parameters.get("window", "")))
    counted, name = (parameters["q"], item.strip('"')) if "q" in parameters else (item, "")
    unit = parameters.get("qu", "").strip('"')
    return StatedLimit(header, name, _count(counted), window, "" if unit == "requests" else unit, "pk" in parameters)


def _count(text: str) -> int | None:
    text = text.strip('" ')
    return int(text[:_DIGITS_MOST]) if text.isascii() and text.isdecimal() else None
