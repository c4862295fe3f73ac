"""The JSON schema of scenario files, for editors that complete and check TOML as it is written."""

import ast
import inspect
import json
import textwrap
from typing import Any, Final

from pydantic import BaseModel

from loadtest.scenario.model import Scenario

# Draft 7 is what editors' TOML plug-ins know; nothing in here needs a later one.
_DIALECT: Final = "http://json-schema.org/draft-07/schema#"
_SECONDS_PATTERN: Final = "(ms|s|m|min|h)$"


def scenario_schema() -> dict[str, Any]:
    """The schema: every key with its type, its default as a file would say it, and what it means.

    It is wider than the reader of scenarios: what depends on several keys together is checked there only.
    """
    schema = Scenario.model_json_schema()
    models = {model.__name__: model for model in _models(Scenario)}
    for name, table in {"Scenario": schema, **schema["$defs"]}.items():
        meanings = _attribute_docstrings(models[name])
        table["description"] = _plain(table.get("description", ""))
        table.pop("title", None)
        for key, value in table.get("properties", {}).items():
            table["properties"][key] = _cleaned(value, meanings.get(key, meanings.get(f"{key}_", "")))
    return {"$schema": _DIALECT, "title": "Scenario of loadtest", **schema}


def schema_text() -> str:
    """The schema as the file that is checked in."""
    return json.dumps(scenario_schema(), indent=2, ensure_ascii=False) + "\n"


def _cleaned(value: dict[str, Any], meaning: str) -> dict[str, Any]:
    """One key: without generated titles, and without null, which TOML cannot say."""
    default = value.pop("default", None)
    value.pop("title", None)
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


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and every model below it."""
    found = [model]
    for field in model.model_fields.values():
        found += [each for inner in _models_in(field.annotation) for each in _models(inner)]
    return found


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [each for inner in getattr(annotation, "__args__", ()) for each in _models_in(inner)]


def _attribute_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The strings that stand below a model's attributes, by attribute."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    if not isinstance(definition, ast.ClassDef):
        return {}
    found = {}
    for node, below in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            found[node.target.id] = _plain(below.value.value)
    return found


def _plain(text: str) -> str:
    """A docstring's first paragraph without the marks of code."""
    return " ".join(inspect.cleandoc(text).partition("\n\n")[0].replace("``", "").split())
