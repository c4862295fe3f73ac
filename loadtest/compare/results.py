"""What a comparison found, as types, and their file ``comparison.json``: every report is written from these alone."""

from pathlib import Path
from typing import Final, Literal

import msgspec

from loadtest.compare.measurements import NATURES, Key, Metric, RunMeasurements
from loadtest.metrics import Nature
from loadtest.record.run_directory import read_versioned, write_json

FILE_NAME: Final = "comparison.json"
SCHEMA_VERSION: Final = 1

MetricVerdict = Literal["regressed", "improved", "unchanged", "inconclusive", "learning", "not comparable"]
FindingKind = Literal["grown", "moved", "throttled", "failing", "less"]
ComparisonVerdict = Literal["regressed", "pass", "inconclusive", "learning", "not comparable", "invalid"]
"""Of a whole comparison: ``pass`` is "no regression was found, and one of the stated size would have been"."""


class MetricComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one traffic entry in one stage, compared.

    Attributes:
        base: value of the base side: of the pairs' or the history's centre. Unit by the metric.
        head: value of the head side or the new run.
        difference: head − base, in the metric's unit.
        difference_interval: 95 %, likewise; None where no interval is sound.
        ratio: head ÷ base of times and rates (odds ratio of shares); above 1 is more.
        ratio_interval: 95 %, likewise.
        p: one-sided, that it became worse; None where it was not tested.
        p_adjusted: by Holm over the family.
        detectable: the smallest change for the worse that this comparison finds in 80 % of cases, as a ratio above 1
            (below 1 where less is worse); None where unknown.
        sd: from run to run or pair to pair, on the metric's scale, that the interval rests on.
        n: runs of the history, or pairs.
        suspect: whether it is suspected, and a rerun has to confirm it.
        drift: whether it is compared with the first runs of the history's segment, which shows slow drift, and not with
            the latest ones.
        gated: whether the verdict may rest on it.
        why: why it is not gated, not comparable or inconclusive; empty otherwise.
        earlier: values of the base side in order, for pictures.
        later: values of the head side, likewise.
        resolution_ms: what a poll interval hides; a smaller difference is none.
    """

    traffic: str
    stage: str
    metric: Metric
    verdict: MetricVerdict
    base: float | None
    head: float | None
    difference: float | None
    difference_interval: tuple[float, float] | None = None
    ratio: float | None = None
    ratio_interval: tuple[float, float] | None = None
    p: float | None = None
    p_adjusted: float | None = None
    detectable: float | None = None
    sd: float | None = None
    n: int
    suspect: bool
    gated: bool
    why: str = ""
    drift: bool = False
    earlier: tuple[float, ...] = ()
    later: tuple[float, ...] = ()
    resolution_ms: float = 0.0

    @property
    def nature(self) -> Nature:
        return NATURES[self.metric]

    @property
    def key(self) -> Key:
        return Key(self.traffic, self.stage, self.metric)


class ChangeFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that changed, with all metrics in which it shows.

    Attributes:
        kind: ``grown``: it takes longer; ``moved``: time went from one part to another, the whole stayed;
            ``throttled``: more 429s than expected; ``failing``: more errors; ``less``: less gets through.
        sentence: "greetings: executionTime p50 +66 ms (+69 %, 95 %: +58 to +75)".
        cause: the metric in which it shows first.
        symptoms: the others.
    """

    kind: FindingKind
    traffic: str
    stage: str
    sentence: str
    cause: MetricComparison
    symptoms: tuple[MetricComparison, ...]


class ControlComparison(msgspec.Struct, frozen=True, kw_only=True):
    """A control beside that of the base side: if it moved, a suspect cannot be laid at the service's door."""

    name: str
    base_ms: float
    head_ms: float
    ratio: float
    moved: bool


class RunComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two sides of one scenario, compared.

    Attributes:
        kind: two reachable versions in pairs of blocks, or a run against accepted earlier ones.
        word: the verdict.
        exit_code: of the verdict.
        sentence: the verdict in one or two sentences, the finding first.
        reasons: what else a reader must know: attribution, what would settle it, what moved.
        base: where the base side ran, and when, in words.
        head: likewise.
        runs: ids of every run that it rests on, the head's last.
        confirmed: whether a rerun was made and decided.
    """

    schema: int = SCHEMA_VERSION
    kind: Literal["paired", "history"]
    scenario: str
    title: str
    word: ComparisonVerdict
    exit_code: int
    sentence: str
    reasons: tuple[str, ...]
    base: str
    head: str
    runs: tuple[str, ...]
    confirmed: bool
    findings: tuple[ChangeFinding, ...]
    metrics: tuple[MetricComparison, ...]
    controls: tuple[ControlComparison, ...]
    base_runs: tuple[RunMeasurements, ...] = ()
    head_runs: tuple[RunMeasurements, ...] = ()


def save(comparison: RunComparison, directory: Path) -> None:
    """Write ``comparison.json``, atomically."""
    write_json(directory / FILE_NAME, comparison, indent=1)


def load(directory: Path) -> RunComparison:
    """Read ``comparison.json``.

    Raises:
        RecordError: if it is missing, damaged, or of another schema version.
    """
    remedy = "`loadtest compare` and `loadtest regression check` write it: make the comparison again."
    return read_versioned(directory / FILE_NAME, RunComparison, SCHEMA_VERSION, remedy=remedy)
