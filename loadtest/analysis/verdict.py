"""The verdict of a run: validity first, then how it ended, then its thresholds, each judged by the run's figures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from operator import attrgetter
from typing import Final, Literal, NamedTuple

import msgspec

from loadtest.analysis.intervals import TIME_OUTS, MetricInterval, find_interval
from loadtest.analysis.metrics import RunFigures
from loadtest.analysis.results import (
    Count,
    CountedFigures,
    Interval,
    JobFigures,
    JobStage,
    OperationFigures,
    OverallFigures,
    Result,
    Summary,
)
from loadtest.analysis.validity import ValidityCheck
from loadtest.contract import THROTTLED_STATUS
from loadtest.errors import ExitCode
from loadtest.metrics import METRICS, PERCENTILES, SUMMARIES, field_of
from loadtest.record.effective_scenario import written_entry, written_thresholds
from loadtest.record.run_info import RunInfo
from loadtest.threshold import Judgement, Threshold, judge, parse_threshold, scope_of
from loadtest.units import Unit
from loadtest.words import NOTHING, quantity


class Judged(Result, frozen=True, kw_only=True):
    """A threshold, and what the run has to say about it. Values are in the threshold's unit.

    Attributes:
        require: the requirement, as it was written.
        value: null where samples are too few.
        bounds: where the value is known only within them; null: no upper one.
        interval: 95 % interval of a percentile from blocks of time; null where there is none.
        expected: of metrics that have an expected value.
        margin: distance to the nearest edge of what is allowed: above zero inside, below zero outside.
        marginal: whether it holds, or fails, by its value only: in a part of the interval it is the other way round.
        confident: whether the interval was judged, so that a marginal one is inconclusive.
        n: how many values, requests or operations it rests on.
        why: why it is inconclusive; empty otherwise.
        implicit: whether no scenario set it: something of each traffic entry has to be ok.
        base: of a relative threshold, the value of what it is relative to; ``interval`` is then that of the distance
            value − factor × base, and ``margin`` that distance from zero.
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
    """The thresholds of the scenario in force.

    Raises:
        InputError: if one cannot be read.
        RecordError: if what is there is no list of thresholds.
    """
    return [
        parse_threshold(
            each.require, traffic=each.traffic, operation=each.operation, stage=each.stage, confident=each.confident
        )
        for each in written_thresholds(info)
    ]


def nothing_ok(info: RunInfo, metrics: RunFigures) -> list[Judged]:
    """Return a failed threshold for each traffic entry that sent operations and had none ok.

    It is implicit, because a run without any success must not pass. It is not asked of an entry
    that the scenario expects to be refused in every stage, nor of a run that was cut short.
    """
    if info.end != "finished":
        return []
    threshold = parse_threshold("operations.ok > 0")
    return [
        msgspec.structs.replace(judge_one(replace(threshold, traffic=name), metrics), implicit=True)
        for name, figures in metrics.traffic.items()
        if figures.operations.sent and not figures.operations.ok and not _meant_to_be_refused(info, name)
    ]


def _meant_to_be_refused(info: RunInfo, traffic: str) -> bool:
    """Return True if every stage of an entry expects 429 and nothing else."""
    stages = written_entry(info, traffic).stages
    return bool(stages) and all(stage.expect == (THROTTLED_STATUS,) for stage in stages)


def judged_by(threshold: Threshold) -> "partial[Judged]":
    """Makes what a run has to say about a threshold, which is filled in."""
    return partial(
        Judged,
        require=threshold.text,
        traffic=threshold.traffic,
        operation=threshold.operation,
        stage=threshold.stage,
        unit=threshold.unit,
        confident=threshold.confident,
    )


def judge_one(threshold: Threshold, metrics: RunFigures, intervals: Sequence[MetricInterval] = ()) -> Judged:
    """Judge one threshold that is not relative; what the record can't answer is inconclusive, and says why."""
    judged = judged_by(threshold)
    figures = find_figures(threshold, metrics)
    if figures is None:
        return judged(judgement="inconclusive", why=f"the run has no figures for {threshold.scope}")
    measured, unsure = measure(threshold.metric, figures), ""
    if threshold.metric.rpartition(".")[2] in PERCENTILES and measured.value is not None:
        interval, unsure = _interval(threshold, metrics, intervals)
        measured = measured._replace(interval=interval)
    expected = _expected(threshold.metric, figures)
    judgement = judge(threshold, measured.bounds or measured.value, expected)
    marginal = judgement != "inconclusive" and not unsure and _marginal(threshold, measured, judgement)
    if judgement == "inconclusive" or not threshold.confident:
        unsure = ""
    if threshold.confident and (marginal or unsure):
        judgement = "inconclusive"
    bounds = measured.bounds
    return judged(
        judgement=judgement,
        value=measured.value,
        # JSON has no infinity: an upper bound that isn't known is null.
        bounds=bounds and (bounds[0], None if bounds[1] == inf else bounds[1]),
        interval=measured.interval,
        expected=expected,
        margin=_margin(threshold, measured.value, expected),
        marginal=marginal,
        n=measured.n,
        why=(unsure or _why(threshold, measured, expected, marginal=marginal)) if judgement == "inconclusive" else "",
    )


