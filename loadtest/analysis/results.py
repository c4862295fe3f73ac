"""Types of ``metrics.json``: counts, rates and summaries of times.

Other types of the file are beside the code that makes them. The whole file is ``findings.Results``, which has a JSON
schema.
"""

from collections.abc import Callable, Mapping
from math import inf
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from loadtest.metrics import Statistic
from loadtest.words import duration_ms

Count = Annotated[int, Meta(ge=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Proportion = Annotated[float, Meta(ge=0, le=1, description="A share; null if unknown, or if its divisor is zero.")]
Interval = Annotated[tuple[float, float], Meta(description="95 % interval, which covers sampling error only.")]
_Percentile = Annotated[float | None, Meta(description="By nearest rank; null if n is too small for its interval.")]


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of ``metrics.json``. A new meaning of a field raises the file's schema number; a new field does not."""


_AnyResult = TypeVar("_AnyResult", bound=Result)


def result_of(kind: type[_AnyResult], source: object, /, **given: Any) -> _AnyResult:
    """Return a result with the given fields. All other fields are copied from the attributes of ``source``."""
    taken = {name: getattr(source, name) for name in kind.__struct_fields__ if name not in given}
    return kind(**taken, **given)


class Value(NamedTuple):
    """One statistic of a distribution.

    Attributes:
        value: the statistic, or its lower bound: a time-out counts with its duration. None if samples are too few.
        low: lower end of the 95 % interval from order statistics. None for a mean and a maximum.
        high: upper end of this interval. A time-out counts as infinite.
        most: upper bound of the statistic; infinite if the statistic reaches time-outs.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    most: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the 95 % interval; None without a finite upper end."""
        return None if self.low is None or self.high is None or self.high == inf else (self.low, self.high)

    @property
    def at_least(self) -> bool:
        """Whether the statistic reaches time-outs, so that ``value`` is only a lower bound."""
        return self.most == inf

    @property
    def open(self) -> bool:
        """Whether the statistic is between two finite bounds, because a time-out below it could have lasted longer."""
        return self.most not in (self.value, inf)


def bounded(value: Value, say: Callable[[float | None], str] = duration_ms) -> str:
    """Format a statistic, with ``≥`` for a lower bound. If only finite bounds are known, return both."""
    if value.open:
        return f"{say(value.value)} to {say(value.most)}"
    return f"≥\u00a0{say(value.value)}" if value.at_least else say(value.value)


class Summary(Result, frozen=True, kw_only=True):
    """A distribution of n values, in ms except for ``polls``.

    Attributes:
        at_least: statistics that are lower bounds, because they reach a time-out.
        most: upper bounds of percentiles that are uncertain because time-outs below them could have lasted longer. The
            percentile is the lower bound.
    """

    n: Count
    mean: float | None
    p50: _Percentile
    p50_interval: Interval | None
    p90: _Percentile
    p90_interval: Interval | None
    p95: _Percentile
    p95_interval: Interval | None
    p99: _Percentile
    p99_interval: Interval | None
    max: float | None
    at_least: tuple[Statistic, ...]
    most: dict[Statistic, float] = {}

    def get(self, statistic: str) -> Value:
        """Return a statistic by its name in ``STATISTICS``."""
        value: float | None = getattr(self, statistic)
        low, high = getattr(self, f"{statistic}_interval", None) or (None, None)
        most = next((most for name, most in self.most.items() if name == statistic), value)
        return Value(value, low, high, inf if statistic in self.at_least else most)


class OperationCounts(Result, frozen=True, kw_only=True):
    """Numbers of operations: offered = ok + throttled + failed + timed_out + dropped + lost. Rates are per second."""

    offered: Count
    sent: Count
    ok: Count
    throttled: Count
    failed: Count
    timed_out: Count
    dropped: Count
    lost: Count
    offered_rate: NotNegative | None
    sent_rate: NotNegative | None


class RequestCounts(Result, frozen=True, kw_only=True):
    """Numbers of requests. ``sent_rate`` and ``accepted_rate`` include only requests sent during the stages.

    Attributes:
        accepted: requests with a response other than 429.
        failed: errors and 429s, except those with an expected status. Locust and CI systems show these as failures.
        throttled_rate: 429s ÷ requests sent.
        expected_throttled_rate: ``throttled_rate`` in a replay of the assumed limiter.
    """

    sent: Count
    accepted: Count
    throttled: Count
    errors: Count
    failed: Count
    sent_rate: NotNegative | None
    accepted_rate: NotNegative | None
    throttled_rate: Proportion | None
    expected_throttled_rate: Proportion | None


class PollingCost(Result, frozen=True, kw_only=True):
    """Usage of the retrieval limit by polls that were sent during the stages.

    Attributes:
        retrievals: polls and retrieves of all traffic during the stages.
        share_of_limit: polls ÷ requests that the limit allows.
        limit_use: retrievals ÷ requests that the limit allows.
    """

    polls: Count
    retrievals: Count
    share_of_retrievals: Proportion | None
    share_of_limit: NotNegative | None
    limit_use: NotNegative | None


class CountedFigures(Result, frozen=True, kw_only=True):
    """Counts and ratios of some stages, without the warm-up.

    Attributes:
        seconds: total duration of the stages. Overlaps count once.
        throttled_rate: throttled operations ÷ operations sent.
        expected_throttled_rate: ``throttled_rate`` in a replay of the assumed limiter.
        error_rate: failed and timed-out operations ÷ operations sent.
        goodput: ok operations per second.
        amplification: requests of kind run, submit and retrieve ÷ operations sent.
        requests_per_operation: requests of every kind, polls included, ÷ operations sent.
    """

    seconds: NotNegative
    operations: OperationCounts
    requests: RequestCounts
    throttled_rate: Proportion | None
    expected_throttled_rate: Proportion | None
    error_rate: Proportion | None
    goodput: NotNegative | None
    amplification: NotNegative | None
    requests_per_operation: NotNegative | None


class OverallStage(CountedFigures, frozen=True, kw_only=True):
    """All traffic in the stages with the same name, without times, which would mix different kinds of operations."""

    statuses: dict[str, Count]
    reasons: dict[str, Count]


class OverallFigures(OverallStage, frozen=True, kw_only=True):
    """All traffic, in total and by stage name."""

    stages: dict[str, OverallStage]


class OperationStage(CountedFigures, frozen=True, kw_only=True):
    """One traffic entry or operation in one stage.

    Latencies include only operations and requests that are ok or timed out. Start and dispatch lags include all
    operations sent. Only ``async_run`` has the optional figures.

    Attributes:
        statuses: number of requests by status; ``none`` stands for a missing response.
        reasons: number of operations by the reason why they are not ok.
    """

    response_time_ms: Summary
    service_time_ms: Summary
    start_lag_ms: Summary
    dispatch_lag_ms: Summary
    execution_time_ms: Summary
    overhead_ms: Summary
    first_byte_ms: Summary
    connect_ms: Summary
    service_time_new_ms: Summary
    service_time_reused_ms: Summary
    submit_ms: Summary | UnsetType = UNSET
    time_to_result_ms: Summary | UnsetType = UNSET
    time_to_result_lower_ms: Summary | UnsetType = UNSET
    queue_wait_lower_ms: Summary | UnsetType = UNSET
    queue_wait_upper_ms: Summary | UnsetType = UNSET
    poll_lag_upper_ms: Summary | UnsetType = UNSET
    polls: Summary | UnsetType = UNSET
    polling: PollingCost | UnsetType = UNSET
    statuses: dict[str, Count]
    reasons: dict[str, Count]


class OperationFigures(OperationStage, frozen=True, kw_only=True):
    """One traffic entry or operation, in total and by stage."""

    stages: Mapping[str, OperationStage]


class JobStage(OperationStage, frozen=True, kw_only=True):
    """One stage of an ``async_run`` entry, or of all such entries, with the figures of jobs."""

    submit_ms: Summary
    time_to_result_ms: Summary
    time_to_result_lower_ms: Summary
    queue_wait_lower_ms: Summary
    queue_wait_upper_ms: Summary
    poll_lag_upper_ms: Summary
    polls: Summary
    polling: PollingCost


class JobFigures(JobStage, OperationFigures, frozen=True, kw_only=True):
    """One ``async_run`` entry, or all such entries, in total and by stage."""

    stages: Mapping[str, JobStage]


JOB_TIMES: Final = tuple(name for name in JobStage.__annotations__ if name != "polling")
"""Summaries that only ``async_run`` has."""
TIMES: Final = tuple(name for name in OperationStage.__struct_fields__ if name.endswith("_ms") or name == "polls")
"""Names of all summaries of a stage."""

ERROR_EXPECTED: Final = "expected"
"""The ``kind`` of operations without a mistake, if the scenario expects an error from them."""


class DeliberateErrors(Result, frozen=True, kw_only=True):
    """Operations of a traffic entry that should end in an error.

    Attributes:
        kind: kind of mistake; ``expected`` if the scenario expects an error from the whole entry.
        answer: the documented or expected response, which ``as_documented`` operations got.
        throttled: number of operations with a 429 instead.
        otherwise: number of operations with another response or none.
    """

    traffic: str
    kind: str
    answer: str
    sent: Count
    as_documented: Count
    throttled: Count
    otherwise: Count


class RunSummary(Result, frozen=True, kw_only=True):
    """Identity of a run. ``covered_s`` is the length of the recorded part of the schedule, in s."""

    id: str
    scenario: str
    scenario_hash: str
    seed: int
    started: str
    covered_s: NotNegative
    end: Literal["running", "finished", "interrupted", "aborted"]
    complete: bool


class ExpectedLimiter(Result, frozen=True, kw_only=True):
    """The assumed limiter, and the share of decisions that its replay predicts.

    Attributes:
        clock_shift_s: the server's clock minus the client's, in the replay that fits the decisions best; null if
            the limiter does not use the server's clock, or was not replayed.
        agreement: share of the observed decisions that the replay predicts. Many requests sent within a few ms may
            arrive in any order, so the replay puts the accepted requests first.
        agreement_as_sent: ``agreement`` of a replay in the order of sending.
        reordered: number of requests that have another place in the replay than in the order of sending.
        why_not: reason for a missing replay; null otherwise.
    """

    limiter: str
    burst: int | None
    count_rejected: bool
    limit_scope: str
    clock_shift_s: float | None
    agreement: Proportion | None
    agreement_as_sent: Proportion | None
    reordered: Count
    why_not: str | None
