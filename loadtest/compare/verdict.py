"""Verdicts on single metrics, and the overall verdict with its exit code and sentences.

Two rules judge each metric: Holm's procedure over the tested metrics, and the minimum effect. Overall verdicts:

- ``regressed`` (4): A metric became worse beyond chance and by at least the minimum effect. Against a history, the
  rerun confirmed it.
- ``pass`` (0): No metric regressed or remains suspected. Its sentence gives the minimum detectable slow-down.
- ``learning`` (0): Too few comparable accepted runs exist (five are needed, or two after a baseline period of five).
- ``inconclusive`` (6): A suspected metric awaits its rerun, the rerun could not measure it, a metric became worse while
  the environment changed, or no metric could be tested. In pairs: a tested metric is inconclusive, or missing in head.
- ``not comparable`` (3): The runs differ in a fact that must be equal, such as the scenario or the number of API keys.
- ``invalid`` (3): The run itself is invalid, or too few pairs are valid.

Against a history, a metric that varies too much is ``inconclusive``, but only ``rule.blind`` makes a pass inconclusive.
Otherwise every run of a noisy service would be inconclusive, and users would switch the check off.

Response time, executionTime and overhead mostly change together, and each further test weakens the others.
executionTime p50 is therefore tested only where the response time cannot show its changes.
"""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from loadtest.compare import amounts
from loadtest.compare.changes import AnyChange, ShareChange, shrunk, winsorised
from loadtest.compare.measurements import NATURES, Key, Measurement, Metric, RunMeasurements
from loadtest.compare.results import (
    ComparisonVerdict,
    ControlComparison,
    MetricComparison,
    MetricVerdict,
    RunComparison,
)
from loadtest.errors import ExitCode
from loadtest.stats.differences import student, variance
from loadtest.words import counted, joined

_REAL: Final = 0.01
"""A share whose rise is below the minimum effect counts as changed if its adjusted p is at most this."""
_IMPROVED_LEVEL: Final = 0.05
"""The p of an improved metric, adjusted by Holm, is at most this."""
_SUSPECTED: Final[tuple[MetricVerdict, str]] = "inconclusive", "suspected: a rerun must confirm it"
_EVENTS: Final = {Metric.ERROR_RATE: "request failed", Metric.THROTTLED_RATE: "request was rejected"}
_WEIGHTS: Final = {
    Metric.RESPONSE_TIME_P50: 1.0,
    Metric.RESPONSE_TIME_P95: 0.25,
    Metric.TIME_TO_RESULT_P95: 0.25,
    **{metric: 1.0 for metric, nature in NATURES.items() if nature.unit == "share"},
}
"""A metric's share of α is proportional to its weight. A p95 weighs less, because it finds only larger changes."""
_HIDDEN: Final = 0.05
"""A poll interval above this share of the response time hides changes of executionTime."""
TESTABLE: Final = frozenset({*_WEIGHTS, Metric.EXECUTION_TIME_P50})
"""All metrics that can be tested."""
NOT_STATED: Final = "not tested: polls hide it in the response time, and the service does not state it"
_ORDER: Final = {metric: place for place, metric in enumerate(Metric)}
_CONTROLS: Final = {"CPU loop": (0.03, 1.05, 0.0), "dispatch lag p99": (0.30, 1.5, 1.0)}
"""For each control: its assumed sd between runs (log scale), and the smallest ratio and growth in ms that count."""
_CONTROL_LEVEL: Final = 0.01
"""A control moved if its one-sided p (Student's t, shrunk sd) is at most this and it grew by both its minima above."""
_LEAST_CONTROLS: Final = 3
"""A control is compared only if at least this many earlier runs, or pairs, have it."""
_EXIT_CODES: dict[ComparisonVerdict, ExitCode] = {
    "regressed": ExitCode.REGRESSED,
    "pass": ExitCode.PASS,
    "learning": ExitCode.PASS,
    "inconclusive": ExitCode.INCONCLUSIVE,
    "not comparable": ExitCode.INVALID,
    "invalid": ExitCode.INVALID,
}


