"""Formatted values, differences and intervals of a compared metric: ``+66 ms``, ``+69 %``, ``+2.1 points``."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from loadtest.compare.changes import LEAST_MS, LEAST_RATIO
from loadtest.compare.measurements import NATURES, Metric
from loadtest.compare.results import MetricComparison, RunComparison
from loadtest.units import Unit
from loadtest.words import NOTHING, grouped, joined, quantity, sign, signed

_NBSP: Final = "\u00a0"
LEAST_PERCENT_MS: Final = LEAST_MS / math.expm1(LEAST_RATIO)
"""Times below 20 ms have a minimum effect of 1 ms instead of 5 %, because a percentage says little about them."""
SIGNED: Final = frozenset({Metric.THROTTLED_RATE})
"""Metrics whose value is itself a difference: observed − expected."""
_UNITS: Final[dict[str, Unit]] = {"ms": "ms", "share": "share", "1/s": "per_s"}
_FACTOR_FROM: Final = 3.0
"""Minimum ratio that is shown as a factor, because "× 12" is clearer than "+1,100 %"."""


def gated(comparison: RunComparison) -> tuple[MetricComparison, ...]:
    """Return the metrics that decide the verdict, including metrics that still lack earlier runs."""
    return tuple(one for one in comparison.metrics if one.gated or one.suspect or one.verdict == "learning")


def is_changed(one: MetricComparison) -> bool:
    """Whether a metric is suspected, regressed or improved."""
    return one.suspect or one.verdict in ("regressed", "improved")


def place(one: MetricComparison, metrics: Iterable[MetricComparison]) -> str:
    """Return the traffic entry, with its stage if the entry has several: ``greetings / within``."""
    stages = {other.stage for other in metrics if other.traffic == one.traffic}
    return f"{one.traffic} / {one.stage}" if len(stages) > 1 else one.traffic


def full_name(one: MetricComparison, metrics: Iterable[MetricComparison]) -> str:
    """Return ``greetings: executionTime p50``, with the stage if the entry has several."""
    return f"{place(one, metrics)}: {one.nature.name}"


def listed(items: Sequence[str], most: int = 4) -> str:
    """Join items as ``a, b and c``; if there are more than ``most``, count the rest."""
    if len(items) > most:
        items = [*items[: most - 1], f"{len(items) - most + 1} more"]
    return joined(items)


def in_percent(one: MetricComparison) -> bool:
    """Whether the minimum effect is 5 %: for goodput, and for times of which 5 % reach 1 ms and the poll interval."""
    nature, ms = one.nature, max(LEAST_MS, one.resolution_ms)
    return nature.scale == "log" and (nature.unit != "ms" or (one.base or 0.0) * math.expm1(LEAST_RATIO) >= ms)


def detectable_ms(one: MetricComparison) -> float:
    """Return the smallest detectable growth of a time, in ms."""
    return ((one.detectable or 1.0) - 1) * (one.base or 0.0)


def minute(started: str) -> str:
    """Format an ISO time: ``2026-11-26 02:00 UTC``."""
    return f"{started[:10]} {started[11:16]} UTC"


def estimate(one: MetricComparison) -> tuple[float, float, float] | None:
    """Return the change and its interval as log ratios, or as percentage points for shares."""
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
    """Format a difference with sign and unit: ms, percentage points, operations a second."""
    return NOTHING if amount is None else signed(amount, _UNITS[NATURES[metric].unit])


def difference_interval(one: MetricComparison) -> str:
    """Return ``95 %: +58 ms to +75 ms``; empty without an interval."""
    return _interval(one.difference_interval, partial(difference, one.metric))


def change(one: MetricComparison) -> str:
    """Return a share's change in percentage points, or a relative change of a time or rate: ``+69 %``, ``× 4.2``."""
    if is_share(one):
        return difference(one.metric, one.difference)
    return NOTHING if one.ratio is None else percent(one.ratio)


def in_words(one: MetricComparison) -> str:
    """Return a change with its interval: ``+66 ms (+69 %, 95 %: +58 % to +75 %)``."""
    sides = f"from {value(one.metric, one.base)} to {value(one.metric, one.head)}"
    ends = sides if is_share(one) else change(one), change_interval(one)
    return f"{difference(one.metric, one.difference)} ({', '.join(end for end in ends if end)})"


def change_interval(one: MetricComparison) -> str:
    """Return ``95 %: +58 % to +75 %``; empty without an interval."""
    return difference_interval(one) if is_share(one) else _interval(one.ratio_interval, percent)


def _interval(bounds: tuple[float, float] | None, say: Callable[[float], str]) -> str:
    return "" if bounds is None else f"95{_NBSP}%: {say(bounds[0])} to {say(bounds[1])}"


def detectable(one: MetricComparison) -> str:
    """Return the minimum detectable change: ``+12 %``; for short or polled times ``+3 ms``; for shares ``to 3 %``."""
    if one.detectable is None or not math.isfinite(one.detectable):
        return NOTHING
    if is_share(one):
        return NOTHING if one.detectable_value is None else f"to {value(one.metric, one.detectable_value)}"
    if one.nature.unit == "ms" and not in_percent(one):
        return difference(one.metric, detectable_ms(one))
    return percent(one.detectable)


def size(log_ratio: float) -> str:
    """Format the size of a log ratio: ``12 %``."""
    return percent(math.exp(log_ratio)).removeprefix("+")


def probability(p: float | None) -> str:
    """Format a p value with two digits, and values below 0.0001 as a bound."""
    if p is None:
        return NOTHING
    return f"<{_NBSP}0.0001" if p < 1e-4 else f"{p:.2g}"


def percent(ratio: float) -> str:
    """Format a ratio as a change: ``+69 %``, ``−0.4 %``; from a factor of 3 as ``× 4.2``."""
    if ratio >= _FACTOR_FROM:
        return f"× {factor(ratio)}"
    return f"{sign(ratio - 1)}{factor(abs(ratio - 1) * 100)}{_NBSP}%"


def is_share(one: MetricComparison) -> bool:
    """Whether a metric is compared in percentage points, not by its ratio."""
    return one.nature.unit == "share"


def worsening(one: MetricComparison) -> float:
    """Return the log ratio of a change for the worse, for sorting; negative if the metric improved.

    Times below 20 ms count as 20 ms. Otherwise the shortest times would always have changed most.
    """
    if one.ratio is None or one.ratio <= 0:
        return 0.0
    if one.nature.unit != "ms" or not one.base:
        return one.nature.worse * math.log(one.ratio)
    return math.log1p(one.base * (one.ratio - 1) / max(one.base, LEAST_PERCENT_MS))


def telling(one: MetricComparison) -> tuple[bool, float]:
    """Return a sort key by size of change. Short times, polled times and shares sort below all other metrics."""
    return in_percent(one), worsening(one)


def factor(ratio: float) -> str:
    """Format a ratio with two digits, or as a whole number; never with an exponent."""
    return grouped(ratio) if ratio >= 9.95 else f"{ratio:.2g}" if ratio >= 0.001 else "0"
