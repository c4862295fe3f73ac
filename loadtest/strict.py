"""Strict parsing of TOML files. A file is checked against a type, and every error names file, key and remedy.

Only this module turns pydantic's errors into messages. A value's own check raises a ``ValueError`` whose text is the
message, or a ``WrongValueError``, which may name a key below the checked value.
"""

import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from loadtest.errors import InputError, WrongValueError, WrongValuesError
from loadtest.words import not_valid, ordinal, plain_type, suggestion

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
        # A ValueError is tomllib's own error, a UnicodeDecodeError, or the error of a number with too many digits.
        raise InputError(f"{path} is not TOML: {error}") from error


def checked(annotation: Any, raw: dict[str, Any], where: object, whole: str = "") -> Any:
    """Check the content of a file against a type: a model, or a dict of models.

    Messages name the file ``where``, and call its whole content ``whole``.

    Raises:
        InputError: with file, key and remedy of every error.
    """
    try:
        return TypeAdapter(annotation).validate_python(raw)
    except ValidationError as error:
        found = [_lines(problem, raw, annotation, whole, where) for problem in error.errors(include_url=False)]
        raise InputError("\n".join(f"{where}: {line}" for lines in found for line in lines)) from None


def _lines(problem: ErrorDetails, raw: Any, root: Any, whole: str, path: object) -> Iterator[str]:
    """Format one of pydantic's errors as lines ``KEY: problem``."""
    loc = list(problem["loc"])
    kind, value, cause = problem["type"], problem["input"], problem.get("ctx", {}).get("error")
    # For a wrong key of a table, pydantic's location ends with "[key]", but a file may have a key of that name, too.
    is_key = loc[-1:] == ["[key]"] and kind != "extra_forbidden"
    if is_key:
        loc.pop()
    causes = cause.errors if isinstance(cause, WrongValuesError) else [cause]
    for each in causes:
        at = [*loc, *split_key(each.key)] if isinstance(each, WrongValueError) else loc
        where = place(at, raw, path) or whole
        if isinstance(each, WrongValueError):
            message = f"{each.problem}. {each.remedy}" if each.remedy else each.problem
        elif isinstance(each, ValueError):
            message = str(each)
        elif kind == "extra_forbidden":
            model, _ = plain_type(_annotation_at(root, loc[:-1]))
            message = f"unknown key{suggestion(str(loc[-1]), list(_fields(model)))}"
        elif kind == "missing":
            message = "is missing"
        elif kind in {"model_type", "dict_type"}:
            message = "must be a table"
        elif kind == "list_type":
            message = f"must be a list{f': write [[{where}]]' if isinstance(value, dict) else ''}"
        else:
            annotation = _annotation_at(root, loc[:-1] if is_key else loc)
            message = not_valid(value, get_args(plain_type(annotation)[0])[0] if is_key else annotation)
        yield f"{where}: {message}"


def split_key(key: str) -> list[str | int]:
    """Split a dotted key. Whole numbers become places in a list."""
    return [int(part) if part.isdecimal() else part for part in key.split(".") if part]


def place(loc: Sequence[Any], raw: Any, path: object = None) -> str:
    """Format the place of a value in a file: ``traffic.jobs.timeout``, ``the third [[threshold]] (line 41), require``.

    A list item is shown by its ``name``, or else by its position and its line in the file at ``path``.
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
    """Return the line number of a table's header in a TOML file, in parentheses. It is empty if no header is found."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if isinstance(path, Path) else []
    except (OSError, UnicodeError):
        lines = []
    headers = ["".join(line.partition("#")[0].split()) for line in lines]
    found = [number for number, header in enumerate(headers, 1) if header == f"[[{name}]]"]
    return f" (line {found[index]})" if index < len(found) else ""


def _annotation_at(root: Any, loc: Sequence[Any]) -> Any:
    """Return the annotation of the field at a location below ``root``, with its bounds."""
    for part in loc:
        kind, _ = plain_type(root)
        root = _fields(kind).get(str(part)) or (get_args(kind) or (Any,))[-1]
    return root


def _fields(model: Any) -> dict[str, Any]:
    """Return a model's annotations, by the names that files use. Other types have none."""
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return {}
    return {field.alias or name: Annotated[(field.annotation, field)] for name, field in model.model_fields.items()}
