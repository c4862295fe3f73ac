"""A traffic entry: a named stream of operations of one kind. Its stages say how many operations arrive, and when.

The entry also defines its clients: their retries after a 429, polls, expected answers and deliberate mistakes.
"""

import math
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from loadtest.contract import JOB_OPERATIONS, MISTAKE_STATUS, POLLED_OPERATIONS, MistakeKind, Operation
from loadtest.scenario.fields import (
    ArrivalRate,
    Burst,
    Duration,
    EndState,
    JsonObject,
    Name,
    OperationWord,
    PositiveDuration,
    Share,
    Status,
    Strict,
)
from loadtest.scenario.recording import Recording, read_recording
from loadtest.seeded_random import seeded_random
from loadtest.units import Rate


class Retry(Strict):
    """Retries after a 429 to a run, submit or retrieval. Times are in seconds.

    Full jitter draws each wait uniformly between zero and its full length. Clients that were rejected together then do
    not return together (M. Brooker, "Exponential Backoff And Jitter", 2015).
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
            raise ValueError("the other keys of retry need policy = 'exponential' or 'retry_after'")
        if self.initial > self.max:
            raise ValueError("initial is longer than max")
        return self

    @property
    def longest(self) -> float:
        """Maximum sum of all waits, in seconds."""
        if self.policy == "none":
            return 0.0
        if self.policy == "retry_after":
            return self.max * (self.max_attempts - 1)
        return sum(self._longest_wait(attempt) for attempt in range(1, self.max_attempts))

    def wait(self, attempt: int, draw: float, retry_after: float | None = None) -> float | None:
        """Return the seconds to wait after the ``attempt``-th 429, or None to give up.

        Args:
            attempt: number of requests sent so far, at least 1.
            draw: a uniform random number from 0 to 1, for the jitter.
            retry_after: the wait in seconds that the 429 states, or None if it states none.
        """
        if self.policy == "none" or attempt >= self.max_attempts:
            return None
        if self.policy == "retry_after" and retry_after is not None:
            return min(retry_after, self.max)
        longest = self._longest_wait(attempt)
        return longest * draw if self.jitter else longest

    def _longest_wait(self, attempt: int) -> float:
        # The exponent is limited to prevent an overflow. With factor 2, the wait has then long reached its maximum.
        return min(self.max, self.initial * self.factor ** min(attempt - 1, 64))


class Polling(Strict):
    """Polling of an ``async_run``'s job. Times are in seconds."""

    policy: Literal["fixed", "exponential"] = "fixed"
    interval: Duration = 1.0
    """Time between polls. For an exponential policy, it is the first wait."""
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    max: Duration = 60.0
    jitter: bool = False
    """Draw each wait uniformly between half its length and its full length."""
    give_up: Duration = 60.0
    """Maximum time from the accepted submit to the last poll."""
    pace: ArrivalRate | None = None
    """Maximum rate of all polls of the entry. A rate "of limit" refers to the retrieval limit."""

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
        """Return the seconds from the last answer to the ``number``-th poll. ``draw`` (0 to 1) sets the jitter."""
        wait = self.interval
        if self.policy == "exponential":
            wait = min(self.max, self.interval * self.factor ** min(number - 1, 64))
        return wait * (0.5 + draw / 2) if self.jitter else wait


class Expect(Strict):
    """Requirements on the last answer of an operation."""

    status: Status | None = None
    """Expected status instead of the documented status (200 for a run or retrieval, 202 for a submit)."""
    job: EndState | None = None
    """Expected final state of a job. By default, the job must complete."""
    result: JsonObject | None = None
    """Keys and values that the result must contain, also in nested tables."""
    result_schema: str | None = None
    """File with a JSON schema of the result, relative to the scenario."""


class Mistakes(Strict):
    """Shares of deliberately wrong operations. Such an operation is ok if its answer has the documented status."""

    unknown_job: Share = 0.0
    unknown_workflow: Share = 0.0
    invalid_body: Share = 0.0
    bad_key: Share = 0.0

    @model_validator(mode="after")
    def _at_most_all(self) -> Self:
        if sum(self.shares.values()) > 1 + 1e-9:
            raise ValueError("mistakes add up to more than 100%")
        return self

    @cached_property  # read for each arrival
    def shares(self) -> dict[MistakeKind, float]:
        return {kind: share for kind in MISTAKE_STATUS if (share := getattr(self, kind)) > 0}

    def pick(self, seed: int, traffic: str, number: int) -> MistakeKind | None:
        """Return the mistake of arrival ``number``, if any. With the same seed, every run makes the same mistakes."""
        if not (shares := self.shares):
            return None
        left = seeded_random(seed, traffic, number, "mistake")
        for kind, share in shares.items():
            if left < share:
                return kind
            left -= share
        return None


WARMUP: Final = "warmup"
"""Name of the warm-up stage in the record."""

_MAX_STEPS: Final = 200
_ZERO: Final = Rate(0.0, of_limit=False)
_JOB_OPERATIONS: Final = " or ".join(map(repr, JOB_OPERATIONS))


