"""The figures of a run: for all traffic, for each operation and for each traffic entry. All are also given by stage.

Rates are derived from counts. Percentiles come from ``distribution`` and are never averaged. The warm-up is excluded.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from loadtest.analysis.columns import KINDS, OK, OUTCOMES, THROTTLED, StageKey, Stages
from loadtest.analysis.counts import NO_ANSWER, RequestCell
from loadtest.analysis.distribution import summarize
from loadtest.analysis.results import (
    ERROR_EXPECTED,
    JOB_TIMES,
    TIMES,
    DeliberateErrors,
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
from loadtest.analysis.run_record import Record
from loadtest.arrays import Floats, Ints
from loadtest.assumed_limits import CONCURRENCY
from loadtest.contract import (
    ERRORS,
    LIMIT_OF_KIND,
    MISTAKE_STATUS,
    POLLED_OPERATIONS,
    THROTTLED_STATUS,
    JobState,
    LimitName,
    Outcome,
    RequestKind,
)
from loadtest.metrics import METRICS, PARTS, Cell, counted
from loadtest.record.effective_scenario import written_entry
from loadtest.record.run_info import covered_seconds


@dataclass(frozen=True)
class RunFigures:
    """The figures of a run."""

    overall: OverallFigures
    operations: dict[str, OperationFigures]
    traffic: dict[str, OperationFigures]


def compute(record: Record) -> RunFigures:
    """Return the figures of a run."""
    maker = _Maker(record)
    plans = record.info.traffic
    by_operation = sorted({plan.operation for plan in plans.values()})
    return RunFigures(
        overall=maker.overall(),
        operations={name: maker.operation(name, record.stages(operation=name)) for name in by_operation},
        traffic={name: maker.operation(plan.operation, record.stages(traffic=name)) for name, plan in plans.items()},
    )


def _by_name(planned: Stages) -> dict[str, Stages]:
    names = dict.fromkeys(key.stage.name for key in planned)
    return {name: [key for key in planned if key.stage.name == name] for name in names}


class _Maker:
    """Makes the figures of any set of stages."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.missing = record.arrivals.missing(record.info, record.consistency)
        rejected, stage_index = record.expectation.rejected, record.sent_requests["stage_index"]
        last, stages = record.deciding_requests, len(record.vocabulary.stage_keys)
        self.of_requests = _means(rejected, stage_index, stages)
        self.of_operations = _means(rejected[last], stage_index[last], stages)

    def overall(self) -> OverallFigures:
        planned = self.record.stages()
        stages = {name: OverallStage(**self._figures(some)) for name, some in _by_name(planned).items()}
        return OverallFigures(**self._figures(planned), stages=stages)

    def operation(self, operation: str, planned: Stages) -> OperationFigures:
        """Return the figures of one operation or traffic entry from its stages."""
        by_name = {name: self._with_times(some, operation) for name, some in _by_name(planned).items()}
        whole = self._with_times(planned, operation)
        if operation in POLLED_OPERATIONS:
            return JobFigures(**whole, stages={name: JobStage(**each) for name, each in by_name.items()})
        return OperationFigures(**whole, stages={name: OperationStage(**each) for name, each in by_name.items()})

    def _with_times(self, planned: Stages, operation: str) -> dict[str, Any]:
        """Return the fields of an ``OperationStage`` or, for ``async_run``, of a ``JobStage``."""
        found, stage_indices = self._figures(planned), self.record.stage_indices(planned)
        for name in TIMES:
            if operation in POLLED_OPERATIONS or name not in JOB_TIMES:
                found[name] = summarize(self.record.times[name].get(stage_indices))
        if operation in POLLED_OPERATIONS:
            found["polling"] = self._polling(planned)
        return found

    def _figures(self, planned: Stages) -> dict[str, Any]:
        """Return the fields of an ``OverallStage`` without ``stages``."""
        record, stage_indices = self.record, self.record.stage_indices(planned)
        seconds = covered_seconds([key.stage for key in planned], record.covered_s)
        requests = record.counts.of_requests(stage_indices)
        found = self._metrics(planned, seconds)
        answers: Counter[str] = Counter()
        for cell, count in requests.items():
            answers["none" if cell.status == NO_ANSWER else str(cell.status)] += count
        reasons: Counter[str] = Counter()
        for reason, count in record.counts.of_operations(stage_indices).items():
            if reason.reason >= 0:
                reasons[record.vocabulary.words["reason"][reason.reason]] += count
        return {
            "seconds": seconds,
            "operations": OperationCounts(**_named("operations.", found)),
            "requests": RequestCounts(
                **_named("requests.", found),
                failed=sum(self._failed_requests(key) for key in planned),
                expected_throttled_rate=_mean(self.of_requests, stage_indices),
            ),
            **{name: value for name, value in found.items() if "." not in name},
            "expected_throttled_rate": _mean(self.of_operations, stage_indices),
            "statuses": dict(sorted(answers.items())),
            "reasons": dict(sorted(reasons.items())),
        }

    def _metrics(self, planned: Stages, seconds: float) -> dict[str, float | None]:
        """Return each count and ratio by the name of its metric."""
        record, stage_indices = self.record, self.record.stage_indices(planned)
        operations: Counter[Cell] = Counter()
        for ended, count in record.counts.of_operations(stage_indices).items():
            operations[Cell(OUTCOMES[ended.outcome], sent=bool(ended.sent))] += count
        operations[Cell(Outcome.LOST, sent=False)] += sum(self.missing.get(index, 0) for index in stage_indices)
        requests = _cells(record.counts.of_requests(stage_indices))
        counts = {name: counted(name, operations, requests) for name in PARTS}
        # Polls of a stage's jobs continue after the stage. Rates count only the requests sent during the stage.
        during = _cells(record.counts.sent_during(planned))
        then = counts | {name: counted(name, {}, during) for name in PARTS if name.startswith("requests.")}
        return {
            name: sum(counts[part] for part in entry.parts)
            if not entry.whole
            else _ratio(sum(then[part] for part in entry.parts), seconds)
            if entry.whole == "seconds"
            else _ratio(sum(counts[part] for part in entry.parts), counts[entry.whole])
            for name, entry in METRICS.items()
            if entry.parts
        }

    def _failed_requests(self, key: StageKey) -> int:
        """Count the errors and 429s of a stage, except those with an expected status."""
        expected = set(written_entry(self.record.info, key.traffic).expected_in(key.stage.name))
        expected |= {THROTTLED_STATUS} if key.stage.expect_429 else set()
        return sum(
            count * ((OUTCOMES[cell.outcome] in ERRORS) + (cell.status == THROTTLED_STATUS))
            for cell, count in self.record.counts.of_requests([key.place]).items()
            if cell.status not in expected
        )

    def _polling(self, planned: Stages) -> PollingCost:
        record = self.record
        sent = record.counts.sent_during(planned)
        polls = sum(count for cell, count in sent.items() if KINDS[cell.kind] == RequestKind.POLL)
        everyone = record.counts.sent_within((key.stage.start_s, key.stage.end_s) for key in planned)
        retrievals = sum(n for cell, n in everyone.items() if LIMIT_OF_KIND[KINDS[cell.kind]] == LimitName.RETRIEVAL)
        limit = record.assumed_limits.drawn_on(LimitName.RETRIEVAL)
        seconds = covered_seconds([key.stage for key in planned], record.covered_s)
        # A concurrency limit allows any number of requests per second.
        sustained = limit in record.limits() and record.assumed_limits.spec.algorithm != CONCURRENCY
        allowed = record.assumed_limits.limit_on(limit).rate * record.quotas_on(limit) * seconds if sustained else 0.0
        return PollingCost(
            polls=polls,
            retrievals=retrievals,
            share_of_retrievals=_ratio(polls, retrievals),
            share_of_limit=_ratio(polls, allowed),
            limit_use=_ratio(retrievals, allowed),
        )


