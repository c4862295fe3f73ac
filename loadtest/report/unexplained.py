"""429s that no limit explains: those that a target gave for a reason of its own, or because of somebody else."""

from dataclasses import dataclass
from typing import Final

from loadtest.analysis.findings import Findings

_MOST: Final = 0.5
"""Share of a limit's 429s from which they are called unexplained: a few at window edges are always in doubt."""


@dataclass(frozen=True)
class Unexplained:
    """How many of a limit's 429s came though the believed limiter had room, and no other fits either."""

    count: int
    throttled: int


def unexplained(findings: Findings, limit: str) -> Unexplained | None:
    """The unexplained 429s of a limit; None where it gave none, or where a limiter explains most of them.

    Where another limiter than the believed one is named, or several fit, the limit binds, only otherwise than believed.
    """
    found = findings.throttled.limits.get(limit)
    if found is None or found.believed is None or not found.throttled:
        return None
    if found.inference.word in ("named", "several"):
        return None
    wrong = found.believed.wrongly_rejected
    return Unexplained(wrong, found.throttled) if wrong > _MOST * found.throttled else None
