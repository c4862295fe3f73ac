"""What a search for the capacity found, as types, and their file ``capacity.json``: pages are written from it alone."""

from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

import msgspec

from loadtest.contract import LimitName
from loadtest.errors import RecordError
from loadtest.record.run_directory import write_atomically

FILE_NAME: Final = "capacity.json"
SCHEMA_VERSION: Final = 1

Outcome = Literal["holds", "breaks", "inconclusive", "invalid"]
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
    """A traffic entry in the judged stage of a level.

    Attributes:
        operation: what it asks for.
        offered_rate: operations/s.
        response_p50_ms: from the intended start; None where too few.
        response_p95_ms: likewise.
        execution_p50_ms: what the service says it spent; None where it does not say.
        throttled_rate: operations that ended with 429 ÷ operations, 0-1.
        requests_per_operation: polls included; None without operations.
        error_rate: operations that failed or timed out ÷ operations, 0-1.
        unavailable_rate: requests that got 503 ÷ requests, 0-1: some services throttle so.
    """

    operation: str
    offered_rate: float
    response_p50_ms: float | None
    response_p95_ms: float | None
    execution_p50_ms: float | None
    throttled_rate: float
    requests_per_operation: float | None
    error_rate: float = 0.0
    unavailable_rate: float = 0.0


class LimitLevel(msgspec.Struct, frozen=True, kw_only=True):
    """What a level asked of a limit in the judged stage: requests/s, and the part of them that got 429 (0-1)."""

    sent_rate: float
    throttled_rate: float


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the search.

    Attributes:
        multiplier: ``rate_multiplier`` that it ran with.
        directory: its run directory, relative to that of the search.
        outcome: see ``Outcome``.
        broken: thresholds that did not hold, as the scenario says them; failed checks where it is invalid.
        stage_s: seconds of the judged stage.
        requests: sent in the whole run.
        entries: by traffic.
        limits: by name; those that something was sent on.
        constraint: what stopped it; None where it holds.
        limit: which one, if it was a limit or the poll budget.
        scout: whether it was shorter than a stage that is judged: it shows the way to those, and decides nothing.
    """

    multiplier: float
    directory: str
    outcome: Outcome
    broken: tuple[str, ...]
    stage_s: float
    requests: int
    entries: dict[str, EntryLevel]
    limits: dict[LimitName, LimitLevel]
    constraint: Constraint | None = None
    limit: LimitName | None = None
    scout: bool = False


class Guess(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model expects a constraint: the highest multiplier that it lets through."""

    multiplier: float
    constraint: Constraint
    limit: LimitName | None = None


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found.

    Attributes:
        scenario: its name.
        title: its title.
        stage: the judged one.
        target: where it ran, in words.
        base_rates: operations/s of each traffic entry at multiplier 1.
        multiplier: the highest that holds, estimated; None where there is no answer.
        low: the highest that was seen to hold; None if none did.
        high: the lowest above it that was seen not to hold; None if none was.
        constraint: what stops more.
        limit: which one, if it is a limit or the poll budget.
        sentence: the answer, or why there is none.
        reasons: what else a reader must know.
        levels: in the order in which they ran.
        guesses: what the models expected, before and between.
        exit_code: of ``loadtest capacity``.
    """

    schema: int = SCHEMA_VERSION
    scenario: str
    title: str
    stage: str
    target: str
    base_rates: dict[str, float]
    multiplier: float | None
    low: float | None
    high: float | None
    constraint: Constraint | None
    limit: LimitName | None
    sentence: str
    reasons: tuple[str, ...]
    levels: tuple[Level, ...]
    guesses: tuple[Guess, ...]
    exit_code: int


def save(capacity: Capacity, directory: Path) -> None:
    """Write ``capacity.json``, atomically."""
    content = msgspec.json.format(msgspec.json.encode(capacity), indent=2) + b"\n"
    write_atomically(directory / FILE_NAME, content)


def load(directory: Path) -> Capacity:
    """Read ``capacity.json``.

    Raises:
        RecordError: if it is missing, damaged, or of another schema version.
    """
    path = directory / FILE_NAME
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Capacity)
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error}") from error
    if found.schema != SCHEMA_VERSION:
        raise RecordError(f"{path} has schema version {found.schema}; this loadtest reads version {SCHEMA_VERSION}")
    return found
