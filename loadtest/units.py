"""How quantities are written in scenarios, thresholds, targets and on the command line: the one grammar.

A duration is ``500ms``, ``5s``, ``2m`` or ``1h``; a rate ``5/s``, ``90/min``, ``80% of limit`` or ``2.5x limit``; a
limit ``100/60s`` or ``100/min``; a share ``0.05`` or ``5%``.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

Unit = Literal["ms", "per_s", "share", "number"]
"""Units of what is measured: times in ms, rates per s, shares from 0 to 1, plain numbers."""

SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
"""Seconds in each unit of time."""

_NUMBER: Final = r"(\d+(?:\.\d+)?)"
_TIME: Final = "ms|s|m|min|h"
_PER: Final = "s|min|m|h"

DURATION_PATTERN: Final = rf"^\d+(\.\d+)?\s*({_TIME})$"
RATE_PATTERN: Final = rf"(/({_PER})|limit)$"
"""Of a rate, what an editor can check."""
LIMIT_PATTERN: Final = r"^\d+\s*/"

_DURATION: Final = re.compile(rf"^{_NUMBER}\s*({_TIME})$")
_RATE: Final = re.compile(rf"^{_NUMBER}\s*(?:/\s*({_PER})|([%x×])\s*(?:of\s+)?limit)$")
_LIMIT: Final = re.compile(rf"^\s*(\d+)\s*/\s*(?:{_NUMBER}\s*)?({_PER})\s*$")
_QUANTITY: Final = re.compile(r"^(-?\d+(?:\.\d+)?)(\S*)$")

MAX_DURATION: Final = 7 * 24 * 3600.0
"""Seconds: what is longer is taken for a mistake."""
MAX_RATE: Final = 100_000.0
"""Requests/s above which a rate is taken for a mistake: several times what one generator can send."""
MAX_COUNT: Final = 1_000_000_000
MIN_WINDOW: Final = 0.001
"""Seconds."""


def parse_duration(text: object) -> float:
    """Read ``"500ms"``, ``"5s"``, ``"2m"`` or ``"1h"`` as seconds.

    Raises:
        ValueError: if it has another form, or is longer than a week.
    """
    match = _DURATION.match(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is no duration: write a number and its unit, as '500ms', '5s', '2m' or '1h'")
    # To the ns, which is what counts later: "300ms" and "0.3s" are then the same number, and hash alike.
    seconds = round(float(match[1]) * SECONDS[match[2]], 9)
    if seconds > MAX_DURATION:
        raise ValueError(f"{text!r} is longer than a week")
    return seconds


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``count`` requests in any one window of ``window`` seconds."""

    count: int
    window: float

    @property
    def rate(self) -> float:
        """The limit as a sustained rate, in requests per second."""
        return self.count / self.window

    def __str__(self) -> str:
        return f"{self.count}/{self.window:g}s"


def parse_limit(text: object) -> Limit:
    """Read ``"100/60s"``, ``"100/min"`` or ``"5/s"`` as a Limit.

    Raises:
        ValueError: if it has another form, or its count or window is zero or beyond reason.
    """
    if isinstance(text, Limit):
        return text
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no limit: write it as '100/60s'")  # noqa: TRY004 - callers know ValueErrors
    match = _LIMIT.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a limit: write it as '100/60s' or '100/min'")
    limit = Limit(int(match[1]), float(match[2] or 1) * SECONDS[match[3]])
    if not (1 <= limit.count <= MAX_COUNT and MIN_WINDOW <= limit.window <= MAX_DURATION):
        raise ValueError(f"{text!r} is not a limit: count must be 1 to {MAX_COUNT}, the window 1 ms to a week")
    return limit


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of arrivals: absolute in requests/s, or a multiple of the limit that the operation draws on."""

    value: float
    of_limit: bool

    def per_second(self, limit: Limit, keys: int) -> float:
        """Requests/s, where each of ``keys`` keys may use ``limit``."""
        return self.value * limit.rate * keys if self.of_limit else self.value

    def __str__(self) -> str:
        # Twelve digits tell any two rates apart that are not rounding of one another ("30/min" and "0.5/s").
        return f"{self.value:.12g}x limit" if self.of_limit else f"{self.value:.12g}/s"


def parse_rate(text: object) -> Rate:
    """Read ``"5/s"``, ``"90/min"``, ``"80% of limit"`` or ``"2.5x limit"``.

    Raises:
        ValueError: if it has another form, or is beyond ``MAX_RATE``.
    """
    if isinstance(text, Rate):
        return text
    match = _RATE.match(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is no rate: write '5/s', '90/min', '80% of limit' or '2.5x limit'")
    number, per, kind = float(match[1]), match[2], match[3]
    rate = Rate(number / (SECONDS[per] if per else 100 if kind == "%" else 1), of_limit=per is None)
    if rate.value > (MAX_RATE if not rate.of_limit else 1000):
        raise ValueError(f"{text!r} is an impossible rate: at most {MAX_RATE:g}/s, or 1000x limit")
    return rate


def parse_share(value: object) -> float:
    """Read ``0.05``, ``"0.05"`` or ``"5%"`` as a share from 0 to 1.

    Raises:
        ValueError: if it is something else.
    """
    text = value.strip() if isinstance(value, str) else ""
    try:
        number = float(text[:-1]) / 100 if text.endswith("%") else float(text or value)  # type: ignore[arg-type] # what is no number raises
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number <= 1:
        raise ValueError(f"{value!r} is no share: write a number from 0 to 1, or a percentage, as '5%'")
    return number


def split_quantity(text: str) -> tuple[float, str]:
    """Split ``"1.5s"`` into the number and what follows it; the sign may be negative.

    Raises:
        ValueError: if it does not begin with a number.
    """
    match = _QUANTITY.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no number with a unit")
    return float(match[1]), match[2]
