"""Selection of the traffic entries that decide the verdict, for runs with very many."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from loadtest.analysis.findings import Findings
from loadtest.report.page import MOST_LISTED, MOST_ROWS, Table

MOST: Final = 12
"""Maximum panels of a plot, or lines of a panel: more are too small to read and slow to draw."""
_WORSE_FIRST: Final = ("fail", "inconclusive", "pass")

_Value = TypeVar("_Value")


def deciding(findings: Findings, names: Iterable[str], most: int = MOST) -> tuple[list[str], tuple[str, ...]]:
    """Choose entries to show: broken thresholds first, then most operations that were not ok, then most operations.

    Returns:
        The chosen and the remaining entries, both in the order given.
    """
    given = list(names)
    chosen = set(sorted(given, key=lambda name: _rank(findings, name))[:most])
    return [name for name in given if name in chosen], tuple(name for name in given if name not in chosen)


def deciding_of(
    findings: Findings, found: Mapping[str, _Value], most: int = MOST
) -> tuple[dict[str, _Value], tuple[str, ...]]:
    """Choose entries as ``deciding`` does, and return the chosen entries' values."""
    chosen, left_out = deciding(findings, found, most)
    return {name: found[name] for name in chosen}, left_out


def listed(findings: Findings, table: Table) -> Table:
    """Cut a table that is too long for a page: its first screen stays, then come the entries in its first column."""
    if len(table.rows) <= MOST_LISTED:
        return table
    first = {place: order for order, place in enumerate(table.decides[:MOST_ROWS])}
    ranks, head = list[tuple[int, ...]](), ""
    for place, row in enumerate(table.rows):
        head = row[0].text or head
        # A row that belongs to no entry, such as a total, comes before those that do.
        entry = _rank(findings, head) if head in findings.metrics.traffic else (-1, 0, 0)
        ranks.append((first.get(place, MOST_ROWS), *entry))
    return replace(table, decides=tuple(sorted(range(len(ranks)), key=ranks.__getitem__))).listed()


def _rank(findings: Findings, name: str) -> tuple[int, int, int]:
    judged = (_WORSE_FIRST.index(one.judgement) for one in findings.judged if one.traffic == name)
    operations = findings.metrics.traffic[name].operations
    return min(judged, default=len(_WORSE_FIRST)), operations.ok - operations.sent, -operations.sent
