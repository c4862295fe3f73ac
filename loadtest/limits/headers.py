"""Reader of rate-limit headers: X-RateLimit-*, and the fields of the IETF drafts (httpapi-ratelimit-headers). Pure.

Drafts up to 7 send ``RateLimit-Policy: 100;w=60`` and ``RateLimit: limit=100, remaining=50, reset=30``. Later drafts
send items with a name: ``"default";q=100;w=60`` and ``"default";r=50;t=30``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_DIGITS_MOST: Final = 12
"""Numbers are cut to this many digits. Longer ones exceed any count, and int() raises on thousands of digits."""
_ITEM: Final = re.compile(r"""("[^"]*"|[\w*.-]+)((?:\s*;\s*[a-z*][\w.*-]*(?:=(?:"[^"]*"|:[^:]*:|[^;,\s]*))?)*)""")
_PARAMETER: Final = re.compile(r""";\s*([a-z*][\w.*-]*)(?:=("[^"]*"|:[^:]*:|[^;,\s]*))?""")
_MEMBER: Final = re.compile(r"\b(limit|remaining|reset)\s*=\s*(\d+)")


@dataclass(frozen=True, slots=True)
class StatedLimit:
    """A limit that a header states.

    Attributes:
        header: the header's name.
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
    read = [count for each in counts if (count := _count(each)) is not None]
    return min(read) if read else None


def _kind(name: str) -> str:
    parts = name.removeprefix("x-").replace("rate-limit", "ratelimit").split("-", 1)
    return (parts[1] if len(parts) > 1 else "state") if parts[0] == "ratelimit" else ""


def _stated(header: str, item: str, parameters: Mapping[str, str]) -> StatedLimit:
    window = parameters.get("w", parameters.get("window", ""))
    counted, name = (parameters["q"], item.strip('"')) if "q" in parameters else (item, "")
    unit = parameters.get("qu", "").strip('"')
    window_s = _count(window)
    return StatedLimit(
        header,
        name,
        _count(counted),
        None if window_s is None else float(window_s),
        "" if unit == "requests" else unit,
        "pk" in parameters,
    )


def _count(text: str) -> int | None:
    text = text.strip('" ')
    return int(text[:_DIGITS_MOST]) if text.isascii() and text.isdecimal() else None
