"""Formatted values, differences and intervals of a compared metric: ``+66 ms``, ``+69 %``, ``+2.1 points``."""

import math
from typing import Final

from loadtest.compare.measurements import NATURES, Metric
from loadtest.compare.results import MetricComparison, RunComparison
from loadtest.compare.sentences import LEAST_PERCENT_MS, detectable_ms, in_percent
from loadtest.words import NOTHING, duration_ms, grouped, milliseconds, share, sign

_NBSP: Final = "\u00a0"
SIGNED: Final = frozenset({Metric.THROTTLED_RATE})
"""Metrics whose value is itself a difference: observed − expected."""
_FACTOR_FROM: Final = 3.0
"""Ratio from which a factor is easier to read than a percentage."""


def gated(comparison: RunComparison) -> tuple[MetricComparison, ...]:
    """Return the metrics that decide the verdict, including those that will once there are enough runs."""
    return tuple(one for one in comparison.metrics if one.gated or one.suspect or one.verdict == "learning")


def is_changed(one: MetricComparison) -> bool:
    """Whether a metric is suspected, regressed or improved."""
    return one.suspect or one.verdict in ("regressed", "improved")


def name(one: MetricComparison) -> str:
    """Return a metric's name: ``executionTime p50``."""
    return NATURES[one.metric].name


def where(one: MetricComparison, *, stages: bool) -> str:
    """Return the traffic entry, with its stage if ``stages``: ``greetings / within``."""
    return f"{one.traffic} / {one.stage}" if stages else one.traffic


def has_stages(metrics: tuple[MetricComparison, ...]) -> bool:
    """Whether a traffic entry is compared in several stages."""
    return len({(one.traffic, one.stage) for one in metrics}) > len({one.traffic for one in metrics})


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
    unit = NATURES[metric].unit
    if unit == "ms":
        return duration_ms(amount)
    if metric in SIGNED:
        return _points(amount)
    return share(amount) if unit == "share" else f"{_digits(amount)}{_NBSP}/s"


def difference(metric: Metric, amount: float | None) -> str:
    """Format a difference with sign and unit: ms, percentage points, operations a second."""
    if amount is None:
        return NOTHING
    unit = NATURES[metric].unit
    if unit == "share":
        return _points(amount)
    if unit == "ms":
        return f"{sign(amount)}{duration_ms(abs(amount))}"
    return f"{sign(amount)}{_digits(abs(amount))}{_NBSP}/s"


def difference_interval(one: MetricComparison) -> str:
    """Return ``95 %: +58 to +75 ms``; empty without an interval."""
    if one.difference_interval is None:
        return ""
    low, high = one.difference_interval
    unit = NATURES[one.metric].unit
    if unit == "share":
        return f"95{_NBSP}%: {_bare_points(low)} to {_points(high)}"
    if unit == "ms":
        return f"95{_NBSP}%: {sign(low)}{milliseconds(abs(low))} to {sign(high)}{milliseconds(abs(high))}{_NBSP}ms"
    return f"95{_NBSP}%: {sign(low)}{_digits(abs(low))} to {difference(one.metric, high)}"


def change(one: MetricComparison) -> str:
    """Return the relative change of a time or rate: ``+69 %``, ``× 4.2``. For shares, use ``difference``."""
    if one.ratio is None or is_share(one):
        return NOTHING
    return percent(one.ratio)


def change_interval(one: MetricComparison) -> str:
    """Return ``95 %: +58 to +75 %``; empty without an interval and for shares."""
    if one.ratio_interval is None or is_share(one):
        return ""
    low, high = one.ratio_interval
    if high >= _FACTOR_FROM:
        return f"95{_NBSP}%: × {factor(low)} to × {factor(high)}"
    return f"95{_NBSP}%: {percent(low).removesuffix(f'{_NBSP}%')} to {percent(high)}"


def detectable(one: MetricComparison) -> str:
    """Return the minimum detectable change: ``+12 %``, in ms for short or polled times, as odds for shares."""
    if one.detectable is None or not math.isfinite(one.detectable):
        return NOTHING
    if is_share(one):
        return f"odds × {factor(one.detectable)}"
    if NATURES[one.metric].unit == "ms" and not in_percent(one):
        return difference(one.metric, detectable_ms(one))
    return percent(one.detectable)


def detectable_log(one: MetricComparison) -> float:
    """Return the minimum detectable change on the log scale; 0 if it is unknown."""
    return math.log(one.detectable) if one.detectable and math.isfinite(one.detectable) else 0.0


def size(log_ratio: float) -> str:
    """Format the size of a log ratio: ``12 %``."""
    return percent(math.exp(log_ratio)).removeprefix("+")


def probability(p: float | None) -> str:
    """Format a p value with two digits; the smallest is 0.0001."""
    if p is None:
        return NOTHING
    return f"<{_NBSP}0.0001" if p < 1e-4 else f"{p:.2g}"


def percent(ratio: float) -> str:
    """Format a ratio as a change: ``+69 %``, ``−0.4 %``; ``× 4.2`` from a factor of 3."""
    if ratio >= _FACTOR_FROM:
        return f"× {factor(ratio)}"
    amount = (ratio - 1) * 100
    return f"{sign(amount)}{_digits(abs(amount))}{_NBSP}%"


def is_share(one: MetricComparison) -> bool:
    """Whether a metric is compared in percentage points, not by its ratio."""
    return NATURES[one.metric].unit == "share"


def worsening(one: MetricComparison) -> float:
    """Return the log ratio of a change for the worse, for sorting; negative if the metric improved.

    Times below 20 ms are compared as if they were 20 ms, or the shortest would always have changed most.
    """
    if one.ratio is None or one.ratio <= 0:
        return 0.0
    if NATURES[one.metric].unit != "ms" or not one.base:
        return NATURES[one.metric].worse * math.log(one.ratio)
    return math.log1p(one.base * (one.ratio - 1) / max(one.base, LEAST_PERCENT_MS))


def telling(one: MetricComparison) -> tuple[bool, float]:
    """Sort key by size of change: short and polled times come last, since their percentages say little."""
    return in_percent(one), worsening(one)


def _points(amount: float) -> str:
    return f"{_bare_points(amount)}{_NBSP}points"


def _bare_points(amount: float) -> str:
    return f"{sign(amount)}{_digits(abs(amount) * 100)}"


def _digits(size: float) -> str:
    """Format as a whole number from 10, else with two digits."""
    if size >= 9.95:
        return grouped(size)
    return f"{size:.1f}" if size >= 0.995 else f"{size:.2g}" if size >= 0.001 else "0"


def factor(ratio: float) -> str:
    """Format a ratio with two digits, or as a whole number; never with an exponent."""
    if ratio >= 99.5:
        return grouped(ratio)
    return f"{ratio:.2g}" if ratio >= 0.001 else "0.000…"
