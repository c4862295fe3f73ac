"""Which traffic entries a plot shows where there are very many: those on which the verdict rests."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from loadtest.analysis.findings import Findings

MOST: Final = 12
"""Panels of a plot, or lines of a panel: more would be too small to read, or too long to draw."""
_WORSE_FIRST: Final = ("fail", "inconclusive", "pass")

_Value = TypeVar("_Value")


def deciding(findings: Findings, names: Iterable[str], most: int = MOST) -> tuple[list[str], tuple[str, ...]]:
    """Choose entries to show: broken thresholds first, then most operations that were not ok, then most operations.

    Returns:
        The chosen entries and the others, both in the order given.
    """
    given = list(names)
    chosen = set(sorted(given, key=lambda name: _rank(findings, name))[:most])
    return [name for name in given if name in chosen], tuple(name for name in given if name not in chosen)


def deciding_of(
    findings: Findings, found: Mapping[str, _Value], most: int = MOST
) -> tuple[dict[str, _Value], tuple[str, ...]]:
    """As ``deciding``, with what was found of each chosen entry."""
    chosen, left_out = deciding(findings, found, most)
    return {name: found[name] for name in chosen}, left_out


def _rank(findings: Findings, name: str) -> tuple[int, int, int]:
    judged = (_WORSE_FIRST.index(one.judgement) for one in findings.judged if one.traffic == name)
    operations = findings.metrics.traffic[name].operations
    return min(judged, default=len(_WORSE_FIRST)), operations.ok - operations.sent, -operations.sent
