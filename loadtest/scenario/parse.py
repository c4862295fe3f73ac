"""Scenario files: search, parsing, overrides, and the JSON schema for editors.

The types and docstrings of keys determine the schema.
"""

import ast
import contextlib
import copy
import hashlib
import inspect
import itertools
import json
import math
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from loadtest.errors import InputError
from loadtest.record.effective_scenario import NOT_HASHED
from loadtest.scenario.fields import checked, place, read_toml, split_key
from loadtest.scenario.model import Scenario
from loadtest.scenario.traffic import Traffic
from loadtest.words import did_you_mean, nearest

FOLDER: Final = Path("scenarios")
_PACKAGE: Final = Path(__file__).parents[1]
SHIPPED: Final = _PACKAGE / "scenarios" if (_PACKAGE / "scenarios").is_dir() else _PACKAGE.parent / "scenarios"
"""The folder of the scenarios that ship with the program. It is in the built package or in the checkout."""
_SHORTEST: Final = 0.01
"""Minimum duration of a scaled stage, in seconds."""
# Draft 7 is the version that editors' TOML plug-ins support.
_DIALECT: Final = "http://json-schema.org/draft-07/schema#"
_SECONDS_PATTERN: Final = "(ms|s|m|min|h)$"


@dataclass(frozen=True, slots=True)
class LoadedScenario:
    """A scenario with its file and its effective form."""

    scenario: Scenario
    path: Path
    effective: dict[str, Any]
    """The file's content after overrides, as plain TOML values."""

    def __post_init__(self) -> None:
        self.scenario.read_recordings(self.path.parent)

    @property
    def name(self) -> str:
        return self.path.stem

    def place(self, key: str) -> str:
        """Format a key for a message. A key such as ``threshold.2.require`` gets its line in the file."""
        return place(split_key(key), self.effective, self.path) if key.startswith("threshold.") else key

    def changed(self, raw: dict[str, Any]) -> Self:
        """Return the scenario with other content. The content must be valid."""
        return type(self)(Scenario.model_validate(raw), self.path, raw)


def find_scenario(name: str, folder: Path = FOLDER, shipped: Path = SHIPPED) -> Path:
    """Find a scenario's file by its path, by its name in ``folder``, or among the shipped scenarios.

    Raises:
        InputError: if there is no such scenario.
    """
    for candidate in (Path(name), *(each / f"{name}.toml" for each in (folder, shipped))):
        # is_file raises if the name is too long or the folder is unreadable.
        with contextlib.suppress(OSError):
            if candidate.is_file():
                return candidate
    known = sorted({path.stem for each in (folder, shipped) for path in each.glob("*.toml")})
    remedy = did_you_mean(Path(name).stem, known)
    raise InputError(f"there is no scenario {name!r}: neither a file {name} nor {folder / name}.toml", remedy)


def load_scenario(path: Path, overrides: Sequence[str] = (), seed: int | None = None) -> LoadedScenario:
    """Read a scenario strictly. Overrides ``KEY=VALUE`` and ``seed`` replace its own values.

    KEY is a dotted path. An item of a list, such as a stage, is given by its name or its number (from 0).

    Raises:
        InputError: if the scenario is invalid. The message names file, key and problem of every error.
    """
    raw = read_toml(path)
    for override in overrides:
        _override(raw, override)
    if seed is not None:
        raw["seed"] = seed
    return LoadedScenario(checked(Scenario, raw, path, "scenario"), path, raw)


def only(loaded: LoadedScenario, names: Sequence[str]) -> LoadedScenario:
    """Return the scenario with only these traffic entries, without thresholds and comparisons that need other entries.

    Entries that cannot run alone raise InputError.
    """
    kept = {name: entry for name, entry in loaded.scenario.traffic.items() if name in names}
    return _with_traffic(loaded, kept, f"with {', '.join(names)} alone")


def _with_traffic(loaded: LoadedScenario, kept: dict[str, Traffic], which: str) -> LoadedScenario:
    raw = copy.deepcopy(loaded.effective)
    for name, traffic in loaded.scenario.traffic.items():
        if name not in kept:
            del raw["traffic"][name]
            continue
        stay = [each in kept[name].stages for each in traffic.stages]
        raw["traffic"][name]["stages"] = list(itertools.compress(raw["traffic"][name]["stages"], stay))
    for key, entries in (("threshold", loaded.scenario.threshold), ("compare", loaded.scenario.compare)):
        if key in raw:
            raw[key] = list(itertools.compress(raw[key], [not list(each.misfits(kept)) for each in entries]))
    return LoadedScenario(checked(Scenario, raw, f"{loaded.path}, {which}"), loaded.path, raw)


