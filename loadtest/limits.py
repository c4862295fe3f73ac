"""The documented rate limits of the Workflow REST API, and how a limit is written.

Source: the API's documentation, "Rate limits": synchronous runs 100 requests per minute, asynchronous
submits 1000 per minute, retrieval of results 500 per minute; a request beyond a limit is answered with 429.
The documentation does not say by which algorithm, nor whether limits are per key: see ``ARCHITECTURE.md``.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

LimitName = Literal["sync_run", "async_submit", "retrieval"]
LIMIT_NAMES: Final[tuple[LimitName, ...]] = get_args(LimitName)

MAX_COUNT: Final = 1_000_000_000
MIN_WINDOW: Final = 0.001
MAX_WINDOW: Final = 7 * 24 * 3600.0
"""Seconds, as ``MIN_WINDOW``: outside of them a limit is taken for a mistake."""

_FORM = re.compile(r"^\s*(\d+)\s*/\s*(?:(\d+(?:\.\d+)?)\s*)?(s|min|m|h)\s*$")
_SECONDS: Final = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


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


DOCUMENTED: Final[dict[LimitName, Limit]] = {
    "sync_run": Limit(100, 60.0),
    "async_submit": Limit(1000, 60.0),
    "retrieval": Limit(500, 60.0),
}


def parse_limit(text: str) -> Limit:
    """Read ``"100/60s"``, ``"100/min"`` or ``"5/s"`` as a Limit.

    Raises:
        ValueError: if the text has another form, or its count or window is zero or beyond reason.
    """
    match = _FORM.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a limit: write it as '100/60s' or '100/min'")
    limit = Limit(int(match[1]), float(match[2] or 1) * _SECONDS[match[3]])
    if not (1 <= limit.count <= MAX_COUNT and MIN_WINDOW <= limit.window <= MAX_WINDOW):
        raise ValueError(f"{text!r} is not a limit: count must be 1 to {MAX_COUNT}, the window 1 ms to a week")
    return limit
