"""A traffic entry: a named stream of operations of one kind, in stages; and what its clients do.

They retry after a 429, poll while a job runs, expect an answer, and make some mistakes on purpose.
"""

import math
from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from loadtest.contract import JOB_OPERATIONS, MISTAKE_STATUS, POLLED_OPERATIONS, MistakeKind, Operation
from loadtest.scenario.fields import (
    ArrivalRate,
    Burst,
    Duration,
    EndState,
    JsonObject,
    Name,
    OperationWord,
    Share,
    Status,
    Strict,
)
from loadtest.seeded_random import seeded_random
from loadtest.units import Rate


class Retry(Strict):
    """What follows a 429 to a run, submit or retrieval. Seconds.

    Full jitter draws each wait evenly from zero to its full length, so that clients that were refused together do not
    come back together (M. Brooker, "Exponential Backoff And Jitter", 2015).
    """

    policy: Literal["none", "exponential", "retry_after"] = "none"
    initial: Duration = 1.0
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    max: Duration = 60.0
    jitter: bool = True
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 5

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.policy == "none" and len(self.model_fields_set - {"policy"}):
            raise ValueError("a retry needs policy = 'exponential' or 'retry_after' for its other keys to matter")
        if self.initial > self.max:
            raise ValueError("initial is longer than max")
        return self

    @property
    def longest(self) -> float:
        """Seconds of all its waits together, each at its longest."""
        if self.policy == "none":
            return 0.0
        if self.policy == "retry_after":
            return self.max * (self.max_attempts - 1)
        return sum(self._longest_wait(attempt) for attempt in range(1, self.max_attempts))

    def wait(self, attempt: int, draw: float, retry_after: float | None = None) -> float | None:
        """Seconds to wait after the ``attempt``-th 429; None to give up.

        Args:
            attempt: requests sent so far, at least 1.
            draw: an evenly distributed number from 0 to 1, for the jitter.
            retry_after: what the 429 asks for, in seconds; None if it says nothing that can be used.
        """
        if self.policy == "none" or attempt >= self.max_attempts:
            return None
        if self.policy == "retry_after" and retry_after is not None:
            return min(retry_after, self.max)
        longest = self._longest_wait(attempt)
        return longest * draw if self.jitter else longest

    def _longest_wait(self, attempt: int) -> float:
        # The power is capped before it can overflow; the wait is at its longest by then.
        return min(self.max, self.initial * self.factor ** min(attempt - 1, 64))


class Polling(Strict):
    """How an ``async_run`` waits for its job. Seconds."""

    policy: Literal["fixed", "exponential"] = "fixed"
    interval: Duration = 1.0
    """Of a fixed policy; of an exponential one the first."""
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    max: Duration = 60.0
    jitter: bool = False
    """Whether each wait is drawn evenly between half and all of its length."""
    give_up: Duration = 60.0
    """From the accepted submit."""
    pace: ArrivalRate | None = None
    """All polls of the entry together at most at this rate; a rate "of limit" refers to the retrieval limit."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.interval < 0.001:
            raise ValueError("interval must be at least 1ms")
        if self.give_up < self.interval:
            raise ValueError("give_up is shorter than interval: no poll would be sent")
        if self.policy == "fixed" and self.model_fields_set & {"factor", "max"}:
            raise ValueError("factor and max need policy = 'exponential'")
        if self.max < self.interval:
            raise ValueError("interval is longer than max")
        if self.pace is not None and self.pace.value <= 0:
            raise ValueError("pace must be above zero")
        return self

    def wait(self, number: int, draw: float) -> float:
        """Seconds from the last answer to the ``number``-th poll; ``draw`` is from 0 to 1, for the jitter."""
        wait = self.interval
        if self.policy == "exponential":
            wait = min(self.max, self.interval * self.factor ** min(number - 1, 64))
        return wait * (0.5 + draw / 2) if self.jitter else wait


class Expect(Strict):
    """What the last answer of an operation must be for it to be ok."""

    status: Status | None = None
    """Instead of the documented one (200 of a run or retrieval, 202 of a submit)."""
    job: EndState | None = None
    """State in which a job must end; completed by default."""
    result: JsonObject | None = None
    """A subset of the result: its keys must be there with these values, tables within tables alike."""
    result_schema: str | None = None
    """A file with a JSON schema that the result must meet, relative to the scenario."""


class Mistakes(Strict):
    """Shares of an entry's operations that are wrong on purpose. Each expects the status that is documented for it."""

    unknown_job: Share = 0.0
    unknown_workflow: Share = 0.0
    invalid_body: Share = 0.0
    bad_key: Share = 0.0

    @model_validator(mode="after")
    def _at_most_all(self) -> Self:
        if sum(self.shares.values()) > 1 + 1e-9:
            raise ValueError("mistakes add up to more than 100%")
        return self

    @cached_property  # asked for each arrival
    def shares(self) -> dict[MistakeKind, float]:
        """The shares above zero, by kind."""
        return {kind: share for kind in MISTAKE_STATUS if (share := getattr(self, kind)) > 0}

    def pick(self, seed: int, traffic: str, number: int) -> MistakeKind | None:
        """Which one arrival ``number`` is to make, if any: drawn for it, so that every run makes the same."""
        if not (shares := self.shares):
            return None
        left = seeded_random(seed, traffic, number, "mistake")
        for kind, share in shares.items():
            if left < share:
                return kind
            left -= share
        return None


