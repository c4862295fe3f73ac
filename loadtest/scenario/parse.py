"""Scenario files: found, read, overridden, and refused with the file, the key and the nearest valid one."""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from loadtest.errors import InputError
from loadtest.scenario.model import Scenario

FOLDER: Final = Path("scenarios")
_NOT_HASHED: Final = {"title", "description", "threshold", "seed"}


@dataclass(frozen=True, slots=True)
class LoadedScenario:
    """A scenario, where it came from, and its effective form."""

    scenario: Scenario
    path: Path
    effective: dict[str, Any]
    """The file's content after overrides, as plain TOML values."""

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem


def find_scenario(name: str, folder: Path = FOLDER) -> Path:
    """Find the file of a scenario given by path, or by its name below ``folder``.

    Raises:
        InputError: if there is none; it names the nearest.
    """
    for candidate in (Path(name), folder / f"{name}.toml"):
        if candidate.is_file():
            return candidate
    known = sorted(path.stem for path in folder.glob("*.toml"))
    near = difflib.get_close_matches(Path(name).stem, known, n=1)
    remedy = f"Did you mean {near[0]!r}?" if near else f"There is: {', '.join(known) or 'none'}."
    raise InputError(f"there is no scenario {name!r}: neither a file {name} nor {folder / name}.toml", remedy)


def load_scenario(path: Path, overrides: Sequence[str] = (), seed: int | None = None) -> LoadedScenario:
    """Read a scenario strictly.

    Args:
        path: the TOML file.
        overrides: ``KEY=VALUE`` each, KEY a dotted path in which a stage is named by its name or number.
        seed: takes the place of the scenario's own.

    Raises:
        InputError: naming file, key and remedy, for all mistakes at once.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    for override in overrides:
        _override(raw, override)
    if seed is not None:
        raw["seed"] = seed
    try:
        return LoadedScenario(Scenario.model_validate(raw), path, raw)
    except ValidationError as error:
        lines = [f"{path}: {line}" for line in _explain(error, raw)]
        raise InputError("\n".join(lines)) from None


def scenario_hash(scenario: Scenario) -> str:
    """Twelve hex digits of what shapes the load: all but title, description, thresholds and seed.

    Values at their defaults count as unsaid, so that a default added later changes no hash.
    """
    said = scenario.model_dump(mode="json", exclude=_NOT_HASHED, exclude_defaults=True)
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, written = override.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {override!r} is not KEY=VALUE", "As in --set traffic.greetings.timeout=5s.")
    *parents, last = key.strip().split(".")
    place: Any = raw
    for part in parents:
        place = _descend(place, part, override)
    value = _toml_value(written.strip())
    if isinstance(place, list):
        place[_index(place, last, override)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise InputError(f"--set {override!r}: {'.'.join(parents)} has no keys below it")


def _descend(place: Any, part: str, override: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, part, override)]
    if not isinstance(place, dict):
        raise InputError(f"--set {override!r}: there is nothing below {part!r}")
    # A table that the file leaves out may be given by overrides alone; a wrong one is refused by the check.
    return place.setdefault(part, {})


def _index(items: list[Any], part: str, override: str) -> int:
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if part in names:
        return names.index(part)
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    near = difflib.get_close_matches(part, [name for name in names if isinstance(name, str)], n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"There is: {', '.join(map(str, names))}."
    raise InputError(f"--set {override!r}: there is no {part!r}", hint)


def _toml_value(written: str) -> Any:
    """Read a value as TOML would; what TOML cannot read (5/s, 30s) is a string."""
    try:
        return tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        return written


def _explain(error: ValidationError, raw: dict[str, Any]) -> Iterable[str]:
    for problem in error.errors(include_url=False):
        # pydantic ends the location of a wrong key of a table with this mark.
        is_key = problem["loc"][-1:] == ("[key]",)
        loc = [part for part in problem["loc"] if part != "[key]"]
        where = _path(loc, raw) or "scenario"
        kind, message = problem["type"], problem["msg"].removeprefix("Value error, ")
        if kind == "extra_forbidden":
            message = f"unknown key{_nearest(str(loc[-1]), _keys_at(loc[:-1]))}"
        elif kind == "missing":
            message = "is missing"
        elif kind == "literal_error":
            known = _literals(get_args(_annotation_at(loc[:-1]))[0] if is_key else _annotation_at(loc))
            message = f"{problem['input']!r} is not valid here{_nearest(str(problem['input']), known)}"
        yield f"{where}: {message}"


def _path(loc: Sequence[Any], raw: Any) -> str:
    """Write a location as --set would take it: stages by name."""
    parts: list[str] = []
    place = raw
    for part in loc:
        try:
            place = place[part]
        except (KeyError, IndexError, TypeError):
            place = None
        named = isinstance(part, int) and isinstance(place, dict) and isinstance(place.get("name"), str)
        parts.append(place["name"] if named and place is not None else str(part))
    return ".".join(parts)


def _annotation_at(loc: Sequence[Any]) -> Any:
    """The annotation of the field at a location of ``Scenario``, or None."""
    annotation: Any = Scenario
    for part in loc:
        model = _model_in(annotation)
        if model is not None and part in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
        elif arguments := get_args(annotation):
            annotation = arguments[-1]
    return annotation


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    # Optional[...] and Annotated[...] wrap the model; a list or dict is gone through by its index or key.
    inner = [each for each in map(_model_in, get_args(annotation)) if each is not None]
    return inner[0] if inner else None


def _keys_at(loc: Sequence[Any]) -> list[str]:
    model = _model_in(_annotation_at(loc))
    return list(model.model_fields) if model is not None else []


def _literals(annotation: Any) -> list[str]:
    return [str(each) for each in get_args(annotation) if isinstance(each, str)]


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known here: {', '.join(known)}" if known else ""
