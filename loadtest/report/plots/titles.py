"""Parts of plot titles: names of traffic entries, shares of ok operations, and medians."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import OperationStage, Summary, Value, bounded
from loadtest.compare.changes import LEAST_MS

MOST_NAMED: Final = 3
"""Maximum number of traffic entries named in a title."""
SAME: Final = 1.1
"""Ratio below which a title counts two times as the same."""


def names_or_count(names: Sequence[str]) -> str:
    """Return some names, or their number if there are many."""
    return words.joined(names) if len(names) <= MOST_NAMED else f"{len(names)} entries"


def ok_share(findings: Findings, name: str) -> str:
    """Return an entry's share of ok operations, as a qualifier of its figures; empty if all were ok."""
    counts = findings.metrics.traffic[name].operations
    return f" ({words.share(counts.ok / counts.sent)} were ok)" if counts.ok < counts.sent else ""


def medians(findings: Findings, names: Iterable[str], time: str, summary: Callable[[OperationStage], Summary]) -> str:
    """Return the stages between which an entry's median differs most, or else each entry's median.

    Stages are not named if the scenario compares entries. ``summary`` gives this time of an entry, in a stage or whole.
    """
    traffic, changes = findings.metrics.traffic, []
    whole = _known((name, summary(traffic[name])) for name in names)
    compared = any(one.kind != "effect" for one in findings.answers)
    for name in whole:
        stages = _known((stage, summary(part)) for stage, part in traffic[name].stages.items())
        if len(stages) < 2 or compared:
            continue
        low, high = (stages[stage].value or 0.0 for stage in _ends(stages))
        if high >= max(SAME * low, low + LEAST_MS):
            said = ", ".join(f"{bounded(stages[stage])} in “{stage}”" for stage in stages if stage in _ends(stages))
            changes.append((high / max(low, LEAST_MS), f"Median {time} of {name}{ok_share(findings, name)}: {said}"))
    if changes:
        return max(changes)[1]
    texts = {name: f"{bounded(value)} for {name}{ok_share(findings, name)}" for name, value in whole.items()}
    if not texts:
        return f"Too few answers for a median {time}"
    if len(texts) > MOST_NAMED:
        if len({bounded(value) for value in whole.values()}) == 1:
            return f"Median {time}: {bounded(next(iter(whole.values())))} each"
        return f"Median {time}: {' to '.join(texts[name] for name in _ends(whole))}"
    return f"Median {time}: {', '.join(texts.values())}"


def _known(summaries: Iterable[tuple[str, Summary]]) -> dict[str, Value]:
    """Return the medians that have enough samples."""
    return {name: value for name, each in summaries if (value := each.get("p50")).value is not None}


def _ends(values: dict[str, Value]) -> tuple[str, str]:
    """Return the names of the lowest and the highest value."""
    order = sorted(values, key=lambda name: (values[name].value or 0.0, values[name].at_least))
    return order[0], order[-1]
