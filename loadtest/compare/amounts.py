"""Text for compared metrics and their findings: values, differences, intervals and sentences.

A finding is one change in a traffic entry and stage, with all metrics that show it.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Final

from loadtest.compare.changes import LEAST_MS, LEAST_RATIO, reaches_effect
from loadtest.compare.measurements import NATURES, Metric, RunMeasurements
from loadtest.compare.results import ChangeFinding, FindingKind, MetricComparison, RunComparison
from loadtest.units import Unit
from loadtest.words import NOTHING, count, joined, quantity, sign, signed

_NBSP: Final = "\u00a0"
_LEAST_PERCENT_MS: Final = LEAST_MS / math.expm1(LEAST_RATIO)
"""The minimum effect is 1 ms for times below this (20 ms), and 5 % for longer times, if they are not polled."""
SIGNED: Final = frozenset({Metric.THROTTLED_RATE})
"""The values of these metrics are differences: the observed share minus the expected share."""
_UNITS: Final[dict[str, Unit]] = {"ms": "ms", "share": "share", "1/s": "per_s"}
_FACTOR_FROM: Final = 3.0
"""Ratios from this size on are shown as factors: "× 12" is clearer than "+1,100 %"."""
_ORDERED: Final = (
    Metric.RESPONSE_TIME_P50,
    Metric.RESPONSE_TIME_P95,
    Metric.TIME_TO_RESULT_P95,
    Metric.EXECUTION_TIME_P50,
    Metric.EXECUTION_TIME_P95,
    Metric.OVERHEAD_P50,
    Metric.GOODPUT,
)
"""The cause of a finding of kind ``grown`` is the first of these metrics that is suspected or regressed."""
_TAILS: Final = frozenset({Metric.EXECUTION_TIME_P95, Metric.RESPONSE_TIME_P95, Metric.TIME_TO_RESULT_P95})
_KINDS: Final[dict[Metric, FindingKind]] = {Metric.ERROR_RATE: "failing", Metric.THROTTLED_RATE: "throttled"}
_SYMPTOM_LEVEL: Final = 0.05
"""The p of a symptom is at most this, without adjustment for other metrics."""
_PART: Final = 0.25
"""404s or do-nothing workflows share a slow-down if they slowed down by at least this part of it."""
_MOST: Final = 3
"""``summary`` lists at most this many items after the first finding."""


def gated(comparison: RunComparison) -> tuple[MetricComparison, ...]:
    """Return the metrics that the verdict may use, including those that are still learning."""
    return tuple(one for one in comparison.metrics if one.gated or one.suspect or one.verdict == "learning")


def is_changed(one: MetricComparison) -> bool:
    """Whether a metric is suspected, regressed or improved."""
    return one.suspect or one.verdict in ("regressed", "improved")


def place(one: MetricComparison, metrics: Iterable[MetricComparison]) -> str:
    """Return the name of the traffic entry. If it has several stages, add the stage: ``greetings / within``."""
    stages = {other.stage for other in metrics if other.traffic == one.traffic}
    return f"{one.traffic} / {one.stage}" if len(stages) > 1 else one.traffic


def full_name(one: MetricComparison, metrics: Iterable[MetricComparison]) -> str:
    """Return the name of a metric with its place: ``greetings: executionTime p50``."""
    return f"{place(one, metrics)}: {one.nature.name}"


def listed(items: Sequence[str], most: int = 4) -> str:
    """Join items as ``a, b and c``. A list longer than ``most`` ends with a count: ``a, b, c and 4 more``."""
    if len(items) > most:
        items = [*items[: most - 1], f"{len(items) - most + 1} more"]
    return joined(items)


def in_percent(one: MetricComparison) -> bool:
    """Whether a metric's minimum effect is 5 %. Shares, and times below 20 ms or 20 poll intervals, have another."""
    nature, ms = one.nature, max(LEAST_MS, one.resolution_ms)
    return nature.scale == "log" and (nature.unit != "ms" or (one.base or 0.0) * math.expm1(LEAST_RATIO) >= ms)


def detectable_ms(one: MetricComparison) -> float:
    """Return the minimum detectable growth of a time, in ms; 0 if it is unknown."""
    return ((one.detectable or 1.0) - 1) * (one.base or 0.0)


def minute(started: str) -> str:
    """Format an ISO time: ``2026-11-26 02:00 UTC``."""
    return f"{started[:10]} {started[11:16]} UTC"


def estimate(one: MetricComparison) -> tuple[float, float, float] | None:
    """Return the change and both ends of its interval: percentage points for a share, else log ratios."""
    if is_share(one):
        if one.difference is None or one.difference_interval is None:
            return None
        low, high = one.difference_interval
        return one.difference * 100, low * 100, high * 100
    if one.ratio is None or one.ratio_interval is None or min(one.ratio, *one.ratio_interval) <= 0:
        return None
    low, high = one.ratio_interval
    return math.log(one.ratio), math.log(low), math.log(high)


