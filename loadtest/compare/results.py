"""The result of a comparison, and its file ``comparison.json``. Reports are made from this file alone."""

from pathlib import Path
from typing import Final, Literal

import msgspec

from loadtest.compare.measurements import NATURES, Key, Metric, RunMeasurements
from loadtest.errors import LoadtestError, RecordError
from loadtest.metrics import Nature
from loadtest.record.run_directory import read_versioned, write_json

FILE_NAME: Final = "comparison.json"
SCHEMA_VERSION: Final = 1

MetricVerdict = Literal["regressed", "improved", "unchanged", "changed", "inconclusive", "learning", "not comparable"]
"""``changed``: a share rose beyond chance, but by less than the minimum rise."""
FindingKind = Literal["grown", "moved", "throttled", "failing", "less"]
ComparisonVerdict = Literal["regressed", "pass", "inconclusive", "learning", "not comparable", "invalid"]
"""Verdict of a whole comparison. ``pass``: no regression was found."""


class MetricComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of one metric of one traffic entry in one stage.

    Attributes:
        base: value of the base side, in the metric's unit: the mean over the pairs or the history.
        difference: head − base, in the metric's unit.
        difference_interval: 95 % interval of ``difference``; None without an estimate.
        ratio: head ÷ base for times and rates, the odds ratio for shares.
        ratio_interval: 95 % interval of ``ratio``.
        p: one-sided p value, small if the metric became worse; None without an estimate.
        p_adjusted: ``p``, adjusted for all tested metrics by Holm's method; in a rerun, ``p`` of a suspected metric.
        detectable: the smallest worsening that this comparison finds in 80 % of cases, as a ratio. Below 1 if less is
            worse; None if unknown.
        detectable_value: for a share, the head's value after the minimum detectable change.
        sd: standard deviation between runs or pairs, on the metric's scale.
        n: number of earlier runs that the comparison uses, or of pairs.
        suspect: whether a rerun must confirm that the metric became worse.
        drift: whether the baseline has the first runs of its period instead of the latest, to find slow drift.
        gated: whether the verdict may use the metric.
        why: why the metric is inconclusive or not tested, or why its change does not count; empty otherwise.
        earlier: values of the base side in order, for plots; ``later`` has those of the head side.
        resolution_ms: error of the times in ms, due to polls or rounding. Smaller differences do not count.
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
        kind: ``throttled`` (more 429s than expected), ``failing`` (more errors) or ``grown`` (longer times). Older
            files also have ``moved`` and ``less``.
        sentence: such as "greetings: executionTime p50 +66 ms (+69 %, 95 %: +58 % to +75 %)".
        cause: the metric that the finding is about; ``symptoms`` became worse, too.
    """

    kind: FindingKind
    traffic: str
    stage: str
    sentence: str
    cause: MetricComparison
    symptoms: tuple[MetricComparison, ...]


class ControlComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of a control. If it moved, a suspected change cannot be attributed to the service."""

    name: str
    base_ms: float
    head_ms: float
    ratio: float
    moved: bool


class RunComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of two sides of one scenario.

    Attributes:
        kind: ``paired`` compares two versions in pairs of blocks, ``history`` a run with accepted runs.
        sentence: the verdict in words, with the finding.
        reasons: further sentences: where the time went, how to settle an unclear result, missing and improved metrics.
        base, head: descriptions of the sides.
        runs: ids of all runs used. The head's ids come last.
        confirmed: whether a rerun was made and decided the verdict.
        command: the command that repeats the comparison, with the user's options.
        confirm: the command that reruns a suspected regression.
        place: options for the history and the folder of runs. The commands that accept or reject the run need them.
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
    """Write ``comparison.json``."""
    write_json(directory / FILE_NAME, comparison, indent=1)


def load(directory: Path, error: type[LoadtestError] = RecordError) -> RunComparison:
    """Read ``comparison.json``; raises ``error``."""
    remedy = "Repeat the comparison."
    return read_versioned(directory / FILE_NAME, RunComparison, SCHEMA_VERSION, remedy=remedy, error=error)
