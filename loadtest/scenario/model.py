"""The model of a scenario: traffic, comparisons, thresholds and target. All keys and values are checked strictly."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, get_origin

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    create_model,
    model_validator,
)

from loadtest.contract import ALL, JOB_OPERATIONS, LIMIT_NAMES, POLLED_OPERATIONS
from loadtest.errors import WrongValueError, WrongValuesError
from loadtest.faults import Fault, check_keys, fault_schema, from_values, to_text
from loadtest.metrics import ASYNC_ONLY, INTERVALS, METRICS, SUMMARIES
from loadtest.record.effective_scenario import UNEXPECTED_ERRORS
from loadtest.reference_settings import RECODE_FORM, Recode, ReferenceSettings, Setting, settings_of
from loadtest.scenario.fields import CodeWord, Duration, LimitSpec, Name, OperationWord, PositiveShare, Share, Strict
from loadtest.scenario.traffic import Traffic
from loadtest.threshold import Threshold, nearest_metric, parse_threshold, why_not_early
from loadtest.words import suggestion


def _metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"{name!r} is not a metric. {nearest_metric(name)}")
    return name


_Metric = Annotated[str, AfterValidator(_metric)]
_Sides = Annotated[list[str], Field(min_length=2, max_length=12)]


def _unknown(kind: str, name: str, known: Iterable[str], key: str = "") -> WrongValueError:
    """Return the error for a ``name`` that does not exist. ``kind``, such as "stage", is also the default key."""
    return WrongValueError(f"there is no {kind} {name!r}{suggestion(name, list(known))}", key=key or kind)


class Comparison(Strict):
    """A comparison of ``entries`` with each other, or of one ``entry``'s ``stages`` with the first of these stages."""

    entries: _Sides | None = None
    """Alternative traffic entries."""
    entry: str | None = None
    """The traffic entry whose stages are compared."""
    stages: _Sides | None = None
    """Stages of the entry. The first of them is the baseline."""
    by: Annotated[list[_Metric], Field(min_length=1, max_length=8)]
    """Metrics, named as in thresholds. The first metric decides between alternatives, and later metrics decide ties."""

    def problems(self) -> Mapping[str, object]:
        single = self.entry is not None
        staged = self.stages is not None
        lists = [(key, getattr(self, key) or []) for key in ("entries", "stages", "by")]
        return {
            "give entries (alternatives), or entry with stages (an effect)": single == (self.entries is not None),
            "entry and stages belong together: the first stage is the baseline of the others": single != staged,
            **{f"{key} contains duplicates: {', '.join(names)}": len({*names}) < len(names) for key, names in lists},
        }

    def misfits(self, traffic: dict[str, Traffic]) -> Iterator[WrongValueError]:
        """Yield an error for each name or metric that does not fit a scenario's traffic."""
        names = self.entries or [self.entry or ""]
        key = "entries" if self.entries else "entry"
        if unknown := [name for name in names if name not in traffic]:
            yield from (_unknown("traffic", name, traffic, key=key) for name in unknown)
            return
        for stage in self.stages or ():
            if stage not in (known := traffic[names[0]].stage_names):
                yield _unknown("stage", stage, known, key="stages")
        others = [name for name in names if traffic[name].operation not in POLLED_OPERATIONS]
        for metric in self.by:
            if metric.startswith(ASYNC_ONLY) and others:
                problem = f"only async_run has {metric}, and {others[0]} is a {traffic[others[0]].operation}"
                yield WrongValueError(problem, key="by")