def value(metric: Metric, amount: float | None) -> str:
    """Format a value with its unit."""
    if amount is None:
        return NOTHING
    return difference(metric, amount) if metric in SIGNED else quantity(amount, _UNITS[NATURES[metric].unit])


def difference(metric: Metric, amount: float | None) -> str:
    """Format a difference with its sign and unit: ms, percentage points, or operations a second."""
    return NOTHING if amount is None else signed(amount, _UNITS[NATURES[metric].unit])


def difference_interval(one: MetricComparison) -> str:
    """Format the interval of the difference: ``95 %: +58 ms to +75 ms``. Empty if there is none."""
    return _interval(one.difference_interval, partial(difference, one.metric))


def change(one: MetricComparison) -> str:
    """Format a share's change in percentage points, and any other change as a ratio: ``+69 %``, ``× 4.2``."""
    if is_share(one):
        return difference(one.metric, one.difference)
    return NOTHING if one.ratio is None else percent(one.ratio)


def in_words(one: MetricComparison) -> str:
    """Format a change with its interval: ``+66 ms (+69 %, 95 %: +58 % to +75 %)``."""
    sides = f"from {value(one.metric, one.base)} to {value(one.metric, one.head)}"
    ends = sides if is_share(one) else change(one), change_interval(one)
    return f"{difference(one.metric, one.difference)} ({', '.join(end for end in ends if end)})"


def change_interval(one: MetricComparison) -> str:
    """Format the interval of the change: ``95 %: +58 % to +75 %``. Empty if there is none."""
    return difference_interval(one) if is_share(one) else _interval(one.ratio_interval, percent)


def _interval(bounds: tuple[float, float] | None, say: Callable[[float], str]) -> str:
    return "" if bounds is None else f"95{_NBSP}%: {say(bounds[0])} to {say(bounds[1])}"


def detectable(one: MetricComparison) -> str:
    """Format the minimum detectable change: ``+12 %``, ``+3 ms`` (short or polled times), or ``to 3 %`` (shares)."""
    if one.detectable is None or not math.isfinite(one.detectable):
        return NOTHING
    if is_share(one):
        return NOTHING if one.detectable_value is None else f"to {value(one.metric, one.detectable_value)}"
    if one.nature.unit == "ms" and not in_percent(one):
        return difference(one.metric, detectable_ms(one))
    return percent(one.detectable)


def size(log_ratio: float) -> str:
    """Format a log ratio as a change without a plus sign: ``12 %``."""
    return percent(math.exp(log_ratio)).removeprefix("+")


def probability(p: float | None) -> str:
    """Format a p value with two digits. Values below 0.0001 become ``< 0.0001``."""
    if p is None:
        return NOTHING
    return f"<{_NBSP}0.0001" if p < 1e-4 else f"{p:.2g}"


def percent(ratio: float) -> str:
    """Format a ratio as a change: ``+69 %``, ``−0.4 %``. A ratio of at least 3 has the form ``× 4.2``."""
    if ratio >= _FACTOR_FROM:
        return f"× {factor(ratio)}"
    return f"{sign(ratio - 1)}{factor(abs(ratio - 1) * 100)}{_NBSP}%"


def is_share(one: MetricComparison) -> bool:
    """Whether a metric is a share, which is compared in percentage points instead of by its ratio."""
    return one.nature.unit == "share"


def worsening(one: MetricComparison) -> float:
    """Return a sort key: the log ratio of a worsening, negative if the metric improved.

    The growth of a time below 20 ms is divided by 20 ms instead of the time, because short times vary most.
    """
    if one.ratio is None or one.ratio <= 0:
        return 0.0
    if one.nature.unit != "ms" or not one.base:
        return one.nature.worse * math.log(one.ratio)
    return math.log1p(one.base * (one.ratio - 1) / max(one.base, _LEAST_PERCENT_MS))


def telling(one: MetricComparison) -> tuple[bool, float]:
    """Return a sort key that grows with the worsening. Shares, and short or polled times, have the smallest keys."""
    return in_percent(one), worsening(one)


def factor(ratio: float) -> str:
    """Format a ratio with two digits, from 10 on as a whole number. The text never has an exponent."""
    return count(ratio) if ratio >= 9.95 else f"{ratio:.2g}" if ratio >= 0.001 else "0"


