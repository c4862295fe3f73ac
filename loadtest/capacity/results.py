"""Levels of a search for the capacity, as their runs tell them; what it found; and its file, which pages are from."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from loadtest.contract import LIMIT_NAMES, LIMIT_OF_OPERATION, LIMITS_OF_OPERATION, LimitName
from loadtest.record.figures import JudgedThreshold, StageMetrics, read_figures
from loadtest.record.run_directory import read_versioned, write_json

if TYPE_CHECKING:  # pages need no pydantic
    from loadtest.scenario import Scenario

FILE_NAME: Final = "capacity.json"
SCHEMA_VERSION: Final = 1

LevelOutcome = Literal["holds", "breaks", "inconclusive", "invalid"]
"""Of a level: every threshold of the judged stage holds; one does not; none fails, but one cannot be judged; the
generator was late."""


class Constraint(StrEnum):
    """What stops more."""

    LIMIT = "limit"
    """A rate limit refuses what begins an operation."""
    POLL_BUDGET = "poll budget"
    """Polls spend the retrieval limit."""
    SERVICE = "service capacity"
    """Requests wait for each other: they take longer, and none gets 429."""
    ERRORS = "errors"
    """Requests fail, and none gets 429."""
    GENERATOR = "generator"
    """The process that makes the load was the bottleneck, so that nothing is known of the service."""


class EntryLevel(msgspec.Struct, frozen=True, kw_only=True):
    """A traffic entry in the judged stage of a level. Rates of outcomes are 0-1; times are None where too few."""

    operation: str
    offered_rate: float
    """Operations/s."""
    response_p50_ms: float | None
    """From the intended start."""
    response_p95_ms: float | None
    execution_p50_ms: float | None
    """What the service says it spent."""
    throttled_rate: float
    """Operations that ended with 429 ÷ operations."""
    requests_per_operation: float | None
    """Polls included; None without operations."""
    error_rate: float = 0.0
    """Operations that failed or timed out ÷ operations."""
    unavailable_rate: float = 0.0
    """Requests that got 503 ÷ requests: some services throttle so."""

    @property
    def execution_s(self) -> float:
        """Seconds that the service says it spent; 0 where that is unknown."""
        return (self.execution_p50_ms or 0.0) / 1e3


class LimitLevel(msgspec.Struct, frozen=True, kw_only=True):
    """What a level asked of a limit in the judged stage: requests/s, and the part of them that got 429 (0-1)."""

    sent_rate: float
    throttled_rate: float


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the search, with the judged stage alone."""

    multiplier: float
    """``rate_multiplier`` that it ran with."""
    directory: str
    """Relative to that of the search."""
    outcome: LevelOutcome
    broken: tuple[str, ...]
    """Thresholds that did not hold, as the scenario says them; failed checks where it is invalid."""
    stage_s: float
    requests: int
    """Sent in the whole run."""
    entries: dict[str, EntryLevel]
    limits: dict[LimitName, LimitLevel]
    """Those that something was sent on."""
    constraint: Constraint | None = None
    """What stopped it; None where it holds."""
    limit: LimitName | None = None
    """Which one, if it was a limit or the poll budget."""
    scout: bool = False
    """Whether it was shorter than a stage that is judged: it shows the way to those, and decides nothing."""


_ERRORS: Final = 0.01
"""Part of an entry's operations that may fail where no threshold says how many: who fails does not get through."""
_UNAVAILABLE: Final = "503"
_FAILING: Final = ("error_rate", "operations.failed", "operations.timed_out")


