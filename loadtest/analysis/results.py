"""What ``metrics.json`` holds of every run, as types: counts and rates, summaries of times, and what they rest on.

A field is named as in the file and is written as it is: adding a figure touches its struct and whoever shows it. The
results of single questions (errors, jobs, slow operations, 429s) are structs beside the code that finds them; the
whole file is ``findings.Results``, and its JSON schema is made from these types.
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
Proportion = Annotated[float, Meta(ge=0, le=1, description="A share; null where there is nothing to divide by.")]
Interval = Annotated[
    tuple[float, float], Meta(description="95 % interval from order statistics: it knows of sampling only.")
]
_Percentile = Annotated[float | None, Meta(description="By nearest rank; null where n carries no upper bound.")]


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of ``metrics.json``. Fields may be added; a change of meaning raises the file's schema number."""


_AnyResult = TypeVar("_AnyResult", bound=Result)


def result_of(kind: type[_AnyResult], source: object, **given: Any) -> _AnyResult:
    """A result: its fields are attributes of a source, but for those that are given."""
    taken = {name: getattr(source, name) for name in kind.__struct_fields__ if name not in given}
    return kind(**taken, **given)


class Value(NamedTuple):
    """One statistic of a distribution.

    Attributes:
        value: with each time-out at the time it took: the least that it can be. None where samples are too few.
        low: of its 95 % interval from order statistics; None for a mean and a maximum. The interval knows of sampling
            only: requests of a run are correlated, so the truth is wider.
        high: of the interval, with each time-out at infinity.
        most: the greatest that it can be, likewise; infinite where it reaches the time-outs.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    most: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both bounds; None where n carries no upper one, or only time-outs do."""
        return None if self.low is None or self.high is None or self.high == inf else (self.low, self.high)

    @property
    def at_least(self) -> bool:
        """Whether it reaches time-outs, so that only a lower bound of it is known."""
        return self.most == inf

    @property
    def open(self) -> bool:
        """Whether time-outs that took less leave it open between two bounds."""
        return self.most not in (self.value, inf)


def bounded(value: Value, say: Callable[[float | None], str] = duration_ms) -> str:
    """A statistic, marked where it is a lower bound: ``≥ 30.00 s``; both bounds where time-outs leave it open."""
    if value.open:
        return f"{say(value.value)} to {say(value.most)}"
    return f"≥\u00a0{say(value.value)}" if value.at_least else say(value.value)


class Summary(Result, frozen=True, kw_only=True):
    """A distribution, in ms unless its name says otherwise.

    Attributes:
        n: values.
        at_least: statistics that reach a time-out: lower bounds.
        most: the greatest value of percentiles that time-outs leave uncertain, though they do not reach them: such as
            ended earlier might have taken longer. Their values are the least.
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
        """A statistic whose name, one of ``STATISTICS``, is known at run time only."""
        value: float | None = getattr(self, statistic)
        low, high = getattr(self, f"{statistic}_interval", None) or (None, None)
        most = next((most for name, most in self.most.items() if name == statistic), value)
        return Value(value, low, high, inf if statistic in self.at_least else most)


class OperationCounts(Result, frozen=True, kw_only=True):
    """Operations: offered = ok + throttled + failed + timed_out + dropped + lost. Rates are per second."""

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
    """Requests. Rates are per second, of what was sent in the stages' time.

    Attributes:
        accepted: answered, and not with 429.
        throttled: answered with 429.
        errors: that failed or timed out.
        failed: these and 429s, without those whose status their stage expects: what Locust and CI systems call a
            failure.
        throttled_rate: 429s ÷ requests sent.
        expected_throttled_rate: the same of a replay of the assumed limiter.
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
    """What polls take of the retrieval limit.

    Attributes:
        polls: that were sent in the time of the stage.
        retrievals: polls and retrieves of all traffic in that time.
        share_of_limit: of what the limit allows in that time, in polls.
        limit_use: of what the limit allows in that time, in polls and retrieves.
    """

    polls: Count
    retrievals: Count
    share_of_retrievals: Proportion | None
    share_of_limit: NotNegative | None
    limit_use: NotNegative | None


