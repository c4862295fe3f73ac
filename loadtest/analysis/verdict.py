"""The verdict of a run, from the run's validity, end and thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from operator import attrgetter
from typing import Final, Literal, NamedTuple

from loadtest.analysis.intervals import TIME_OUTS, MetricInterval, find_interval
from loadtest.analysis.metrics import RunFigures
from loadtest.analysis.results import (
    Count,
    CountedFigures,
    Interval,
    JobStage,
    OperationFigures,
    OverallFigures,
    Result,
    Summary,
)
from loadtest.analysis.run_record import Record
from loadtest.analysis.validity import ValidityCheck
from loadtest.errors import ExitCode, RecordError
from loadtest.metrics import METRICS, PERCENTILES, SUMMARIES, field_of
from loadtest.record.effective_scenario import UNEXPECTED_ERRORS, WrittenThreshold, written
from loadtest.record.run_info import RunInfo
from loadtest.threshold import Judgement, Threshold, judge, parse_threshold, scope_of
from loadtest.units import Unit, parse_share
from loadtest.words import NOTHING, counted, percent, quantity

FEWEST_OPERATIONS: Final = 10
"""A written threshold is inconclusive if fewer operations than this were sent in its scope."""


class Judged(Result, frozen=True, kw_only=True):
    """A threshold with its judgement. Values are in the threshold's unit.

    Attributes:
        value: null if samples are too few, or nothing was measured.
        bounds: bounds of a value that is not known exactly. The upper bound is null if it is unknown.
        interval: 95 % interval of a percentile, computed from blocks of time; null if there is none.
        margin: distance to the nearest edge of the allowed range; positive inside and negative outside.
        marginal: whether some values in the interval would be judged differently from ``value``.
        confident: whether the whole interval has to meet the threshold. A marginal result is then inconclusive.
        why: reason for an inconclusive result or a failed default threshold; empty otherwise.
        implicit: whether it is a default threshold, which the scenario does not contain.
        base: value of the other side of a relative threshold. ``interval`` and ``margin`` are then those of value −
            factor × base.
    """

    require: str
    traffic: str | None
    operation: str | None
    stage: str | None
    unit: Unit
    judgement: Judgement
    value: float | None = None
    bounds: tuple[float, float | None] | None = None
    interval: Interval | None = None
    expected: float | None = None
    margin: float | None = None
    marginal: bool = False
    confident: bool = False
    n: Count | None = None
    why: str = ""
    implicit: bool = False
    base: float | None = None

    @property
    def scope(self) -> str:
        return scope_of(self.traffic, self.operation, self.stage)


def thresholds_of(info: RunInfo) -> list[Threshold]:
    """Return the thresholds of the effective scenario.

    Raises:
        InputError: if a threshold cannot be parsed.
        RecordError: if the record has no valid list of thresholds.
    """
    return [
        parse_threshold(
            each.require, traffic=each.traffic, operation=each.operation, stage=each.stage, confident=each.confident
        )
        for each in written(info, WrittenThreshold)
    ]


def unexpected_errors(info: RunInfo) -> float | None:
    """Return the largest share of unexpected errors that a stage may have; None if such errors are not judged.

    Raises:
        RecordError: if the recorded value is not a share.
    """
    allowed = info.scenario.effective.get("unexpected_errors", UNEXPECTED_ERRORS)
    try:
        return None if allowed is False or allowed is None else parse_share(allowed)
    except ValueError as error:
        raise RecordError(f"run.json is damaged: {error} - of `$.scenario.effective.unexpected_errors`") from error


def judged_by(threshold: Threshold) -> "partial[Judged]":
    """Return a constructor of ``Judged`` that already has the fields of the threshold."""
    same = ("traffic", "operation", "stage", "unit", "confident")
    return partial(Judged, require=threshold.text, **{name: getattr(threshold, name) for name in same})


def judge_one(threshold: Threshold, metrics: RunFigures, intervals: Sequence[MetricInterval] = ()) -> Judged:
    """Judge a threshold that is not relative. If the record is not enough to decide, the result is inconclusive."""
    judged = judged_by(threshold)
    figures = find_figures(threshold, metrics)
    if figures is None:
        return judged(judgement="inconclusive", why=f"the run has no figures for {threshold.scope}")
    value, bounds, n = measured = measure(threshold.metric, figures)
    if few := too_few(figures):
        return judged(judgement="inconclusive", value=value, n=n, why=few)
    counted_in = figures.requests if "." in threshold.metric else figures
    expected = counted_in.expected_throttled_rate if METRICS[threshold.metric].expected else None
    judgement = judge(threshold, bounds or value, expected)
    interval = None
    why = ""
    marginal = False
    if threshold.metric.rpartition(".")[2] in PERCENTILES and value is not None:
        interval, why = _interval(threshold, metrics, intervals)
        # If the interval reaches time-outs, it has no upper end.
        wide = judge(threshold, interval or (value, inf)) != judgement
        marginal = wide and not why and judgement != "inconclusive"
    if judgement == "inconclusive":
        why = _why(threshold, measured, expected)
    elif threshold.confident and (marginal or why):
        judgement = "inconclusive"
        ends = " to ".join(quantity(end, threshold.unit) for end in interval) if interval else "without an upper end"
        it_was = f"it was {quantity(value or 0.0, threshold.unit)}"
        why = why or f"{it_was}, but its 95\u00a0% interval ({ends}) includes the threshold"
    else:
        why = ""
    return judged(
        judgement=judgement,
        value=value,
        # JSON has no infinity, so an infinite upper bound becomes null.
        bounds=bounds and (bounds[0], None if bounds[1] == inf else bounds[1]),
        interval=interval,
        expected=expected,
        margin=_margin(threshold, value, expected),
        marginal=marginal,
        n=n,
        why=why,
    )


def too_few(figures: CountedFigures) -> str:
    """Return why there are too few operations to judge; empty if there are enough."""
    few = f"only {counted(figures.operations.sent, 'operation')} sent; a threshold needs {FEWEST_OPERATIONS}"
    return few if figures.operations.sent < FEWEST_OPERATIONS else ""


def _interval(
    threshold: Threshold, metrics: RunFigures, intervals: Sequence[MetricInterval]
) -> tuple[Interval | None, str]:
    """Return the percentile's 95 % interval from ``intervals``; if it is missing, None and the reason.

    An interval that reaches time-outs is None, without a reason.
    """
    stages = [
        (traffic, stage)
        for traffic, figures in metrics.traffic.items()
        for stage in figures.stages
        if threshold.operation is None and threshold.covers(traffic, "", stage)
    ]
    if len(stages) != 1:
        return None, "no confidence interval over several stages: name one traffic entry and stage"
    found = find_interval(intervals, *stages[0], threshold.metric)
    if found is None or (found.low is None and found.why_not != TIME_OUTS):
        return None, f"no confidence interval: {found.why_not if found else 'this percentile has none'}"
    return (None, "") if found.low is None or found.high is None else ((found.low, found.high), "")


def _margin(threshold: Threshold, value: float | None, expected: float | None) -> float | None:
    if value is None:
        return None
    if threshold.operator in ("<", "<="):
        return threshold.value - value
    if threshold.operator in (">", ">="):
        return value - threshold.value
    if threshold.operator == "between" and threshold.upper is not None:
        return min(value - threshold.value, threshold.upper - value)
    if threshold.operator == "within":
        return None if expected is None else threshold.value - abs(value - expected)
    return -abs(value - threshold.value)


def find_figures(threshold: Threshold, metrics: RunFigures) -> CountedFigures | None:
    """Return the figures in the scope of a threshold; None if the run does not have this scope."""
    whole: OverallFigures | OperationFigures | None = metrics.overall
    if threshold.traffic is not None:
        whole = metrics.traffic.get(threshold.traffic)
    elif threshold.operation is not None:
        whole = metrics.operations.get(threshold.operation)
    return whole if whole is None or threshold.stage is None else whole.stages.get(threshold.stage)


class Measured(NamedTuple):
    """A metric's value; None if samples are too few, or nothing was measured.

    ``bounds`` belong to a value that is not known exactly. A time to result lies within the last polling interval, and
    a statistic that reaches time-outs has no upper bound.
    """

    value: float | None
    bounds: tuple[float, float] | None = None
    n: int | None = None


def measure(metric: str, figures: CountedFigures) -> Measured:
    """Return a metric of some figures. ``metric`` is named as in thresholds."""
    name, _, statistic = metric.partition(".")
    if name not in SUMMARIES:
        n = METRICS[metric].n
        return Measured(attrgetter(metric)(figures), n=attrgetter(n)(figures) if n else None)
    summary = getattr(figures, field_of(name), None)
    if not isinstance(summary, Summary):
        return Measured(None)
    found = summary.get(statistic)
    if found.value is None:
        return Measured(None, n=summary.n)
    lower, upper = found.value, found.value if found.most is None else found.most
    if name == "time_to_result" and isinstance(figures, JobStage):
        least = figures.time_to_result_lower_ms.get(statistic)
        lower = upper if least.value is None else least.value
    return Measured(found.value, None if lower == upper else (lower, upper), n=summary.n)


def _why(threshold: Threshold, measured: Measured, expected: float | None) -> str:
    """Return why a value, or the bounds of a value, cannot be judged."""
    value, bounds, n = measured
    if value is None:
        return f"too few samples for {threshold.metric.partition('.')[2]}: {n}" if n else "no data"
    if threshold.operator == "within" and expected is None:
        return "no expected value: the limiter could not be replayed"
    if bounds and bounds[1] == inf:
        return "it reaches time-outs, so only a lower bound is known"
    if threshold.metric.startswith("time_to_result."):
        return "polling shows the true value only within bounds, and the threshold lies between them"
    return "because of time-outs, the true value may be on either side of the threshold"


VerdictWord = Literal["invalid", "aborted", "regressed", "fail", "inconclusive", "pass", "not judged", "imported"]
"""Verdicts in order of precedence."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a run, as a word, a sentence without the word, and a sentence for each reason.

    If the run was stopped by hand (``interrupted``), the verdict covers the time until the stop.
    """

    word: VerdictWord
    statement: str
    reasons: tuple[str, ...]
    exit_code: ExitCode
    interrupted: bool = False

    @property
    def sentence(self) -> str:
        word = f"Interrupted; until then {self.word}" if self.interrupted else self.word.capitalize()
        return f"{word}: {self.statement}"


def describe_import(record: Record, metrics: RunFigures) -> Verdict | None:
    """Return the requests, 429s and limits of an imported run as its verdict; None for any other run."""
    if (source := record.info.source) is None:
        return None
    by_operation = {name: figures.requests for name, figures in metrics.operations.items()}
    sent = ", ".join(f"{name} {one.sent:,}" for name, one in by_operation.items())
    parts = [f"{counted(metrics.overall.requests.sent, 'request')}: {sent}"]
    parts += [f"{counted(source.unknown_lines, 'line')} not understood"] if source.unknown_lines else []
    parts += [f"{counted(source.other_lines, 'request')} of other paths"] if source.other_lines else []
    rejected = [
        f"{one.throttled:,} of {one.sent:,} on {name} ({percent(one.throttled / one.sent)})"
        for name, one in by_operation.items()
        if one.throttled
    ]
    limits = "; ".join(limit.words for limit in record.logged_limits.values())
    lines = (f"{'; '.join(parts)}.", f"429s: {', '.join(rejected) or 'none'}.", f"Limits: {limits}.")
    return Verdict("imported", lines[0], lines, ExitCode.PASS)


def decide(info: RunInfo, checks: list[ValidityCheck], judged: list[Judged]) -> Verdict:
    """Return the verdict with the highest precedence."""
    word, statement, reasons = _decide(info, checks, judged)
    interrupted = info.end == "interrupted"
    code = ExitCode.INTERRUPTED if interrupted else ExitCode.__members__.get(word.upper(), ExitCode.PASS)
    return Verdict(word, statement, tuple(reasons), code, interrupted)


def _decide(info: RunInfo, checks: list[ValidityCheck], judged: list[Judged]) -> tuple[VerdictWord, str, list[str]]:
    # If an aborted run has sent nothing, this is not a fault of the generator.
    aborted, why = info.end == "aborted", info.end_reason or "it was stopped before its end"
    if broken := [check.words for check in checks if not check.ok and not (aborted and check.name == "something sent")]:
        # The reason for the abort matters even if the run is invalid.
        ended = [f"it was aborted: {why}"] if aborted else []
        return "invalid", "; ".join([f"{broken[0]}{_more(len(broken) - 1)}", *ended]) + ".", [*broken, *ended]
    if aborted:
        return "aborted", f"{why}.", [why]
    if failed := [sentence(one) for one in judged if one.judgement == "fail"]:
        rest = f"{len(failed)} of {counted(len(judged), 'threshold')} {'does' if len(failed) == 1 else 'do'} not hold"
        return "fail", f"{rest}: {failed[0]}{_more(len(failed) - 1)}.", [*failed, *_notes(info, judged)]
    if unclear := [sentence(one) for one in judged if one.judgement == "inconclusive"]:
        rest = f"{len(unclear)} of {counted(len(judged), 'threshold')} cannot be judged"
        return "inconclusive", f"{rest}: {unclear[0]}{_more(len(unclear) - 1)}.", unclear
    if not judged:
        if unexpected_errors(info) is None:
            return "not judged", "no thresholds set, and unexpected_errors is off; the run is valid.", []
        return "pass", "no thresholds set; the run is valid, and no stage had too many unexpected errors.", []
    held = "its one threshold holds" if len(judged) == 1 else f"all {len(judged)} thresholds hold"
    if marginal := [one for one in judged if one.marginal]:
        by = (
            "its 95\u00a0% interval includes the threshold"
            if len(marginal) == 1
            else "their 95\u00a0% intervals include the thresholds"
        )
        only = f"{len(marginal)} of them" if len(judged) > 1 else "though"
        one = min(marginal, key=lambda each: abs(each.margin or 0.0))
        nearest = f"{one.scope}: {one.require}, and it was {amount(one)}"
        return "pass", f"{held}, {only} marginally ({by}: {nearest}), and the run is valid.", []
    return "pass", f"{held}, and the run is valid.", []


def sentence(one: Judged) -> str:
    """Describe a judged threshold by its scope, requirement and value."""
    where = f"{one.scope}: {one.require}"
    if one.implicit:
        return f"{one.scope}: {one.why}"
    if one.judgement == "inconclusive":
        return f"{where} ({one.why})"
    return f"{where}, but it was {amount(one)}"


def amount(one: Judged) -> str:
    """Format the value of a judged threshold, or its bounds, with the unit."""
    if one.value is None:
        return NOTHING
    if one.bounds is not None:
        low, high = (bound if bound is None else quantity(bound, one.unit) for bound in one.bounds)
        return f"at least {low}" if high is None else f"{low} to {high}"
    if one.base:
        return f"{quantity(one.value, one.unit)}, {one.value / one.base:.3g}x of {quantity(one.base, one.unit)}"
    return quantity(one.value, one.unit)


def _notes(info: RunInfo, judged: list[Judged]) -> list[str]:
    """Return the scenario's notes on failed thresholds, line by line."""
    failed = {(one.require, one.traffic, one.operation, one.stage) for one in judged if one.judgement == "fail"}
    thresholds = written(info, WrittenThreshold)
    found = [each for each in thresholds if (each.require, each.traffic, each.operation, each.stage) in failed]
    return [line for each in found for line in each.note.splitlines()]


def _more(count: int) -> str:
    return f" (and {count} more)" if count > 0 else ""
