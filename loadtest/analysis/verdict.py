"""The verdict of a run: validity first, then how it ended, then its thresholds, each judged by the run's figures."""

from dataclasses import dataclass
from math import inf, isfinite
from typing import Final, Literal, NamedTuple

from loadtest.analysis.metrics import RunFigures
from loadtest.analysis.numbers import NOTHING, quantity
from loadtest.analysis.results import (
    Count,
    Figures,
    Interval,
    JobFigures,
    JobStage,
    OperationCounts,
    OperationFigures,
    OverallFigures,
    RequestCounts,
    Result,
    Summary,
)
from loadtest.analysis.validity import Check
from loadtest.errors import ExitCode
from loadtest.record.run_info import RunInfo
from loadtest.threshold import EXPECTED, Judgement, Threshold, Unit, judge, parse_threshold
from loadtest.threshold import TIMES as THRESHOLD_TIMES


class ThresholdResult(Result, frozen=True, kw_only=True):
    """A threshold, and what the run has to say about it. Values are in the threshold's unit.

    Attributes:
        require: the requirement, as it was written.
        bounds: where the value is known only within them; null: no upper one.
        interval: 95 % interval from order statistics: sampling only.
        margin: above zero: inside what is required.
        n: how many values, requests or operations it rests on.
        why: of an inconclusive one.
    """

    require: str
    traffic: str | None
    operation: str | None
    stage: str | None
    unit: Unit
    judgement: Judgement
    value: float | None
    bounds: tuple[float | None, float | None] | None
    interval: Interval | None
    expected: float | None
    margin: float | None
    n: Count | None
    why: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A threshold and what the run has to say about it. Values are in the threshold's unit.

    Attributes:
        threshold: the requirement.
        judgement: pass, fail or inconclusive.
        value: the metric's value; None where samples are too few.
        bounds: where the value is known to lie, if it is known only within bounds (the upper one may be infinite).
        interval: 95 % interval of a percentile, sampling only.
        expected: the expected value, of metrics that have one.
        n: how many values, requests or operations it rests on.
        why: why it is inconclusive; empty otherwise.
    """

    threshold: Threshold
    judgement: Judgement
    value: float | None
    bounds: tuple[float, float] | None
    interval: tuple[float, float] | None
    expected: float | None
    n: int | None
    why: str

    @property
    def margin(self) -> float | None:
        """Distance to the nearest edge of what is allowed: above zero inside, below zero outside."""
        if self.value is None:
            return None
        t = self.threshold
        if t.operator in ("<", "<="):
            return t.value - self.value
        if t.operator in (">", ">="):
            return self.value - t.value
        if t.operator == "between" and t.upper is not None:
            return min(self.value - t.value, t.upper - self.value)
        if t.operator == "within":
            return None if self.expected is None else t.value - abs(self.value - self.expected)
        return -abs(self.value - t.value)

    def result(self) -> ThresholdResult:
        """What ``metrics.json`` holds of it."""
        bounds = None
        if self.bounds is not None:
            # JSON has no infinity: an upper bound that isn't known is null.
            low, high = (bound if isfinite(bound) else None for bound in self.bounds)
            bounds = low, high
        return ThresholdResult(
            require=self.threshold.text,
            traffic=self.threshold.traffic,
            operation=self.threshold.operation,
            stage=self.threshold.stage,
            unit=self.threshold.unit,
            judgement=self.judgement,
            value=self.value,
            bounds=bounds,
            interval=self.interval,
            expected=self.expected,
            margin=self.margin,
            n=self.n,
            why=self.why,
        )


def thresholds_of(info: RunInfo) -> list[Threshold]:
    """The thresholds of the scenario in force.

    Raises:
        InputError: if one cannot be read.
    """
    return [
        parse_threshold(
            entry["require"],
            traffic=entry.get("traffic"),
            operation=entry.get("operation"),
            stage=entry.get("stage"),
        )
        for entry in info.scenario.effective.get("threshold", [])
    ]


def judge_all(info: RunInfo, metrics: RunFigures) -> list[Judged]:
    """Judge every threshold of the scenario against the metrics."""
    return [judge_one(threshold, metrics) for threshold in thresholds_of(info)]


def judge_one(threshold: Threshold, metrics: RunFigures) -> Judged:
    """Judge one threshold; what the record can't answer is inconclusive, and says why."""
    figures = find_figures(threshold, metrics)
    if figures is None:
        why = f"the run has no figures for {threshold.scope}"
        return Judged(threshold, "inconclusive", None, None, None, None, None, why)
    measured = measure(threshold.metric, figures)
    expected = _expected(threshold.metric, figures)
    judgement = judge(threshold, measured.bounds or measured.value, expected)
    why = _why(threshold, measured, expected) if judgement == "inconclusive" else ""
    value, bounds, interval, n = measured
    return Judged(threshold, judgement, value, bounds, interval, expected, n, why)


