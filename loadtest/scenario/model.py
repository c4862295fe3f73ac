"""A whole scenario: traffic, comparisons, thresholds and target, checked strictly; and its JSON schema for editors."""

import ast
import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from loadtest.contract import JOB_OPERATIONS, Operation
from loadtest.errors import InputError
from loadtest.faults import check_keys
from loadtest.metrics import ASYNC_ONLY, METRICS, SUMMARIES
from loadtest.scenario.fields import Duration, Name, OperationWord, Share, Strict
from loadtest.scenario.target_settings import TargetSettings
from loadtest.scenario.traffic import Traffic
from loadtest.threshold import Reference, Threshold, nearest_metric, parse_threshold, why_not_early
from loadtest.words import suggestion

_LEAST: Final = 2
_MOST: Final = 12
"""Sides of one comparison: each is compared with each."""


def _metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"{name!r} is no metric. {nearest_metric(name)}")
    return name


_Metric = Annotated[str, AfterValidator(_metric)]
_Sides = Annotated[list[str], Field(min_length=_LEAST, max_length=_MOST)]


class Comparison(Strict):
    """One comparison, of ``entries`` with each other, or of the ``stages`` of one ``entry`` with the first of them."""

    entries: _Sides | None = None
    """Traffic entries that are alternatives to each other."""
    entry: str | None = None
    """A traffic entry whose stages are compared."""
    stages: _Sides | None = None
    """Its stages; the first one is the baseline."""
    by: Annotated[list[_Metric], Field(min_length=1, max_length=8)]
    """Metrics as thresholds name them. Of alternatives the first decides, and the others are its price."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.entries is None) == (self.entry is None):
            raise ValueError("give entries (alternatives), or entry with stages (an effect)")
        if (self.entry is None) != (self.stages is None):
            raise ValueError("entry and stages belong together: the first stage is the baseline of the others")
        for key in ("entries", "stages", "by"):
            values = getattr(self, key) or []
            if len(set(values)) < len(values):
                raise ValueError(f"{key} names something twice: {', '.join(values)}")
        return self

    def misfits(self, traffic: dict[str, Traffic]) -> Iterator[str]:
        """Say what it names and a scenario's traffic does not have, as ``KEY: what is wrong``."""
        names = self.entries or [self.entry or ""]
        key = "entries" if self.entries else "entry"
        for name in names:
            if name not in traffic:
                yield f"{key}: there is no traffic {name!r}{suggestion(name, list(traffic))}"
                return
        if self.entries is None and self.stages is not None:
            yield from _unknown_stages(self.stages, traffic[names[0]].stage_names)
        for metric in self.by:
            others = [name for name in names if traffic[name].operation != Operation.ASYNC_RUN]
            if metric.startswith(ASYNC_ONLY) and others:
                yield f"by: {metric} is known for async_run only, and {others[0]} is none"


def _unknown_stages(stages: Sequence[str], known: Sequence[str]) -> Iterator[str]:
    for stage in stages:
        if stage not in known:
            yield f"stages: there is no stage {stage!r}{suggestion(stage, known)}"


# Draft 7 is what editors' TOML plug-ins know; nothing in here needs a later one.
_DIALECT: Final = "http://json-schema.org/draft-07/schema#"
_SECONDS_PATTERN: Final = "(ms|s|m|min|h)$"


class ThresholdEntry(Strict):
    """A threshold as written; ``parse`` checks the requirement itself."""

    require: str
    traffic: str | None = None
    operation: OperationWord | None = None
    stage: str | None = None
    abort: bool = False
    """End the run as soon as it is seen not to hold."""
    confident: bool = False
    """Judge the 95 % interval of the percentile, not its value: inconclusive where the interval holds in part."""

    def parse(self) -> Threshold:
        """Read the requirement (see ``loadtest.threshold``).

        Raises:
            InputError: if it is not one.
        """
        return parse_threshold(
            self.require, traffic=self.traffic, operation=self.operation, stage=self.stage, confident=self.confident
        )

    @model_validator(mode="after")
    def _valid(self) -> Self:
        try:
            threshold = self.parse()
        except InputError as error:
            raise ValueError(f"{error.message}. {error.remedy}") from None
        if self.traffic and self.operation:
            raise ValueError("name a traffic or an operation, not both")
        scoped = self.traffic or self.operation
        if threshold.metric.split(".")[0] in SUMMARIES and not scoped:
            raise ValueError(f"{threshold.metric} is known by traffic or operation only: name one beside it")
        if self.stage and not scoped:
            raise ValueError("stage needs a traffic or an operation beside it")
        if self.abort and (why := why_not_early(threshold)):
            raise ValueError(f"{self.require!r} cannot abort: {why}")
        return self

    def misfits(self, traffic: dict[str, Traffic]) -> Iterator[str]:
        """Say what in its scope does not exist in a scenario's traffic."""
        return _misfits(self, traffic)