class ThresholdEntry(Strict):
    """A threshold as it is written in the file."""

    require: str
    traffic: str | None = None
    operation: OperationWord | None = None
    stage: str | None = None
    abort: bool = False
    """End the run as soon as the threshold fails."""
    confident: bool = False
    """Judge the 95 % confidence interval instead of the value. The threshold is inconclusive if only a part of the
    interval meets it."""
    note: str = ""
    """A hint that is shown with the verdict if the threshold fails."""

    @cached_property
    def parsed(self) -> Threshold:
        """The parsed requirement. An invalid requirement raises WrongValueError."""
        return parse_threshold(
            self.require, traffic=self.traffic, operation=self.operation, stage=self.stage, confident=self.confident
        )

    def problems(self) -> Mapping[str, object]:
        metric = self.parsed.metric
        scoped = self.traffic or self.operation
        summary = metric.split(".")[0] in SUMMARIES
        why = why_not_early(self.parsed) if self.abort else ""
        # parse_threshold accepts more metrics with ``confident``, because older records have such thresholds.
        vague = self.parsed.reference is None and metric not in INTERVALS
        return {
            "give a traffic or an operation, not both": self.traffic and self.operation,
            f"{metric} needs a traffic or an operation: add one of these keys": summary and not scoped,
            "stage needs a traffic or an operation": self.stage and not scoped,
            f"{self.require!r} cannot abort: {why}": why,
            f"{self.require!r} cannot be confident: only {', '.join(INTERVALS)} have an interval": self.confident
            and vague,
        }

    def covers(self, name: str, traffic: Traffic) -> bool:
        return self.traffic in (None, name) and self.operation in (None, traffic.operation)

    def misfits(self, traffic: dict[str, Traffic]) -> Iterator[WrongValueError]:
        """Yield an error for each name or metric that does not fit a scenario's traffic."""
        chosen = [each for name, each in traffic.items() if self.covers(name, each)]
        if not chosen:
            none = WrongValueError(f"no traffic has operation {self.operation!r}", key="operation")
            yield none if self.traffic is None else _unknown("traffic", self.traffic, traffic)
            return
        stages = {name for each in chosen for name in each.stage_names}
        if self.stage is not None and self.stage not in stages:
            yield _unknown("stage", self.stage, sorted(stages))
        metric, reference = self.parsed.metric, self.parsed.reference
        if metric.startswith(ASYNC_ONLY) and not any(each.operation in POLLED_OPERATIONS for each in chosen):
            yield WrongValueError(f"only async_run has {metric}", key="require")
        if reference is None:
            return
        if self.traffic is None:
            yield WrongValueError("a relative threshold needs a traffic")
            return
        known = traffic[self.traffic].stage_names if reference.kind == "stage" else list(traffic)
        if reference.name not in known:
            yield _unknown(reference.kind, reference.name, known, key="require")
        elif reference.name == (self.stage if reference.kind == "stage" else self.traffic):
            yield WrongValueError(f"the threshold is relative to itself; known here: {', '.join(known)}", key="require")
        elif reference.kind == "traffic":
            other = traffic[reference.name]
            if self.stage is not None and self.stage not in other.stage_names:
                problem = (
                    f"traffic {reference.name!r} has no stage {self.stage!r}; it has {', '.join(other.stage_names)}"
                )
                yield WrongValueError(problem, key="require")
            if metric.startswith(ASYNC_ONLY) and other.operation not in POLLED_OPERATIONS:
                problem = f"only async_run has {metric}, and {reference.name!r} is a {other.operation}"
                yield WrongValueError(problem, key="require")


_ShareOrFalse = Annotated[
    Share | None,
    BeforeValidator(lambda value: None if value is False else value),
    WithJsonSchema({"type": ["number", "string", "boolean"], "examples": [0.1, "10%", False]}),
]