def find_figures(threshold: Threshold, metrics: RunFigures) -> Figures | None:
    """The figures that a threshold is about, or None if the run has none."""
    whole: OverallFigures | OperationFigures | None = metrics.overall
    if threshold.traffic is not None:
        whole = metrics.traffic.get(threshold.traffic)
    elif threshold.operation is not None:
        whole = metrics.operations.get(threshold.operation)
    if whole is None or threshold.stage is None:
        return whole
    return whole.stages.get(threshold.stage)


class Measured(NamedTuple):
    """A metric's value.

    Attributes:
        value: None where samples are too few, or nothing was measured.
        bounds: where the value is known only within them: a statistic that reaches a time-out has no upper one, and a
            time to result lies somewhere within the last poll interval.
        interval: 95 % interval of a percentile, sampling only.
        n: how many values, requests or operations it rests on.
    """

    value: float | None
    bounds: tuple[float, float] | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None


def measure(metric: str, figures: Figures) -> Measured:
    """A metric of some figures by its name in a threshold."""
    name, _, statistic = metric.partition(".")
    found = getattr(figures, f"{name}_ms" if name in THRESHOLD_TIMES else name, None)
    if isinstance(found, Summary):
        return _of_summary(found, name, statistic, figures)
    if isinstance(found, OperationCounts | RequestCounts):
        whole = found.offered if isinstance(found, OperationCounts) else found.sent
        return Measured(getattr(found, statistic), n=whole)
    n = figures.operations.sent if metric in ("throttled_rate", "error_rate", "amplification") else None
    return Measured(found if isinstance(found, int | float) else None, n=n)


def _of_summary(summary: Summary, name: str, statistic: str, figures: Figures) -> Measured:
    found = summary.get(statistic)
    if found.value is None:
        return Measured(None, n=summary.n)
    lower, upper = found.value, inf if found.at_least else found.value
    if name == "time_to_result" and isinstance(figures, JobStage | JobFigures):
        least = figures.time_to_result_lower_ms.get(statistic)
        lower = upper if least.value is None else least.value
    return Measured(found.value, None if lower == upper else (lower, upper), found.interval, summary.n)


def _expected(metric: str, figures: Figures) -> float | None:
    if metric not in EXPECTED:
        return None
    return (figures.requests if "." in metric else figures).expected_throttled_rate


def _why(threshold: Threshold, measured: Measured, expected: float | None) -> str:
    value, bounds, _, n = measured
    if value is None:
        if n:
            return f"too few samples for {threshold.metric.partition('.')[2]}: {n}"
        return "no data: nothing to measure it on"
    if threshold.operator == "within" and expected is None:
        return "no expected value: the limiter could not be replayed"
    if bounds and bounds[1] == inf:
        return "it reaches time-outs, of which only a lower bound is known"
    return "the true value lies between two polls, and the threshold with it"


Word = Literal["invalid", "aborted", "regressed", "fail", "inconclusive", "pass"]