class Breakers(Strict):
    """What ends a run early, as aborted. All are on unless the scenario says otherwise."""

    auth: bool = True
    """Three answers in a row that refuse the key (401, 403), where none is expected."""
    server_errors: Annotated[
        Share | None,
        BeforeValidator(lambda value: None if value is False else value),
        WithJsonSchema({"type": ["number", "string", "boolean"], "examples": [0.1, "10%", False]}),
    ] = 0.1
    """More than this share of 5xx among the last 20 answers; ``false`` turns it off."""
    pending_jobs: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Jobs that were accepted and not yet seen to end."""
    stop_file: str = "STOP"
    """The run ends when this file exists; relative to the run directory."""


MAX_ENTRIES: Final = 200
MAX_STAGES: Final = 1_000
"""Of all entries: each has figures and a row of its own, which nobody reads of more. A plan compares each with each."""


class Scenario(Strict):
    """A whole scenario. Durations are in seconds, rates as ``Rate``."""

    title: str
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    rate_multiplier: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Every rate and burst times this."""
    warmup: Duration = 0.0
    drain: Duration = 30.0
    """How long operations in flight may still end after the last arrival."""
    traffic: Annotated[dict[Name, Traffic], Field(min_length=1)]
    key_groups: dict[Name, Annotated[int, Field(ge=1, le=1000)]] = {}
    """Groups of API keys with how many each has, taken from WORKFLOW_API_KEYS in this order."""
    threshold: list[ThresholdEntry] = []
    compare: list[Comparison] = []
    """What the report answers from: alternatives among traffic entries, or effects between stages of one."""
    breakers: Breakers = Breakers()
    target: TargetSettings = TargetSettings()

    @property
    def keys(self) -> int:
        """API keys that it needs: those of its groups, or what the embedded target is to make."""
        return max(self.target.keys, sum(self.key_groups.values()))

    @model_validator(mode="after")
    def _traffic_is_bounded(self) -> Self:
        if len(self.traffic) > MAX_ENTRIES:
            raise ValueError(f"traffic: has {len(self.traffic):,} entries; at most {MAX_ENTRIES} are allowed")
        if (count := sum(stage.count for each in self.traffic.values() for stage in each.stages)) > MAX_STAGES:
            raise ValueError(
                f"traffic: has {count:,} stages, steps included; at most {MAX_STAGES:,} are allowed: use ramps or "
                "larger steps"
            )
        return self

    @model_validator(mode="after")
    def _traffic_fits_together(self) -> Self:
        submits = any(each.operation == Operation.ASYNC_RUN for each in self.traffic.values())
        for name, each in self.traffic.items():
            if each.keys is not None and each.keys not in self.key_groups:
                known = ", ".join(self.key_groups) or "none"
                raise ValueError(f"traffic.{name}.keys: there is no key group {each.keys!r}; there is {known}")
            if each.operation in JOB_OPERATIONS and each.job_ids == "run" and not submits:
                raise ValueError(f"traffic.{name}.job_ids: 'run' needs an entry of async_run whose jobs it can ask for")
        return self

    @model_validator(mode="after")
    def _faults_meet_keys(self) -> Self:
        for number, fault in enumerate(self.target.settings.fault):
            try:
                check_keys(fault, self.keys)
            except InputError as error:
                raise ValueError(f"target.fault.{number}: {error.message}. {error.remedy}") from None
        return self

    @model_validator(mode="after")
    def _thresholds_meet_traffic(self) -> Self:
        for number, entry in enumerate(self.threshold):
            for problem in entry.misfits(self.traffic):
                raise ValueError(f"threshold[{number}] ({entry.require}): {problem}")
        return self

    @model_validator(mode="after")
    def _comparisons_meet_traffic(self) -> Self:
        for number, comparison in enumerate(self.compare):
            for problem in comparison.misfits(self.traffic):
                raise ValueError(f"compare.{number}.{problem}")
        return self


