"""The JSON schema of a fault, for editors: one form for each kind, told apart by ``kind``."""

from typing import Any, Final

import msgspec

from loadtest.faults.kinds import KINDS, SECONDS, Fault
from loadtest.units import DURATION_PATTERN

_DURATION: Final = {"type": "string", "pattern": DURATION_PATTERN, "examples": ["500ms", "10s", "2m"]}


def fault_schema() -> dict[str, Any]:
    """The schema (draft 7) of one fault as TOML and JSON write it."""
    return {
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": list(KINDS), "description": "What goes wrong."}},
        "oneOf": [_of(kind) for kind in KINDS.values()],
    }


def _of(kind: type[Fault]) -> dict[str, Any]:
    _, found = msgspec.json.schema_components([kind])
    schema: dict[str, Any] = found[kind.__name__]
    name = str(kind.__struct_config__.tag)
    properties = {key: _property(key, value, kind) for key, value in schema["properties"].items() if key != "kind"}
    properties = {"kind": {"const": name, "description": schema["description"].splitlines()[0]}, **properties}
    required = ["kind", *(key for key in schema["required"] if key != "kind")]
    return {
        "title": name,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _property(key: str, value: dict[str, Any], kind: type[Fault]) -> dict[str, Any]:
    """One key, without null, which TOML can't say, and as it is written rather than as it is kept."""
    default = value.pop("default", None)
    if "anyOf" in value:
        value = value["anyOf"][0]
    if key in SECONDS:
        value = {**_DURATION, "description": value["description"]}
        default = None if default is None else f"{default:g}s"
    elif key == "probability":
        value = {"description": value["description"], "anyOf": [_without(value), {"type": "string", "pattern": "%$"}]}
    elif key == "on":
        names = {"enum": list(kind.ON)}
        value = {"anyOf": [names, {"type": "array", "items": names}], "description": "Only these kinds of requests."}
        default = None
    return value if default is None else {**value, "default": default}


def _without(value: dict[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in value.items() if key != "description"}
