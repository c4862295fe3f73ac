"""The JSON schema of scenario files, for editors that complete and check TOML as it is written."""

import inspect
import json
from typing import Any, Final

from loadtest.scenario.model import Scenario

# Draft 7 is what editors' TOML plug-ins know; nothing in here needs a later one.
_DIALECT: Final = "http://json-schema.org/draft-07/schema#"
_SECONDS_PATTERN: Final = "(ms|s|m|min|h)$"


def scenario_schema() -> dict[str, Any]:
    """The schema: every key with its type, its default as a file would say it, and what it means.

    It is wider than the reader of scenarios: what depends on several keys together is checked there only.
    """
    schema = Scenario.model_json_schema()
    for table in (schema, *schema["$defs"].values()):
        table["description"] = _plain(table.get("description", ""))
        table.pop("title", None)
        for key, value in table.get("properties", {}).items():
            table["properties"][key] = _cleaned(value)
    return {"$schema": _DIALECT, "title": "Scenario of loadtest", **schema}


def schema_text() -> str:
    """The schema as the file that is checked in."""
    return json.dumps(scenario_schema(), indent=2, ensure_ascii=False) + "\n"


def _cleaned(value: dict[str, Any]) -> dict[str, Any]:
    """One key: without generated titles, and without null, which TOML cannot say."""
    default = value.pop("default", None)
    value.pop("title", None)
    meaning = _plain(value.pop("description", ""))
    kinds = [each for each in value.pop("anyOf", []) if each != {"type": "null"}]
    if len(kinds) == 1:
        value = {**kinds[0], **value}
    elif kinds:
        value["anyOf"] = kinds
    if isinstance(default, str | int | float):
        # A table's own keys say their defaults. Durations are numbers of seconds once they are read.
        is_duration = isinstance(default, float) and _SECONDS_PATTERN in value.get("pattern", "")
        value["default"] = f"{default:g}s" if is_duration else default
    return {"description": meaning, **value} if meaning else value


def _plain(text: str) -> str:
    """A docstring's first paragraph without the marks of code."""
    return " ".join(inspect.cleandoc(text).partition("\n\n")[0].replace("``", "").split())
