"""Selection of the traffic entries and stages that a page shows first, and cells with their names and statistics."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple, TypeVar

from loadtest.analysis.columns import StageKey
from loadtest.analysis.findings import Findings
from loadtest.analysis.results import OperationStage, Summary, Value, bounded
from loadtest.contract import Operation
from loadtest.record.effective_scenario import polling
from loadtest.report.page import MOST_LISTED, MOST_ROWS, UNKNOWN, Table, TableCell
from loadtest.words import milliseconds

MOST: Final = 12
"""Maximum number of panels in a plot, and of lines in a panel. More would be too small to read and slow to draw."""
_WORSE_FIRST: Final = ("fail", "inconclusive", "pass")

_Value = TypeVar("_Value")


class StagePart(NamedTuple):
    """A traffic entry in one stage."""

    key: StageKey
    figures: OperationStage

    @property
    def traffic(self) -> str:
        return self.key.traffic

    @property
    def stage(self) -> str:
        return self.key.stage.name

    @property
    def label(self) -> str:
        return f"{self.traffic} in “{self.stage}”"

    @property
    def ok(self) -> float | None:
        """The share of sent operations that were ok."""
        counts = self.figures.operations
        return counts.ok / counts.sent if counts.sent else None

    @property
    def within(self) -> bool:
        """Whether the stage was planned within all limits, with no 429 expected."""
        return not self.key.stage.over and not self.key.stage.expect_429


def stage_parts(findings: Findings, traffic: str | None = None) -> list[StagePart]:
    """Return each pair of a traffic entry and a stage, or only those of ``traffic``, in scenario order."""
    stages = {name: figures.stages for name, figures in findings.metrics.traffic.items()}
    keys = findings.record.stages(traffic=traffic)
    return [StagePart(key, stages[key.traffic][key.stage.name]) for key in keys]


def entry_name(findings: Findings, traffic: str) -> TableCell:
    """Return a traffic entry's name with its polling interval as detail."""
    return TableCell(traffic, polling(findings.record.info, traffic), "head")


def statistic(
    summary: Summary, name: str, say: Callable[[float | None], str] = milliseconds, *, interval: bool = False
) -> TableCell:
    """Return a statistic, by default of a time in ms. ``interval`` adds its 95 % interval; ≥ marks a lower bound."""
    found = summary.get(name)
    if found.value is None:
        return UNKNOWN
    bounds = found.interval if interval else None
    return TableCell(bounded(found, say), f"{say(bounds[0])} to {say(bounds[1])}" if bounds else "")


class MainEntry(NamedTuple):
    """The traffic entry that the first screen describes, in one of its stages.

    Attributes:
        only: whether no other stage could be chosen, so that the stage needs no name.
    """

    part: StagePart
    within: bool
    only: bool

    @property
    def operation(self) -> Operation:
        return self.part.key.operation

    @property
    def times(self) -> Summary:
        return self.part.figures.response_time_ms

    @property
    def quantile(self) -> tuple[str, Value] | None:
        """The highest of p95, p90 and p50 that has enough samples; None without any."""
        found = ((name, self.times.get(name)) for name in ("p95", "p90", "p50"))
        return next(((name, value) for name, value in found if value.value is not None), None)


def main_entry(findings: Findings) -> MainEntry | None:
    """Return the main entry; None without stages.

    The criteria are, in order: the entry has times, a comparison is about it or chose it, its stage is within the
    limits, and it has enough times for a percentile. Then sync runs come before jobs, jobs before retrievals, and more
    times before fewer.
    """
    order = list(Operation)
    entries = list[MainEntry]()
    answered = {each.entry or each.chosen for each in findings.answers}
    for name in findings.record.info.traffic:
        parts = stage_parts(findings, name)
        calm = [part for part in parts if part.within]
        within = any(part.figures.response_time_ms.n for part in calm)
        found = calm if within else parts
        # Times of several stages are never mixed, so use the stage with the most times.
        if part := max(found, key=lambda part: part.figures.response_time_ms.n, default=None):
            entries.append(MainEntry(part, within, len(found) == 1))
    return min(
        entries,
        key=lambda entry: (
            not entry.times.n,
            entry.part.traffic not in answered,
            not entry.within,
            entry.quantile is None,
            order.index(entry.operation),
            -entry.times.n,
        ),
        default=None,
    )


def deciding(
    findings: Findings, found: Mapping[str, _Value], most: int = MOST
) -> tuple[dict[str, _Value], tuple[str, ...]]:
    """Return the ``most`` most important entries of ``found``, and the names of the others, in the order of ``found``.

    Entries rank by their worst threshold result, then by numbers of operations not ok, then by numbers of operations.
    """
    chosen = set(sorted(found, key=lambda name: _rank(findings, name))[:most])
    return {name: found[name] for name in found if name in chosen}, tuple(name for name in found if name not in chosen)


def listed(findings: Findings, table: Table) -> Table:
    """Shorten a long table: keep the rows of the page's first screen, then the rows of the most important entries."""
    if len(table.rows) <= MOST_LISTED:
        return table
    first = {place: order for order, place in enumerate(table.decides[:MOST_ROWS])}
    ranks, head = list[tuple[int, ...]](), ""
    for place, row in enumerate(table.rows):
        head = row[0].text or head
        # A row without an entry, such as a total, comes before the rows of entries.
        entry = _rank(findings, head) if head in findings.metrics.traffic else (-1, 0, 0)
        ranks.append((first.get(place, MOST_ROWS), *entry))
    return replace(table, decides=tuple(sorted(range(len(ranks)), key=ranks.__getitem__))).listed()


def _rank(findings: Findings, name: str) -> tuple[int, int, int]:
    judged = (_WORSE_FIRST.index(one.judgement) for one in findings.judged if one.traffic == name)
    operations = findings.metrics.traffic[name].operations
    return min(judged, default=len(_WORSE_FIRST)), operations.ok - operations.sent, -operations.sent
