"""Parsing and judging of thresholds. A threshold is a requirement on a run, such as ``response_time.p95 < 500ms``.

Metrics have the names of ``metrics.json`` without ``_ms``. Parsing and judging are pure.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import eq, ge, gt, le, lt
from typing import Final, Literal

from loadtest.contract import Outcome
from loadtest.errors import WrongValueError
from loadtest.metrics import EXPECTED, METRICS, PERCENTILES, STATISTICS, SUMMARIES
from loadtest.units import Unit
from loadtest.words import nearest

Judgement = Literal["pass", "fail", "inconclusive"]

_MEANT: Final = {
    **dict.fromkeys(
        ("latency", "duration", "elapsed", "rt", "response_times", "http_req_duration"), ("response_time",)
    ),
    **dict.fromkeys(("429", "429s", "429_rate", "429_share", "rate_limited"), ("requests.throttled_rate",)),
    **dict.fromkeys(("errors", "failures", Outcome.FAILED, "fails"), ("error_rate", "operations.failed")),
    **dict.fromkeys(("error", "failure_rate", "errors_rate", "success_rate", "http_req_failed"), ("error_rate",)),
    **dict.fromkeys(("rps", "throughput", "requests_per_second"), ("requests.sent_rate", "goodput")),
    **dict.fromkeys(("requests", "count", "http_reqs"), ("requests.sent",)),
    Outcome.THROTTLED: ("throttled_rate", "requests.throttled"),
    "timeouts": ("operations.timed_out",),
    Outcome.OK: ("operations.ok",),
    "retries": ("amplification",),
}
"""Names that users and other tools give to metrics."""
_STATISTICS_MEANT: Final = {"avg": "mean", "average": "mean", "median": "p50", "med": "p50", "maximum": "max"}

_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {"<": lt, "<=": le, ">": gt, ">=": ge, "==": eq}
_FORM: Final = re.compile(
    r"^\s*(?P<metric>[\w.()-]+)\s*(?:(?P<op><=|>=|==|<|>)\s*(?P<value>(?P<factor>\d+(?:\.\d+)?)x|\S+)"
    r"(?:\s+(?P<kind>stage|traffic)\s+(?P<other>\S+))?"
    r"|\s+between\s+(?P<low>\S+)\s+and\s+(?P<high>\S+)|\s+within\s+(?P<d>\S+)\s+of\s+expected)\s*$"
)
_SCALES: Final[dict[Unit, dict[str, tuple[float, float]]]] = {
    "ms": {"ms": (1, 1), "s": (1000, 1)},
    "per_s": {"/s": (1, 1), "/min": (1, 60)},
    "share": {"": (1, 1), "%": (1, 100)},
    "number": {"": (1, 1)},
}
"""Factor and divisor of each unit. Division keeps shares exact: 35 / 100 equals 0.35, but 35 * 0.01 does not."""
WRITE_AS: Final[dict[Unit, str]] = {
    "ms": "a time with its unit, such as 800ms or 1.5s",
    "per_s": "a rate with its unit, such as 5/s or 90/min",
    "share": "a share from 0 to 1, or a percentage, such as 0.05 or 5%",
    "number": "a plain number",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """The other side of a relative threshold: the same metric of another stage or traffic entry."""

    kind: Literal["stage", "traffic"]
    name: str


@dataclass(frozen=True, slots=True)
class Threshold:
    """A requirement on one metric. Values are in ms, 1/s, shares from 0 to 1, or plain numbers."""

    text: str
    metric: str
    unit: Unit
    operator: str
    """``<``, ``<=``, ``>``, ``>=``, ``==``, ``between`` or ``within``."""
    value: float
    """The lower bound if ``between``, the maximum distance if ``within``, the factor if the threshold is relative."""
    upper: float | None = None
    traffic: str | None = None
    operation: str | None = None
    stage: str | None = None
    confident: bool = False
    """Whether the 95 % interval is judged. The threshold passes or fails only if the whole interval does."""
    reference: Reference | None = None

    @property
    def scope(self) -> str:
        """The scope in words: ``greetings / ramp``, or ``overall``."""
        return scope_of(self.traffic, self.operation, self.stage)

    def covers(self, traffic: str, operation: str, stage: str) -> bool:
        """Whether a stage of a traffic entry is within the scope."""
        scope = ((self.traffic, traffic), (self.operation, operation), (self.stage, stage))
        return all(own in (None, other) for own, other in scope)

    def holds(self, value: float, expected: float | None = None) -> bool:
        """Whether one value meets the requirement. Only ``within`` needs ``expected``."""
        if self.operator == "between" and self.upper is not None:
            return self.value <= value <= self.upper
        if self.operator == "within" and expected is not None:
            return abs(value - expected) <= self.value
        return _COMPARE[self.operator](value, self.value)


def scope_of(traffic: str | None, operation: str | None, stage: str | None) -> str:
    """Format a threshold's scope: ``greetings / ramp``, or ``overall``."""
    return " / ".join(part for part in (traffic or operation, stage) if part) or "overall"