def _interval(
    threshold: Threshold, metrics: RunFigures, intervals: Sequence[MetricInterval]
) -> tuple[Interval | None, str]:
    """Return a percentile's 95 % interval from blocks of time, or why it has none; neither where time-outs bound it."""
    stages = [
        (traffic, stage)
        for traffic, figures in metrics.traffic.items()
        if threshold.traffic in (None, traffic) and threshold.operation is None
        for stage in figures.stages
        if threshold.stage in (None, stage)
    ]
    if len(stages) != 1:
        return None, "no confidence interval over several stages: name one traffic entry and stage"
    found = find_interval(intervals, *stages[0], threshold.metric)
    if found is None or (found.low is None and found.why_not != TIME_OUTS):
        return None, f"no confidence interval: {found.why_not if found else 'of this percentile there is none'}"
    return (None, "") if found.low is None or found.high is None else ((found.low, found.high), "")


def _marginal(threshold: Threshold, measured: "Measured", judgement: Judgement) -> bool:
    """Whether a part of a percentile's 95 % interval would be judged otherwise than its value."""
    if measured.value is None or threshold.metric.rpartition(".")[2] not in PERCENTILES:
        return False
    # One that nothing but time-outs bounds from above has no upper end.
    return judge(threshold, measured.interval or (measured.value, inf)) != judgement


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
        interval: 95 % interval of a percentile.
        n: how many values, requests or operations it rests on.
    """

    value: float | None
    bounds: tuple[float, float] | None = None
    interval: Interval | None = None
    n: int | None = None


def measure(metric: str, figures: CountedFigures) -> Measured:
    """A metric of some figures by its name in a threshold."""
    name, _, statistic = metric.partition(".")
    if name in SUMMARIES:
        found = getattr(figures, field_of(name), None)
        return _of_summary(found, name, statistic, figures) if isinstance(found, Summary) else Measured(None)
    n = METRICS[metric].n
    return Measured(attrgetter(metric)(figures), n=attrgetter(n)(figures) if n else None)


def _of_summary(summary: Summary, name: str, statistic: str, figures: CountedFigures) -> Measured:
    found = summary.get(statistic)
    if found.value is None:
        return Measured(None, n=summary.n)
    lower, upper = found.value, found.value if found.most is None else found.most
    if name == "time_to_result" and isinstance(figures, JobStage | JobFigures):
        least = figures.time_to_result_lower_ms.get(statistic)
        lower = upper if least.value is None else least.value
    return Measured(found.value, None if lower == upper else (lower, upper), n=summary.n)


def _expected(metric: str, figures: CountedFigures) -> float | None:
    if not METRICS[metric].expected:
        return None
    return (figures.requests if "." in metric else figures).expected_throttled_rate


def _why(threshold: Threshold, measured: Measured, expected: float | None, *, marginal: bool) -> str:
    value, bounds, interval, n = measured
    if marginal:
        say = partial(quantity, unit=threshold.unit)
        ends = f"{say(interval[0])} to {say(interval[1])}" if interval else "which has no upper end"
        return f"it was {say(value or 0.0)}, and a part of its 95\u00a0% interval, {ends}, is on the other side"
    if value is None:
        if n:
            return f"too few samples for {threshold.metric.partition('.')[2]}: {n}"
        return "no data: nothing to measure it on"
    if threshold.operator == "within" and expected is None:
        return "no expected value: the limiter could not be replayed"
    if bounds and bounds[1] == inf:
        return "it reaches time-outs, of which only a lower bound is known"
    if threshold.metric.startswith("time_to_result."):
        return "the true value lies between two polls, and the threshold with it"
    return "time-outs leave it open on which side of the threshold the true value lies"


VerdictWord = Literal["invalid", "aborted", "regressed", "fail", "inconclusive", "pass"]

EXIT_CODES: Final[dict[VerdictWord, ExitCode]] = {
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
        statement: what is the case, in one plain sentence without the word.
        reasons: what it rests on, a sentence each; empty for a pass.
        exit_code: that of the verb that made the report.
        interrupted: the run was stopped by hand, so that the verdict is on what there was until then.
    """

    word: VerdictWord
    statement: str
    reasons: tuple[str, ...]
    exit_code: ExitCode
    interrupted: bool = False

    @property
    def sentence(self) -> str:
        """The verdict in one plain sentence, the word first."""
        word = f"Interrupted; until then {self.word}" if self.interrupted else self.word.capitalize()
        return f"{word}: {self.statement}"