class Breakers(Strict):
    """Conditions that abort a run early. All are on by default."""

    auth: bool = True
    """Abort after three consecutive responses that reject the key (401, 403), unless such a status is expected."""
    server_errors: _ShareOrFalse = 0.1
    """Abort if more than this share of the last 20 responses are unexpected 5xx. ``false`` turns the breaker off."""
    pending_jobs: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Abort if more than this many accepted jobs are not known to have ended."""
    stop_file: str = "STOP"
    """Abort when this file exists. Its path is relative to the run directory."""


def _fault(value: object) -> Fault:
    if not isinstance(value, dict):
        raise ValueError("a fault must be a table with a kind")  # noqa: TRY004 - pydantic reports ValueErrors
    return from_values(value)


_LIMIT_NAMES: Any = Literal[(*map(str, LIMIT_NAMES), ALL)]
RecodeText = Annotated[
    str,
    AfterValidator(lambda text: str(Recode.parse(text))),
    WithJsonSchema({"type": "string", "pattern": RECODE_FORM}),
]
FaultSpec = Annotated[Fault, BeforeValidator(_fault), PlainSerializer(to_text), WithJsonSchema(fault_schema())]
"""A fault, written as a table with its ``kind`` and the keys of that kind."""

_WRITTEN: dict[str, Any] = {
    "enforce": dict[_LIMIT_NAMES, LimitSpec],
    "workflows": list[str],
    "answers": dict[CodeWord, RecodeText],
    "fault": list[FaultSpec],
}
"""Settings with several values have these types in a file."""


def _key(setting: Setting) -> tuple[Any, Any]:
    about = setting.about
    if setting.name in _WRITTEN:
        written = _WRITTEN[setting.name]
        return written, Field(default_factory=get_origin(written), description=about.meaning)
    if about.seconds:
        return Duration, Field(setting.default, description=about.meaning)
    return setting.type, Field(setting.default, ge=about.least, le=about.most, description=about.meaning)


if TYPE_CHECKING:
    # Type checkers do not see the keys. Code reads them through ``TargetSettings.settings``, where they have types.
    _Keys = Strict
else:
    _Keys = create_model("_Keys", __base__=Strict, **{each.name: _key(each) for each in settings_of(ReferenceSettings)})


class TargetSettings(_Keys):
    """Settings of the embedded target. They apply to no other target."""

    keys: Annotated[int, Field(ge=1, le=1000)] = 1
    """Number of API keys of the embedded target, unless the key groups need more."""

    @cached_property
    def settings(self) -> ReferenceSettings:
        """The settings of the reference API. Settings that contradict each other raise WrongValueError."""
        values = {each.name: getattr(self, each.name) for each in settings_of(ReferenceSettings)}
        values["workflows"], values["fault"] = tuple(values["workflows"]), tuple(values["fault"])
        values["answers"] = {code: Recode.parse(text) for code, text in values["answers"].items()}
        return ReferenceSettings(**values)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _ = self.settings
        return self


MAX_ENTRIES: Final = 200
MAX_STAGES: Final = 1_000
"""Maximum number of stages of all entries. A plan compares all pairs of stages, and a report has a row per stage."""


class Regression(Strict):
    """Settings of ``loadtest regression check``."""

    rise: Share | None = None
    """Smallest rise of an error or 429 rate that counts, such as 0.05%."""
    same: list[Literal["machine", "python", "harness", "region"]] = []
    """Facts about the load generator that must be equal within a history."""
    must_find: PositiveShare | None = None
    """A passing check exits with 6 if it could miss a rise of a median response time by this share, such as 20%."""


def _all_of(check: Callable[[Any, Mapping[str, Any]], Iterable[WrongValueError]]) -> AfterValidator:
    """Return a validator that raises all errors of ``check``. ``check`` takes a key's value and the earlier keys."""

    def checked(value: Any, info: ValidationInfo) -> Any:
        if errors := list(check(value, info.data)):
            raise WrongValuesError(errors)
        return value

    return AfterValidator(checked)


def _check_groups(groups: dict[str, int], before: Mapping[str, Any]) -> Iterator[WrongValueError]:
    # A wrong group must not make the traffic invalid: thresholds and comparisons could then not be checked against it.
    for name, each in before.get("traffic", {}).items():
        if each.keys is not None and each.keys not in groups:
            problem = f"there is no key group {each.keys!r}, which traffic.{name}.keys names"
            yield WrongValueError(problem + suggestion(each.keys, list(groups)))


