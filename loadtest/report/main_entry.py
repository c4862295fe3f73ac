"""The part of a run that its first screen speaks of: one operation, within its limits if it was ever there."""

from dataclasses import dataclass
from typing import Final

from loadtest.analysis.book import OUTCOMES
from loadtest.analysis.distribution import Distribution
from loadtest.analysis.findings import Findings
from loadtest.analysis.percentiles import Percentile, percentile
from loadtest.contract import Operation
from loadtest.record.run_info import StagePlan
from loadtest.stats import QUANTILES, needed

CALLED: Final[dict[str, tuple[str, str]]] = {
    Operation.SYNC_RUN: ("sync run", "sync runs"),
    Operation.ASYNC_RUN: ("job", "jobs"),
    Operation.RETRIEVAL: ("retrieval", "retrievals"),
}
"""One, and several, of what an operation is called in a sentence."""


@dataclass(frozen=True)
class Entry:
    """A traffic entry in some of its stages.

    Attributes:
        traffic: its name.
        operation: what it does.
        stages: the ones that are meant.
        within: whether these are all that were planned within the limits (else: all that were judged).
        times: response times of their operations that were ok or timed out.
    """

    traffic: str
    operation: str
    stages: tuple[StagePlan, ...]
    within: bool
    times: Distribution

    @property
    def quantile(self) -> tuple[str, float] | None:
        """p95 where n can carry it, else the highest that it can (p90, p50), else None."""
        for name in ("p95", "p90", "p50"):
            if self.times.n >= needed(QUANTILES[name]):
                return name, QUANTILES[name]
        return None

    @property
    def percentile(self) -> Percentile | None:
        """The percentile of ``quantile``."""
        return None if self.quantile is None else percentile(self.times, self.quantile[1])

    @property
    def words(self) -> str:
        """What its operations are called."""
        return CALLED[self.operation][self.times.n != 1]


def within_limits(stage: StagePlan) -> bool:
    """Whether a stage was planned within every limit, and no 429 is expected of it."""
    return not stage.over and not stage.expect_429


def main_entry(findings: Findings) -> Entry | None:
    """The entry whose times the first screen gives: sync runs before jobs before retrievals; None without traffic.

    One that has times comes before one that has none, one within its limits before one above them, and of several
    that do the same the one with the most times.
    """
    found = [_entry(findings, name) for name in findings.record.info.traffic]
    order = list(CALLED)
    return min(
        found,
        key=lambda one: (
            not one.times.n,
            not one.within,
            one.quantile is None,
            order.index(one.operation),
            -one.times.n,
        ),
        default=None,
    )


def _entry(findings: Findings, name: str) -> Entry:
    record = findings.record
    planned = record.stages(traffic=name)
    calm = [(entry, stage) for entry, stage in planned if within_limits(stage)]
    times = record.times.of["response_time_ms"]
    within = bool(calm) and bool(times.get(record.cells(calm)).n)
    chosen = calm if within else planned
    stages = tuple(stage for _, stage in chosen)
    return Entry(name, record.info.traffic[name].operation, stages, within, times.get(record.cells(chosen)))


def outcomes(findings: Findings, entry: Entry) -> dict[str, int]:
    """Operations of an entry's stages by outcome."""
    stages = findings.metrics.traffic[entry.traffic].stages
    counts = [stages[stage.name].operations for stage in entry.stages]
    return {word: sum(getattr(each, word) for each in counts) for word in ("offered", *OUTCOMES)}