def decide(info: RunInfo, checks: list[ValidityCheck], judged: list[Judged]) -> Verdict:
    """The verdict, by precedence: a bottlenecked generator can neither pass nor fail a service."""
    word, statement, reasons = _decide(info, checks, judged)
    interrupted = info.end == "interrupted"
    code = ExitCode.INTERRUPTED if interrupted else EXIT_CODES[word]
    return Verdict(word, statement, tuple(reasons), code, interrupted)


def _decide(info: RunInfo, checks: list[ValidityCheck], judged: list[Judged]) -> tuple[VerdictWord, str, list[str]]:
    # An aborted run may have been stopped before its first request: that is its reason, and no fault of the generator.
    aborted, why = info.end == "aborted", info.end_reason or "it was stopped before its end"
    if broken := [check.words for check in checks if not check.ok and not (aborted and check.name == "something sent")]:
        # An invalid run's reader still needs to know what ended the run.
        ended = [f"it was aborted: {why}"] if aborted else []
        return "invalid", "; ".join([f"{broken[0]}{_more(len(broken) - 1)}", *ended]) + ".", [*broken, *ended]
    if aborted:
        return "aborted", f"{why}.", [why]
    if failed := [sentence(one) for one in judged if one.judgement == "fail"]:
        rest = f"{len(failed)} of {_count(len(judged))} {'does' if len(failed) == 1 else 'do'} not hold"
        return "fail", f"{rest}: {failed[0]}{_more(len(failed) - 1)}.", [*failed, *_notes(info, judged)]
    if unclear := [sentence(one) for one in judged if one.judgement == "inconclusive"]:
        rest = f"{len(unclear)} of {_count(len(judged))} cannot be judged"
        return "inconclusive", f"{rest}: {unclear[0]}{_more(len(unclear) - 1)}.", unclear
    if not judged:
        return "pass", "no thresholds set; the run is valid.", []
    held = "its one threshold holds" if len(judged) == 1 else f"all {len(judged)} thresholds hold"
    if marginal := [one for one in judged if one.marginal]:
        by = "within its 95\u00a0% interval" if len(marginal) == 1 else "within their 95\u00a0% intervals"
        only = f"{len(marginal)} of them" if len(judged) > 1 else "though"
        return "pass", f"{held}, {only} marginally ({by}: {_nearest(marginal)}), and the run is valid.", []
    return "pass", f"{held}, and the run is valid.", []


def _nearest(marginal: list[Judged]) -> str:
    one = min(marginal, key=lambda each: abs(each.margin or 0.0))
    return f"{one.scope}: {one.require}, and it was {amount(one)}"


def sentence(one: Judged) -> str:
    """One judged threshold in words: where, what, and what it was."""
    where = f"{one.scope}: {one.require}"
    if one.implicit:
        sent = "the one operation that was offered" if one.n == 1 else f"{one.n:,} operations that were offered"
        return f"{one.scope}: nothing was ok of {sent}"
    if one.judgement == "inconclusive":
        return f"{where} ({one.why})"
    return f"{where}, but it was {amount(one)}"


def amount(one: Judged) -> str:
    """The value of a judged threshold, with its unit; bounds where it is known only within them."""
    if one.value is None:
        return NOTHING
    if one.bounds is not None:
        low, high = (bound if bound is None else quantity(bound, one.unit) for bound in one.bounds)
        return f"at least {low}" if high is None else f"{low} to {high}"
    if one.base:
        return f"{quantity(one.value, one.unit)}, {one.value / one.base:.3g}x of {quantity(one.base, one.unit)}"
    return quantity(one.value, one.unit)


def _notes(info: RunInfo, judged: list[Judged]) -> list[str]:
    """Return the notes that the scenario gives for the thresholds that failed, a line each."""
    failed = {(one.require, one.traffic, one.operation, one.stage) for one in judged if one.judgement == "fail"}
    pairs = zip(written_thresholds(info), thresholds_of(info), strict=True)
    found = [each.note for each, read in pairs if (read.text, each.traffic, each.operation, each.stage) in failed]
    return [line for note in found for line in note.splitlines()]


def _more(count: int) -> str:
    return f" (and {count} more)" if count > 0 else ""


def _count(count: int) -> str:
    return "1 threshold" if count == 1 else f"{count} thresholds"