class Levels(NamedTuple):
    """Maximum p of a worsening in the first run (``family``, adjusted by Holm) and in the rerun, if any (``confirm``).

    Minimum detectable changes are found with the probability ``power``.
    """

    family: float
    confirm: float | None
    power: float


def weights(columns: Mapping[Key, Sequence[Measurement]]) -> dict[Key, float]:
    """Return the weights that divide α among the metrics of the base side; 0 for untested metrics.

    executionTime p50 is tested if the poll interval exceeds 5 % of the response time, or if the response time cannot be
    judged.
    """
    found = {key: _WEIGHTS.get(key.metric, 0.0) for key in columns}
    for key in columns:
        if key.metric == Metric.EXECUTION_TIME_P50:
            responses = columns.get(key._replace(metric=Metric.RESPONSE_TIME_P50))
            found[key] = float(not responses or _hides(responses))
    return found


def not_stated(columns: Mapping[Key, Sequence[Measurement]], known: Collection[Key]) -> list[Key]:
    """Return the executionTimes that would be tested if the service stated them. ``known``: the measured metrics."""
    times = {key: column for key, column in columns.items() if key.metric == Metric.RESPONSE_TIME_P50 and column}
    executions = (key._replace(metric=Metric.EXECUTION_TIME_P50) for key in times if _hides(times[key]))
    return [key for key in executions if key not in known]


def _hides(responses: Sequence[Measurement]) -> bool:
    interval = statistics.median(one.resolution_ms for one in responses)
    return interval > _HIDDEN * statistics.median(one.value for one in responses)


def holm(ps: Mapping[Key, float], weights: Mapping[Key, float]) -> dict[Key, float]:
    """Adjust p for several tests, so that a bound α on p limits the risk of one or more false alarms to α (Holm, 1979).

    Tests are sorted by p ÷ weight. Each p is divided by the test's share of the remaining weights.
    """
    adjusted, worst, left = {}, 0.0, sum(weights[key] for key in ps)
    for key, p in sorted(ps.items(), key=lambda item: (item[1] / weights[item[0]], item[0])):
        worst = max(worst, min(1.0, p * left / weights[key]))
        adjusted[key] = worst
        left -= weights[key]
    return adjusted


def suspects(comparison: RunComparison) -> tuple[Key, ...]:
    """Return the metrics that a rerun must confirm."""
    return tuple(one.key for one in comparison.metrics if one.suspect)


def judge_family(
    changes: Sequence[AnyChange], shown: Sequence[MetricComparison], levels: Levels, confirming: Collection[Key] | None
) -> tuple[MetricComparison, ...]:
    """Judge each metric, and sort the metrics by traffic entry, stage and metric.

    A tested metric *regressed* if its p by Holm is at most ``levels.family`` and it reaches the minimum effect. If
    ``levels.confirm`` is set, the first run makes it only *suspected*. In the rerun, a metric of ``confirming``
    *regressed* if its p is at most ``levels.confirm`` and it reaches the minimum effect again. Metrics in
    ``shown`` keep their verdict. If ``confirming`` has them, they remain suspected.

    Holm's method counts only tests that can find a change (Tarone, "A modified Bonferroni method for discrete data",
    Biometrics 1990). A share without events on either side, such as most error rates, has no such test.
    """
    weights = {one.key: one.weight for one in changes}
    raw = {one.key: one.p() for one in changes}
    tests = [one for one in changes if one.weight and not one.decided()]
    if confirming is None:
        adjusted, alpha = holm({one.key: raw[one.key] for one in tests}, weights), levels.family
    else:
        adjusted, alpha = {key: p for key, p in raw.items() if key in confirming}, levels.confirm or 0.0
    gains = holm({one.key: one.p(better=True) for one in tests}, weights)
    better = {one.key for one in tests if gains[one.key] <= _IMPROVED_LEVEL and one.matters(better=True)}
    total, judged = sum(one.weight for one in tests), []
    for one in changes:
        p = adjusted.get(one.key)
        if p is not None and p <= alpha and one.matters():
            rerun = confirming is None and levels.confirm is not None
            verdict = _SUSPECTED if rerun else ("regressed", "")
        else:
            verdict = _not_worse(one, p, improved=one.key in better)
        # ``total`` lacks the weight of a share without events. After a detectable change, the share would be tested.
        whole = total + (one.weight if one.decided() else 0.0)
        detectable = one.detectable(levels.family * one.weight / whole, levels.power) if one.weight else None
        judged.append(_judged(one, verdict, (raw[one.key], p), detectable))
    unsettled = [msgspec.structs.replace(one, suspect=one.key in (confirming or ())) for one in shown]
    return tuple(sorted((*judged, *unsettled), key=lambda one: (one.traffic, one.stage, _ORDER[one.metric])))


