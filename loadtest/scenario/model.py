"""What a scenario says: its traffic, stages, thresholds and target settings, checked strictly."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from loadtest.errors import InputError
from loadtest.limits import Limit, LimitName, parse_limit
from loadtest.samples import Operation
from loadtest.scenario.units import Rate, parse_duration, parse_rate
from loadtest.threshold import ASYNC_ONLY, TIMES, Threshold, parse_threshold

WARMUP: Final = "warmup"
"""Name of the stage that the warm-up is recorded as."""

LIMIT_OF: Final[dict[Operation, LimitName]] = {
    "sync_run": "sync_run",
    "async_run": "async_submit",
    "retrieval": "retrieval",
}
"""The limit that a rate "of limit" refers to. An ``async_run`` also draws on ``retrieval``, by its polls."""


def _named(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][\w-]{0,63}", name) is None:
        raise ValueError(f"{name!r} is no name: use letters, digits, - and _, at most 64")
    return name


def _limit(value: object) -> Limit:
    if isinstance(value, Limit):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no limit: write it as '100/60s'")  # noqa: TRY004 - pydantic reports ValueErrors
    return parse_limit(value)


Duration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds, written with a unit."""
ArrivalRate = Annotated[
    Rate, BeforeValidator(parse_rate), PlainSerializer(str), Field(json_schema_extra={"type": "string"})
]
LimitSpec = Annotated[Limit, BeforeValidator(_limit), PlainSerializer(str)]
Name = Annotated[str, AfterValidator(_named)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


class Stage(_Strict):
    """A stretch of a traffic entry: a rate that is held, or ramps to another one."""

    name: Name
    rate: ArrivalRate
    ramp_to: ArrivalRate | None = None
    duration: Duration
    expect: list[Annotated[int, Field(ge=400, le=599)]] = []
    """Statuses that are no Locust failure here, beside 429 where the stage is planned above a limit."""

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.duration <= 0:
            raise ValueError("duration must be above zero")
        return self


class Polling(_Strict):
    """How an ``async_run`` waits for its job: at a fixed interval, until it gives up. Seconds."""

    interval: Duration = 1.0
    give_up: Duration = 60.0
    """From the accepted submit."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.interval < 0.001:
            raise ValueError("interval must be at least 1ms")
        if self.give_up < self.interval:
            raise ValueError("give_up is shorter than interval: no poll would be sent")
        return self


class Traffic(_Strict):
    """A named stream of operations of one kind."""

    operation: Operation
    workflow: str | None = None
    """Retrieval: the workflow of the jobs that are seeded."""
    parameters: dict[str, Any] = {}
    arrivals: Literal["even", "poisson"] = "even"
    timeout: Duration = 30.0
    """Of each request, from its start to its complete answer."""
    max_users: Annotated[int, Field(ge=1, le=20_000)] | None = None
    polling: Polling = Polling()
    job_ids: str = "seeded"
    """Retrieval: ``seeded`` before the start, those of the ``run`` itself, or a file of ids, one a line."""
    seed_jobs: Annotated[int, Field(ge=1, le=1000)] = 10
    stages: Annotated[list[Stage], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_operation(self) -> Self:
        if self.operation != "retrieval":
            if self.workflow is None:
                raise ValueError(f"an operation of {self.operation} needs a workflow")
            if self.model_fields_set & {"job_ids", "seed_jobs"}:
                raise ValueError("job_ids and seed_jobs are for operation = 'retrieval' only")
        if self.operation != "async_run" and "polling" in self.model_fields_set:
            raise ValueError("polling is for operation = 'async_run' only")
        if self.timeout <= 0:
            raise ValueError("timeout must be above zero")
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names) or WARMUP in names:
            raise ValueError(f"stages need different names, and none may be {WARMUP!r}: {', '.join(names)}")
        return self

    @property
    def duration(self) -> float:
        """Seconds of all its stages, without warm-up."""
        return sum(stage.duration for stage in self.stages)


class ThresholdEntry(_Strict):
    """A threshold as written; ``parse`` checks the requirement itself."""

    require: str
    traffic: str | None = None
    operation: Operation | None = None
    stage: str | None = None

    def parse(self) -> Threshold:
        """Read the requirement (see ``loadtest.threshold``).

        Raises:
            InputError: if it is not one.
        """
        return parse_threshold(self.require, traffic=self.traffic, operation=self.operation, stage=self.stage)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        try:
            threshold = self.parse()
        except InputError as error:
            raise ValueError(f"{error.message}. {error.remedy}") from None
        if self.traffic and self.operation:
            raise ValueError("name a traffic or an operation, not both")
        scoped = self.traffic or self.operation
        if threshold.metric.split(".")[0] in (*TIMES, "polls") and not scoped:
            raise ValueError(f"{threshold.metric} is known by traffic or operation only: name one beside it")
        if self.stage and not scoped:
            raise ValueError("stage needs a traffic or an operation beside it")
        return self


class TargetSettings(_Strict):
    """Settings of the embedded target; they do not apply to any other."""

    enforce: dict[LimitName, LimitSpec] = {}
    keys: Annotated[int, Field(ge=1, le=1000)] = 1
    """API keys that the embedded target makes and the traffic shares."""
    workers: Annotated[int, Field(ge=1, le=10_000)] | None = None
    queue: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class Scenario(_Strict):
    """A whole scenario. Durations are in seconds, rates as ``Rate``."""

    title: str
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    warmup: Duration = 0.0
    drain: Duration = 30.0
    """How long operations in flight may still end after the last arrival."""
    traffic: Annotated[dict[Name, Traffic], Field(min_length=1)]
    threshold: list[ThresholdEntry] = []
    target: TargetSettings = TargetSettings()

    @model_validator(mode="after")
    def _thresholds_meet_traffic(self) -> Self:
        for number, entry in enumerate(self.threshold):
            for problem in _misfits(entry, self.traffic):
                raise ValueError(f"threshold[{number}] ({entry.require}): {problem}")
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
    stages = {stage.name for each in chosen for stage in each.stages}
    if entry.stage is not None and entry.stage not in stages:
        yield f"there is no stage {entry.stage!r}; there is {', '.join(sorted(stages))}"
    metric = entry.parse().metric
    if metric.startswith(ASYNC_ONLY) and not any(each.operation == "async_run" for each in chosen):
        yield f"{metric} is known for async_run only"