def parse_threshold(
    text: str,
    *,
    traffic: str | None = None,
    operation: str | None = None,
    stage: str | None = None,
    confident: bool = False,
) -> Threshold:
    """Parse a requirement such as ``response_time.p50 < 800ms``, or ``response_time.p50 < 1.2x stage ramp``.

    Raises:
        WrongValueError: if the text is not a valid threshold, or ``confident`` is set for a metric without an interval.
    """
    match = _FORM.match(text)
    if match is None:
        raise WrongValueError(
            f"{text!r} is not a threshold",
            "Write METRIC OP VALUE (OP one of < <= > >= ==; no space before a unit), "
            "METRIC OP FACTORx stage NAME (or traffic NAME), METRIC between A and B, or METRIC within D of expected.",
        )
    metric = match["metric"]
    if metric not in METRICS:
        raise WrongValueError(f"{metric!r} is not a metric in {text!r}", nearest_metric(metric))
    unit = METRICS[metric].unit
    if confident and metric.rpartition(".")[2] not in PERCENTILES:
        raise WrongValueError(
            f"{text!r} cannot be confident: {metric} has no interval", f"Only {', '.join(PERCENTILES)} have one."
        )
    make = partial(
        Threshold, text, metric, unit, traffic=traffic, operation=operation, stage=stage, confident=confident
    )
    if match["d"] is not None:
        if metric not in EXPECTED:
            remedy = f"Only {' and '.join(EXPECTED)} have one."
            raise WrongValueError(f"{metric} has no expected value in {text!r}", remedy)
        return make("within", _value(match["d"], unit, text))
    if match["low"] is not None:
        low, high = _value(match["low"], unit, text), _value(match["high"], unit, text)
        if low > high:
            raise WrongValueError(f"{text!r} can never hold: {match['low']} is above {match['high']}", "Swap them.")
        return make("between", low, high)
    if match["kind"] is not None or match["factor"] is not None:
        return _relative(make, match, text)
    return make(match["op"], _value(match["value"], unit, text))


def _relative(make: Callable[..., Threshold], match: re.Match[str], text: str) -> Threshold:
    kind, metric, operator = match["kind"], match["metric"], match["op"]
    if kind is None or match["factor"] is None or operator == "==":
        raise WrongValueError(
            f"{text!r} is not a relative threshold",
            f"Write {metric} < 1.2x stage NAME, or {metric} < 1.2x traffic NAME (one of < <= > >=).",
        )
    reference = Reference("stage" if kind == "stage" else "traffic", match["other"])
    return make(operator, float(match["factor"]), reference=reference)


def why_not_early(threshold: Threshold) -> str | None:
    """Return why a violation cannot be detected before the end of a run, or None if it can."""
    metric = threshold.metric
    entry = METRICS[threshold.metric]
    if threshold.reference is not None:
        return "the value it is compared with is known only at the end"
    if threshold.operator == "within":
        return "the expected value is known only at the end"
    if not entry.live:
        return f"{metric} is known only at the end"
    if (entry.grows or metric.endswith(".max")) and threshold.operator not in {"<", "<="}:
        return f"{metric} may still grow until the end"
    return None


def judge(threshold: Threshold, value: float | tuple[float, float] | None, expected: float | None = None) -> Judgement:
    """Judge a metric's value, or the bounds between which it lies.

    Args:
        threshold: the requirement.
        value: the value in the threshold's unit, or a pair of bounds. None if the record does not determine it.
        expected: the expected value for ``within``. None if no replay was possible.

    Returns:
        ``inconclusive`` if the value is None, if the bounds meet the requirement only in part, or if ``within`` has no
        expected value.
    """
    if value is None or (threshold.operator == "within" and expected is None):
        return "inconclusive"
    bounds = value if isinstance(value, tuple) else (value, value)
    held = [threshold.holds(bound, expected) for bound in bounds]
    if all(held):
        return "pass"
    if any(held) or _straddles(threshold, bounds, expected):
        return "inconclusive"
    return "fail"


def _straddles(threshold: Threshold, bounds: tuple[float, float], expected: float | None) -> bool:
    """Whether the bounds lie on opposite sides of the accepted values. The true value may then be accepted."""
    centre = threshold.value
    if threshold.operator == "between" and threshold.upper is not None:
        centre = (threshold.value + threshold.upper) / 2
    elif threshold.operator == "within" and expected is not None:
        centre = expected
    elif threshold.operator != "==":
        return False
    return min(bounds) < centre < max(bounds)


def _value(text: str, unit: Unit, threshold: str) -> float:
    match = re.match(r"(-?\d+(?:\.\d+)?)(\S*)$", text)
    if match is None or match[2] not in _SCALES[unit]:
        raise WrongValueError(f"{text!r} in {threshold!r} has the wrong unit", f"Write {WRITE_AS[unit]}.")
    times, over = _SCALES[unit][match[2]]
    value = float(match[1]) * times / over
    if unit == "share" and not 0 <= value <= 1:
        raise WrongValueError(f"{text!r} in {threshold!r} is not a share", f"Write {WRITE_AS[unit]}.")
    return value


def nearest_metric(metric: str) -> str:
    """Return a remedy for an unknown metric name."""
    name, _, statistic = re.sub("[()]", "", metric).replace("-", "_").lower().partition(".")
    if name.endswith("_ms"):
        return f"Write it without _ms: {metric.replace('_ms', '', 1)}."
    if (of_times := _STATISTICS_MEANT.get(name, name)) in STATISTICS and not statistic:
        return f"Did you mean response_time.{of_times}?"
    meant = _MEANT.get(name, (name,))
    if meant[0] in SUMMARIES:
        statistic = _STATISTICS_MEANT.get(statistic, statistic)
        if statistic in STATISTICS and f"{meant[0]}.{statistic}" != metric:
            return f"Did you mean {meant[0]}.{statistic}?"
        return f"Name a statistic of it: {', '.join(f'{meant[0]}.{each}' for each in STATISTICS)}."
    if meant[0] in METRICS:
        return f"Did you mean {' or '.join(meant)}?"
    near = nearest(metric, METRICS)
    return f"Did you mean {near}?" if near else "`loadtest metrics` lists them all."
