"""What a search reads of a run: the few figures of its ``metrics.json`` that decide, and what stopped it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from loadtest.capacity.models import kind_of
from loadtest.capacity.results import Constraint, EntryLevel, Level, LimitLevel, Outcome
from loadtest.contract import LIMIT_NAMES, LIMIT_OF_OPERATION, LIMITS_OF_OPERATION, LimitName
from loadtest.record.figures import Stage, Threshold, read_figures
from loadtest.scenario import Scenario

_ERRORS: Final = 0.01
"""Part of an entry's operations that may fail where no threshold says how many: who fails does not get through."""
_UNAVAILABLE: Final = "503"
_FAILING: Final = ("error_rate", "operations.failed", "operations.timed_out")


def read_level(directory: Path, *, name: str, multiplier: float, stage: str, scenario: Scenario) -> Level:
    """The level that a reported run is.

    Args:
        directory: of the run.
        name: its path in the directory of the search.
        multiplier: that it ran with.
        stage: the judged one, the only one beside the warm-up.
        scenario: with this stage alone.

    Raises:
        LoadtestError: if its ``metrics.json`` cannot be read.
    """
    metrics = read_figures(directory)
    broken = [each for each in metrics.thresholds if each.judgement != "pass"]
    entries = {name: _entry(each.stages[stage], scenario, name) for name, each in metrics.traffic.items()}
    broken += _failing(entries, scenario)
    outcome: Outcome = "breaks" if any(each.judgement == "fail" for each in broken) else "inconclusive"
    if metrics.verdict == "invalid" or not broken:
        outcome = "holds" if metrics.verdict != "invalid" else "invalid"
    stage_s = max(sum(s.duration for s in each.stages) for each in scenario.traffic.values())
    level = Level(
        multiplier=multiplier,
        directory=name,
        outcome=outcome,
        broken=tuple(each.require for each in broken)
        if outcome != "invalid"
        else tuple(check.name for check in metrics.validity if not check.ok),
        stage_s=stage_s,
        requests=metrics.overall.requests.sent,
        entries=entries,
        limits={
            LimitName(each.limit): LimitLevel(sent_rate=each.sent / stage_s, throttled_rate=each.throttled / each.sent)
            for each in metrics.limits
            if each.limit in LIMIT_NAMES and each.sent
        },
    )
    return level if outcome in {"holds", "inconclusive"} else _put_down(level, broken, scenario)


def _put_down(level: Level, broken: list[Threshold], scenario: Scenario) -> Level:
    """The level with what stopped it."""
    if level.outcome == "invalid":
        return msgspec.structs.replace(level, constraint=Constraint.GENERATOR)
    limit = _refusing(level, broken, scenario)
    if limit is not None:
        return msgspec.structs.replace(level, constraint=kind_of(limit, scenario), limit=limit)
    failing = any(each.error_rate for each in level.entries.values())
    return msgspec.structs.replace(level, constraint=Constraint.ERRORS if failing else Constraint.SERVICE)


def _entry(stage: Stage, scenario: Scenario, name: str) -> EntryLevel:
    return EntryLevel(
        operation=scenario.traffic[name].operation,
        offered_rate=stage.operations.offered_rate or 0.0,
        response_p50_ms=stage.response_time_ms.p50,
        response_p95_ms=stage.response_time_ms.p95,
        execution_p50_ms=stage.execution_time_ms.p50,
        throttled_rate=stage.throttled_rate or 0.0,
        error_rate=stage.error_rate or 0.0,
        unavailable_rate=stage.statuses.get(_UNAVAILABLE, 0) / max(1, sum(stage.statuses.values())),
        requests_per_operation=stage.requests_per_operation,
    )


def _failing(entries: Mapping[str, EntryLevel], scenario: Scenario) -> list[Threshold]:
    """What is asked of entries whose errors no threshold is about, where they have too many."""
    said = [each.traffic for each in scenario.threshold if each.parsed.metric in _FAILING]
    return [
        Threshold(require=f"error_rate <= {_ERRORS:.0%}", judgement="fail", traffic=name)
        for name, entry in entries.items()
        if entry.error_rate > _ERRORS and not {None, name} & {*said}
    ]


def _refusing(level: Level, broken: list[Threshold], scenario: Scenario) -> LimitName | None:
    """The limit that refused most of what the broken thresholds are about; None where it refused nothing."""
    names: Mapping[LimitName, None] = {
        limit: None
        for name, each in scenario.traffic.items()
        for threshold in broken
        if threshold.traffic in (None, name) and threshold.operation in (None, each.operation)
        # What begins the operation first: where it is refused, fewer jobs are polled.
        for limit in dict.fromkeys((LIMIT_OF_OPERATION[each.operation], *LIMITS_OF_OPERATION[each.operation]))
    }
    refused = {name: level.limits[name].throttled_rate for name in names if name in level.limits}
    worst = max(refused, key=lambda name: refused[name], default=None)
    return worst if worst is not None and refused[worst] > 0 else None