def scaled(loaded: LoadedScenario, seconds: float) -> LoadedScenario:
    """Return the scenario with all stage durations scaled, so that its longest entry takes ``seconds``.

    Faults of the embedded target are scaled like the stages. Rates, bursts, polling, time-outs and the drain stay.
    If the scenario becomes shorter, so does its warm-up, down to one second. The warm-up never becomes longer.

    Raises:
        InputError: if a stage would be shorter than 10 ms, or the scenario has recorded arrivals.
    """
    scenario = loaded.scenario
    _refuse_recorded(scenario, "--duration", "Set the stage's speed, and its duration.")
    factor = seconds / scenario.duration
    # Clients connect during the warm-up, so it must not become too short.
    warmup = min(scenario.warmup, max(1.0, scenario.warmup * factor))
    raw = copy.deepcopy(loaded.effective)
    raw["warmup"] = _seconds(warmup)
    for name, traffic in scenario.traffic.items():
        for stage, written in zip(traffic.stages, raw["traffic"][name]["stages"], strict=True):
            duration = stage.duration * factor
            if duration < _SHORTEST:
                key = f"{loaded.path}: traffic.{name}.stages.{stage.name}"
                raise InputError(f"{key} would last {duration:.2g} s of {seconds:g} s", "Choose a longer duration.")
            written["duration"] = _seconds(duration)

    def moved(at: float) -> float:
        before = min(at, scenario.warmup)
        return (before * warmup / scenario.warmup if before else 0.0) + (at - before) * factor

    for fault, written in zip(scenario.target.settings.fault, raw.get("target", {}).get("fault", ()), strict=True):
        written["start"] = _seconds(moved(fault.start))
        if fault.duration is not None:
            written["duration"] = _seconds(moved(fault.start + fault.duration) - moved(fault.start))
    return loaded.changed(raw)


def with_stage_alone(loaded: LoadedScenario, stage: str, whole_s: float) -> LoadedScenario:
    """Return the scenario with one stage only.

    Entries without this stage, thresholds that no longer apply, and all comparisons are removed.

    The stage must have a constant rate. Its duration is rounded up to a multiple of a window of ``whole_s`` seconds,
    and to at least two windows. The stage then always contains a whole window. If ``whole_s`` is 0, the duration stays.

    Raises:
        InputError: if there is no such stage, its rate is not constant, or no threshold applies to it.
    """
    kept = {}
    for name, traffic in loaded.scenario.traffic.items():
        stages = [each for each in traffic.stages if each.name == stage]
        if any(each.rate is None or each.ramp_to is not None for each in stages):
            raise InputError(
                f"{loaded.path}: traffic.{name}.stages.{stage} has no constant rate", "Choose another --stage."
            )
        if stages:
            kept[name] = traffic.model_copy(update={"stages": stages})
    if not kept:
        names = dict.fromkeys(each.name for traffic in loaded.scenario.traffic.values() for each in traffic.stages)
        raise InputError(f"{loaded.path}: there is no stage {stage!r}", f"Valid stages: {', '.join(names)}.")
    alone = _with_traffic(loaded, kept, f"with stage {stage!r} alone")
    if not alone.scenario.threshold:
        raise InputError(
            f"{loaded.path}: no threshold applies to stage {stage!r}, so every rate would pass",
            'Add a [[threshold]] with this stage and, for example, require = "response_time.p95 < 500ms".',
        )
    raw = alone.effective
    raw.pop("compare", None)
    for name, traffic in alone.scenario.traffic.items():
        for written, each in zip(raw["traffic"][name]["stages"], traffic.stages, strict=True):
            windows = max(2, math.ceil(each.duration / whole_s)) if whole_s else 0
            written["duration"] = _seconds(windows * whole_s or each.duration)
    return loaded.changed(raw)


