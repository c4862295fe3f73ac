"""Grouping of worsened metrics into findings: one change is one finding, whichever metrics show it."""

import math
from collections.abc import Collection, Sequence
from typing import Final

from loadtest.compare import sentences
from loadtest.compare.changes import reaches_effect
from loadtest.compare.measurements import Metric, RunMeasurements
from loadtest.compare.results import ChangeFinding, FindingKind, MetricComparison
from loadtest.words import counted

_PARTS: Final = (Metric.EXECUTION_TIME_P50, Metric.OVERHEAD_P50)
_TIMES: Final = (
    *_PARTS,
    Metric.EXECUTION_TIME_P95,
    Metric.RESPONSE_TIME_P50,
    Metric.RESPONSE_TIME_P95,
    Metric.TIME_TO_RESULT_P95,
)
"""From the part to the whole: earlier metrics are closer to the cause."""
_EXECUTION: Final = (Metric.EXECUTION_TIME_P50, Metric.EXECUTION_TIME_P95)
_WHOLE: Final = (Metric.RESPONSE_TIME_P50, Metric.RESPONSE_TIME_P95, Metric.TIME_TO_RESULT_P95)
_TAILS: Final = frozenset({Metric.EXECUTION_TIME_P95, Metric.RESPONSE_TIME_P95, Metric.TIME_TO_RESULT_P95})
_KINDS: Final = ("failing", "throttled", "grown", "less", "moved")
_SYMPTOM_LEVEL: Final = 0.05
"""Maximum p of a symptom, without adjustment for other metrics."""
_OPPOSITE: Final = 0.5
"""Minimum share of a growth that the other part must have lost for time to have moved."""
_PART: Final = 0.25
"""Share of the suspect's change that separates minor from important contributions."""
_MOST: Final = 3
"""Maximum number of findings in sentences."""


def find(metrics: Sequence[MetricComparison], worse: Sequence[MetricComparison]) -> tuple[ChangeFinding, ...]:
    """Group worsened metrics by traffic entry and stage, each finding with its cause and its symptoms.

    Times form one finding. Its cause is the part that grew most (executionTime or overhead), else the tail of
    executionTime, else the time seen from outside. If the other part lost as much and the whole did not grow, the time
    *moved*; changes below the poll interval are no loss. 429s and errors are separate findings, and goodput is a
    symptom of any other finding. The most important finding comes first: errors, 429s, then times by the lower end of
    their 95 % interval in ms. Findings with one cause are adjacent.
    """
    places = list(dict.fromkeys((one.traffic, one.stage) for one in worse))
    found = [finding for place in places for finding in _at(place, metrics, worse)]
    return tuple(one for group in alike(sorted(found, key=_order)) for one in group)


def _order(one: ChangeFinding) -> tuple[int, float]:
    low, high = one.cause.difference_interval or (one.cause.difference or 0.0,) * 2
    return _KINDS.index(one.kind), -low if one.cause.nature.worse > 0 else high


def _at(
    place: tuple[str, str], metrics: Sequence[MetricComparison], worse: Sequence[MetricComparison]
) -> list[ChangeFinding]:
    here = {one.metric: one for one in metrics if (one.traffic, one.stage) == place}
    bad = {one.metric: one for one in worse if (one.traffic, one.stage) == place}
    label = sentences.where(place, metrics)
    of_shares: tuple[tuple[FindingKind, Metric], ...]
    of_shares = (("failing", Metric.ERROR_RATE), ("throttled", Metric.THROTTLED_RATE))
    found = [_finding(kind, label, bad[metric], []) for kind, metric in of_shares if metric in bad]
    if any(metric in bad for metric in _TIMES):
        found.append(_time(label, here, bad))
    goodput = here.get(Metric.GOODPUT)
    if goodput is None or not (Metric.GOODPUT in bad or _symptom(goodput)):
        return found
    real = next((one for one in found if one.kind != "moved"), None)
    if real is not None:
        found[found.index(real)] = _finding(real.kind, label, real.cause, [*real.symptoms, goodput])
    elif Metric.GOODPUT in bad:
        found.append(_finding("less", label, goodput, []))
    return found


def _time(label: str, here: dict[Metric, MetricComparison], bad: dict[Metric, MetricComparison]) -> ChangeFinding:
    grown = [metric for metric in _PARTS if metric in bad]
    cause = max(grown, key=lambda metric: bad[metric].difference or 0) if grown else next(m for m in _TIMES if m in bad)
    other = _moved_from(here, bad, cause)
    if other is not None:
        whole = here[Metric.RESPONSE_TIME_P50]
        parts = f"{sentences.in_brackets(other)} to {sentences.in_brackets(bad[cause])}"
        total = f"{whole.nature.name} did not grow significantly ({sentences.difference(whole)})"
        return _finding("moved", label, bad[cause], [other], f"{label}: time moved from {parts}; {total}")
    symptoms = [here[m] for m in _TIMES if m != cause and m in here and (m in bad or _symptom(here[m]))]
    text = sentences.sentence(label, bad[cause], symptoms)
    overhead = here.get(Metric.OVERHEAD_P50)
    seen = any(one.metric in _WHOLE for one in symptoms)
    if cause in _EXECUTION and not seen and overhead and overhead.resolution_ms > (bad[cause].difference or 0.0):
        hidden = sentences.number(overhead.resolution_ms)
        text += f"; the response time does not show it because polls hide up to {hidden} ms"
    return _finding("grown", label, bad[cause], symptoms, text)


