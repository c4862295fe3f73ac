"""What a validation error says to the caller: which field, and what is wrong with it."""

import re
from typing import Any, Final

import msgspec

_AT = re.compile(r"^(?P<problem>.*) - at `\$\.?(?P<path>.*)`$", re.DOTALL)
_DEEPEST: Final = 16
_FIELD = re.compile(r"^Object (contains unknown|missing required) field `(?P<name>.*)`$", re.DOTALL)


def explain(error: msgspec.ValidationError, within: str = "") -> dict[str, str]:
    """Turn a validation error into ``{"field", "problem"}``, the field with its path under ``within``."""
    problem, path = str(error), within
    if match := _AT.match(problem):
        problem = match["problem"]
        path = ".".join(part for part in (within, match["path"]) if part)
    if match := _FIELD.match(problem):
        path = ".".join(part for part in (path, match["name"]) if part)
    return {"field": path, "problem": problem}


def locate(raw: bytes, within: str) -> str:
    """The path of the first value in a JSON text that can't be decoded, down to 16 levels.

    Args:
        raw: well-formed JSON, with a number in it that no type can hold.
        within: the path of the whole text.
    """
    for _ in range(_DEEPEST):
        kind: Any = {b"{": dict[str, msgspec.Raw], b"[": list[msgspec.Raw]}.get(raw.strip()[:1])
        if kind is None:
            break
        children = msgspec.json.decode(raw, type=kind)
        named = children.items() if isinstance(children, dict) else enumerate(children)
        key, raw = next((key, bytes(child)) for key, child in named if not _decodes(child))
        within += f".{key}" if isinstance(key, str) else f"[{key}]"
    return within


def _decodes(raw: msgspec.Raw) -> bool:
    try:
        msgspec.json.decode(raw)
    except msgspec.ValidationError:
        return False
    return True
