"""The grammar of quantities in scenarios, thresholds, targets and options.

A duration is written ``500ms``, ``5s``, ``2m`` or ``1h``. A rate is ``5/s``, ``90/min``, ``80% of limit`` or
``2.5x limit``. A limit is ``100/60s`` or ``100/min``. A share is ``0.05`` or ``5%``.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

Unit = Literal["ms", "per_s", "share", "number"]
"""Units of measured values: times in ms, rates per s, shares from 0 to 1, plain numbers."""

SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}

_NUMBER: Final = r"(\d+(?:\.\d+)?)"
_TIME: Final = "ms|s|m|min|h"
_PER: Final = "s|min|m|h"

DURATION_PATTERN: Final = rf"^\d+(\.\d+)?\s*({_TIME})$"
RATE_PATTERN: Final = rf"(/({_PER})|limit)$"
"""A pattern for editors, which checks only the end of a rate."""
LIMIT_PATTERN: Final = r"^\d+\s*/"

_DURATION: Final = re.compile(rf"^{_NUMBER}\s*({_TIME})$")
_RATE: Final = re.compile(rf"^{_NUMBER}\s*(?:/\s*({_PER})|([%x×])\s*(?:of\s+)?limit)$")
_LIMIT: Final = re.compile(rf"^\s*(\d+)\s*/\s*(?:{_NUMBER}\s*)?({_PER})\s*$")

MAX_DURATION: Final = 7 * 24 * 3600.0
"""Durations above this many seconds are rejected as a mistake."""
MAX_RATE: Final = 100_000.0
"""Rates above this many arrivals/s are rejected as a mistake. A generator can send only a fraction of this rate."""
_MAX_COUNT: Final = 1_000_000_000
_MIN_WINDOW: Final = 0.001
"""Minimum window of a limit, in seconds."""


def parse_duration(text: object) -> float:
    """Parse ``"500ms"``, ``"5s"``, ``"2m"`` or ``"1h"`` and return seconds.

    Raises ``ValueError`` if the text has another form, or the duration is longer than a week.
    """
    match = _DURATION.match(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write a number and its unit, such as '500ms' or '1h'")
    # Durations are rounded to the ns, the schedule's resolution. "300ms" and "0.3s" are then equal and hash alike.
    seconds = round(float(match[1]) * SECONDS[match[2]], 9)
    if seconds > MAX_DURATION:
        raise ValueError(f"{text!r} is longer than a week")
    return seconds


class Limit(msgspec.Struct, frozen=True, rename={"window": "window_s"}):
    """A limit of ``count`` requests per window of ``window`` seconds."""

    count: Annotated[int, Meta(ge=1, le=2**53)]
    window: Annotated[float, Meta(ge=1e-3, le=1e9)]

    @property
    def rate(self) -> float:
        """The limit as a sustained rate, in requests per second."""
        return self.count / self.window

    def __str__(self) -> str:
        return f"{self.count}/{self.window:g}s"


def parse_limit(text: object) -> Limit:
    """Parse ``"100/60s"``, ``"100/min"`` or ``"5/s"``.

    Raises ``ValueError`` if the text has another form, or its count or window is out of range.
    """
    match = _LIMIT.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a limit: write it as '100/60s' or '100/min'")
    limit = Limit(int(match[1]), float(match[2] or 1) * SECONDS[match[3]])
    if not (1 <= limit.count <= _MAX_COUNT and _MIN_WINDOW <= limit.window <= MAX_DURATION):
        raise ValueError(f"{text!r} is not a limit: count must be 1 to {_MAX_COUNT}, the window 1 ms to a week")
    return limit


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of arrivals: absolute in arrivals/s, or a multiple of the operation's limit."""

    value: float
    of_limit: bool

    def per_second(self, limit: Limit, keys: int) -> float:
        """Return the rate in arrivals/s. Each of ``keys`` keys has its own ``limit``."""
        return self.value * limit.rate * keys if self.of_limit else self.value

    def __str__(self) -> str:
        # Twelve digits hide rounding errors, so that equal rates in different units have equal texts.
        return f"{self.value:.12g}x limit" if self.of_limit else f"{self.value:.12g}/s"


def parse_rate(text: object) -> Rate:
    """Parse ``"5/s"``, ``"90/min"``, ``"80% of limit"`` or ``"2.5x limit"``.

    Raises ``ValueError`` if the text has another form, or exceeds ``MAX_RATE`` or 1000 times the limit.
    """
    match = _RATE.match(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a rate: write '5/s', '90/min', '80% of limit' or '2.5x limit'")
    number, per, kind = float(match[1]), match[2], match[3]
    rate = Rate(number / (SECONDS[per] if per else 100 if kind == "%" else 1), of_limit=per is None)
    if rate.value > (MAX_RATE if not rate.of_limit else 1000):
        raise ValueError(f"{text!r} is an impossible rate: at most {MAX_RATE:,.0f}/s, or 1000x limit")
    return rate


def parse_share(value: object) -> float:
    """Parse ``0.05``, ``"0.05"`` or ``"5%"`` as a share from 0 to 1.

    Raises ``ValueError`` if the value is anything else.
    """
    text = value.strip() if isinstance(value, str) else ""
    try:
        number = float(text[:-1]) / 100 if text.endswith("%") else float(text or value)  # type: ignore[arg-type] # anything but a number raises
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number <= 1:
        raise ValueError(f"{value!r} is not a share: write a number from 0 to 1, or a percentage such as '5%'")
    return number