def _moved_from(
    here: dict[Metric, MetricComparison], bad: dict[Metric, MetricComparison], cause: Metric
) -> MetricComparison | None:
    """The part that lost what ``cause`` gained, if the whole did not grow.

    For polled jobs, overhead is known to within a poll interval: an execution that ends 30 ms later is seen by the same
    poll, and reduces overhead by 30 ms. Changes below the interval count as no loss or gain.
    """
    if cause not in _PARTS or any(metric in bad for metric in _WHOLE):
        return None
    other, whole = here.get(_PARTS[1 - _PARTS.index(cause)]), here.get(Metric.RESPONSE_TIME_P50)
    if other is None or whole is None or other.difference is None or _symptom(whole):
        return None
    gained, lost = bad[cause].difference or 0.0, -other.difference
    hidden = max(bad[cause].resolution_ms, other.resolution_ms)
    return other if lost >= _OPPOSITE * gained and min(gained, lost) > hidden else None


def _symptom(one: MetricComparison) -> bool:
    """Whether a metric became significantly worse by itself, by an effect that matters."""
    if one.p is None or one.ratio is None or one.difference is None or one.p > _SYMPTOM_LEVEL:
        return False
    return reaches_effect(one.nature, math.log(one.ratio), one.difference, one.resolution_ms)


def _finding(
    kind: FindingKind, label: str, cause: MetricComparison, symptoms: Sequence[MetricComparison], text: str = ""
) -> ChangeFinding:
    return ChangeFinding(
        kind=kind,
        traffic=cause.traffic,
        stage=cause.stage,
        sentence=text or sentences.sentence(label, cause, symptoms),
        cause=cause,
        symptoms=tuple(symptoms),
    )


def summary(findings: Sequence[ChangeFinding], metrics: Sequence[MetricComparison]) -> str:
    """Format findings as sentences without the last full stop; after three groups, count the rest."""
    groups = alike(findings)
    texts = [sentences.of_group(group, metrics) for group in groups[:_MOST]]
    if left := sum(len(group) for group in groups[_MOST:]):
        texts.append(counted(left, "more finding"))
    return ". ".join(texts)


def alike(findings: Sequence[ChangeFinding]) -> list[list[ChangeFinding]]:
    """Group findings that one cause explains: the same metric, and a common value in all intervals.

    The first finding leads a group, unless it is a time below 20 ms and another is not: +20 ms in a do-nothing workflow
    is the most certain, but the least interesting. Changes by equal ms or by an equal ratio are alike; the
    interpretation that explains more entries is used.
    """
    left, groups = list(findings), []
    while left:
        same = [one for one in left if (one.kind, one.cause.metric) == (left[0].kind, left[0].cause.metric)]
        in_ms = _sharing(same, [one.cause.difference_interval for one in same])
        by_ratio = [None if one.cause.nature.scale == "logit" else one.cause.ratio_interval for one in same]
        group = max(in_ms, _sharing(same, by_ratio), key=len)
        groups.append(sorted(group, key=lambda one: not sentences.in_percent(one.cause)))
        left = [one for one in left if all(one is not member for member in group)]
    return groups


def _sharing(same: Sequence[ChangeFinding], intervals: Sequence[tuple[float, float] | None]) -> list[ChangeFinding]:
    """The first finding, and further findings while all intervals have a common value."""
    common, group = intervals[0], [same[0]]
    for one, other in zip(same[1:], intervals[1:], strict=True):
        if common is None or other is None:
            continue
        low, high = max(common[0], other[0]), min(common[1], other[1])
        if low <= high:
            common = (low, high)
            group.append(one)
    return group


def attribution(
    runs: Sequence[RunMeasurements], metrics: Sequence[MetricComparison], findings: Sequence[ChangeFinding]
) -> tuple[str, ...]:
    """Interpret the largest growth by the changes of 404s and do-nothing workflows; this never excuses it.

    A sentence requires the 95 % interval of their own change in ms to exclude a quarter of the suspect's change, or to
    lie above it. An insignificant change proves nothing: for 1 ms, +80 % may be chance. ``runs`` are the last
    of base and head, because a workflow that did nothing before may now take long.
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
        # The first time that grew, in other entries.
        suspect = next((one.cause for one in findings if one.kind == "grown" and one.traffic not in entries), None)
        if suspect is None or suspect.difference is None:
            continue
        seen = _intervals(metrics, entries, suspect)
        if not seen:
            continue
        whole = f"of the {sentences.number(suspect.difference)} ms"
        most, least = max(high for _, high in seen), min(low for low, _ in seen)
        if most <= _PART * suspect.difference:
            texts.append(f"{name} changed by at most {sentences.number(max(most, 0.0))} ms {whole}: {elsewhere}.")
        elif least >= _PART * suspect.difference:
            size = f"{sentences.signed(least)} to {sentences.signed(most)} ms"
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
