"""The result of a comparison, and its file ``comparison.json``, the only source of reports."""

from pathlib import Path
from typing import Final, Literal

import msgspec

from loadtest.compare.measurements import NATURES, Key, Metric, RunMeasurements
from loadtest.metrics import Nature
from loadtest.record.run_directory import read_versioned, write_json

FILE_NAME: Final = "comparison.json"
SCHEMA_VERSION: Final = 1

MetricVerdict = Literal["regressed", "improved", "unchanged", "changed", "inconclusive", "learning", "not comparable"]
"""``changed``: a share rose beyond chance, by less than what counts."""
FindingKind = Literal["grown", "moved", "throttled", "failing", "less"]
ComparisonVerdict = Literal["regressed", "pass", "inconclusive", "learning", "not comparable", "invalid"]
"""Verdict of a whole comparison: ``pass`` means that no regression was found, and one of the stated size would have
been."""


class MetricComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of one metric of one traffic entry in one stage.

    Attributes:
        base: value of the base side: the centre of the pairs or the history. Unit by the metric.
        difference: head − base, in the metric's unit.
        difference_interval: 95 %, likewise; None if no sound interval exists.
        ratio: head ÷ base of times and rates (odds ratio of shares); above 1 is more.
        ratio_interval: 95 %, likewise.
        p: one-sided, for a change for the worse; None if it was not tested.
        p_adjusted: by Holm over the family.
        detectable: the smallest change for the worse that this comparison finds in 80 % of cases, as a ratio above 1
            (below 1 if less is worse); None if unknown.
        detectable_value: of a share, the head's value at that change, in the metric's unit.
        sd: standard deviation between runs or pairs, on the metric's scale, that the interval uses.
        n: runs of the history, or pairs.
        suspect: whether a rerun must confirm it.
        drift: whether the baseline is the first runs of its period, which shows slow drift, instead of the latest.
        gated: whether the verdict may use it.
        why: why it is not gated, not comparable or inconclusive; empty otherwise.
        earlier: values of the base side in order, for pictures.
        later: values of the head side, likewise.
        resolution_ms: as of a measurement; smaller differences count as none.
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
    detectable_value: float | None = None
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
    """One change, with all metrics that show it.

    Attributes:
        kind: ``grown``: longer times, or more of another share; ``throttled``: more 429s than expected; ``failing``:
            more errors. Older files also have ``moved`` and ``less``.
        sentence: "greetings: executionTime p50 +66 ms (+69 %, 95 %: +58 to +75)".
        cause: the metric closest to the cause.
    """

    kind: FindingKind
    traffic: str
    stage: str
    sentence: str
    cause: MetricComparison
    symptoms: tuple[MetricComparison, ...]


class ControlComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of a control: if it moved, a suspected change cannot be attributed to the service."""

    name: str
    base_ms: float
    head_ms: float
    ratio: float
    moved: bool


class RunComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of two sides of one scenario.

    Attributes:
        kind: two reachable versions in pairs of blocks, or a run against accepted earlier runs.
        sentence: the verdict in one or two sentences, the finding first.
        reasons: further notes: attribution, how to settle an unclear result, moved times.
        base: place and time of the base side, in words.
        head: likewise.
        runs: ids of all runs used, the head's last.
        confirmed: whether a rerun was made and decided.
        command: the command that makes such a comparison once more, as the user gave it; begins with ``loadtest``.
        confirm: the command that reruns a suspected regression.
        place: options that name its history and its folder of runs, for the commands that decide on it.
    """

    schema: int = SCHEMA_VERSION
    kind: Literal["paired", "history"]
    scenario: str
    title: str
    word: ComparisonVerdict = "learning"
    exit_code: int = 0
    sentence: str = ""
    reasons: tuple[str, ...] = ()
    base: str
    head: str
    runs: tuple[str, ...]
    confirmed: bool = False
    findings: tuple[ChangeFinding, ...] = ()
    metrics: tuple[MetricComparison, ...] = ()
    controls: tuple[ControlComparison, ...] = ()
    base_runs: tuple[RunMeasurements, ...] = ()
    head_runs: tuple[RunMeasurements, ...] = ()
    command: str = ""
    confirm: str = ""
    place: str = ""


def save(comparison: RunComparison, directory: Path) -> None:
    """Write ``comparison.json``, atomically."""
    write_json(directory / FILE_NAME, comparison, indent=1)


def load(directory: Path) -> RunComparison:
    """Read ``comparison.json``; raises ``RecordError``."""
    remedy = "Repeat the comparison."
    return read_versioned(directory / FILE_NAME, RunComparison, SCHEMA_VERSION, remedy=remedy)
