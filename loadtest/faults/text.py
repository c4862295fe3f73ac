"""Faults as people write them: on the command line, in a scenario, for the control endpoint; and in plain words."""

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Final

import msgspec
from msgspec import inspect

from loadtest.errors import InputError
from loadtest.faults.kinds import KINDS, SECONDS, AnyFault, Fault, Starve
from loadtest.units import parse_duration

_AT: Final = re.compile(r"^(?P<problem>.*) - at `\$\.(?P<key>\w+).*`$", re.DOTALL)
_MISSING: Final = re.compile(r"^Object missing required field `(?P<key>.*)`$")


def parse(text: str) -> AnyFault:
    """Read ``"latency,ms=200,start=10s,duration=30s,probability=0.1,on=sync_run"``; several of ``on`` with ``+``.

    Raises:
        InputError: naming the kind or the key, and the nearest valid one.
    """
    kind, *parts = (part.strip() for part in text.split(","))
    values: dict[str, object] = {"kind": kind}
    for part in parts:
        key, equals, value = (each.strip() for each in part.partition("="))
        if not equals:
            raise InputError(f"{part!r} is not KEY=VALUE", "As in latency,ms=200,start=10s.")
        if key in values:
            raise InputError(f"{key}: is there twice", "Say it once; several of on are joined by +.")
        values[key] = value.split("+") if key == "on" else _number(value)
    return from_values(values)


def from_values(values: Mapping[str, object]) -> AnyFault:
    """Read a fault from keys and values, as TOML and JSON have them.

    Durations are texts with a unit, ``probability`` is a number from 0 to 1 or a percentage, ``on`` one or several.

    Raises:
        InputError: naming the kind or the key, and the nearest valid one.
    """
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        said = "kind: is missing" if kind is None or not kind else f"kind: there is no fault {kind!r}"
        raise InputError(said, _nearest(str(kind or ""), list(KINDS)))
    fields = KINDS[kind].__struct_fields__
    for key in values:
        if key != "kind" and key not in fields:
            raise InputError(f"{key}: unknown key of {kind}", _nearest(key, fields))
    try:
        read = {key: _value(key, value) for key, value in values.items()}
        _check_choices(KINDS[kind], read)
        fault: AnyFault = msgspec.convert(read, AnyFault)
    except ValueError as error:  # also msgspec's own
        raise InputError(_explain(str(error)), f"{kind} knows: {', '.join(fields)}.") from None
    return fault


def check_keys(fault: Fault, keys: int) -> None:
    """Check that every API key that a fault is about is there, and two where one is to starve the other.

    Raises:
        InputError: naming the one that isn't.
    """
    for name in ("key", "by"):
        if (index := getattr(fault, name, None)) is not None and index >= keys:
            there = "is 1 key, number 0" if keys == 1 else f"are {keys} keys, numbers 0 to {keys - 1}"
            raise InputError(f"{name}: there is no key {index}", f"There {there}.")
    if isinstance(fault, Starve) and keys == 1:
        raise InputError("key: there is no other key that could starve it", "It takes two keys.")


def to_text(fault: Fault) -> str:
    """The one text that stands for a fault: ``parse(to_text(fault)) == fault``."""
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
        return _decimal(value) + ("s" if key in SECONDS else "")
    return str(value)


def _decimal(number: float) -> str:
    text = format(Decimal(repr(number)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _number(value: str) -> object:
    """A number that was written as text; whatever else it is stays as it is."""
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if math.isfinite(number) and number.is_integer() and abs(number) < 2**53 else number


def _value(key: str, value: object) -> Any:
    if key in SECONDS:
        return _seconds(key, value)
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{key}: {value} is no value for it")
    if key == "on" and isinstance(value, str):
        return [value]
    if key == "probability" and isinstance(value, str) and value.endswith("%"):
        number = _number(value[:-1].strip())
        return float(number) / 100 if isinstance(number, int | float) else value
    return value


def _seconds(key: str, value: object) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _check_choices(kind: type[Fault], values: Mapping[str, Any]) -> None:
    """Refuse a word that a key doesn't know, with the nearest that it does."""
    known: dict[str, Sequence[Any]] = {"on": kind.ON}
    for field in inspect.type_info(kind).fields:  # type: ignore[attr-defined] # that of a Struct has them
        inner = field.type.type if isinstance(field.type, inspect.Metadata) else field.type
        if isinstance(inner, inspect.LiteralType):
            known[field.name] = inner.values
    for key, words in known.items():
        for word in _each(values.get(key)):
            if word not in words:
                raise ValueError(f"{key}: {word!r} is not valid here{_or_nearest(str(word), words)}")


def _each(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)


def _explain(problem: str) -> str:
    """Begin with the key, where msgspec ends with it."""
    if match := _AT.match(problem):
        what = match["problem"].replace(" | null", "").replace("`float`", "a number").replace("`int`", "a whole number")
        return f"{match['key']}: {what[0].lower()}{what[1:]}"
    if match := _MISSING.match(problem):
        return f"{match['key']}: is missing"
    return problem


def _nearest(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"There is: {', '.join(known)}."


def _or_nearest(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(known)}"