def _cells(requests: Mapping[RequestCell, int]) -> "Counter[Cell]":
    found: Counter[Cell] = Counter()
    for each, count in requests.items():
        found[Cell(OUTCOMES[each.outcome], kind=KINDS[each.kind], status=each.status or None)] += count
    return found


def deliberate_errors(record: Record, figures: RunFigures) -> list[DeliberateErrors]:
    """Return the deliberate mistakes and expected errors, in the order of the scenario.

    A kind of mistake that was planned but not sent has zero operations.
    """
    return [one for name in record.info.traffic for one in _deliberate(record, name, figures.traffic[name].operations)]


def _deliberate(record: Record, name: str, counts: OperationCounts) -> Iterator[DeliberateErrors]:
    entry, words = written_entry(record.info, name), record.vocabulary.words["mistake"]
    found: dict[str, Counter[int]] = {kind: Counter() for kind in MISTAKE_STATUS}
    for cell, count in record.counts.of_operations(record.stage_indices(record.stages(traffic=name))).items():
        if cell.sent and cell.mistake >= 0 and words[cell.mistake] in found:
            found[words[cell.mistake]][cell.outcome] += count
    for kind, status in MISTAKE_STATUS.items():
        if found[kind] or entry.mistakes.get(kind):
            own = found[kind].total(), found[kind][OK], found[kind][THROTTLED]
            yield _counted(own, traffic=name, kind=kind, answer=str(status))
    wrong = sum(found.values(), Counter())
    rest = counts.sent - wrong.total(), counts.ok - wrong[OK], counts.throttled - wrong[THROTTLED]
    if entry.expect.job == JobState.FAILED:
        yield _counted(rest, traffic=name, kind=ERROR_EXPECTED, answer=f"a job that {JobState.FAILED}")
    elif entry.expect.status is not None and entry.expect.status >= 400:
        yield _counted(rest, traffic=name, kind=ERROR_EXPECTED, answer=str(entry.expect.status))


def _counted(counts: tuple[int, int, int], **given: str) -> DeliberateErrors:
    sent, ok, throttled = counts
    return DeliberateErrors(**given, sent=sent, as_documented=ok, throttled=throttled, otherwise=sent - ok - throttled)


def _means(values: Floats, stage_index: Ints, stages: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum and the number of each stage's known values."""
    known = ~np.isnan(values) & (stage_index >= 0)
    places = stage_index[known]
    return np.bincount(places, values[known], minlength=stages), np.bincount(places, minlength=stages)


def _mean(sums: tuple[np.ndarray, np.ndarray], stage_indices: list[int]) -> float | None:
    return _ratio(float(sums[0][stage_indices].sum()), int(sums[1][stage_indices].sum()))


def _named(rows: str, found: dict[str, float | None]) -> dict[str, Any]:
    """Return the metrics of ``rows`` (``operations`` or ``requests``), by field name."""
    return {name.removeprefix(rows): value for name, value in found.items() if name.startswith(rows)}


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
