"""The levels of a capacity search and its result. Levels are read from runs. ``capacity.json`` has the result."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from loadtest.contract import LIMIT_NAMES, LIMIT_OF_OPERATION, LIMITS_OF_OPERATION, LimitName
from loadtest.record.figures import JudgedThreshold, StageMetrics, read_figures
from loadtest.record.run_directory import read_versioned, write_json

if TYPE_CHECKING:  # pages do without the scenario, whose import loads pydantic
    from loadtest.scenario import Scenario

FILE_NAME: Final = "capacity.json"
SCHEMA_VERSION: Final = 1

LevelOutcome = Literal["holds", "breaks", "inconclusive", "invalid"]
"""A level holds if every threshold of the judged stage passed. It breaks if a threshold failed. It is inconclusive if
no threshold failed but some cannot be judged. It is invalid if its run is invalid."""


class Constraint(StrEnum):
    """The bottleneck of a level."""

    LIMIT = "limit"
    """A rate limit rejects the first requests of operations."""
    POLL_BUDGET = "poll budget"
    """Polls exhaust the retrieval limit."""
    SERVICE = "service capacity"
    """Requests take too long, mostly because they wait for each other in the service."""
    ERRORS = "errors"
    """Requests fail for another reason than a 429."""
    GENERATOR = "generator"
    """The run is invalid, so nothing is known about the service at this rate. Mostly, the generator fell behind."""


class EntryLevel(msgspec.Struct, frozen=True, kw_only=True):
    """A traffic entry in the judged stage of a level. A time is None if it has too few values."""

    operation: str
    offered_rate: float
    """Operations/s."""
    response_p50_ms: float | None
    response_p95_ms: float | None
    execution_p50_ms: float | None
    throttled_rate: float
    """Operations that ended with 429 ÷ operations."""
    requests_per_operation: float | None
    """Includes polls; None if there were no operations."""
    error_rate: float = 0.0
    """Operations that failed or timed out ÷ operations."""
    unavailable_rate: float = 0.0
    """Requests that got 503 ÷ requests. Some services throttle with 503."""

    @property
    def typical_ms(self) -> float | None:
        """The p95 of the response time in ms, or the p50 if the p95 is unknown."""
        return self.response_p50_ms if self.response_p95_ms is None else self.response_p95_ms

    @property
    def served(self) -> float:
        """Operations that were neither throttled nor failed ÷ operations, 0-1."""
        return max(0.0, 1 - self.throttled_rate - self.error_rate)


class LimitLevel(msgspec.Struct, frozen=True, kw_only=True):
    """A level's requests/s to a limit in the judged stage, and their share of 429s (0-1)."""

    sent_rate: float
    throttled_rate: float

    @property
    def accepted(self) -> float:
        """Accepted requests/s."""
        return self.sent_rate * (1 - self.throttled_rate)


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the search. Besides a warm-up, it has only the judged stage."""

    multiplier: float
    """The run's ``rate_multiplier``."""
    directory: str
    """The run's directory, relative to the search's directory."""
    outcome: LevelOutcome
    broken: tuple[str, ...]
    """Thresholds that did not pass, as the scenario states them; for an invalid run, its failed validity checks."""
    stage_s: float
    requests: int
    """Requests of the whole run."""
    entries: dict[str, EntryLevel]
    limits: dict[LimitName, LimitLevel]
    """The limits that got requests."""
    constraint: Constraint | None = None
    """The bottleneck; None if the level holds or is inconclusive."""
    limit: LimitName | None = None
    """The limit, if the bottleneck was a limit or the poll budget."""


def read_level(directory: Path, *, name: str, multiplier: float, stage: str, scenario: "Scenario") -> Level:
    """Read the level of a reported run.

    ``name`` is the run's path in the search's directory; ``stage`` is the judged stage.

    Raises:
        LoadtestError: if the run's ``metrics.json`` cannot be read.
    """
    metrics = read_figures(directory)
    entries = {name: _entry(each.stages[stage], scenario, name) for name, each in metrics.traffic.items()}
    stage_s = scenario.duration
    limits = {
        LimitName(each.limit): LimitLevel(sent_rate=each.sent / stage_s, throttled_rate=each.throttled / each.sent)
        for each in metrics.limits
        if each.limit in LIMIT_NAMES and each.sent
    }
    broken = [each for each in metrics.thresholds if each.judgement != "pass"]
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
        unavailable_rate=stage.statuses.get("503", 0) / max(1, sum(stage.statuses.values())),
        requests_per_operation=stage.requests_per_operation,
    )


def _rejecting(
    limits: Mapping[LimitName, LimitLevel], broken: list[JudgedThreshold], scenario: "Scenario"
) -> LimitName | None:
    """Return the limit with the highest share of 429s, of the limits that traffic under ``broken`` thresholds uses."""
    drawn = [
        limit
        for name, each in scenario.traffic.items()
        for threshold in broken
        if threshold.traffic in (None, name) and threshold.operation in (None, each.operation)
        # The limit of first requests comes first and wins a tie, because its rejections leave fewer jobs to poll.
        for limit in (LIMIT_OF_OPERATION[each.operation], *LIMITS_OF_OPERATION[each.operation])
    ]
    rejecting = [name for name in drawn if name in limits and limits[name].throttled_rate > 0]
    return max(rejecting, key=lambda name: limits[name].throttled_rate, default=None)


def kind_of(name: LimitName, scenario: "Scenario") -> Constraint:
    """Return the constraint of a rejecting limit: the poll budget if only polls use it."""
    begins = any(LIMIT_OF_OPERATION[each.operation] == name for each in scenario.traffic.values())
    return Constraint.POLL_BUDGET if name == LimitName.RETRIEVAL and not begins else Constraint.LIMIT


class Guess(msgspec.Struct, frozen=True, kw_only=True):
    """A model's guess of the highest multiplier that a constraint permits."""

    multiplier: float
    constraint: Constraint
    limit: LimitName | None = None


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a search."""

    schema: int = SCHEMA_VERSION
    scenario: str
    title: str
    stage: str
    target: str
    base_rates: dict[str, float]
    """Operations/s of each traffic entry at multiplier 1."""
    multiplier: float | None
    """The middle of the range that contains the true rate; None without a range."""
    low: float | None
    """The low end of the range. Without a range, it is the fastest multiplier that passed, or None."""
    high: float | None
    """The high end of the range; None without a range."""
    constraint: Constraint | None
    limit: LimitName | None
    sentence: str
    """The answer, or the reason why there is none."""
    reasons: tuple[str, ...]
    """Further notes for the reader."""
    levels: tuple[Level, ...]
    """The levels in the order of their runs."""
    guesses: tuple[Guess, ...]
    """The models' last guesses."""
    exit_code: int


def save(capacity: Capacity, directory: Path) -> None:
    """Write ``capacity.json``, atomically."""
    write_json(directory / FILE_NAME, capacity)


def load(directory: Path) -> Capacity:
    """Read ``capacity.json``. Raises ``RecordError`` if it is missing, damaged, or of another schema version."""
    return read_versioned(directory / FILE_NAME, Capacity, SCHEMA_VERSION)
