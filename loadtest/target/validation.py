"""What a validation error says to the caller: which field, and what is wrong with it."""

import re

import msgspec

_AT = re.compile(r"^(?P<problem>.*) - at `\$\.?(?P<path>.*)`$", re.DOTALL)
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