def read_level(directory: Path, *, name: str, multiplier: float, stage: str, scenario: "Scenario") -> Level:
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
    entries = {name: _entry(each.stages[stage], scenario, name) for name, each in metrics.traffic.items()}
    stage_s = scenario.duration
    limits = {
        LimitName(each.limit): LimitLevel(sent_rate=each.sent / stage_s, throttled_rate=each.throttled / each.sent)
        for each in metrics.limits
        if each.limit in LIMIT_NAMES and each.sent
    }
    broken = [each for each in metrics.thresholds if each.judgement != "pass"] + _failing(entries, scenario)
    said = tuple(each.require for each in broken)
    outcome: LevelOutcome = "inconclusive" if broken else "holds"
    constraint = limit = None
    if metrics.verdict == "invalid":
        outcome, constraint = "invalid", Constraint.GENERATOR
        said = tuple(check.name for check in metrics.validity if not check.ok)
    elif any(each.judgement == "fail" for each in broken):
        outcome, limit = "breaks", _rejecting(limits, broken, scenario)
        constraint = Constraint.ERRORS if any(e.error_rate for e in entries.values()) else Constraint.SERVICE
        if limit is not None:
            constraint = kind_of(limit, scenario)
    return Level(
        multiplier=multiplier,
        directory=name,
        outcome=outcome,
        broken=said,
        stage_s=stage_s,
        requests=metrics.overall.requests.sent,
        entries=entries,
        limits=limits,
        constraint=constraint,
        limit=limit,
    )


def _entry(stage: StageMetrics, scenario: "Scenario", name: str) -> EntryLevel:
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


def _failing(entries: Mapping[str, EntryLevel], scenario: "Scenario") -> list[JudgedThreshold]:
    """What is asked of entries whose errors no threshold is about, where they have too many."""
    said = [each.traffic for each in scenario.threshold if each.parsed.metric in _FAILING]
    return [
        JudgedThreshold(require=f"error_rate <= {_ERRORS:.0%}", judgement="fail", traffic=name)
        for name, entry in entries.items()
        if entry.error_rate > _ERRORS and not {None, name} & {*said}
    ]


def _rejecting(
    limits: Mapping[LimitName, LimitLevel], broken: list[JudgedThreshold], scenario: "Scenario"
) -> LimitName | None:
    """The limit that rejected most of what the broken thresholds are about; None where it rejected nothing."""
    drawn = [
        limit
        for name, each in scenario.traffic.items()
        for threshold in broken
        if threshold.traffic in (None, name) and threshold.operation in (None, each.operation)
        # What begins the operation first: where it is refused, fewer jobs are polled.
        for limit in (LIMIT_OF_OPERATION[each.operation], *LIMITS_OF_OPERATION[each.operation])
    ]
    rejected = {name: limits[name].throttled_rate for name in drawn if name in limits}
    worst = max(rejected, key=lambda name: rejected[name], default=None)
    return worst if worst is not None and rejected[worst] > 0 else None


def kind_of(name: LimitName, scenario: "Scenario") -> Constraint:
    """What it is called when a limit refuses: it is the poll budget where only polls draw on it."""
    begins = any(LIMIT_OF_OPERATION[each.operation] == name for each in scenario.traffic.values())
    return Constraint.POLL_BUDGET if name == LimitName.RETRIEVAL and not begins else Constraint.LIMIT


class Guess(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model expects a constraint: the highest multiplier that it lets through."""

    multiplier: float
    constraint: Constraint
    limit: LimitName | None = None


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found."""

    schema: int = SCHEMA_VERSION
    scenario: str
    title: str
    stage: str
    target: str
    """In words."""
    base_rates: dict[str, float]
    """Operations/s of each traffic entry at multiplier 1."""
    multiplier: float | None
    """The highest that holds, estimated; None where there is no answer."""
    low: float | None
    """The highest that was seen to hold."""
    high: float | None
    """The lowest above it that was seen not to hold."""
    constraint: Constraint | None
    limit: LimitName | None
    sentence: str
    """The answer, or why there is none."""
    reasons: tuple[str, ...]
    """What else a reader must know."""
    levels: tuple[Level, ...]
    """In the order in which they ran."""
    guesses: tuple[Guess, ...]
    """What the models expected, before and between."""
    exit_code: int


def save(capacity: Capacity, directory: Path) -> None:
    """Write ``capacity.json``, atomically."""
    write_json(directory / FILE_NAME, capacity)


def load(directory: Path) -> Capacity:
    """Read ``capacity.json``.

    Raises:
        RecordError: if it is missing, damaged, or of another schema version.
    """
    return read_versioned(directory / FILE_NAME, Capacity, SCHEMA_VERSION)