def at_rate(loaded: LoadedScenario, multiplier: float, number: int) -> LoadedScenario:
    """Return the scenario at a multiple of its rate, with ``number`` added to its seed."""
    scenario = loaded.scenario
    _refuse_recorded(scenario, "another rate", "Use a scenario with rates.")
    changes = {"rate_multiplier": scenario.rate_multiplier * multiplier, "seed": (scenario.seed + number) % 2**63}
    return loaded.changed({**loaded.effective, **changes})


def _refuse_recorded(scenario: Scenario, what: str, remedy: str) -> None:
    if scenario.recorded:
        raise InputError(f"{what} is not possible: the times of recorded arrivals are fixed", remedy)


def _seconds(duration: float) -> str:
    return f"{duration:.6f}".rstrip("0").rstrip(".") + "s"


def scenario_hash(scenario: Scenario) -> str:
    """Return a hash (twelve hex digits) of the scenario without its ``NOT_HASHED`` keys.

    Default values are left out, so older scenarios keep their hash when a later version adds a key.
    """
    shape = scenario.model_dump(mode="json", exclude=NOT_HASHED, exclude_defaults=True)
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:12]


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, written = override.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {override!r} is not KEY=VALUE", "Example: --set traffic.greetings.timeout=5s.")
    if override.encode(errors="ignore").decode() != override:
        raise InputError(f"--set {override!r} is not Unicode text", "Check the shell's encoding.")
    *parents, last = key.strip().split(".")
    place: Any = raw
    for part in parents:
        place = _descend(place, part, override)
    value: Any = written.strip()
    # A value that is not TOML (5/s, 30s) is a string.
    with contextlib.suppress(ValueError, RecursionError):
        value = tomllib.loads(f"value = {value}")["value"]
    if isinstance(place, list):
        place[_index(place, last, override)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise InputError(f"--set {override!r}: {'.'.join(parents)} has no keys")


def _descend(place: Any, part: str, override: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, part, override)]
    if not isinstance(place, dict):
        raise InputError(f"--set {override!r}: there is no {part!r}")
    near = nearest(part, place)
    if part not in place and near:
        raise InputError(f"--set {override!r}: there is no {part!r}", f"Did you mean {near!r}?")
    # Overrides may add a table that the file does not have. Unknown tables are rejected later.
    return place.setdefault(part, {})


def _index(items: list[Any], part: str, override: str) -> int:
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    shown = [str(number) if name is None else str(name) for number, name in enumerate(names)]
    if part in names:
        return names.index(part)
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    raise InputError(f"--set {override!r}: there is no {part!r}", did_you_mean(part, shown))


def schema_text() -> str:
    """Return the JSON schema of a scenario as the text of a file."""
    return json.dumps(scenario_schema(), indent=2, ensure_ascii=False) + "\n"


def scenario_schema() -> dict[str, Any]:
    """Return the JSON schema of a scenario. The parser is stricter, because it also checks combinations of keys."""
    schema, meanings = Scenario.model_json_schema(), _meanings()
    for name, table in ((Scenario.__name__, schema), *schema["$defs"].items()):
        table["description"] = _plain(table.get("description", ""))
        table.pop("title", None)
        for key, value in table.get("properties", {}).items():
            meaning = meanings.get((name, key))
            table["properties"][key] = _cleaned(value | ({"description": meaning} if meaning else {}))
    return {"$schema": _DIALECT, "title": "Scenario of loadtest", **schema}


def _meanings() -> dict[tuple[str, str], str]:
    """Return the docstring of each key, by the names of table and key.

    pydantic's ``use_attribute_docstrings`` also reads them. But it parses all classes at each start, for 0.15 s of CPU.
    """
    modules = [sys.modules[table.__module__] for table in (Traffic, Scenario)]
    return {
        (table.name, key.target.id): inspect.cleandoc(text)
        for module in modules
        for table in ast.parse(inspect.getsource(module)).body
        if isinstance(table, ast.ClassDef)
        for key, below in itertools.pairwise(table.body)
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
        # Tables and lists get no default. Parsed durations are in seconds.
        is_duration = isinstance(default, float) and _SECONDS_PATTERN in value.get("pattern", "")
        value["default"] = f"{default:g}s" if is_duration else default
    return {"description": meaning, **value} if meaning else value


def _plain(text: str) -> str:
    return " ".join(inspect.cleandoc(text).partition("\n\n")[0].replace("``", "").split())