class CountedFigures(Result, frozen=True, kw_only=True):
    """What is counted of some stages, and the rates that follow from it. The warm-up is in none.

    Attributes:
        seconds: in which one of the stages was on.
        throttled_rate: throttled operations ÷ operations sent.
        expected_throttled_rate: the same of a replay of the assumed limiter.
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
    """All traffic in the stages of one name. It has no times: those of different operations are not mixed.

    Attributes:
        statuses: requests by status; ``none``: no answer.
        reasons: operations by why they were not ok.
    """

    statuses: dict[str, Count]
    reasons: dict[str, Count]


class OverallFigures(OverallStage, frozen=True, kw_only=True):
    """All traffic, and the same by the name of stages, in order."""

    stages: dict[str, OverallStage]


class OperationStage(CountedFigures, frozen=True, kw_only=True):
    """One traffic entry or operation in one stage.

    Latencies are of ok and timed-out operations and requests, lags of all that were sent. Figures of jobs are there
    for ``async_run`` only.

    Attributes:
        statuses: requests by status; ``none``: no answer.
        reasons: operations by why they were not ok.
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
    """One traffic entry or operation, and the same for each of its stages, in order."""

    stages: Mapping[str, OperationStage]


class JobStage(OperationStage, frozen=True, kw_only=True):
    """One entry of ``async_run``, or all of them, in one stage: no figure of jobs is missing."""

    submit_ms: Summary
    time_to_result_ms: Summary
    time_to_result_lower_ms: Summary
    queue_wait_lower_ms: Summary
    queue_wait_upper_ms: Summary
    poll_lag_upper_ms: Summary
    polls: Summary
    polling: PollingCost


class JobFigures(OperationFigures, frozen=True, kw_only=True):
    """One entry of ``async_run``, or all of them, and the same for each stage."""

    submit_ms: Summary
    time_to_result_ms: Summary
    time_to_result_lower_ms: Summary
    queue_wait_lower_ms: Summary
    queue_wait_upper_ms: Summary
    poll_lag_upper_ms: Summary
    polls: Summary
    polling: PollingCost
    stages: Mapping[str, JobStage]


JOB_TIMES: Final = (
    "submit_ms", "time_to_result_ms", "time_to_result_lower_ms", "queue_wait_lower_ms", "queue_wait_upper_ms",
    "poll_lag_upper_ms", "polls",
)  # fmt: skip
"""Times that only ``async_run`` has."""
TIMES: Final = tuple(name for name in OperationStage.__struct_fields__ if name.endswith("_ms") or name == "polls")
"""Every time that is summarised, as in ``metrics.json``."""


ERROR_EXPECTED: Final = "expected"
"""The kind of operations that are right, and whose error the scenario expects."""


class DeliberateErrors(Result, frozen=True, kw_only=True):
    """Operations of a traffic entry that were to be answered with an error.

    Attributes:
        kind: of mistake; ``expected`` where the scenario expects an error of all that an entry sends.
        answer: what the documentation, or the scenario, says that comes back.
        sent: operations.
        as_documented: answered so.
        throttled: got 429 instead, which says nothing of the answer.
        otherwise: answered otherwise, or not at all.
    """

    traffic: str
    kind: str
    answer: str
    sent: Count
    as_documented: Count
    throttled: Count
    otherwise: Count


class RunSummary(Result, frozen=True, kw_only=True):
    """Which run it was. ``covered_s``: seconds from the epoch on that the record covers."""

    id: str
    scenario: str
    scenario_hash: str
    seed: int
    started: str
    covered_s: NotNegative
    end: Literal["running", "finished", "interrupted", "aborted"]
    complete: bool


class ExpectedLimiter(Result, frozen=True, kw_only=True):
    """The assumed limiter, and how many of the decisions its replay predicts.

    Attributes:
        clock_shift_s: the server's clock minus ours that agreed best; null where it does not matter.
        agreement: share of the observed decisions that it predicts.
        agreement_as_sent: the same, with the requests of bursts in the order of sending; ``agreement`` has the accepted
            ones first, since requests of a burst may arrive in any order.
        reordered: requests that were put in another order for it.
        why_not: why nothing could be replayed.
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