WARMUP: Final = "warmup"
"""Name of the stage that the warm-up is recorded as."""

_MAX_STEPS: Final = 200
_ZERO: Final = Rate(0.0, of_limit=False)
_JOB_OPERATIONS: Final = " or ".join(map(repr, JOB_OPERATIONS))


class Stage(Strict):
    """A stretch of a traffic entry: a rate that is held, ramps, or climbs in steps; or a burst and a wait.

    One of ``rate`` (with ``ramp_to`` for a ramp), ``from``/``to``/``step``, or ``burst`` says which.
    """

    name: Name
    rate: ArrivalRate | None = None
    ramp_to: ArrivalRate | None = None
    from_: Annotated[ArrivalRate | None, Field(alias="from")] = None
    to: ArrivalRate | None = None
    step: ArrivalRate | None = None
    burst: Burst | None = None
    """Operations that arrive all at once at the start: a number, or a multiple of the limit's whole quota."""
    duration: Duration
    """Of the stage; of each step where there are several."""
    expect: list[Annotated[int, Field(ge=400, le=599)]] = []
    """Statuses that are no Locust failure here, beside 429 where the stage is planned above a limit."""

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if self.duration <= 0:
            raise ValueError("duration must be above zero")
        steps = [value is not None for value in (self.from_, self.to, self.step)]
        if (self.rate is not None) + any(steps) + (self.burst is not None) != 1:
            raise ValueError("give one of rate, burst, or from with to and step")
        if self.ramp_to is not None and self.rate is None:
            raise ValueError("ramp_to needs a rate to ramp from")
        if any(steps):
            self._check_steps()
        return self

    def _check_steps(self) -> None:
        if self.from_ is None or self.to is None or self.step is None:
            raise ValueError("steps need all of from, to and step")
        if len({self.from_.of_limit, self.to.of_limit, self.step.of_limit}) > 1:
            raise ValueError("from, to and step must all be absolute, or all of the limit")
        # Not by counting them, which overflows for the smallest of steps.
        if self.step.value <= 0 or abs(self.to.value - self.from_.value) >= self.step.value * _MAX_STEPS:
            raise ValueError(f"step must be above zero and give at most {_MAX_STEPS} steps")

    @property
    def count(self) -> int:
        """How many stretches it stands for."""
        if self.from_ is None or self.to is None or self.step is None:
            return 1
        return math.floor(abs(self.to.value - self.from_.value) / self.step.value + 1e-9) + 1

    @property
    def parts(self) -> list[tuple[str, Rate, Rate]]:
        """Name, rate and final rate of each stretch that it stands for: one, or one a step (``NAME-1`` and so on)."""
        if self.from_ is None or self.to is None or self.step is None:
            rate = self.rate or _ZERO
            return [(self.name, rate, self.ramp_to or rate)]
        step = math.copysign(self.step.value, self.to.value - self.from_.value)
        rates = [Rate(self.from_.value + number * step, self.from_.of_limit) for number in range(self.count)]
        return [(f"{self.name}-{number}", rate, rate) for number, rate in enumerate(rates, 1)]


