"""Registry of the metrics that thresholds and comparisons can name: unit, components and permitted uses.

A count adds up the operations or requests of certain cells (``Cell``). A ratio divides counts by another count or by
seconds. The analysis of a record and the live thresholds of a run compute both from the entries of ``METRICS``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from loadtest.contract import ERRORS, FIRST_KINDS, THROTTLED_STATUS, Outcome, RequestKind
from loadtest.units import Unit

PERCENTILES: Final = ("p50", "p90", "p95", "p99")
"""Percentiles, each with a confidence interval from order statistics."""
INTERVAL_STATISTICS: Final = ("p50", "p90", "p95")
"""Percentiles that may also have a confidence interval from time blocks (see ``INTERVALS``)."""
INTERVALS: Final = tuple(
    f"{name}.{each}" for name in ("response_time", "execution_time", "overhead") for each in INTERVAL_STATISTICS
)
"""Metrics with an interval from ``analysis.time_blocks``. A confident threshold on them judges this interval."""
Statistic = Literal["mean", "p50", "p90", "p95", "p99", "max"]
STATISTICS: Final[tuple[Statistic, ...]] = ("mean", "p50", "p90", "p95", "p99", "max")
TIMES: Final = {
    "response_time": "of an operation, from its intended start, retries and polls included",
    "service_time": "of one request",
    "start_lag": "from the intended start to the start",
    "dispatch_lag": "the load generator's part of start_lag",
    "execution_time": "executionTime as the server reports it",
    "overhead": "the client's wait beyond executionTime",
    "submit": "of a job's accepted submit request",
    "time_to_result": "of a job, until a poll saw its end",
}
SUMMARIES: Final = (*TIMES, "polls")
"""Metrics with statistics. They exist only per traffic entry or operation."""
ASYNC_ONLY: Final = ("submit.", "time_to_result.", "polls.")
"""Prefixes of the metrics that only ``async_run`` has."""


class Cell(NamedTuple):
    """A group of operations or requests that every count treats alike. Operations have neither kind nor status."""

    outcome: Outcome
    sent: bool = True
    kind: RequestKind | None = None
    status: int | None = None


def _ended(outcome: Outcome) -> Callable[[Cell], bool]:
    return lambda cell: cell.outcome == outcome


COUNTS: Final[dict[str, Callable[[Cell], bool]]] = {
    "operations.offered": lambda _: True,
    "operations.sent": lambda cell: cell.sent,
    **{f"operations.{outcome}": _ended(outcome) for outcome in Outcome},
    "requests.sent": lambda _: True,
    "requests.accepted": lambda cell: cell.status not in {None, THROTTLED_STATUS},
    "requests.throttled": lambda cell: cell.status == THROTTLED_STATUS,
    "requests.errors": lambda cell: cell.outcome in ERRORS,
}
"""The counts that are metrics, each with a test that selects its cells. The prefix names the rows: operations or
requests."""
PARTS: Final[dict[str, Callable[[Cell], bool]]] = {
    **COUNTS,
    "requests.first": lambda cell: cell.kind in FIRST_KINDS,
}
"""The counts that are metrics, and counts that only ratios use."""


class Nature(NamedTuple):
    """The rules for the comparison of a metric between runs.

    Attributes:
        scale: the scale of differences: ``log`` for times and rates, ``logit`` (log odds) for shares.
        worse: 1 if higher is worse, -1 if lower is worse.
        prior_sd: assumed standard deviation between runs, on the metric's scale. More runs reduce its weight.
        definition: version of the metric's definition. A new version computes other values from the same record.
    """

    scale: Literal["log", "logit"]
    worse: Literal[1, -1]
    unit: Literal["ms", "share", "1/s"]
    prior_sd: float
    name: str
    definition: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricEntry:
    """One metric.

    Attributes:
        parts: the counts that the metric adds up; empty for a metric with statistics.
        whole: the divisor, a count or ``seconds``; empty if there is none.
        n: the count that is shown as a value's sample size; empty if none is shown.
        live: whether the metric is known during a run. A threshold on it may then abort the run.
        expected: whether a replay of the assumed limiter gives an expected value.
        column: heading in the report's table of outcomes; empty if the table does not show the metric.
        nature: None if runs are not compared by the metric.
    """

    unit: Unit
    parts: tuple[str, ...] = ()
    whole: str = ""
    n: str = ""
    live: bool = False
    expected: bool = False
    more_is_better: bool = False
    column: str = ""
    nature: Nature | None = None

    @property
    def grows(self) -> bool:
        """Whether the metric is a count, which never falls during a run."""
        return bool(self.parts) and not self.whole


_LATENCY_SD, _RATE_SD, _SHARE_SD = 0.03, 0.02, 0.15
_TIME_NATURES: Final = {
    "response_time.p50": "response time p50",
    "response_time.p95": "response time p95",
    "execution_time.p50": "executionTime p50",
    "execution_time.p95": "executionTime p95",
    "overhead.p50": "overhead p50",
    "time_to_result.p95": "time to result p95",
}
_NEVER_LIVE: Final = {"operations.offered", f"operations.{Outcome.DROPPED}", f"operations.{Outcome.LOST}"}
_MORE_IS_BETTER: Final = {f"operations.{Outcome.OK}", "requests.accepted"}


def _counts(rows: str, n: str) -> dict[str, MetricEntry]:
    return {
        name: MetricEntry(
            unit="number", parts=(name,), n=n, live=name not in _NEVER_LIVE, more_is_better=name in _MORE_IS_BETTER
        )
        for name in COUNTS
        if name.startswith(rows)
    }


def _rate(part: str, n: str, *, live: bool = True, more_is_better: bool = False) -> MetricEntry:
    return MetricEntry(unit="per_s", parts=(part,), whole="seconds", n=n, live=live, more_is_better=more_is_better)


def _share(*parts: str, of: str, expected: bool = False, column: str = "", compared_as: str = "") -> MetricEntry:
    nature = Nature("logit", 1, "share", _SHARE_SD, compared_as) if compared_as else None
    return MetricEntry(
        unit="share", parts=parts, whole=of, n=of, live=True, expected=expected, column=column, nature=nature
    )


def _time(name: str) -> MetricEntry:
    called = _TIME_NATURES.get(name)
    nature = Nature("log", 1, "ms", _LATENCY_SD, called) if called else None
    return MetricEntry(unit="ms", live=name.startswith("response_time."), nature=nature)


METRICS: Final[dict[str, MetricEntry]] = {
    **_counts("operations.", n="operations.offered"),
    "operations.offered_rate": _rate("operations.offered", n="operations.offered", live=False),
    "operations.sent_rate": _rate("operations.sent", n="operations.offered"),
    **_counts("requests.", n="requests.sent"),
    "requests.sent_rate": _rate("requests.sent", n="requests.sent"),
    "requests.accepted_rate": _rate("requests.accepted", n="requests.sent", more_is_better=True),
    "requests.throttled_rate": _share("requests.throttled", of="requests.sent", expected=True),
    "throttled_rate": _share(
        "operations.throttled", of="operations.sent", expected=True, compared_as="429 rate beyond the expected"
    ),
    "error_rate": _share(
        "operations.failed", "operations.timed_out", of="operations.sent", column="error rate", compared_as="error rate"
    ),
    "goodput": MetricEntry(
        unit="per_s",
        parts=("operations.ok",),
        whole="seconds",
        live=True,
        more_is_better=True,
        column="goodput",
        nature=Nature("log", -1, "1/s", _RATE_SD, "goodput"),
    ),
    "amplification": MetricEntry(
        unit="number",
        parts=("requests.first",),
        whole="operations.sent",
        n="operations.sent",
        live=True,
        column="amplification",
    ),
    "requests_per_operation": MetricEntry(unit="number", parts=("requests.sent",), whole="operations.sent"),
    **{name: _time(name) for time in TIMES for name in (f"{time}.{each}" for each in STATISTICS)},
    **{f"polls.{statistic}": MetricEntry(unit="number") for statistic in STATISTICS},
}
"""All metrics that a threshold or comparison can name."""

UNITS: Final[dict[str, Unit]] = {name: entry.unit for name, entry in METRICS.items()}
EXPECTED: Final = tuple(name for name, entry in METRICS.items() if entry.expected)
"""A replay of the assumed limiter gives these metrics an expected value."""


def field_of(name: str) -> str:
    """Return the name that a metric with statistics has in ``metrics.json``."""
    return f"{name}_ms" if name in TIMES else name


def counted(name: str, operations: Mapping[Cell, int], requests: Mapping[Cell, int]) -> int:
    """Sum the cells that belong to a count. ``name`` is a key of ``PARTS``."""
    cells, of_it = (operations if name.startswith("operations.") else requests), PARTS[name]
    return sum(count for cell, count in cells.items() if of_it(cell))
