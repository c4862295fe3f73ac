"""Sentences about a comparison: the finding first, with the interval in the unit of the preceding figure."""

import math
from collections.abc import Iterable, Sequence
from typing import Final

from loadtest.compare.changes import LEAST_MS, LEAST_RATIO
from loadtest.compare.results import MetricComparison
from loadtest.words import joined

_MINUS: Final = "\N{MINUS SIGN}"
LEAST_PERCENT_MS: Final = LEAST_MS / math.expm1(LEAST_RATIO)
"""For times below these 20 ms the minimum effect is 1 ms instead of 5 %: a percentage says little about them."""
_UNITS: Final = {"ms": (" ms", 1), "share": (" points", 100), "1/s": ("/s", 1)}
"""The unit of a difference in a sentence and its factor, by the metric's unit."""
_TIMES_FROM: Final = 3.0
"""Minimum ratio for a factor: "12 times" is clearer than "+1,133 %"."""


def where(place: tuple[str, str], metrics: Iterable[MetricComparison]) -> str:
    """Return the name of a traffic entry in a stage; the stage only if the entry has several."""
    traffic, stage = place
    stages = {one.stage for one in metrics if one.traffic == traffic}
    return f"{traffic} ({stage})" if len(stages) > 1 else traffic


def name(one: MetricComparison, metrics: Iterable[MetricComparison]) -> str:
    """Return ``greetings: executionTime p50``, with the stage if the entry has several."""
    return f"{where((one.traffic, one.stage), metrics)}: {one.nature.name}"


def sentence(label: str, one: MetricComparison, symptoms: Sequence[MetricComparison] = ()) -> str:
    """Return ``greetings: executionTime p50 +66 ms (+69 %); seen in response time p50 (+67 ms)``."""
    text = f"{label}: {one.nature.name} {change(one)}"
    return f"{text}; seen in {listed([in_brackets(each) for each in symptoms])}" if symptoms else text


def change(one: MetricComparison) -> str:
    """Format a metric's change with its interval: ``+66 ms (+69 %, 95 %: +58 to +75 %)``."""
    nature = one.nature
    if nature.scale == "logit":
        ends = _range(one.difference_interval, 100, "points")
        size = f"{signed(100 * (one.difference or 0))} percentage points"
        return f"{size} (from {share(one.base)} to {share(one.head)}{ends})"
    ratio, ratios = one.ratio or 1.0, one.ratio_interval
    if ratio >= _TIMES_FROM:
        ends = "" if ratios is None else f", 95 %: {number(ratios[0])} to {number(ratios[1])} times"
        return f"{difference(one)} ({number(ratio)} times as much{ends})"
    low_high = None if ratios is None else (ratios[0] - 1, ratios[1] - 1)
    return f"{difference(one)} ({signed(100 * (ratio - 1))} %{_range(low_high, 100, '%')})"


def difference(one: MetricComparison) -> str:
    """Format a difference: ``+66 ms``, ``−1.2 points``."""
    unit, factor = _UNITS[one.nature.unit]
    return signed(factor * (one.difference or 0.0)) + unit


def short(one: MetricComparison) -> str:
    """Return ``executionTime p50 +66 ms``."""
    return f"{one.nature.name} {difference(one)}"


def in_brackets(one: MetricComparison) -> str:
    """Return ``executionTime p50 (+66 ms)``."""
    return f"{one.nature.name} ({difference(one)})"


def in_percent(one: MetricComparison) -> bool:
    """Whether 5 % is the minimum effect: for goodput, and for times that are neither short nor hidden by polls."""
    nature, ms = one.nature, max(LEAST_MS, one.resolution_ms)
    return nature.scale == "log" and (nature.unit != "ms" or (one.base or 0.0) * math.expm1(LEAST_RATIO) >= ms)


def detectable_ms(one: MetricComparison) -> float:
    """Return the smallest detectable growth of a time, in ms."""
    return ((one.detectable or 1.0) - 1) * (one.base or 0.0)


def detectable(one: MetricComparison, metrics: Iterable[MetricComparison]) -> str:
    """Return the smallest detectable change of a time or rate: ``+12 % (greetings: response time p50)``."""
    factor = one.detectable or 1.0
    return f"{signed(100 * (factor - 1))} % ({name(one, metrics)})"


def listed(items: Sequence[str], most: int = 4) -> str:
    """Join items: ``a, b and c``; above ``most``, count the rest."""
    if len(items) > most:
        items = [*items[: most - 1], f"{len(items) - most + 1} more"]
    return joined(items)


def number(value: float) -> str:
    """Format a number with up to three digits, or all before the point: 1,234, 66, 6.6, 0.66."""
    size = abs(value)
    text = f"{size:,.0f}" if size >= 10 else f"{size:.1f}" if size >= 1 else f"{size:.2g}"
    return (_MINUS if value < 0 else "") + text


def signed(value: float) -> str:
    """Format a number with its sign: +66, −6.6, 0."""
    text = number(value)
    return text if value <= 0 else f"+{text}"


def minute(started: str) -> str:
    """Format an ISO time: ``2026-11-26 02:00 UTC``."""
    return f"{started[:10]} {started[11:16]} UTC"


def share(value: float | None) -> str:
    """Format a share in per cent."""
    return "unknown" if value is None else f"{number(100 * value)} %"


def _range(interval: tuple[float, float] | None, factor: float, unit: str) -> str:
    """``, 95 %: +58 to +75 %``; empty without an interval."""
    if interval is None:
        return ""
    low, high = (signed(factor * end) for end in interval)
    return f", 95 %: {low} to {high} {unit}"
