"""The JSON schema of scenarios, for editors. It is generated from the types and docstrings of the scenario's keys."""

import ast
import inspect
import json
import sys
from itertools import pairwise
from typing import Any, Final

from loadtest.scenario.model import Scenario
from loadtest.scenario.traffic import Traffic

# Draft 7 is the version that editors' TOML plug-ins support.
_DIALECT: Final = "http://json-schema.org/draft-07/schema#"
_SECONDS_PATTERN: Final = "(ms|s|m|min|h)$"


def schema_text() -> str:
    """Return the schema as the text of a file."""
    return json.dumps(scenario_schema(), indent=2, ensure_ascii=False) + "\n"


def scenario_schema() -> dict[str, Any]:
    """Return the schema. Each key has its type, its description, and its default as a file writes it.

    The schema is less strict than the parser, which also checks combinations of keys.
    """
    schema, meanings = Scenario.model_json_schema(), _meanings()
    for name, table in ((Scenario.__name__, schema), *schema["$defs"].items()):
        table["description"] = _plain(table.get("description", ""))
        table.pop("title", None)
        for key, value in table.get("properties", {}).items():
            meaning = meanings.get((name, key))
            table["properties"][key] = _cleaned(value | ({"description": meaning} if meaning else {}))
    return {"$schema": _DIALECT, "title": "Scenario of loadtest", **schema}


def _meanings() -> dict[tuple[str, str], str]:
    """Return the docstring of each key, by the names of its table and the key.

    pydantic's ``use_attribute_docstrings`` also reads them. But it parses all classes at each start, for 0.15 s of CPU.
    """
    modules = [sys.modules[table.__module__] for table in (Traffic, Scenario)]
    return {
        (table.name, key.target.id): inspect.cleandoc(text)
        for module in modules
        for table in ast.parse(inspect.getsource(module)).body
        if isinstance(table, ast.ClassDef)
        for key, below in pairwise(table.body)
        if isinstance(key, ast.AnnAssign) and isinstance(key.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(text := ast.literal_eval(below.value), str)
    }


def _cleaned(value: dict[str, Any]) -> dict[str, Any]:
    """Remove the generated title and null from the schema of a key. TOML has no null."""
    default = value.pop("default", None)
    value.pop("title", None)
    meaning = _plain(value.pop("description", ""))
    kinds = [each for each in value.pop("anyOf", []) if each != {"type": "null"}]
    if len(kinds) == 1:
        value = {**kinds[0], **value}
    elif kinds:
        value["anyOf"] = kinds
    if isinstance(default, str | int | float):
        # Only the keys of a table have defaults. Parsed durations are seconds.
        is_duration = isinstance(default, float) and _SECONDS_PATTERN in value.get("pattern", "")
        value["default"] = f"{default:g}s" if is_duration else default
    return {"description": meaning, **value} if meaning else value


def _plain(text: str) -> str:
    return " ".join(inspect.cleandoc(text).partition("\n\n")[0].replace("``", "").split())
