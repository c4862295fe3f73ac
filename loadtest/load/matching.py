"""Whether a result is the expected one: a subset to match, or a JSON schema. A wrong result is a failed operation."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs

from loadtest.errors import InputError


class Matcher:
    """Compares results with what a scenario expects.

    Args:
        subset: keys that must be there with these values, tables within tables alike; None accepts all.
        schema: a JSON schema to meet; None accepts all.
    """

    def __init__(self, subset: dict[str, Any] | None, schema: dict[str, Any] | bool | None) -> None:
        self._subset = subset
        self._validator = None if schema is None else jsonschema_rs.validator_for(schema)

    def matches(self, result: Any) -> bool:
        """Whether a result is as expected."""
        if self._subset is not None and not contains(result, self._subset):
            return False
        return self._validator is None or self._validator.is_valid(result)


def contains(value: Any, wanted: Any) -> bool:
    """Whether ``value`` equals ``wanted``, or is a table that contains all of it. Lists must be equal throughout."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(key in value and contains(value[key], wanted[key]) for key in wanted)
    # True == 1 in Python, not in JSON.
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def read_schema(path: Path) -> Any:
    """Read a JSON schema.

    Raises:
        InputError: if the file cannot be read, or holds none.
    """
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
        jsonschema_rs.validator_for(schema)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read result_schema from {path}: {error}", "Name a file with a JSON schema.") from None
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it cannot be read"
        raise InputError(f"{path} is no JSON schema: {reason}", "See json-schema.org.") from None
    return schema