class Traffic(Strict):
    """A named stream of operations of one kind."""

    operation: OperationWord
    workflow: str | None = None
    """Retrieval: the workflow of the jobs that are seeded."""
    parameters: JsonObject = {}
    inputs: str | None = None
    """A file of parameters, JSON lines or CSV, a row an operation; each row is laid over ``parameters``."""
    inputs_order: Literal["sequential", "random"] = "sequential"
    keys: Name | None = None
    """The key group that it uses; all keys where none is named."""
    arrivals: Literal["even", "poisson"] = "even"
    timeout: Duration = 30.0
    """Of each request, from its start to its complete answer."""
    connect_timeout: Duration | None = None
    read_timeout: Duration | None = None
    """Longest silence of the server within an answer, the wait for its first byte included."""
    max_users: Annotated[int, Field(ge=1, le=20_000)] | None = None
    retry: Retry = Retry()
    polling: Polling = Polling()
    expect: Expect = Expect()
    mistakes: Mistakes = Mistakes()
    user: str | None = None
    """A user class of one's own, as ``module:Class``."""
    job_ids: str = "seeded"
    """Retrieval: ``seeded`` before the start, those of the ``run`` itself, or a file of ids, one a line."""
    seed_jobs: Annotated[int, Field(ge=1, le=1000)] = 10
    stages: Annotated[list[Stage], Field(min_length=1)]

    @property
    def names_files(self) -> bool:
        """Whether it names a file of inputs, a schema, or job ids."""
        return bool(self.inputs or self.expect.result_schema) or self.job_ids not in {"seeded", "run"}

    @model_validator(mode="after")
    def _fits_operation(self) -> Self:
        self._check_keys_of_operation()
        for name in ("timeout", "connect_timeout", "read_timeout"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above zero")
        names = self.stage_names
        if len(set(names)) < len(names) or WARMUP in names:
            raise ValueError(f"stages need different names, and none may be {WARMUP!r}: {', '.join(names)}")
        if self.arrivals == "poisson" and any(stage.burst is not None for stage in self.stages):
            raise ValueError("a burst is a fixed number of operations: it needs arrivals = 'even'")
        return self

    def _check_keys_of_operation(self) -> None:
        about_job = self.operation in JOB_OPERATIONS
        if not about_job and self.workflow is None:
            raise ValueError(f"an operation of {self.operation} needs a workflow")
        if not about_job and self.model_fields_set & {"job_ids", "seed_jobs"}:
            raise ValueError(f"job_ids and seed_jobs are for operation = {_JOB_OPERATIONS} only")
        if about_job and self.inputs is not None:
            raise ValueError(f"inputs are for runs: a {self.operation} sends no parameters")
        if self.operation not in POLLED_OPERATIONS and "polling" in self.model_fields_set:
            raise ValueError("polling is for operation = 'async_run' only")
        if self.operation == Operation.SYNC_RUN and self.expect.job is not None:
            raise ValueError("expect.job is for operations that have a job: a sync_run has none")
        if about_job and (self.mistakes.unknown_workflow or self.mistakes.invalid_body):
            raise ValueError("there is neither workflow nor body to get wrong: use unknown_job or bad_key")
        if not about_job and self.mistakes.unknown_job:
            raise ValueError(f"mistakes.unknown_job is for operation = {_JOB_OPERATIONS} only")

    @property
    def stage_names(self) -> list[str]:
        """Names of all its stages, steps one by one."""
        return [name for stage in self.stages for name, _, _ in stage.parts]

    @property
    def duration(self) -> float:
        """Seconds of all its stages, without warm-up."""
        return sum(stage.duration * len(stage.parts) for stage in self.stages)
