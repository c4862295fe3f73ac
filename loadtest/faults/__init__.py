"""Fault injection for the reference API: conversions of faults from and to text, and their JSON schema for editors.

A fault here is only a description. The reference API applies it.
"""

import contextlib
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal, get_type_hints

import msgspec

from loadtest.contract import LimitName
from loadtest.errors import WrongValueError
from loadtest.faults import kinds
from loadtest.faults.kinds import KINDS, Fault
from loadtest.units import DURATION_PATTERN, parse_duration
from loadtest.words import did_you_mean, not_valid

__all__ = [
    "CONTROL_VARIABLE",
    "KINDS",
    "Fault",
    "check_keys",
    "fault_schema",
    "from_values",
    "kinds",
    "parse",
    "to_text",
    "to_words",
]

CONTROL_VARIABLE: Final = "LOADTEST_CONTROL"
"""This environment variable of load processes has the URL of an embedded target's control endpoint."""
_DURATION: Final = {"type": "string", "pattern": DURATION_PATTERN, "examples": ["500ms", "10s", "2m"]}
_WORDS: Final[dict[type[Fault], str]] = {
    kinds.Truncate: "truncated answers",
    kinds.NeverFinish: "jobs that never finish",
    kinds.WrongResult: "wrong results",
    kinds.BackToPending: "jobs that ended and are pending again",
    kinds.Throttle: "429 without reason",
}
"""Descriptions of the kinds that have no keys of their own."""


def parse(text: str) -> Fault:
    """Parse text such as ``"latency,ms=200,start=10s,probability=0.1,on=sync_run"``. ``+`` joins values of ``on``.

    Raises:
        WrongValueError: if a kind, key or value is wrong.
    """
    kind, *parts = (part.strip() for part in text.split(","))
    values: dict[str, object] = {"kind": kind}
    for part in parts:
        key, equals, value = (each.strip() for each in part.partition("="))
        if not equals:
            raise WrongValueError(f"{part!r} is not KEY=VALUE", "Example: latency,ms=200,start=10s.")
        if key in values:
            raise WrongValueError("is given twice", "Give it once; join values of on with +.", key=key)
        values[key] = value.split("+") if key == "on" else _number(value)
    return from_values(values)


def from_values(values: Mapping[str, object]) -> Fault:
    """Make a fault from the keys and values of TOML or JSON. Raise ``WrongValueError`` like ``parse``.

    ``start``, ``duration`` and ``idle`` are texts with a unit. ``probability`` is a number from 0 to 1, or a
    percentage. ``on`` is a limit's name or a list of names.
    """
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        problem = f"there is no fault {kind!r}" if kind else "is missing"
        raise WrongValueError(problem, did_you_mean(str(kind or ""), list(KINDS)), key="kind")
    made = KINDS[kind]
    hints = get_type_hints(made, include_extras=True)
    required = {each.name: each.required for each in msgspec.structs.fields(made)}
    for key in values:
        if key not in {"kind", *required}:
            raise WrongValueError(f"unknown key of {kind}", did_you_mean(key, list(required)), key=key)
    remedy = f"Keys of {kind}: {', '.join(required)}."
    if missing := [key for key in required if required[key] and key not in values]:
        raise WrongValueError("is missing", remedy, key=missing[0])
    try:
        return made(**{key: _value(made, key, value, hints[key]) for key, value in values.items() if key != "kind"})
    except WrongValueError as error:
        raise WrongValueError(error.problem, remedy, key=error.key) from None


def check_keys(fault: Fault, keys: int) -> None:
    """Raise ``WrongValueError`` if a fault names an API key that does not exist, or starves the only key."""
    for name in ("key", "by"):
        if (index := getattr(fault, name, None)) is not None and index >= keys:
            there = "is 1 key, number 0" if keys == 1 else f"are {keys} keys, numbers 0 to {keys - 1}"
            raise WrongValueError(f"there is no key {index}", f"There {there}.", key=name)
    if isinstance(fault, kinds.Starve) and keys == 1:
        raise WrongValueError("there is no other key to starve it", "Use at least two keys.", key="key")