def _misfits(entry: ThresholdEntry, traffic: dict[str, Traffic]) -> Iterator[str]:
    """Say what in a threshold's scope does not exist in the scenario."""
    if entry.traffic is not None and entry.traffic not in traffic:
        yield f"there is no traffic {entry.traffic!r}; there is {', '.join(traffic)}"
        return
    chosen = [
        each
        for name, each in traffic.items()
        if entry.traffic in (None, name) and entry.operation in (None, each.operation)
    ]
    if not chosen:
        yield f"no traffic has operation {entry.operation!r}"
        return
    stages = {name for each in chosen for name in each.stage_names}
    if entry.stage is not None and entry.stage not in stages:
        yield f"there is no stage {entry.stage!r}; there is {', '.join(sorted(stages))}"
    metric = entry.parse().metric
    if metric.startswith(ASYNC_ONLY) and not any(each.operation == Operation.ASYNC_RUN for each in chosen):
        yield f"{metric} is known for async_run only"
    reference = entry.parse().reference
    if reference is not None:
        yield from _misfits_of_reference(entry, reference, traffic)


def _misfits_of_reference(entry: ThresholdEntry, reference: Reference, traffic: dict[str, Traffic]) -> Iterator[str]:
    """Say what in that to which a threshold is relative does not exist, or is what it is about itself."""
    if entry.traffic is None:
        yield "a relative threshold needs a traffic beside it"
        return
    known = traffic[entry.traffic].stage_names if reference.kind == "stage" else list(traffic)
    if reference.name not in known:
        yield f"there is no {reference.kind} {reference.name!r}; there is {', '.join(known)}"
    elif reference.name == (entry.stage if reference.kind == "stage" else entry.traffic):
        yield f"it is relative to itself; there is {', '.join(known)}"
    elif reference.kind == "traffic":
        other = traffic[reference.name]
        if entry.stage is not None and entry.stage not in other.stage_names:
            yield f"traffic {reference.name!r} has no stage {entry.stage!r}; it has {', '.join(other.stage_names)}"
        metric = entry.parse().metric
        if metric.startswith(ASYNC_ONLY) and other.operation != Operation.ASYNC_RUN:
            yield f"{metric} is known for async_run only, and {reference.name!r} is none"


def scenario_schema() -> dict[str, Any]:
    """The schema: every key with its type, its default as a file would say it, and what it means.

    It is wider than the reader of scenarios: what depends on several keys together is checked there only.
    """
    schema = Scenario.model_json_schema()
    for name, table in ((Scenario.__name__, schema), *schema["$defs"].items()):
        table["description"] = _plain(table.get("description", ""))
        table.pop("title", None)
        meanings = _meanings(name)
        for key, value in table.get("properties", {}).items():
            meaning = {"description": meanings[key]} if key in meanings else {}
            table["properties"][key] = _cleaned(value | meaning)
    return {"$schema": _DIALECT, "title": "Scenario of loadtest", **schema}


def _meanings(name: str) -> dict[str, str]:
    """What stands below each key in a table's class.

    pydantic's ``use_attribute_docstrings`` reads the same, but the source of every class at each start: 0.15 s of CPU.
    """
    body = next((table.body for table in _tables() if table.name == name), [])
    return {
        key.target.id: inspect.cleandoc(text)
        for key, below in pairwise(body)
        if isinstance(key, ast.AnnAssign) and isinstance(key.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(text := ast.literal_eval(below.value), str)
    }


@cache
def _tables() -> list[ast.ClassDef]:
    """The classes of all modules that have tables of a scenario."""
    modules = {sys.modules[table.__module__] for table in _below(Strict)}
    trees = [ast.parse(inspect.getsource(module)) for module in modules]
    return [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]


def _below(table: type[Strict]) -> Iterator[type[Strict]]:
    for each in table.__subclasses__():
        yield each
        yield from _below(each)


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