class Stage(Strict):
    """A part of a traffic entry: a constant rate, a ramp, steps, a burst, or recorded arrivals.

    Give ``rate`` (with ``ramp_to`` for a ramp), ``from``/``to``/``step``, ``burst``, or ``recorded``.
    """

    name: Name
    rate: ArrivalRate | None = None
    ramp_to: ArrivalRate | None = None
    from_: Annotated[ArrivalRate | None, Field(alias="from")] = None
    to: ArrivalRate | None = None
    step: ArrivalRate | None = None
    burst: Burst | None = None
    """Number of operations that arrive at once at the start, or a multiple of the limit's whole quota."""
    recorded: str | None = None
    """File of arrivals, relative to the scenario. Each line has an offset in seconds and the number of a key."""
    speed: Annotated[float, Field(ge=0.001, le=1000)] = 1.0
    """Recorded arrivals come faster by this factor."""
    duration: PositiveDuration
    """Duration of the stage, or of each of its steps."""
    expect: list[Annotated[int, Field(ge=400, le=599)]] = []
    """Statuses that are not failures in Locust's statistics. 429 is added if the plan exceeds a limit in this stage."""

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        steps = [value is not None for value in (self.from_, self.to, self.step)]
        if (self.rate is not None) + any(steps) + (self.burst is not None) + (self.recorded is not None) != 1:
            raise ValueError("give one of rate, burst, recorded, or from with to and step")
        if self.recorded is None and "speed" in self.model_fields_set:
            raise ValueError("speed needs recorded arrivals")
        if self.ramp_to is not None and self.rate is None:
            raise ValueError("ramp_to needs a rate to ramp from")
        if any(steps):
            self._check_steps()
        return self

    def _check_steps(self) -> None:
        if self.from_ is None or self.to is None or self.step is None:
            raise ValueError("steps need all of from, to and step")
        if len({self.from_.of_limit, self.to.of_limit, self.step.of_limit}) > 1:
            raise ValueError("from, to and step must all be absolute or all relative to the limit")
        # If steps are very small, counting them would overflow.
        if self.step.value <= 0 or abs(self.to.value - self.from_.value) >= self.step.value * _MAX_STEPS:
            raise ValueError(f"step must be above zero and give at most {_MAX_STEPS} steps")

    @property
    def count(self) -> int:
        if self.from_ is None or self.to is None or self.step is None:
            return 1
        return math.floor(abs(self.to.value - self.from_.value) / self.step.value + 1e-9) + 1

    @property
    def parts(self) -> list[tuple[str, Rate, Rate]]:
        """Name, rate and final rate of the stage, or of each step (``NAME-1`` and so on)."""
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
    """Workflow to run. For a retrieval, it is the workflow of the seeded jobs."""
    parameters: JsonObject = {}
    inputs: str | None = None
    """File of parameters (JSON lines or CSV). Each operation takes a row, which overrides ``parameters``."""
    inputs_order: Literal["sequential", "random"] = "sequential"
    keys: Name | None = None
    """The key group to use. By default, the entry uses all keys."""
    arrivals: Literal["even", "poisson"] = "even"
    timeout: PositiveDuration = 30.0
    """Time-out of each request, from its start to its complete answer."""
    connect_timeout: PositiveDuration | None = None
    read_timeout: PositiveDuration | None = None
    """Maximum time in which the server sends no byte, before or during its answer."""
    max_users: Annotated[int, Field(ge=1, le=20_000)] | None = None
    retry: Retry = Retry()
    polling: Polling = Polling()
    expect: Expect = Expect()
    mistakes: Mistakes = Mistakes()
    user: str | None = None
    """A custom user class, as ``module:Class``."""
    job_ids: str = "seeded"
    """Jobs to retrieve: ``seeded`` (before the start), ``run`` (jobs of this run), or a file with an id per line."""
    seed_jobs: Annotated[int, Field(ge=1, le=1000)] = 10
    stages: Annotated[list[Stage], Field(min_length=1)]
    _recording: Recording | None = PrivateAttr(None)

    @property
    def files(self) -> list[str]:
        """The files that the entry names: inputs, a schema, job ids, recorded arrivals."""
        job_ids = None if self.job_ids in {"seeded", "run"} else self.job_ids
        return [name for name in (self.inputs, self.expect.result_schema, job_ids, self.stages[0].recorded) if name]

    @property
    def recording(self) -> Recording | None:
        """The recorded arrivals, after ``read_recording`` has read them. None for an entry with rates."""
        return self._recording

    def read_recording(self, folder: Path) -> None:
        """Read the recorded arrivals, if there are any, from a file in the scenario's folder.

        Raises:
            InputError: if the file cannot be used.
        """
        stage = self.stages[0]
        if stage.recorded is not None:
            self._recording = read_recording(folder / stage.recorded, stage.speed, stage.duration)

    def key_number(self, arrival: int) -> int:
        """Return the number of an arrival's key, from 0. It may exceed the number of keys."""
        return arrival if self._recording is None else self._recording.key_list[arrival]

    @model_validator(mode="after")
    def _fits_operation(self) -> Self:
        self._check_keys_of_operation()
        names = self.stage_names
        if len(set(names)) < len(names) or WARMUP in names:
            raise ValueError(f"stages need distinct names, and {WARMUP!r} is reserved: {', '.join(names)}")
        if len(self.stages) > 1 and any(stage.recorded for stage in self.stages):
            raise ValueError("recorded arrivals need an entry with a single stage")
        if self.arrivals == "poisson" and any(stage.recorded for stage in self.stages):
            raise ValueError("recorded arrivals come as recorded: remove arrivals = 'poisson'")
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
            raise ValueError("expect.job needs an operation with a job: a sync_run has none")
        if about_job and (self.mistakes.unknown_workflow or self.mistakes.invalid_body):
            raise ValueError("a retrieval has neither workflow nor body: use unknown_job or bad_key")
        if not about_job and self.mistakes.unknown_job:
            raise ValueError(f"mistakes.unknown_job is for operation = {_JOB_OPERATIONS} only")

    @property
    def stage_names(self) -> list[str]:
        return [name for stage in self.stages for name, _, _ in stage.parts]

    @property
    def duration(self) -> float:
        """Total duration of the stages in seconds, without warm-up."""
        return sum(stage.duration * len(stage.parts) for stage in self.stages)
