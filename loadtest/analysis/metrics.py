"""The figures of a run without its warm-up: of all traffic, of each operation, and of each entry; also by stage."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from loadtest.analysis.columns import KINDS, OK, OUTCOMES, THROTTLED, StageKey, Stages
from loadtest.analysis.counts import RequestCell, folded
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

_COMMON_TIMES: Final = tuple(name for name in TIMES if name not in JOB_TIMES)
"""Summaries that every operation has."""


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
        overall=_whole(OverallFigures, OverallStage, maker.figures, record.stages()),
        operations={name: maker.operation(name, record.stages(operation=name)) for name in by_operation},
        traffic={name: maker.operation(plan.operation, record.stages(traffic=name)) for name, plan in plans.items()},
    )


_Figures = TypeVar("_Figures", OverallFigures, OperationFigures)


def _whole(
    kind: type[_Figures], of_stage: Callable[..., Any], fields: Callable[[Stages], dict[str, Any]], planned: Stages
) -> _Figures:
    """Return the figures of some stages, in total and by stage name."""
    names = dict.fromkeys(key.stage.name for key in planned)
    stages = {name: of_stage(**fields([key for key in planned if key.stage.name == name])) for name in names}
    return kind(**fields(planned), stages=stages)


class _Maker:
    """Makes the figures of any set of stages."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.missing = record.consistency.missing()
        rejected, stage_index = record.expectation.rejected, record.sent_requests["stage_index"]
        last, stages = record.deciding_requests, len(record.vocabulary.stage_keys)
        self.of_requests = _means(rejected, stage_index, stages)
        self.of_operations = _means(rejected[last], stage_index[last], stages)

    def operation(self, operation: str, planned: Stages) -> OperationFigures:
        """Return the figures of one operation or traffic entry from its stages."""
        if operation in POLLED_OPERATIONS:
            return _whole(JobFigures, JobStage, self._of_jobs, planned)
        return _whole(OperationFigures, OperationStage, self._with_times, planned)

    def _of_jobs(self, planned: Stages) -> dict[str, Any]:
        return {**self._with_times(planned, TIMES), "polling": self._polling(planned)}

    def _with_times(self, planned: Stages, times: Sequence[str] = _COMMON_TIMES) -> dict[str, Any]:
        return {**self.figures(planned), **{name: summarize(self.record.time(name, planned)) for name in times}}

    def figures(self, planned: Stages) -> dict[str, Any]:
        """Return the fields of an ``OverallStage``."""
        record, stage_indices = self.record, self.record.stage_indices(planned)
        seconds = covered_seconds([key.stage for key in planned], record.covered_s)
        found = self._metrics(planned, seconds)
        statuses = folded(record.counts.of_requests(stage_indices), lambda cell: str(cell.status or "none"))
        words = record.vocabulary.words["reason"]
        # Count by word: several unknown reasons of a damaged record may have the same printable word.
        reasons = folded(
            record.counts.of_operations(stage_indices), lambda cell: words[cell.reason] if cell.reason >= 0 else ""
        )
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
            "statuses": dict(sorted(statuses.items())),
            "reasons": dict(sorted((word, number) for word, number in reasons.items() if word)),
        }

    def _metrics(self, planned: Stages, seconds: float) -> dict[str, float | None]:
        """Return each count and ratio by the name of its metric."""
        record, stage_indices = self.record, self.record.stage_indices(planned)
        ended = record.counts.of_operations(stage_indices)
        operations = folded(ended, lambda cell: Cell(OUTCOMES[cell.outcome], sent=bool(cell.sent)))
        operations[Cell(Outcome.LOST, sent=False)] += sum(self.missing.get(index, 0) for index in stage_indices)
        requests = folded(record.counts.of_requests(stage_indices), _cell)
        counts = {name: counted(name, operations, requests) for name in PARTS}
        # Polls of a stage's jobs continue after the stage. Rates count only the requests sent during the stage.
        during = folded(record.counts.sent_during(planned), _cell)
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


def _cell(requests: RequestCell) -> Cell:
    return Cell(OUTCOMES[requests.outcome], kind=KINDS[requests.kind], status=requests.status or None)


def deliberate_errors(record: Record, traffic: str) -> Iterator[DeliberateErrors]:
    """Yield the deliberate mistakes of a traffic entry, whether planned or sent, and its expected errors."""
    entry = written_entry(record.info, traffic)
    words = record.vocabulary.words["mistake"]
    found: dict[str, Counter[int]] = {kind: Counter() for kind in (*MISTAKE_STATUS, ERROR_EXPECTED)}
    for cell, count in record.counts.of_operations(record.stage_indices(record.stages(traffic=traffic))).items():
        kind = words[cell.mistake] if cell.mistake >= 0 else ERROR_EXPECTED
        if cell.sent:
            found[kind if kind in found else ERROR_EXPECTED][cell.outcome] += count
    sent_or_planned = [kind for kind in MISTAKE_STATUS if found[kind] or entry.mistakes.get(kind)]
    answers: dict[str, str] = {kind: str(MISTAKE_STATUS[kind]) for kind in sent_or_planned}
    if entry.expect.job == JobState.FAILED:
        answers[ERROR_EXPECTED] = f"a job that {JobState.FAILED}"
    elif entry.expect.status is not None and entry.expect.status >= 400:
        answers[ERROR_EXPECTED] = str(entry.expect.status)
    for kind, answer in answers.items():
        sent = found[kind].total()
        ok = found[kind][OK]
        throttled = found[kind][THROTTLED]
        yield DeliberateErrors(
            traffic=traffic,
            kind=kind,
            answer=answer,
            sent=sent,
            as_documented=ok,
            throttled=throttled,
            otherwise=sent - ok - throttled,
        )


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
