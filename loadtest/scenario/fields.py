"""Strictly checked TOML files: the types of their values, and the check of a file.

A value's own check raises a ``ValueError`` whose text is the message, or a ``WrongValueError``, which may name a key
below the checked value. Only ``checked`` turns pydantic's errors into messages, which name file, key and problem.
"""

import contextlib
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails

from loadtest.contract import ErrorCode, JobState, LimitName, Operation
from loadtest.errors import InputError, WrongValueError, WrongValuesError
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
from loadtest.words import not_valid, ordinal, plain_type, suggestion

MAX_BURST: Final = 1_000_000
MAX_DEPTH: Final = 32
"""Values may be nested at most this deep. A JSON encoder fails only at a far greater depth."""
_MOST_PARTS: Final = 100


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
            raise ValueError(f"must be above zero. {remedy}")
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
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


def _word_schema(words: Iterable[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": [str(word) for word in words]})


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
    WithJsonSchema({"type": ["integer", "string"], "examples": [100, "1x limit"]}),
]
"""Number of operations that arrive at once, or a multiple of a window's quota for all keys of the entry."""
LimitSpec = Annotated[
    Limit, BeforeValidator(parse_limit), PlainSerializer(str), _text_schema(LIMIT_PATTERN, "100/60s", "100/min")
]
Share = Annotated[
    float, BeforeValidator(parse_share), WithJsonSchema({"type": ["number", "string"], "examples": [0.05, "5%"]})
]
PositiveShare = Annotated[Share, _above_zero("Write a share such as 0.1 or '10%'.")]
Name = Annotated[str, AfterValidator(_named)]
# These types are not strict, because a file contains the text of an enum's member.
OperationWord = Annotated[Operation, Field(strict=False), _word_schema(Operation)]
LimitWord = Annotated[LimitName, Field(strict=False), _word_schema(LimitName)]
CodeWord = Annotated[ErrorCode, Field(strict=False), _word_schema(ErrorCode)]
EndState = Literal[JobState.COMPLETED, JobState.FAILED]
JsonObject = Annotated[dict[str, Any], AfterValidator(_sendable)]
Status = Annotated[int, Field(ge=100, le=599)]


class Strict(BaseModel):
    """A table of a TOML file. It is strictly typed and immutable, and rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    def problems(self) -> Mapping[str, object]:
        """Return messages about wrong combinations of keys, and whether each applies. The first that does is raised."""
        return {}

    @model_validator(mode="after")
    def _has_no_problem(self) -> Self:
        if problem := next((message for message, applies in self.problems().items() if applies), ""):
            raise ValueError(problem)
        return self


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. A file that cannot be read, or is not TOML, raises InputError."""
    try:
        text = path.read_text(encoding="utf-8")
        # tomllib looks up every prefix of a dotted key, so time and memory grow with the square of its length.
        keys = [piece.split(".") for piece in re.split(r"[=\[\]{},\n]", text) if piece.count(".") >= _MOST_PARTS]
        if any(all(part.strip() for part in parts) for parts in keys):
            raise InputError(f"{path}: a dotted key has more than {_MOST_PARTS} parts", "Use fewer parts.")
        return tomllib.loads(text)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        # A ValueError is tomllib's own error, a UnicodeDecodeError, or the error of a number with too many digits.
        raise InputError(f"{path} is not TOML: {error}") from error


def checked(annotation: Any, raw: dict[str, Any], where: object, whole: str = "") -> Any:
    """Check the content of a file against a type: a model, or a dict of models.

    Messages name the file ``where``, and call its whole content ``whole``.

    Raises:
        InputError: with file, key and problem of every error.
    """
    try:
        return TypeAdapter(annotation).validate_python(raw)
    except ValidationError as error:
        found = [_lines(problem, raw, annotation, whole, where) for problem in error.errors(include_url=False)]
        raise InputError("\n".join(f"{where}: {line}" for lines in found for line in lines)) from None


def _lines(problem: ErrorDetails, raw: Any, root: Any, whole: str, path: object) -> Iterator[str]:
    """Format one of pydantic's errors as lines ``KEY: problem``."""
    loc = list(problem["loc"])
    kind, value, cause = problem["type"], problem["input"], problem.get("ctx", {}).get("error")
    # For a wrong key of a table, pydantic's location ends with "[key]", but a file may have a key of that name, too.
    is_key = loc[-1:] == ["[key]"] and kind != "extra_forbidden"
    if is_key:
        loc.pop()
    causes = cause.errors if isinstance(cause, WrongValuesError) else [cause]
    for each in causes:
        at = [*loc, *split_key(each.key)] if isinstance(each, WrongValueError) else loc
        where = place(at, raw, path) or whole
        if isinstance(each, WrongValueError):
            message = f"{each.problem}. {each.remedy}" if each.remedy else each.problem
        elif isinstance(each, ValueError):
            message = str(each)
        elif kind == "extra_forbidden":
            model, _ = plain_type(_annotation_at(root, loc[:-1]))
            message = f"unknown key{suggestion(str(loc[-1]), list(_fields(model)))}"
        elif kind == "missing":
            message = "is missing"
        elif kind in {"model_type", "dict_type"}:
            message = "must be a table"
        elif kind == "list_type":
            message = f"must be a list{f': write [[{where}]]' if isinstance(value, dict) else ''}"
        else:
            annotation = _annotation_at(root, loc[:-1] if is_key else loc)
            message = not_valid(value, get_args(plain_type(annotation)[0])[0] if is_key else annotation)
        yield f"{where}: {message}"


def split_key(key: str) -> list[str | int]:
    """Split a dotted key. Whole numbers become places in a list."""
    return [int(part) if part.isdecimal() else part for part in key.split(".") if part]


def place(loc: Sequence[Any], raw: Any, path: object = None) -> str:
    """Format the place of a value in a file: ``traffic.jobs.timeout``, ``the third [[threshold]] (line 41), require``.

    A list item is shown by its ``name``. Without a name, it is shown by its position, and a table also by its line.
    """
    parts: list[str] = []
    text = ""
    for part in loc:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            raw = None
        if not isinstance(part, int):
            parts.append(str(part))
        elif isinstance(raw, dict) and isinstance(raw.get("name"), str):
            parts.append(raw["name"])
        else:
            name = ".".join(parts)
            item = f"[[{name}]]{_line_of(name, part, path)}" if isinstance(raw, dict) else f"of {name}"
            text += f"the {ordinal(part + 1)} {item}, "
            parts = []
    return f"{text}{'.'.join(parts)}".removesuffix(", ")


def _line_of(name: str, index: int, path: object) -> str:
    """Return the line number of a table's header in a TOML file, in parentheses; empty if no header is found."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if isinstance(path, Path) else []
    except (OSError, UnicodeError):
        lines = []
    headers = ["".join(line.partition("#")[0].split()) for line in lines]
    found = [number for number, header in enumerate(headers, 1) if header == f"[[{name}]]"]
    return f" (line {found[index]})" if index < len(found) else ""


def _annotation_at(root: Any, loc: Sequence[Any]) -> Any:
    """Return the annotation of the field at a location below ``root``, with its bounds."""
    for part in loc:
        kind, _ = plain_type(root)
        root = _fields(kind).get(str(part)) or (get_args(kind) or (Any,))[-1]
    return root


def _fields(model: Any) -> dict[str, Any]:
    """Return a model's annotations, by the names that files use. Other types have none."""
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return {}
    return {field.alias or name: Annotated[(field.annotation, field)] for name, field in model.model_fields.items()}
