"""The figures of a run: overall, for each operation and for each traffic entry, with stages inside.

Counts are counted, rates derived from them, percentiles come from ``percentiles`` and are never averaged. The
warm-up is in no figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from loadtest.analysis.columns import OUTCOMES, StageKey
from loadtest.analysis.counts import NO_ANSWER
from loadtest.analysis.distribution import summarize
from loadtest.analysis.record import Record
from loadtest.analysis.rejections.expected_429 import Expectation
from loadtest.analysis.results import (
    JOB_TIMES,
    TIMES,
    JobFigures,
    JobStage,
    OperationCounts,
    OperationFigures,
    OperationStage,
    OverallFigures,
    OverallStage,
    PollingCost,
    RequestCounts,
)
from loadtest.analysis.written import written_entry
from loadtest.assumed_limits import CONCURRENCY
from loadtest.contract import THROTTLED_STATUS, LimitName, Operation, Outcome
from loadtest.record.run_info import covered_seconds

Planned = Sequence[StageKey]


@dataclass(frozen=True)
class RunFigures:
    """The figures of a run."""

    overall: OverallFigures
    operations: dict[str, OperationFigures]
    traffic: dict[str, OperationFigures]


def compute(record: Record, expectation: Expectation) -> RunFigures:
    """The figures of a run."""
    maker = _Maker(record, expectation)
    plans = record.info.traffic
    by_operation = sorted({plan.operation for plan in plans.values()})
    return RunFigures(
        overall=maker.overall(),
        operations={name: maker.operation(name, record.stages(operation=name)) for name in by_operation},
        traffic={name: maker.operation(plan.operation, record.stages(traffic=name)) for name, plan in plans.items()},
    )


def _by_name(planned: Planned) -> dict[str, Planned]:
    """Stages of the same name together, in order."""
    names = dict.fromkeys(key.stage.name for key in planned)
    return {name: [key for key in planned if key.stage.name == name] for name in names}


class _Maker:
    """Makes figures of any stages."""

    def __init__(self, record: Record, expectation: Expectation) -> None:
        self.record = record
        self.missing = record.arrivals.missing(record.info)
        rejected = expectation.rejected
        self.of_requests = _means(rejected, record.sent_requests["stage_index"], len(record.vocabulary.stage_keys))
        last = record.deciding_requests
        self.of_operations = _means(
            rejected.reindex(last.index), last["stage_index"], len(record.vocabulary.stage_keys)
        )

    def overall(self) -> OverallFigures:
        """Of all traffic, which has no latency."""
        planned = self.record.stages()
        stages = {name: OverallStage(**self._figures(some)) for name, some in _by_name(planned).items()}
        return OverallFigures(**self._figures(planned), stages=stages)

    def operation(self, operation: str, planned: Planned) -> OperationFigures:
        """Of one operation or one traffic entry, given its stages."""
        by_name = {name: self._with_times(some, operation) for name, some in _by_name(planned).items()}
        whole = self._with_times(planned, operation)
        if operation == Operation.ASYNC_RUN:
            return JobFigures(**whole, stages={name: JobStage(**each) for name, each in by_name.items()})
        return OperationFigures(**whole, stages={name: OperationStage(**each) for name, each in by_name.items()})

    def _with_times(self, planned: Planned, operation: str) -> dict[str, Any]:
        """The fields of an ``OperationStage`` or, of ``async_run``, a ``JobStage``."""
        found, stage_indices = self._figures(planned), self.record.stage_indices(planned)
        for name in TIMES:
            if operation == Operation.ASYNC_RUN or name not in JOB_TIMES:
                found[name] = summarize(self.record.times[name].get(stage_indices))
        if operation == Operation.ASYNC_RUN:
            found["polling"] = self._polling(planned)
        return found

    def _figures(self, planned: Planned) -> dict[str, Any]:
        """The fields of an ``OverallStage``."""
        record, stage_indices = self.record, self.record.stage_indices(planned)
        made = record.counts
        names = {(entry, stage.name) for entry, stage in planned}
        lost = sum(missing.count for missing in self.missing if (missing.traffic, missing.stage) in names)
        seconds = covered_seconds([stage for _, stage in planned], record.covered_s)
        operations = self._operations(stage_indices, lost, seconds)
        statuses, reasons = made.statuses[stage_indices].sum(axis=0), made.reasons[stage_indices].sum(axis=0)
        requests = self._requests(planned, statuses, seconds)
        answers = {"none" if s == NO_ANSWER else str(s): int(statuses[s]) for s in statuses.nonzero()[0].tolist()}
        words = record.vocabulary.words["reason"]
        tally = {words[place]: int(reasons[place]) for place in reasons.nonzero()[0].tolist()}
        return {
            "seconds": seconds,
            "operations": operations,
            "requests": requests,
            "throttled_rate": _ratio(operations.throttled, operations.sent),
            "expected_throttled_rate": _mean(self.of_operations, stage_indices),
            "error_rate": _ratio(operations.failed + operations.timed_out, operations.sent),
            "goodput": _ratio(operations.ok, seconds),
            "amplification": _ratio(int(made.first[stage_indices].sum()), operations.sent),
            "requests_per_operation": _ratio(requests.sent, operations.sent),
            "statuses": dict(sorted(answers.items())),
            "reasons": dict(sorted(tally.items())),
        }

    def _operations(self, stage_indices: list[int], lost: int, seconds: float) -> OperationCounts:
        """Counts of operations; ``lost`` are those that left no row."""
        made = self.record.counts
        counts = dict(zip(OUTCOMES, made.outcomes[stage_indices].sum(axis=0).tolist(), strict=True))
        counts[Outcome.LOST] += lost
        offered, sent = sum(counts.values()), int(made.sent[stage_indices].sum())
        return OperationCounts(
            offered=offered, sent=sent, **counts, offered_rate=_ratio(offered, seconds), sent_rate=_ratio(sent, seconds)
        )

    def _requests(self, planned: Planned, statuses: np.ndarray, seconds: float) -> RequestCounts:
        made, stage_indices = self.record.counts, self.record.stage_indices(planned)
        sent, throttled = int(statuses.sum()), int(statuses[THROTTLED_STATUS])
        accepted = sent - int(statuses[NO_ANSWER]) - throttled
        # Polls of a stage's jobs go on after it: what is divided by its seconds is what was sent in them.
        sent_then, accepted_then = self.record.in_time.sent_during(planned)
        errors = int(made.errors[stage_indices].sum())
        return RequestCounts(
            sent=sent,
            accepted=accepted,
            throttled=throttled,
            errors=errors,
            failed=sum(self._failed_requests(key) for key in planned),
            sent_rate=_ratio(sent_then, seconds),
            accepted_rate=_ratio(accepted_then, seconds),
            throttled_rate=_ratio(throttled, sent),
            expected_throttled_rate=_mean(self.of_requests, stage_indices),
        )

    def _failed_requests(self, key: StageKey) -> int:
        """Errors and 429s of a stage, but for those whose status it expects."""
        (index,) = self.record.stage_indices([key])
        counts = self.record.counts.errors[index].copy()
        if key.stage.expect_429:
            counts[THROTTLED_STATUS] = 0
        else:
            counts[THROTTLED_STATUS] += self.record.counts.statuses[index, THROTTLED_STATUS]
        counts[list(written_entry(self.record.info, key.traffic).expected_in(key.stage.name))] = 0
        return int(counts.sum())

    def _polling(self, planned: Planned) -> PollingCost:
        record = self.record
        polls, retrievals = record.in_time.during(planned)
        limit = record.assumed_limits.drawn_on(LimitName.RETRIEVAL)
        seconds = covered_seconds([stage for _, stage in planned], record.covered_s)
        # A limit on how many are answered at a time allows no number of them.
        sustained = limit in record.limits() and record.assumed_limits.spec.algorithm != CONCURRENCY
        allowed = record.assumed_limits.limit_on(limit).rate * record.quotas_on(limit) * seconds if sustained else 0.0
        return PollingCost(
            polls=polls,
            retrievals=retrievals,
            share_of_retrievals=_ratio(polls, retrievals),
            share_of_limit=_ratio(polls, allowed),
            limit_use=_ratio(retrievals, allowed),
        )


def _means(values: "pd.Series[float]", stage_index: "pd.Series[int]", stages: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the known values of each stage."""
    known = (values.notna() & (stage_index >= 0)).to_numpy()
    places = stage_index.to_numpy()[known]
    sums = np.bincount(places, values.to_numpy()[known], minlength=stages)
    return sums, np.bincount(places, minlength=stages)


def _mean(sums: tuple[np.ndarray, np.ndarray], stage_indices: list[int]) -> float | None:
    return _ratio(float(sums[0][stage_indices].sum()), int(sums[1][stage_indices].sum()))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
