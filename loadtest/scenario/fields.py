"""Types of a scenario's values: names, durations, rates, limits, shares. Invalid values raise ``ValueError``."""

import contextlib
import math
import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from loadtest.contract import ErrorCode, JobState, LimitName, Operation
from loadtest.errors import WrongValueError
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
"""Values may be nested at most this deep. A JSON encoder fails only at a far greater depth."""


def _named(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][\w-]{0,63}", name) is None:
        raise ValueError(f"{name!r} is not a name: use at most 64 letters, digits, - and _")
    return name


def _burst(value: object) -> int | Rate:
    # One function parses both forms, because pydantic would otherwise report an error for each form.
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_BURST:
        return value
    with contextlib.suppress(ValueError):
        rate = parse_rate(value)
        if rate.of_limit and rate.value > 0:
            return rate
    raise ValueError(
        f"{value!r} is not a burst: write a number of operations from 1 to {MAX_BURST}, "
        "or a share of the limit's quota, such as '1x limit'"
    )


def _above_zero(remedy: str) -> AfterValidator:
    def checked(value: float) -> float:
        if value <= 0:
            raise WrongValueError("must be above zero", remedy)
        return value

    return AfterValidator(checked)


def _sendable(value: Any, depth: int = 0) -> Any:
    """Return the value, or reject it if a JSON body cannot contain it."""
    if isinstance(value, dict | list):
        if depth >= MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        for each in [*value, *value.values()] if isinstance(value, dict) else value:
            _sendable(each, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot be sent: JSON has no such number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ValueError(f"{value} cannot be sent: JSON readers support integers of at most 64 bits")
    elif isinstance(value, str) and not value.isascii() and value.encode(errors="ignore").decode() != value:
        raise ValueError(f"{value!r} cannot be sent: it is not Unicode text")
    return value


def _text_schema(pattern: str, *examples: str) -> WithJsonSchema:
    schema: dict[str, Any] = {"type": "string", "pattern": pattern, "examples": list(examples)}
    return WithJsonSchema(schema, mode="validation")


Duration = Annotated[float, BeforeValidator(parse_duration), _text_schema(DURATION_PATTERN, "500ms", "5s", "2m")]
"""A duration in seconds. A file writes it with a unit."""
PositiveDuration = Annotated[Duration, _above_zero("Write a duration such as '5s'.")]
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
"""Number of operations that arrive at once, or a multiple of the limit's whole quota."""
LimitSpec = Annotated[
    Limit, BeforeValidator(parse_limit), PlainSerializer(str), _text_schema(LIMIT_PATTERN, "100/60s", "100/min")
]
Share = Annotated[
    float, BeforeValidator(parse_share), WithJsonSchema({"type": ["number", "string"], "examples": [0.05, "5%"]})
]
PositiveShare = Annotated[Share, _above_zero("Write a share such as 0.1 or '10%'.")]
Name = Annotated[str, AfterValidator(_named)]


def _word_schema(words: Iterable[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": [str(word) for word in words]}, mode="validation")


# These types are not strict, because a file contains the text of an enum's member.
OperationWord = Annotated[Operation, Field(strict=False), _word_schema(Operation)]
LimitWord = Annotated[LimitName, Field(strict=False), _word_schema(LimitName)]
CodeWord = Annotated[ErrorCode, Field(strict=False), _word_schema(ErrorCode)]
EndState = Literal[JobState.COMPLETED, JobState.FAILED]
JsonObject = Annotated[dict[str, Any], AfterValidator(_sendable)]
"""Values of a JSON body."""
Status = Annotated[int, Field(ge=100, le=599)]


class Strict(BaseModel):
    """A table of a scenario. It is strictly typed and immutable, and rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)