def _not_worse(one: AnyChange, p: float | None, *, improved: bool) -> tuple[MetricVerdict, str]:
    if not one.weight:
        return "inconclusive", "it shows where a change lies, and is not tested"
    if improved:
        return "improved", ""
    if one.nature.unit == "share" and p is not None and p <= _REAL and one.head > one.base:
        size = f"{100 * (one.head - one.base):.2g}%"
        return "changed", f'below the minimum rise; rise = "{size}" in the scenario\'s [regression] makes it count'
    if one.unchanged():
        return "unchanged", ""
    if one.decided() and not one.head:
        return "inconclusive", f"no {_EVENTS[one.key.metric]}, but too few were sent to exclude a share of 2 %"
    return "inconclusive", "it varies too much to exclude a relevant change"


def _judged(
    change: AnyChange, verdict: tuple[MetricVerdict, str], ps: tuple[float, float | None], detectable: float | None
) -> MetricComparison:
    """Describe a measured change. ``verdict`` includes the reason; ``ps`` are p and the adjusted p."""
    low, high = change.interval()
    return MetricComparison(
        **change.key._asdict(),
        verdict=verdict[0],
        base=change.base,
        head=change.head,
        difference=change.head - change.base,
        difference_interval=change.difference_interval(),
        ratio=math.exp(change.delta),
        ratio_interval=(math.exp(low), math.exp(high)),
        p=ps[0],
        p_adjusted=ps[1],
        detectable=detectable,
        detectable_value=change.value_at(detectable) if detectable and isinstance(change, ShareChange) else None,
        sd=math.sqrt(change.variance),
        n=len(change.bases),
        suspect=verdict == _SUSPECTED,
        gated=bool(change.weight) or ps[1] is not None,
        why=verdict[1],
        drift=change.anchored,
        earlier=tuple(one.value for one in change.earlier),
        later=tuple(one.value for one in change.heads),
        resolution_ms=change.resolution_ms,
    )


def only_shown(
    key: Key, bases: Sequence[Measurement], value: float | None, why: str, *, learning: bool = False
) -> MetricComparison:
    """Describe a metric that is not tested. ``learning``: whether too few earlier runs have it."""
    earlier = tuple(one.value for one in bases)
    base = statistics.fmean(earlier) if earlier else None
    return MetricComparison(
        **key._asdict(),
        verdict="learning" if learning else "inconclusive",
        base=base,
        head=value,
        difference=None if base is None or value is None else value - base,
        n=len(earlier),
        suspect=False,
        gated=False,
        why=why,
        earlier=earlier,
        later=() if value is None else (value,),
    )


def draft(
    kind: Literal["paired", "history"],
    title: str,
    bases: Sequence[RunMeasurements],
    heads: Sequence[RunMeasurements],
    in_words: tuple[str, str],
    *,
    confirming: bool = False,
) -> RunComparison:
    """Return a comparison without a verdict. ``confirming``: whether its last run is a rerun."""
    return RunComparison(
        kind=kind,
        scenario=heads[-1].scenario,
        title=title,
        base=in_words[0],
        head=in_words[1],
        runs=tuple(one.run for one in (*bases, *heads)),
        confirmed=confirming,
        base_runs=tuple(bases),
        head_runs=tuple(heads),
    )


