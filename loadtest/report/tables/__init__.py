"""Tables of a report, as formatted text. This module has the cells that several tables use."""

from collections.abc import Callable

from loadtest.analysis.findings import Findings
from loadtest.analysis.results import Summary, bounded
from loadtest.record.effective_scenario import polling
from loadtest.report.page import UNKNOWN, TableCell
from loadtest.words import NOTHING, count, milliseconds, share


def statistic(
    summary: Summary, name: str, say: Callable[[float | None], str] = milliseconds, *, interval: bool = False
) -> TableCell:
    """Return a statistic, by default of a time in ms. ``interval`` adds its 95 % interval; ≥ marks a lower bound."""
    found = summary.get(name)
    if found.value is None:
        return UNKNOWN
    bounds = found.interval if interval else None
    return TableCell(bounded(found, say), f"{say(bounds[0])} to {say(bounds[1])}" if bounds else "")


def listed(counts: dict[str, int]) -> str:
    """Format counts by name: ``200: 80,  429: 20``."""
    return ",  ".join(f"{name}: {count(number)}" for name, number in counts.items()) or NOTHING


def share_of(some: float, whole: float) -> TableCell:
    """Return a share with its denominator as detail."""
    return TableCell(share(some / whole) if whole else NOTHING, f"of {count(whole)}")


def alarm(number: int, *, bad: bool | None = None, detail: str = "") -> TableCell:
    """Return a count, highlighted if it is bad. By default, every count above 0 is bad."""
    return TableCell(count(number), detail, "bad" if (number if bad is None else bad) else "")


def entry_name(findings: Findings, traffic: str) -> TableCell:
    """Return a traffic entry's name with its polling interval as detail."""
    return TableCell(traffic, polling(findings.record.info, traffic), "head")
