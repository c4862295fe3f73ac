"""Durations and rates, as scenarios write them."""

import re
from dataclasses import dataclass
from typing import Final

from loadtest.limits import Limit

_DURATION: Final = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)$")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_ABSOLUTE: Final = re.compile(r"^(\d+(?:\.\d+)?)\s*/\s*(s|min|m|h)$")
_PERCENT: Final = re.compile(r"^(\d+(?:\.\d+)?)\s*%\s*(?:of\s+)?limit$")
_MULTIPLE: Final = re.compile(r"^(\d+(?:\.\d+)?)\s*[x×]\s*(?:of\s+)?limit$")
MAX_RATE: Final = 100_000.0
"""Requests/s above which a rate is taken for a mistake: several times what one generator can send."""
MAX_DURATION: Final = 7 * 24 * 3600.0


def parse_duration(text: object) -> float:
    """Read ``"500ms"``, ``"5s"``, ``"2m"`` or ``"1h"`` as seconds.

    Raises:
        ValueError: if it is of another form, or longer than a week.
    """
    match = _DURATION.match(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is no duration: write a number and its unit, as '500ms', '5s', '2m' or '1h'")
    # To the ns, which is what counts later: "300ms" and "0.3s" are then the same number, and hash alike.
    seconds = round(float(match[1]) * _SECONDS[match[2]], 9)
    if seconds > MAX_DURATION:
        raise ValueError(f"{text!r} is longer than a week")
    return seconds


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
        ValueError: if it is of another form, or beyond ``MAX_RATE``.
    """
    if isinstance(text, Rate):
        return text
    written = text.strip() if isinstance(text, str) else ""
    if match := _ABSOLUTE.match(written):
        rate = Rate(float(match[1]) / _SECONDS[match[2]], of_limit=False)
    elif match := _PERCENT.match(written):
        rate = Rate(float(match[1]) / 100, of_limit=True)
    elif match := _MULTIPLE.match(written):
        rate = Rate(float(match[1]), of_limit=True)
    else:
        raise ValueError(f"{text!r} is no rate: write '5/s', '90/min', '80% of limit' or '2.5x limit'")
    if rate.value > (MAX_RATE if not rate.of_limit else 1000):
        raise ValueError(f"{text!r} is an impossible rate: at most {MAX_RATE:g}/s, or 1000x limit")
    return rate