def conclude(begun: RunComparison, word: ComparisonVerdict, sentence: str) -> RunComparison:
    """Give a comparison its verdict."""
    decided = begun.confirmed and word in {"regressed", "pass"}
    code = int(_EXIT_CODES[word])
    return msgspec.structs.replace(begun, word=word, exit_code=code, sentence=sentence, confirmed=decided)


def controls(
    pairs: Sequence[tuple[RunMeasurements, RunMeasurements]], *, paired: bool
) -> tuple[ControlComparison, ...]:
    """Compare the controls of the head side with those of the base side.

    Args:
        pairs: (base, head) of each pair of blocks, or (earlier run, judged run) for each earlier run.
        paired: whether ``pairs`` are pairs of blocks. The noise is then the variation of the pairs' differences.
            Otherwise the noise is the variation of the earlier runs.
    """
    found = []
    named = [
        [{str(one.name): one.value_ms for one in run.controls if one.value_ms > 0} for run in pair] for pair in pairs
    ]
    for name, (sd, least_ratio, least_ms) in _CONTROLS.items():
        logs = [(math.log(base[name]), math.log(head[name])) for base, head in named if name in base and name in head]
        if len(logs) < _LEAST_CONTROLS:
            continue
        bases, heads = (list(side) for side in zip(*logs, strict=True))
        if paired:
            prior = 2 * sd**2
            varying = [head - base for base, head in logs]
            of_error = 1 / len(logs)
        else:
            bases = winsorised(bases, sd)
            prior = sd**2
            varying = bases
            of_error = 1 / len(logs) + 1
        squared_sd, df = shrunk(prior, variance(varying), len(logs) - 1)
        base, head = statistics.fmean(bases), statistics.fmean(heads)
        t = (head - base) / math.sqrt(squared_sd * of_error)
        ratio, more = math.exp(head - base), math.exp(head) - math.exp(base)
        moved = t >= student(1 - _CONTROL_LEVEL, df) and ratio >= least_ratio and more >= least_ms
        control = ControlComparison(name=name, base_ms=math.exp(base), head_ms=math.exp(head), ratio=ratio, moved=moved)
        found.append(control)
    return tuple(found)


def decide(
    begun: RunComparison,
    metrics: tuple[MetricComparison, ...],
    controls: tuple[ControlComparison, ...],
    least: int,
    *,
    lost: Collection[Key] = (),
    more: tuple[str, ...] = (),
) -> RunComparison:
    """Reach the overall verdict from the judged metrics and the controls.

    ``least`` is the minimum number of runs in the history, or of pairs. ``lost`` are tested metrics of the base side
    that the head side lacks, and ``more`` are further reasons.
    """
    worse = [one for one in metrics if one.p is not None and (one.suspect or one.verdict == "regressed")]
    findings = amounts.find(metrics, worse)
    begun = msgspec.structs.replace(begun, metrics=metrics, controls=controls, findings=findings)
    moved = [one for one in controls if one.moved]
    word, sentence = _verdict(begun, moved, least, lost)
    reasons = (*_reasons(begun, moved, word), *more)
    return conclude(msgspec.structs.replace(begun, reasons=reasons), word, sentence)