def find(metrics: Sequence[MetricComparison], worse: Sequence[MetricComparison]) -> tuple[ChangeFinding, ...]:
    """Make one finding for each share in ``worse``, and one for each entry and stage with times in ``worse``.

    ``worse`` has the suspected or regressed metrics. The entry's other metrics that became worse are symptoms: they
    show where the time was lost. Findings of errors come first, then those of 429s. Each kind is sorted by the lower
    end of the cause's ``difference_interval``, descending.
    """
    found = [_finding(metrics, one, []) for one in worse if one.metric not in _ORDERED]
    for entry in dict.fromkeys((one.traffic, one.stage) for one in worse if one.metric in _ORDERED):
        here = {one.metric: one for one in metrics if (one.traffic, one.stage) == entry}
        ordered = [here[metric] for metric in _ORDERED if metric in here]
        cause = next(one for one in ordered if one in worse)
        symptoms = [one for one in ordered if one is not cause and (one in worse or _symptom(one))]
        found.append(_finding(metrics, cause, symptoms))
    return tuple(sorted(found, key=_order))


def _order(one: ChangeFinding) -> tuple[int, float]:
    low, _ = one.cause.difference_interval or (one.cause.difference or 0.0,) * 2
    return ("failing", "throttled", "grown").index(one.kind), -low


def _symptom(one: MetricComparison) -> bool:
    if one.p is None or one.ratio is None or one.difference is None or one.p > _SYMPTOM_LEVEL:
        return False
    return reaches_effect(one.nature, math.log(one.ratio), one.difference, one.resolution_ms)


def _finding(
    metrics: Sequence[MetricComparison], cause: MetricComparison, symptoms: Sequence[MetricComparison]
) -> ChangeFinding:
    text = f"{full_name(cause, metrics)} {in_words(cause)}"
    if symptoms:
        seen = [f"{one.nature.name} ({difference(one.metric, one.difference)})" for one in symptoms]
        text += f"; seen in {listed(seen)}"
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
    """Return one text without a final full stop: the first finding's sentence, then causes of the other findings."""
    causes = [one.cause for one in findings[1:]]
    named = [f"{full_name(one, metrics)} {difference(one.metric, one.difference)}" for one in causes]
    text = findings[0].sentence if findings else ""
    return f"{text}. Also {listed(named, _MOST)}" if named else text


def attribution(
    runs: Sequence[RunMeasurements], metrics: Sequence[MetricComparison], findings: Sequence[ChangeFinding]
) -> tuple[str, ...]:
    """Return sentences on whether 404s and do-nothing workflows became slower, too, as a hint to the cause.

    Each sentence appears only if its entries' changes have 95 % intervals that all lie below, or all above, a quarter
    of a finding's difference. ``runs`` are the last runs of both sides: a workflow may do nothing on one side only.
    """
    texts = []
    for entries, name, elsewhere, here in (
        (
            {name for run in runs for name in run.not_found_entries},
            "404 responses, sent before any workflow runs,",
            "the cause lies later, where workflows run",
            "the shared part of the slow-down arises before any workflow runs",
        ),
        (
            {name for run in runs for name in run.idle_entries},
            "Workflows that do nothing",
            "the cause lies in the work of the other workflows",
            "the shared part of the slow-down arises outside the workflows",
        ),
    ):
        # Compare with the first finding outside ``entries`` whose cause is a time.
        grown = (one.cause for one in findings if one.kind == "grown" and one.traffic not in entries)
        suspect = next((one for one in grown if one.nature.unit == "ms"), None)
        if suspect is None or suspect.difference is None or not (seen := _intervals(metrics, entries, suspect)):
            continue
        whole = f"and {suspect.traffic} by {quantity(suspect.difference, 'ms')}"
        most, least = max(high for _, high in seen), min(low for low, _ in seen)
        if most <= _PART * suspect.difference:
            texts.append(f"{name} became slower by at most {quantity(max(most, 0.0), 'ms')}, {whole}: {elsewhere}.")
        elif least >= _PART * suspect.difference:
            span = " to ".join(difference(suspect.metric, end) for end in (least, most))
            texts.append(f"{name} also became slower by {span} (95 %), {whole}: {here}.")
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


def would_have_seen(found: Sequence[MetricComparison]) -> str:
    """Return a sentence with the smallest slow-down that would be noticed in 80 % of cases, whatever its entry."""
    entries: defaultdict[tuple[str, str], list[MetricComparison]] = defaultdict(list)
    for one in found:
        if one.nature.unit == "ms" and one.detectable:
            entries[one.traffic, one.stage].append(one)
    best = [min(times, key=lambda one: one.detectable or math.inf) for times in entries.values()]
    factors = [one.detectable or 1.0 for one in best if in_percent(one)]
    short = [detectable_ms(one) for one in best if not in_percent(one)]
    sizes = [percent(max(factors)).removeprefix("+")] if factors else []
    if short:
        least = f"{quantity(max(short), 'ms')} of short or polled times"
        sizes.append(f"({least})" if sizes else least)
    return f"A slow-down of {' '.join(sizes)} or more would have been noticed in 4 of 5 cases." if sizes else ""
