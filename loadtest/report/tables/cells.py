"""Figures as cells of tables."""

from typing import Final

from loadtest.analysis.results import Summary, bounded
from loadtest.report.page import TableCell
from loadtest.words import NOTHING, count, milliseconds, share

UNKNOWN: Final = TableCell(NOTHING, tone="faint")


def statistic(summary: Summary, name: str, *, interval: bool = True) -> TableCell:
    """Return a statistic of a time in ms with its interval; ≥ if it reaches a time-out."""
    found = summary.get(name)
    if found.value is None:
        return UNKNOWN
    bounds = found.interval if interval else None
    return TableCell(
        bounded(found, milliseconds), f"{milliseconds(bounds[0])} to {milliseconds(bounds[1])}" if bounds else ""
    )


def ratio(value: float | None) -> str:
    """Format a ratio with three digits; a dash for None."""
    return NOTHING if value is None else f"{value:.3g}"


def listed(counts: dict[str, int]) -> str:
    """Format counts by name: ``200: 80,  429: 20``."""
    return ",  ".join(f"{name}: {count(number)}" for name, number in counts.items()) or NOTHING


def share_of(some: float, whole: float) -> TableCell:
    """Return a share with its denominator as detail."""
    return TableCell(share(some / whole) if whole else NOTHING, f"of {count(whole)}")


def alarm(number: int) -> TableCell:
    """Return a count that is highlighted unless it is 0."""
    return TableCell(count(number), tone="bad" if number else "")
