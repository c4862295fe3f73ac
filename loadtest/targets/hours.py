"""The hours of a day in which a target may be loaded, written ``08:00-18:00`` with a zone behind it if not UTC."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

_FORM: Final = re.compile(r"^\s*(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)(?:\s+(\S+))?\s*$", re.ASCII)
_OFFSET: Final = re.compile(r"^([+-])(\d\d):(\d\d)$", re.ASCII)
_DAY: Final = 24 * 60


@dataclass(frozen=True, slots=True)
class Hours:
    """From ``start`` to ``end``, minutes since midnight on the clock of ``zone``; over midnight if start > end."""

    text: str
    start: int
    end: int
    zone: tzinfo

    def seconds_left(self, now: datetime) -> float | None:
        """Seconds until they end, or None outside of them.

        Args:
            now: a moment, with its zone.
        """
        local = now.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        wraps = self.start > self.end
        if (minute >= self.start or minute < self.end) if wraps else (self.start <= minute < self.end):
            day = local.date() + timedelta(days=1 if wraps and minute >= self.start else 0)
            midnight = datetime(day.year, day.month, day.day, tzinfo=self.zone)
            # On the clock of the zone, and only then compared: a day may have 23 or 25 hours.
            end = midnight + timedelta(minutes=self.end)
            return (end.astimezone(UTC) - now.astimezone(UTC)).total_seconds()
        return None


def parse_hours(value: object) -> Hours:
    """Read ``"08:00-18:00"``, ``"22:00-06:00 Europe/Berlin"`` or ``"08:00-18:00 +02:00"``.

    Raises:
        ValueError: if it is of another form, empty, or names no zone.
    """
    if isinstance(value, Hours):
        return value
    match = _FORM.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} are no hours: write '08:00-18:00', with a zone behind it if it is not UTC")
    start, end = (int(match[at]) * 60 + int(match[at + 1]) for at in (1, 3))
    if max(int(match[2]), int(match[4])) > 59 or start >= _DAY or end > _DAY:
        raise ValueError(f"{value!r} are no hours: a day goes from 00:00 to 24:00")
    if start == end or (start, end) == (0, _DAY):
        raise ValueError(f"{value!r} are not some of the hours of a day: leave allowed_hours out to allow all")
    return Hours(match[0].strip(), start, end, _zone(match[5] or "UTC"))


def _zone(name: str) -> tzinfo:
    if match := _OFFSET.match(name):
        minutes = int(match[2]) * 60 + int(match[3])
        if minutes < _DAY:
            return timezone(timedelta(minutes=minutes if match[1] == "+" else -minutes))
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    # What comes from here is decided by the file system: unknown, a folder, not readable, not a zone.
    except (ValueError, KeyError, OSError):
        raise ValueError(f"{name!r} is no time zone: write one as Europe/Berlin, or an offset as +02:00") from None
