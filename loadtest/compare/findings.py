"""Findings. A finding is one change of a traffic entry, with all metrics that show it."""

import math
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final

from loadtest.compare import amounts
from loadtest.compare.changes import reaches_effect
from loadtest.compare.measurements import Metric, RunMeasurements
from loadtest.compare.results import ChangeFinding, FindingKind, MetricComparison
from loadtest.words import quantity

_ORDERED: Final = (
    Metric.RESPONSE_TIME_P50,
    Metric.RESPONSE_TIME_P95,
    Metric.TIME_TO_RESULT_P95,
    Metric.EXECUTION_TIME_P50,
    Metric.EXECUTION_TIME_P95,
    Metric.OVERHEAD_P50,
    Metric.GOODPUT,
)
"""A finding's cause is the first of these metrics that became worse. The others are symptoms."""
_TAILS: Final = frozenset({Metric.EXECUTION_TIME_P95, Metric.RESPONSE_TIME_P95, Metric.TIME_TO_RESULT_P95})
_KINDS: Final[dict[Metric, FindingKind]] = {Metric.ERROR_RATE: "failing", Metric.THROTTLED_RATE: "throttled"}
_ms = partial(quantity, unit="ms")
_SYMPTOM_LEVEL: Final = 0.05
"""A metric is a symptom only if its p is at most this, without adjustment for other metrics."""
_PART: Final = 0.25
"""A contribution is important if it is at least this share of the suspected change."""
_MOST: Final = 3
"""At most this many items are listed after the first finding."""


def find(metrics: Sequence[MetricComparison], worse: Sequence[MetricComparison]) -> tuple[ChangeFinding, ...]:
    """Return a finding for each share that became worse, and one for the times of each traffic entry and stage.

    The entry's other metrics that became worse are symptoms: they show where the time was lost. Errors come first, then
    429s, then times. Times are sorted by lower bound (95 %, in ms), the largest first.
    """
    found = [_finding(metrics, one, []) for one in worse if one.metric not in _ORDERED]
    for place in dict.fromkeys((one.traffic, one.stage) for one in worse if one.metric in _ORDERED):
        here = {one.metric: one for one in metrics if (one.traffic, one.stage) == place}
        bad = [one.metric for one in worse if (one.traffic, one.stage) == place]
        lead, *_ = (metric for metric in _ORDERED if metric in bad)
        others = [here[metric] for metric in _ORDERED if metric in here and metric != lead]
        found.append(_finding(metrics, here[lead], [one for one in others if one.metric in bad or _symptom(one)]))
    return tuple(sorted(found, key=_order))


def _order(one: ChangeFinding) -> tuple[int, float]:
    low, _ = one.cause.difference_interval or (one.cause.difference or 0.0,) * 2
    return ("failing", "throttled", "grown").index(one.kind), -low


def _symptom(one: MetricComparison) -> bool:
    """Whether a metric, tested alone, became significantly worse by at least the minimum effect."""
    if one.p is None or one.ratio is None or one.difference is None or one.p > _SYMPTOM_LEVEL:
        return False
    return reaches_effect(one.nature, math.log(one.ratio), one.difference, one.resolution_ms)


def _finding(
    metrics: Sequence[MetricComparison], cause: MetricComparison, symptoms: Sequence[MetricComparison]
) -> ChangeFinding:
    text = f"{amounts.full_name(cause, metrics)} {amounts.in_words(cause)}"
    if symptoms:
        seen = [f"{one.nature.name} ({amounts.difference(one.metric, one.difference)})" for one in symptoms]
        text += f"; seen in {amounts.listed(seen)}"
    response = cause.key._replace(metric=Metric.RESPONSE_TIME_P50)
    hidden = max((one.resolution_ms for one in metrics if one.key == response), default=0.0)
    if cause.metric == Metric.EXECUTION_TIME_P50 and not symptoms and hidden > (cause.difference or 0.0):
        text += f"; the response time does not show it because polls hide up to {quantity(hidden, 'ms')}"
    return ChangeFinding(
        kind=_KINDS.get(cause.metric, "grown"),
        traffic=cause.traffic,
        stage=cause.stage,
        sentence=text,
        cause=cause,
        symptoms=tuple(symptoms),
    )


def summary(findings: Sequence[ChangeFinding], metrics: Sequence[MetricComparison]) -> str:
    """Describe the first finding in a sentence, and name the others. The text has no full stop at its end."""
    if not findings:
        return ""
    first, *others = findings
    causes = [one.cause for one in others]
    named = [f"{amounts.full_name(one, metrics)} {amounts.difference(one.metric, one.difference)}" for one in causes]
    return f"{first.sentence}. Also {amounts.listed(named, _MOST)}" if named else first.sentence


def attribution(
    runs: Sequence[RunMeasurements], metrics: Sequence[MetricComparison], findings: Sequence[ChangeFinding]
) -> tuple[str, ...]:
    """Return sentences on whether 404s and do-nothing workflows became slower, too, as a hint to the cause.

    No verdict uses these sentences. A sentence appears only if the 95 % interval of the change in ms lies wholly below
    or above a quarter of the suspected change. An insignificant change proves nothing: a time of 1 ms may grow by 80 %
    by chance. ``runs`` are the last runs of both sides, because a workflow may do nothing on one side only.
    """
    texts = []
    for entries, name, elsewhere, here in (
        (
            {name for run in runs for name in run.not_found_entries},
            "Requests answered with 404 before any workflow runs",
            "the cause lies later, where workflows run",
            "this part is lost before any workflow runs",
        ),
        (
            {name for run in runs for name in run.idle_entries},
            "Workflows that do nothing",
            "the cause lies in the work of the other workflows",
            "this part is lost outside the workflows",
        ),
    ):
        # Compare with the first metric in ms that grew in another entry.
        grown = (one.cause for one in findings if one.kind == "grown" and one.traffic not in entries)
        suspect = next((one for one in grown if one.nature.unit == "ms"), None)
        if suspect is None or suspect.difference is None:
            continue
        seen = _intervals(metrics, entries, suspect)
        if not seen:
            continue
        whole = f"of the {quantity(suspect.difference, 'ms')}"
        most, least = max(high for _, high in seen), min(low for low, _ in seen)
        if most <= _PART * suspect.difference:
            texts.append(f"{name} changed by at most {quantity(max(most, 0.0), 'ms')} {whole}: {elsewhere}.")
        elif least >= _PART * suspect.difference:
            size = " to ".join(amounts.difference(suspect.metric, end) for end in (least, most))
            texts.append(f"{name} also became slower by {size} (95 %) {whole}: {here}.")
    return tuple(texts)


def _intervals(
    metrics: Sequence[MetricComparison], entries: Collection[str], suspect: MetricComparison
) -> list[tuple[float, float]]:
    metric = Metric.RESPONSE_TIME_P95 if suspect.metric in _TAILS else Metric.RESPONSE_TIME_P50
    return [
        one.difference_interval
        for one in metrics
        if one.traffic in entries
        and (one.stage, one.metric) == (suspect.stage, metric)
        and one.difference_interval is not None
        and all(map(math.isfinite, one.difference_interval))
    ]