def _check_traffic(traffic: dict[str, Traffic], _before: Mapping[str, Any]) -> Iterator[WrongValueError]:
    if len(traffic) > MAX_ENTRIES:
        yield WrongValueError(f"has {len(traffic):,} entries; at most {MAX_ENTRIES} are allowed")
    if (count := sum(len(each.stage_names) for each in traffic.values())) > MAX_STAGES:
        problem = f"has {count:,} stages, steps included; at most {MAX_STAGES:,} are allowed"
        yield WrongValueError(problem, "Use ramps or larger steps.")
    submits = any(each.operation in POLLED_OPERATIONS for each in traffic.values())
    for name, each in traffic.items():
        if each.operation in JOB_OPERATIONS and each.job_ids == "run" and not submits:
            yield WrongValueError("'run' needs an async_run entry whose jobs it can retrieve", key=f"{name}.job_ids")


def _check_references(entry: ThresholdEntry | Comparison, before: Mapping[str, Any]) -> Iterator[WrongValueError]:
    if "traffic" in before:
        yield from entry.misfits(before["traffic"])


def _check_faults(target: TargetSettings, before: Mapping[str, Any]) -> Iterator[WrongValueError]:
    keys = max(target.keys, sum(before.get("key_groups", {}).values()))
    for number, fault in enumerate(target.settings.fault):
        try:
            check_keys(fault, keys)
        except WrongValueError as error:
            yield WrongValueError(error.problem, error.remedy, key=f"fault.{number}.{error.key}")


class Scenario(Strict):
    """A scenario. Once parsed, durations are in seconds."""

    title: str
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    rate_multiplier: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Multiplies the rate and burst of every stage."""
    warmup: Duration = 0.0
    drain: Duration = 30.0
    """After the last stage, operations in flight have at most this time to end."""
    traffic: Annotated[dict[Name, Traffic], Field(min_length=1), _all_of(_check_traffic)]
    key_groups: Annotated[
        dict[Name, Annotated[int, Field(ge=1, le=1000)]], Field(validate_default=True), _all_of(_check_groups)
    ] = {}
    """Number of API keys in each group. Each group takes the next keys of WORKFLOW_API_KEYS."""
    threshold: list[Annotated[ThresholdEntry, _all_of(_check_references)]] = []
    unexpected_errors: _ShareOrFalse = UNEXPECTED_ERRORS
    """At most this share of a stage's operations may fail or time out unexpectedly. ``false`` turns the check off."""
    compare: list[Annotated[Comparison, _all_of(_check_references)]] = []
    """Comparisons in the report."""
    breakers: Breakers = Breakers()
    regression: Regression = Regression()
    target: Annotated[TargetSettings, _all_of(_check_faults)] = TargetSettings()

    @property
    def duration(self) -> float:
        """Duration of the longest traffic entry in seconds, without warm-up."""
        return max(each.duration for each in self.traffic.values())

    @property
    def keys(self) -> int:
        """Number of API keys that the key groups or the embedded target need."""
        return max(self.target.keys, sum(self.key_groups.values()))

    @property
    def recorded(self) -> bool:
        """Whether any entry has recorded arrivals. Their times are fixed."""
        return any(each.stages[0].recorded is not None for each in self.traffic.values())

    def read_recordings(self, folder: Path) -> None:
        """Read the recorded arrivals of all entries from the scenario's folder. An unusable file raises InputError."""
        for each in self.traffic.values():
            each.read_recording(folder)

    @model_validator(mode="after")
    def _suits_recordings(self) -> Self:
        if self.recorded and self.rate_multiplier != 1:
            raise WrongValueError("recorded arrivals have no rate; set the stage's speed", key="rate_multiplier")
        if self.recorded and self.warmup:
            raise WrongValueError("recorded arrivals have no rate to warm up with; remove it", key="warmup")
        return self
