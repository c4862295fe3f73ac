"""Conversion of faults from and to text, keys and values, words, and a schema for editors."""

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import inspect

from loadtest.errors import WrongValueError
from loadtest.faults import kinds
from loadtest.units import DURATION_PATTERN, parse_duration
from loadtest.words import did_you_mean, suggestion

_DURATION: Final = {"type": "string", "pattern": DURATION_PATTERN, "examples": ["500ms", "10s", "2m"]}
_AT: Final = re.compile(r"^(?P<problem>.*) - at `\$\.(?P<key>\w+).*`$", re.DOTALL)
_WORDS: Final[dict[type[kinds.Fault], str]] = {
    kinds.Truncate: "truncated answers",
    kinds.NeverFinish: "jobs that never finish",
    kinds.WrongResult: "wrong results",
    kinds.BackToPending: "jobs that ended and are pending again",
    kinds.Throttle: "429 without reason",
}
"""Kinds without keys of their own."""
_MISSING: Final = re.compile(r"^Object missing required field `(?P<key>.*)`$")


def parse(text: str) -> kinds.AnyFault:
    """Parse ``"latency,ms=200,start=10s,duration=30s,probability=0.1,on=sync_run"``; ``+`` joins values of ``on``.

    Raises:
        WrongValueError: with the kind or the key, and the nearest valid one.
    """
    kind, *parts = (part.strip() for part in text.split(","))
    values: dict[str, object] = {"kind": kind}
    for part in parts:
        key, equals, value = (each.strip() for each in part.partition("="))
        if not equals:
            raise WrongValueError(f"{part!r} is not KEY=VALUE", "Example: latency,ms=200,start=10s.")
        if key in values:
            raise WrongValueError(f"{key}: is given twice", "Give it once; join values of on with +.")
        values[key] = value.split("+") if key == "on" else _number(value)
    return from_values(values)


def from_values(values: Mapping[str, object]) -> kinds.AnyFault:
    """Parse a fault from keys and values of TOML or JSON.

    Durations are texts with a unit, ``probability`` is a number from 0 to 1 or a percentage, ``on`` is a kind or a
    list.

    Raises:
        WrongValueError: with the kind or the key, and the nearest valid one.
    """
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in kinds.KINDS:
        problem = "kind: is missing" if kind is None or not kind else f"kind: there is no fault {kind!r}"
        raise WrongValueError(problem, did_you_mean(str(kind or ""), list(kinds.KINDS)))
    fields = kinds.KINDS[kind].__struct_fields__
    for key in values:
        if key != "kind" and key not in fields:
            raise WrongValueError(f"{key}: unknown key of {kind}", did_you_mean(key, fields))
    try:
        read = {key: _value(key, value) for key, value in values.items()}
        _check_choices(kinds.KINDS[kind], read)
        fault: kinds.AnyFault = msgspec.convert(read, kinds.AnyFault)
    except ValueError as error:  # msgspec's errors, too
        raise WrongValueError(_explain(str(error)), f"Keys of {kind}: {', '.join(fields)}.") from None
    return fault


def check_keys(fault: kinds.Fault, keys: int) -> None:
    """Check that the API keys of a fault exist, and that starving has a second key.

    Raises:
        WrongValueError: with the missing key.
    """
    for name in ("key", "by"):
        if (index := getattr(fault, name, None)) is not None and index >= keys:
            there = "is 1 key, number 0" if keys == 1 else f"are {keys} keys, numbers 0 to {keys - 1}"
            raise WrongValueError(f"{name}: there is no key {index}", f"There {there}.")
    if isinstance(fault, kinds.Starve) and keys == 1:
        raise WrongValueError("key: there is no other key to starve it", "Use at least two keys.")


def to_text(fault: kinds.Fault) -> str:
    """Return the canonical text of a fault: ``parse(to_text(fault)) == fault``."""
    parts = [fault.kind]
    for field in msgspec.structs.fields(fault):
        value = getattr(fault, field.name)
        if value != field.default:
            parts.append(f"{field.name}={_written(field.name, value)}")
    return ",".join(parts)