def _verdict(
    begun: RunComparison, moved: Sequence[ControlComparison], least: int, lost: Collection[Key]
) -> tuple[ComparisonVerdict, str]:
    regressions, metrics = begun.findings, begun.metrics
    text = amounts.summary(regressions, metrics)
    if regressions and moved:
        names = amounts.listed([f"{one.name} {amounts.percent(one.ratio)}" for one in moved])
        sentence = f"Inconclusive: the environment changed ({names}, which the service cannot affect). {text}."
        return "inconclusive", sentence
    suspect = [one for one in metrics if one.suspect]
    if any(one.p is not None for one in suspect):
        return "inconclusive", f"{text}. Suspected only: a rerun must confirm it."
    if suspect:
        also = f"{text}. " if text else ""
        sentence = f"{also}The rerun could not measure {_names(suspect, metrics)}."
        return ("regressed" if regressions else "inconclusive"), sentence
    if regressions:
        return "regressed", f"{text}. The rerun confirmed it." if begun.confirmed else f"{text}."
    if lacking := [one for one in metrics if one.key in lost]:
        return "inconclusive", f"Inconclusive: the head side lacks {_names(lacking, metrics)}, unlike the base side."
    tested = [one for one in metrics if one.gated and one.p is not None]
    if not tested:
        return _nothing_tested(begun, least)
    left = [one for one in tested if one.verdict == "inconclusive" and one.p_adjusted is not None]
    if begun.kind == "paired" and left:
        bars = joined(sorted({"+2 points" if amounts.is_share(one) else "+10 %" for one in left}), "or")
        return "inconclusive", f"No regression found, but {bars} is not excluded for {_names(left, metrics)}."
    done = "The rerun did not confirm the suspicion: no regression" if begun.confirmed else "No regression"
    return "pass", f"{done} found in {counted(len(tested), 'metric')}. {amounts.would_have_seen(tested)}".strip()


def _nothing_tested(begun: RunComparison, least: int) -> tuple[ComparisonVerdict, str]:
    there = len(begun.base_runs)
    if any(one.verdict == "learning" for one in begun.metrics) or there < least:
        if begun.kind == "history":
            left = least - there - 1
            rest = f"Runs are judged after {left} more" if left > 0 else "The next run can be judged"
            return "learning", f"Learning: {min(there + 1, least)} of {least} baseline runs collected. {rest}."
        return "inconclusive", f"Inconclusive: only {there} of at least {least} pairs were made."
    why = next((one.why for one in begun.metrics if one.why), "the run has no measurements")
    return "inconclusive", f"Inconclusive: no metric could be tested ({why})."


def _reasons(begun: RunComparison, moved: Sequence[ControlComparison], word: ComparisonVerdict) -> tuple[str, ...]:
    metrics, findings, reasons = begun.metrics, begun.findings, []
    if word == "inconclusive" and moved:
        reasons.append("Repeat the run at another time or on another machine.")
    elif word == "inconclusive" and findings:
        reasons.append("A rerun must be independent: at another time, or better on another machine.")
    if any(one.kind == "grown" for one in findings):
        reasons += amounts.attribution([*begun.base_runs[-1:], begun.head_runs[-1]], metrics, findings)
    if drifting := [one.cause for one in findings if one.cause.drift]:
        against = f"against the first {drifting[0].n} runs since the last accepted change"
        reasons.append(f"Slow drift: {_names(drifting, metrics)} {against}.")
    if missing := [one for one in metrics if one.head is None and one.base is not None]:
        paired = "on the head side, although the base side has it"
        place = paired if begun.kind == "paired" else "in this run, although earlier runs have it"
        reasons.append(f"Not measured {place}: {_names(missing, metrics)}.")
    for verdict in ("improved", "changed"):
        if found := [one for one in metrics if one.verdict == verdict]:
            texts = [
                f"{amounts.full_name(one, metrics)} {', '.join(filter(None, (amounts.in_words(one), one.why)))}"
                for one in found
            ]
            reasons.append(f"{verdict.capitalize()}: {amounts.listed(texts)}.")
    learning = [one for one in metrics if one.verdict == "learning"]
    if learning and word != "learning":
        reasons.append(f"Still learning, so not judged: {_names(learning, metrics)}.")
    return tuple(reasons)


def _names(chosen: Sequence[MetricComparison], metrics: Sequence[MetricComparison]) -> str:
    return amounts.listed([amounts.full_name(one, metrics) for one in chosen])
