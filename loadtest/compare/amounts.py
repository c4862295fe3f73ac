"""Text for compared metrics: values, differences and intervals, such as ``+66 ms`` or ``+2.1 points``."""

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
"""For times below this (20 ms), the minimum effect is 1 ms. For longer times it is 5 %."""
SIGNED: Final = frozenset({Metric.THROTTLED_RATE})
"""The values of these metrics are differences: the observed share minus the expected share."""
_UNITS: Final[dict[str, Unit]] = {"ms": "ms", "share": "share", "1/s": "per_s"}
_FACTOR_FROM: Final = 3.0
"""Ratios from this size on are shown as factors: "× 12" is clearer than "+1,100 %"."""


def gated(comparison: RunComparison) -> tuple[MetricComparison, ...]:
    """Return the metrics that decide the verdict. Metrics that still lack earlier runs are included."""
    return tuple(one for one in comparison.metrics if one.gated or one.suspect or one.verdict == "learning")


def is_changed(one: MetricComparison) -> bool:
    """Whether a metric is suspected, regressed or improved."""
    return one.suspect or one.verdict in ("regressed", "improved")


def place(one: MetricComparison, metrics: Iterable[MetricComparison]) -> str:
    """Return the name of the traffic entry. If it has several stages, add the stage: ``greetings / within``."""
    stages = {other.stage for other in metrics if other.traffic == one.traffic}
    return f"{one.traffic} / {one.stage}" if len(stages) > 1 else one.traffic


def full_name(one: MetricComparison, metrics: Iterable[MetricComparison]) -> str:
    """Return the metric's place and name: ``greetings: executionTime p50``."""
    return f"{place(one, metrics)}: {one.nature.name}"


def listed(items: Sequence[str], most: int = 4) -> str:
    """Join items as ``a, b and c``. A list longer than ``most`` ends with a count: ``a, b, c and 4 more``."""
    if len(items) > most:
        items = [*items[: most - 1], f"{len(items) - most + 1} more"]
    return joined(items)


def in_percent(one: MetricComparison) -> bool:
    """Whether a metric's minimum effect is 5 %. Shares, and short or polled times, have another minimum effect."""
    nature, ms = one.nature, max(LEAST_MS, one.resolution_ms)
    return nature.scale == "log" and (nature.unit != "ms" or (one.base or 0.0) * math.expm1(LEAST_RATIO) >= ms)


def detectable_ms(one: MetricComparison) -> float:
    """Return the minimum detectable growth of a time, in ms."""
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
    """Format the size of a log ratio: ``12 %``."""
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
    """Return a sort key: the log ratio of a worsening. The key is negative if the metric improved.

    Here, times below 20 ms count as 20 ms. Otherwise the shortest times, which vary most, would always come first.
    """
    if one.ratio is None or one.ratio <= 0:
        return 0.0
    if one.nature.unit != "ms" or not one.base:
        return one.nature.worse * math.log(one.ratio)
    return math.log1p(one.base * (one.ratio - 1) / max(one.base, LEAST_PERCENT_MS))


def telling(one: MetricComparison) -> tuple[bool, float]:
    """Return a sort key by size of change. Short times, polled times and shares come after all other metrics."""
    return in_percent(one), worsening(one)


def factor(ratio: float) -> str:
    """Format a ratio with two digits, from 10 on as a whole number. The text never has an exponent."""
    return grouped(ratio) if ratio >= 9.95 else f"{ratio:.2g}" if ratio >= 0.001 else "0"