def _written(key: str, value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(value)
    if isinstance(value, float):
        return _decimal(value) + ("s" if key in kinds.SECONDS else "")
    return str(value)


def _decimal(number: float) -> str:
    text = format(Decimal(repr(number)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _number(value: str) -> object:
    """A number written as text; other texts stay as they are."""
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if math.isfinite(number) and number.is_integer() and abs(number) < 2**53 else number


def _value(key: str, value: object) -> Any:
    if key in kinds.SECONDS:
        try:
            return parse_duration(value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{key}: {value} is not a valid value")
    if key == "on" and isinstance(value, str):
        return [value]
    if key == "probability" and isinstance(value, str) and value.endswith("%"):
        number = _number(value[:-1].strip())
        return float(number) / 100 if isinstance(number, int | float) else value
    return value


def _check_choices(kind: type[kinds.Fault], values: Mapping[str, Any]) -> None:
    known: dict[str, Sequence[Any]] = {"on": kind.ON}
    for field in inspect.type_info(kind).fields:  # type: ignore[attr-defined] # a Struct's type has them
        inner = field.type.type if isinstance(field.type, inspect.Metadata) else field.type
        if isinstance(inner, inspect.LiteralType):
            known[field.name] = inner.values
    for key, words in known.items():
        value = values.get(key)
        given = value if isinstance(value, list) else [] if value is None else [value]
        for word in given:
            if word not in words:
                raise ValueError(f"{key}: {word!r} is not valid here{suggestion(str(word), words)}")


def _explain(problem: str) -> str:
    """Move msgspec's key from the end to the beginning."""
    if match := _AT.match(problem):
        what = match["problem"].replace(" | null", "").replace("`float`", "a number").replace("`int`", "a whole number")
        return f"{match['key']}: {what[0].lower()}{what[1:]}"
    if match := _MISSING.match(problem):
        return f"{match['key']}: is missing"
    return problem


def to_words(fault: kinds.Fault) -> str:
    """Describe a fault, for example ``latency 200 ms on sync_run from 10 s for 30 s with 10 %``."""
    parts = [_what(fault)]
    if fault.on:
        parts.append(f"on {' and '.join(fault.on)}")
    if fault.key is not None and not isinstance(fault, kinds.Starve):
        parts.append(f"of key {fault.key}")
    if fault.start:
        parts.append(f"from {fault.start:g} s")
    if fault.duration is not None:
        parts.append(f"for {fault.duration:g} s")
    if fault.probability != 1:
        parts.append(f"with {fault.probability * 100:g} %")
    return " ".join(parts)


def _what(fault: kinds.Fault) -> str:
    match fault:
        case kinds.Latency(shape="lognormal"):
            return f"latency of {fault.ms:g} ms in the median, lognormal with sigma {fault.sigma:g}"
        case kinds.Latency(shape="ramp"):
            return f"latency growing to {fault.ms:g} ms"
        case kinds.Latency():
            return f"latency {fault.ms:g} ms"
        case kinds.SlowExecution():
            return "slow execution, " + _changed(fault.factor, fault.ms)
        case kinds.Freeze():
            return "freeze of the whole server" + ("" if fault.ms is None else f" for {fault.ms:g} ms at a request")
        case kinds.Error():
            return f"error {fault.status}"
        case kinds.Reset():
            return f"reset {'before execution' if fault.when == 'before' else 'in the middle of answers'}"
        case kinds.Garbage():
            return "garbage that is not " + ("JSON" if fault.what == "body" else "HTTP")
        case kinds.DuplicateResult():
            return "results of the previous job or run" if fault.what == "result" else "ids of the job before"
        case kinds.FalseExecutionTime(value="off"):
            return "false executionTime, " + _changed(fault.factor, fault.ms)
        case kinds.FalseExecutionTime():
            how = "longer than the client measured" if fault.value == "above" else fault.value
            return f"false executionTime, {how}"
        case kinds.ColdStart():
            return f"cold start of {fault.ms:g} ms after {fault.idle:g} s of silence"
        case kinds.Starve():
            return f"key {fault.key} starved by {'any other' if fault.by is None else f'key {fault.by}'}"
    return _WORDS[type(fault)]


def _changed(factor: float, ms: float) -> str:
    parts = [f"{factor:g} times"] if factor != 1 else []
    return " ".join([*parts, *([f"{ms:+g} ms"] if ms else [])])


def fault_schema() -> dict[str, Any]:
    """Return the schema (draft 7) of one fault in TOML and JSON."""
    return {
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": list(kinds.KINDS), "description": "Kind of fault."}},
        "oneOf": [_kind_schema(kind) for kind in kinds.KINDS.values()],
    }


def _kind_schema(kind: type[kinds.Fault]) -> dict[str, Any]:
    _, found = msgspec.json.schema_components([kind])
    schema: dict[str, Any] = found[kind.__name__]
    name = str(kind.__struct_config__.tag)
    properties = {key: _property(key, value, kind) for key, value in schema["properties"].items() if key != "kind"}
    return {
        "title": name,
        "type": "object",
        "properties": {"kind": {"const": name, "description": schema["description"].splitlines()[0]}, **properties},
        "required": ["kind", *(key for key in schema["required"] if key != "kind")],
        "additionalProperties": False,
    }


def _property(key: str, value: dict[str, Any], kind: type[kinds.Fault]) -> dict[str, Any]:
    """Schema of one key as written in a file, without null, which TOML lacks."""
    default = value.pop("default", None)
    if "anyOf" in value:
        value = value["anyOf"][0]
    if key in kinds.SECONDS:
        value = {**_DURATION, "description": value["description"]}
        default = None if default is None else f"{default:g}s"
    elif key == "probability":
        description = value.pop("description")
        value = {"description": description, "anyOf": [value, {"type": "string", "pattern": "%$"}]}
    elif key == "on":
        names = {"enum": list(kind.ON)}
        value = {
            "anyOf": [names, {"type": "array", "items": names}],
            "description": "Affects only these kinds of requests.",
        }
        default = None
    return value if default is None else {**value, "default": default}
