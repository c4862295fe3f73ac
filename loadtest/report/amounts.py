"""How values, differences and intervals of a compared metric read: ``+66 ms``, ``+69 %``, ``+2.1 points``."""

import math
from typing import Final

from loadtest.compare.measurements import NATURES, Metric
from loadtest.compare.results import MetricComparison, RunComparison
from loadtest.compare.sentences import LEAST_PERCENT_MS, detectable_ms, in_percent
from loadtest.words import NOTHING, duration_ms, grouped, milliseconds, share, sign

_NBSP: Final = "\u00a0"
SIGNED: Final = frozenset({Metric.THROTTLED_RATE})
"""Metrics whose value is a difference by itself: observed − expected."""
_FACTOR_FROM: Final = 3.0
"""From this ratio on, a factor reads better than a percentage."""


def gated(comparison: RunComparison) -> tuple[MetricComparison, ...]:
    """The metrics that the verdict may rest on; those that will be, once there are runs enough, too."""
    return tuple(one for one in comparison.metrics if one.gated or one.suspect or one.verdict == "learning")


def is_changed(one: MetricComparison) -> bool:
    """Whether it is suspected, regressed or improved."""
    return one.suspect or one.verdict in ("regressed", "improved")


def name(one: MetricComparison) -> str:
    """``executionTime p50``."""
    return NATURES[one.metric].name


def where(one: MetricComparison, *, stages: bool) -> str:
    """``greetings``, or with its stage where a scenario has several: ``greetings / within``."""
    return f"{one.traffic} / {one.stage}" if stages else one.traffic


def has_stages(metrics: tuple[MetricComparison, ...]) -> bool:
    """Whether a traffic entry is compared in several stages, so that its name alone does not say which."""
    return len({(one.traffic, one.stage) for one in metrics}) > len({one.traffic for one in metrics})


def value(metric: Metric, amount: float | None) -> str:
    """A value with its unit."""
    if amount is None:
        return NOTHING
    unit = NATURES[metric].unit
    if unit == "ms":
        return duration_ms(amount)
    if metric in SIGNED:
        return _points(amount)
    return share(amount) if unit == "share" else f"{_digits(amount)}{_NBSP}/s"


def difference(metric: Metric, amount: float | None) -> str:
    """A difference with sign and unit: ms, percentage points, operations a second."""
    if amount is None:
        return NOTHING
    unit = NATURES[metric].unit
    if unit == "share":
        return _points(amount)
    if unit == "ms":
        return f"{sign(amount)}{duration_ms(abs(amount))}"
    return f"{sign(amount)}{_digits(abs(amount))}{_NBSP}/s"


def difference_interval(one: MetricComparison) -> str:
    """``95 %: +58 to +75 ms``; empty where there is none."""
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
    """How much a time or rate changed: ``+69 %``, ``× 4.2``. Shares change by points: see ``difference``."""
    if one.ratio is None or is_share(one):
        return NOTHING
    return percent(one.ratio)


def change_interval(one: MetricComparison) -> str:
    """``95 %: +58 to +75 %``; empty where there is none, and of shares."""
    if one.ratio_interval is None or is_share(one):
        return ""
    low, high = one.ratio_interval
    if high >= _FACTOR_FROM:
        return f"95{_NBSP}%: × {factor(low)} to × {factor(high)}"
    return f"95{_NBSP}%: {percent(low).removesuffix(f'{_NBSP}%')} to {percent(high)}"


def detectable(one: MetricComparison) -> str:
    """The smallest change for the worse that is found: ``+12 %``; of short or polled times in ms, of shares as odds."""
    if one.detectable is None or not math.isfinite(one.detectable):
        return NOTHING
    if is_share(one):
        return f"odds × {factor(one.detectable)}"
    if NATURES[one.metric].unit == "ms" and not in_percent(one):
        return difference(one.metric, detectable_ms(one))
    return percent(one.detectable)


def detectable_log(one: MetricComparison) -> float:
    """The same on the log scale; 0 where it is unknown."""
    return math.log(one.detectable) if one.detectable and math.isfinite(one.detectable) else 0.0


def size(log_ratio: float) -> str:
    """A change on the log scale, without its sign: ``12 %``."""
    return percent(math.exp(log_ratio)).removeprefix("+")


def probability(p: float | None) -> str:
    """A p value: two digits, none smaller than 0.0001."""
    if p is None:
        return NOTHING
    return f"<{_NBSP}0.0001" if p < 1e-4 else f"{p:.2g}"


def percent(ratio: float) -> str:
    """A ratio as a change: ``+69 %``, ``−0.4 %``; from three times on as ``× 4.2``."""
    if ratio >= _FACTOR_FROM:
        return f"× {factor(ratio)}"
    amount = (ratio - 1) * 100
    return f"{sign(amount)}{_digits(abs(amount))}{_NBSP}%"


def is_share(one: MetricComparison) -> bool:
    """Whether it is compared in percentage points, not by its ratio."""
    return NATURES[one.metric].unit == "share"


def worsening(one: MetricComparison) -> float:
    """How much it changed for the worse, for sorting; negative if it became better.

    It is the logarithm of its ratio. A time below 20 ms counts as if it were of 20 ms, of which 1 ms is 5 %: otherwise
    whatever does nothing would always have changed the most.
    """
    if one.ratio is None or one.ratio <= 0:
        return 0.0
    if NATURES[one.metric].unit != "ms" or not one.base:
        return NATURES[one.metric].worse * math.log(one.ratio)
    return math.log1p(one.base * (one.ratio - 1) / max(one.base, LEAST_PERCENT_MS))


def telling(one: MetricComparison) -> tuple[bool, float]:
    """For sorting by what changed most: short and polled times after the others, whose percentages say more."""
    return in_percent(one), worsening(one)


def _points(amount: float) -> str:
    return f"{_bare_points(amount)}{_NBSP}points"


def _bare_points(amount: float) -> str:
    return f"{sign(amount)}{_digits(abs(amount) * 100)}"


def _digits(size: float) -> str:
    """Whole numbers from ten on, two digits below."""
    if size >= 9.95:
        return grouped(size)
    return f"{size:.1f}" if size >= 0.995 else f"{size:.2g}" if size >= 0.001 else "0"


def factor(ratio: float) -> str:
    """A ratio as a number: two digits, or all of its whole ones; never with an exponent."""
    if ratio >= 99.5:
        return grouped(ratio)
    return f"{ratio:.2g}" if ratio >= 0.001 else "0.000…"
