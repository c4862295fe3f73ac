"""The types of a scenario's values: names, durations, rates, limits, shares. A mistake is a ``ValueError``'s text."""

import contextlib
import math
import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from loadtest.contract import ErrorCode, JobState, LimitName, Operation
from loadtest.units import (
    DURATION_PATTERN,
    LIMIT_PATTERN,
    RATE_PATTERN,
    Limit,
    Rate,
    parse_duration,
    parse_limit,
    parse_rate,
    parse_share,
)

MAX_BURST: Final = 1_000_000
MAX_DEPTH: Final = 32
"""Levels of nesting, far below what exhausts a JSON encoder."""


def _named(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][\w-]{0,63}", name) is None:
        raise ValueError(f"{name!r} is no name: use letters, digits, - and _, at most 64")
    return name


def _burst(value: object) -> int | Rate:
    # One function for both forms, so that a mistake is explained once, not by each.
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_BURST:
        return value
    with contextlib.suppress(ValueError):
        rate = parse_rate(value)
        if rate.of_limit and rate.value > 0:
            return rate
    raise ValueError(
        f"{value!r} is no burst: write a number of operations from 1 to {MAX_BURST}, "
        "or a share of the limit's quota, as '1x limit'"
    )


def _sendable(value: Any, depth: int = 0) -> Any:
    """Refuse what TOML can say and a JSON body cannot."""
    if isinstance(value, dict | list):
        if depth >= MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        for each in [*value, *value.values()] if isinstance(value, dict) else value:
            _sendable(each, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot be sent: JSON has no such number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ValueError(f"{value} cannot be sent: no JSON reader keeps an integer of more than 64 bits")
    elif isinstance(value, str) and not value.isascii() and value.encode(errors="ignore").decode() != value:
        raise ValueError(f"{value!r} cannot be sent: it is no Unicode text")
    return value


def _text_schema(pattern: str, *examples: str) -> WithJsonSchema:
    """The schema of a value that is written as text, for editors."""
    schema: dict[str, Any] = {"type": "string", "pattern": pattern, "examples": list(examples)}
    return WithJsonSchema(schema, mode="validation")


Duration = Annotated[float, BeforeValidator(parse_duration), _text_schema(DURATION_PATTERN, "500ms", "5s", "2m")]
"""Seconds, written with a unit."""
ArrivalRate = Annotated[
    Rate,
    BeforeValidator(parse_rate),
    PlainSerializer(str),
    _text_schema(RATE_PATTERN, "5/s", "90/min", "80% of limit", "2.5x limit"),
]
Burst = Annotated[
    int | Rate,
    BeforeValidator(_burst),
    PlainSerializer(lambda value: value if isinstance(value, int) else str(value)),
    WithJsonSchema({"type": ["integer", "string"], "examples": [100, "1x limit"]}, mode="validation"),
]
"""Operations that come all at once: a number, or a multiple of the limit's whole quota."""
LimitSpec = Annotated[
    Limit, BeforeValidator(parse_limit), PlainSerializer(str), _text_schema(LIMIT_PATTERN, "100/60s", "100/min")
]
Share = Annotated[
    float, BeforeValidator(parse_share), WithJsonSchema({"type": ["number", "string"], "examples": [0.05, "5%"]})
]
Name = Annotated[str, AfterValidator(_named)]


def _word_schema(words: Iterable[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": [str(word) for word in words]}, mode="validation")


OperationWord = Annotated[Operation, Field(strict=False), _word_schema(Operation)]
LimitWord = Annotated[LimitName, Field(strict=False), _word_schema(LimitName)]
CodeWord = Annotated[ErrorCode, Field(strict=False), _word_schema(ErrorCode)]
"""These are not strict, as a file has the text of a member."""
EndState = Literal[JobState.COMPLETED, JobState.FAILED]
JsonObject = Annotated[dict[str, Any], AfterValidator(_sendable)]
"""Values that go into a JSON body."""
Status = Annotated[int, Field(ge=100, le=599)]


class Strict(BaseModel):
    """A table of a scenario: no unknown key, no value of another type, no change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)
