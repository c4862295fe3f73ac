"""Strict TOML files: parsed and checked against a type, with every error naming file, key and remedy.

Only this module turns pydantic's errors into messages. A value's own check raises a ``ValueError`` whose text is the
message, or a ``WrongValueError``, which may name a key below the checked one.
"""

import re
import tomllib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from loadtest.errors import InputError, WrongValueError
from loadtest.words import ordinal, suggestion

_MOST_PARTS: Final = 100


def _is_endless(piece: str) -> bool:
    return piece.count(".") >= _MOST_PARTS and all(part.strip() for part in piece.split("."))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: if it cannot be read, or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        # tomllib looks up every prefix of a dotted key, so time and memory grow with the square of its length.
        if any(_is_endless(piece) for piece in re.split(r"[=\[\]{},\n]", text)):
            raise InputError(f"{path}: a dotted key has more than {_MOST_PARTS} parts", "Use fewer parts.")
        return tomllib.loads(text)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        # Besides its own error and UnicodeDecodeError, tomllib lets the ValueError of numbers with too many digits
        # pass.
        raise InputError(f"{path} is not TOML: {error}") from error


def checked(annotation: Any, raw: dict[str, Any], where: object, whole: str = "") -> Any:
    """Check the content of a file against a type: a model, or a dict of models.

    Messages call the file ``where``, and its content as a whole ``whole``.

    Raises:
        InputError: with file, key and remedy of every error.
    """
    try:
        return TypeAdapter(annotation).validate_python(raw)
    except ValidationError as error:
        lines = [
            f"{where}: {_line(problem, raw, annotation, whole, where)}" for problem in error.errors(include_url=False)
        ]
        raise InputError("\n".join(lines)) from None


def _line(problem: ErrorDetails, raw: Any, root: Any, whole: str, path: object) -> str:
    """Format one of pydantic's errors as ``KEY: problem``."""
    loc = list(problem["loc"])
    kind, message = problem["type"], problem["msg"].removeprefix("Value error, ")
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, WrongValueError):
        loc += split_key(cause.key)
        message = f"{cause.message}. {cause.remedy}" if cause.remedy else cause.message
    # pydantic ends the location of a wrong key of a table with this mark, but a file may also have a key of that name.
    is_key = loc[-1:] == ["[key]"] and kind != "extra_forbidden"
    if is_key:
        loc.pop()
    where = place(loc, raw, path) or whole
    if kind == "extra_forbidden":
        model = _model_in(_annotation_at(root, loc[:-1]))
        message = f"unknown key{suggestion(str(loc[-1]), [] if model is None else list(_fields(model)))}"
    elif kind in {"model_type", "dict_type"}:
        message = "must be a table"
    elif kind == "list_type":
        message = f"must be a list{f': write [[{where}]]' if isinstance(problem['input'], dict) else ''}"
    elif kind == "missing":
        message = "is missing"
    elif kind in {"literal_error", "enum"}:
        known = _words(get_args(_annotation_at(root, loc[:-1]))[0] if is_key else _annotation_at(root, loc))
        message = f"{problem['input']!r} is not valid here{suggestion(str(problem['input']), known)}"
    return f"{where}: {message}"


def split_key(key: str) -> list[str | int]:
    """Split a dotted key; whole numbers are places in a list."""
    return [int(part) if part.isdecimal() else part for part in key.split(".") if part]


def place(loc: Sequence[Any], raw: Any, path: object = None) -> str:
    """Format the place of a value in a file: ``traffic.jobs.timeout``, ``the third [[threshold]] (line 41), require``.

    A list item is written by its ``name`` if it has one; else it is counted, with its line in the file at ``path``.
    """
    parts: list[str] = []
    text = ""
    for part in loc:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            raw = None
        if not isinstance(part, int):
            parts.append(str(part))
        elif isinstance(raw, dict) and isinstance(raw.get("name"), str):
            parts.append(raw["name"])
        else:
            name = ".".join(parts)
            item = f"[[{name}]]{_line_of(name, part, path)}" if isinstance(raw, dict) else f"of {name}"
            text += f"the {ordinal(part + 1)} {item}, "
            parts = []
    return f"{text}{'.'.join(parts)}".removesuffix(", ")


def _line_of(name: str, index: int, path: object) -> str:
    """The line of a table's header in a TOML file, in parentheses; empty if no header is found."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if isinstance(path, Path) else []
    except (OSError, UnicodeError):
        lines = []
    headers = ["".join(line.partition("#")[0].split()) for line in lines]
    found = [number for number, header in enumerate(headers, 1) if header == f"[[{name}]]"]
    return f" (line {found[index]})" if index < len(found) else ""


def _annotation_at(root: Any, loc: Sequence[Any]) -> Any:
    """The annotation of the field at a location below ``root``."""
    annotation = root
    for part in loc:
        model = _model_in(annotation)
        if model is not None and part in (fields := _fields(model)):
            annotation = fields[str(part)]
        elif arguments := get_args(annotation):
            annotation = arguments[-1]
    return annotation


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    # Optional[...] and Annotated[...] wrap the model; a list or dict holds it as the type of its items.
    inner = [each for each in map(_model_in, get_args(annotation)) if each is not None]
    return inner[0] if inner else None


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """Annotations by the names used in files."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _words(annotation: Any) -> list[str]:
    """The words of a Literal or an enum, also within Optional and Annotated."""
    if isinstance(annotation, str):
        return [str(annotation)]
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return [str(member) for member in annotation]
    return [word for each in get_args(annotation) for word in _words(each)]