EXIT_CODES: Final[dict[Word, ExitCode]] = {
    "invalid": ExitCode.INVALID,
    "aborted": ExitCode.ABORTED,
    "regressed": ExitCode.REGRESSED,
    "fail": ExitCode.FAIL,
    "inconclusive": ExitCode.INCONCLUSIVE,
    "pass": ExitCode.PASS,
}
"""In order of precedence."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run amounts to.

    Attributes:
        word: one of ``EXIT_CODES``.
        statement: what is the case, in one plain sentence without the word.
        reasons: what it rests on, a sentence each; empty for a pass.
        exit_code: that of the verb that made the report.
        interrupted: the run was stopped by hand, so that the verdict is on what there was until then.
    """

    word: Word
    statement: str
    reasons: tuple[str, ...]
    exit_code: ExitCode
    interrupted: bool = False

    @property
    def sentence(self) -> str:
        """The verdict in one plain sentence, the word first."""
        word = f"Interrupted; until then {self.word}" if self.interrupted else self.word.capitalize()
        return f"{word}: {self.statement}"


def decide(info: RunInfo, checks: list[Check], judged: list[Judged]) -> Verdict:
    """The verdict, by precedence: a bottlenecked generator can neither pass nor fail a service."""
    word, statement, reasons = _decide(info, checks, judged)
    interrupted = info.end == "interrupted"
    code = ExitCode.INTERRUPTED if interrupted else EXIT_CODES[word]
    return Verdict(word, statement, tuple(reasons), code, interrupted)


def _decide(info: RunInfo, checks: list[Check], judged: list[Judged]) -> tuple[Word, str, list[str]]:
    # An aborted run may have been stopped before its first request: that is its reason, and no fault of the generator.
    aborted, why = info.end == "aborted", info.end_reason or "it was stopped before its end"
    if broken := [check.words for check in checks if not check.ok and not (aborted and check.name == "something sent")]:
        # Who reads that figures are not to be relied on still has to know what ended the run.
        ended = [f"it was aborted: {why}"] if aborted else []
        return "invalid", "; ".join([f"{broken[0]}{_more(len(broken) - 1)}", *ended]) + ".", [*broken, *ended]
    if aborted:
        return "aborted", f"{why}.", [why]
    if failed := [sentence(one) for one in judged if one.judgement == "fail"]:
        rest = f"{len(failed)} of {_count(len(judged))} {'does' if len(failed) == 1 else 'do'} not hold"
        return "fail", f"{rest}: {failed[0]}{_more(len(failed) - 1)}.", failed
    if unclear := [sentence(one) for one in judged if one.judgement == "inconclusive"]:
        rest = f"{len(unclear)} of {_count(len(judged))} cannot be judged"
        return "inconclusive", f"{rest}: {unclear[0]}{_more(len(unclear) - 1)}.", unclear
    if not judged:
        return "pass", "the run is valid; no thresholds set.", []
    held = "its one threshold holds" if len(judged) == 1 else f"all {len(judged)} thresholds hold"
    return "pass", f"{held}, and the run is valid.", []


def sentence(one: Judged) -> str:
    """One judged threshold in words: where, what, and what it was."""
    where = f"{one.threshold.scope}: {one.threshold.text}"
    if one.judgement == "inconclusive":
        return f"{where} ({one.why})"
    return f"{where}, but it was {amount(one)}"


def amount(one: Judged) -> str:
    """The value of a judged threshold, with its unit; bounds where it is known only within them."""
    if one.value is None:
        return NOTHING
    if one.bounds is not None:
        low, high = one.bounds
        upper = quantity(high, one.threshold.unit)
        return (
            f"at least {quantity(low, one.threshold.unit)}"
            if high == float("inf")
            else (f"{quantity(low, one.threshold.unit)} to {upper}")
        )
    return quantity(one.value, one.threshold.unit)


def _more(count: int) -> str:
    return f" (and {count} more)" if count > 0 else ""


def _count(count: int) -> str:
    return "1 threshold" if count == 1 else f"{count} thresholds"