def to_text(fault: Fault) -> str:
    """Return the canonical text of a fault, which ``parse`` converts back to the same fault."""
    parts = [fault.kind]
    for field in msgspec.structs.fields(fault):
        value = getattr(fault, field.name)
        if isinstance(value, tuple):
            text = "+".join(value)
        elif isinstance(value, float):
            text = format(Decimal(repr(value)), "f")
            text = text.rstrip("0").rstrip(".") if "." in text else text
            text += "s" if field.name in kinds.SECONDS else ""
        else:
            text = str(value)
        if value != field.default:
            parts.append(f"{field.name}={text}")
    return ",".join(parts)


def _number(value: str) -> object:
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if math.isfinite(number) and number.is_integer() and abs(number) < 2**53 else number


def _value(made: type[Fault], key: str, value: object, hint: Any) -> Any:
    if key in kinds.SECONDS:
        try:
            return parse_duration(value)
        except ValueError as error:
            raise WrongValueError(str(error), key=key) from None
    if key == "on":
        for word in (given := value if isinstance(value, list) else [value]):
            if word not in made.ON:
                raise WrongValueError(not_valid(word, Literal[made.ON]), key=key)
        return tuple(map(LimitName, given))
    number = value
    if key == "probability" and isinstance(value, str) and value.endswith("%"):
        number = _number(value[:-1].strip())
        number = float(number) / 100 if isinstance(number, int | float) else value
    if not isinstance(number, float) or math.isfinite(number):
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(number, hint)
    raise WrongValueError(not_valid(value, hint), key=key)


def to_words(fault: Fault) -> str:
    """Describe a fault, for example ``latency 200 ms on sync_run from 10 s for 30 s with probability 10 %``."""
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
        parts.append(f"with probability {fault.probability * 100:g} %")
    return " ".join(parts)


def _what(fault: Fault) -> str:
    match fault:
        case kinds.Latency(shape="lognormal"):
            return f"lognormal latency (median {fault.ms:g} ms, sigma {fault.sigma:g})"
        case kinds.Latency(shape="ramp"):
            return f"latency growing to {fault.ms:g} ms"
        case kinds.Latency():
            return f"latency {fault.ms:g} ms"
        case kinds.SlowExecution():
            return "slow execution, " + _changed(fault.factor, fault.ms)
        case kinds.Freeze():
            return "freeze of the whole server" + (
                "" if fault.ms is None else f" for {fault.ms:g} ms per affected request"
            )
        case kinds.Error():
            return f"error {fault.status}"
        case kinds.Reset():
            return f"reset {'before execution' if fault.when == 'before' else 'in the middle of answers'}"
        case kinds.Garbage():
            return "garbage that is not " + ("JSON" if fault.what == "body" else "HTTP")
        case kinds.DuplicateResult():
            return "results of the previous job or run" if fault.what == "result" else "ids of the previous job"
        case kinds.FalseExecutionTime(value="off"):
            return "false executionTime, " + _changed(fault.factor, fault.ms)
        case kinds.FalseExecutionTime():
            how = "longer than the client measured" if fault.value == "above" else fault.value
            return f"false executionTime, {how}"
        case kinds.ColdStart():
            return f"cold start of {fault.ms:g} ms after {fault.idle:g} s without requests"
        case kinds.Starve():
            return f"key {fault.key} starved by {'any other key' if fault.by is None else f'key {fault.by}'}"
    return _WORDS[type(fault)]


def _changed(factor: float, ms: float) -> str:
    parts = [f"{factor:g} times"] if factor != 1 else []
    return " ".join([*parts, *([f"{ms:+g} ms"] if ms else [])])


def fault_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 7) of one fault."""
    return {
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": list(KINDS), "description": "Kind of fault."}},
        "oneOf": [_kind_schema(kind) for kind in KINDS.values()],
    }


def _kind_schema(kind: type[Fault]) -> dict[str, Any]:
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


def _property(key: str, value: dict[str, Any], kind: type[Fault]) -> dict[str, Any]:
    """Return the JSON schema of a fault's key. Null is left out, because TOML lacks it."""
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
            "description": "The fault affects only these kinds of requests.",
        }
        default = None
    return value if default is None else {**value, "default": default}
