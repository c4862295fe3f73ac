"""A traffic entry: a named stream of operations of one kind. Its stages say how many operations arrive, and when.

The entry also defines its clients: their retries after a 429, polls, expected answers and deliberate mistakes.
"""

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from loadtest.arrays import Floats, Ints
from loadtest.contract import JOB_OPERATIONS, MISTAKE_STATUS, POLLED_OPERATIONS, MistakeKind, Operation
from loadtest.errors import InputError
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
from loadtest.seeded_random import seeded_random
from loadtest.units import Rate

_MOST: Final = 5_000_000
_REMEDY: Final = "`loadtest init` with --from-run and --recorded writes such files."


class Recording:
    """Recorded arrivals in order of time.

    Attributes:
        offsets_s: seconds since the start of the stage, not negative.
        keys: number of each arrival's key, from 0.
    """

    def __init__(self, offsets_s: Floats, keys: Ints) -> None:
        order = np.argsort(offsets_s, kind="stable")
        self.offsets_s = offsets_s[order]
        self.keys = keys[order]

    @cached_property
    def key_list(self) -> list[int]:
        """The keys as a list of plain integers, because reading single items of an array is slower."""
        found: list[int] = self.keys.tolist()
        return found

    def most_within(self, seconds: float, *, key: int = 0, keys: int = 1) -> int:
        """Return the maximum number of arrivals in any period of ``seconds``, for key ``key`` of ``keys``."""
        times = self.offsets_s[self.keys % keys == key]
        inside = np.searchsorted(times, times + seconds, side="left") - np.arange(len(times))
        return int(inside.max(initial=0))


def read_recording(path: Path, speed: float, duration_s: float) -> Recording:
    """Read a file of arrivals. They come ``speed`` times as fast as they were recorded.

    Raises:
        InputError: if the file is unusable, or an arrival does not come before the stage's end.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(
            f"cannot read {path}: {why}", f"Check the path. Every worker needs a copy of the file. {_REMEDY}"
        ) from error
    lines = [line.split() for line in text.splitlines()]
    offsets, keys = np.zeros(len(lines)), np.zeros(len(lines), np.int64)
    for place, parts in enumerate(lines):
        try:
            offsets[place], keys[place] = float(parts[0]), int(parts[1])
        except (ValueError, IndexError, OverflowError):
            offsets[place] = -1.0
        if len(parts) != 2 or not 0 <= offsets[place] < np.inf or keys[place] < 0:
            raise InputError(f"{path}:{place + 1}: the line is not an offset in seconds and a key's number", _REMEDY)
    if not 0 < len(lines) <= _MOST:
        raise InputError(f"{path} has {len(lines):,} arrivals; 1 to {_MOST:,} are possible", _REMEDY)
    recording = Recording(offsets / speed, keys)
    if (last := float(recording.offsets_s[-1])) >= duration_s:
        raise InputError(
            f"{path}: the last arrival is at {last:.6g} s, but its stage lasts {duration_s:g} s",
            f"Set the stage's duration above {last:.6g}s.",
        )
    return recording


class Retry(Strict):
    """Retries after a 429 to a run, submit or retrieval. Once parsed, times are in seconds.

    ``jitter`` draws each wait uniformly between zero and its full length, unless it comes from ``Retry-After``. Clients
    that were rejected together then do not return together (M. Brooker, "Exponential Backoff And Jitter", 2015).
    """

    policy: Literal["none", "exponential", "retry_after"] = "none"
    initial: Duration = 1.0
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    max: Duration = 60.0
    jitter: bool = True
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 5

    def problems(self) -> Mapping[str, object]:
        needless = self.model_fields_set - {"policy"} if self.policy == "none" else ()
        return {
            "the other keys of retry need policy = 'exponential' or 'retry_after'": needless,
            "initial is longer than max": self.initial > self.max,
        }

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
    """Polling of an ``async_run``'s job. Once parsed, times are in seconds."""

    policy: Literal["fixed", "exponential"] = "fixed"
    interval: Duration = 1.0
    """Wait between an answer and the next poll. For an exponential policy, it is the first wait."""
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    max: Duration = 60.0
    jitter: bool = False
    """Draw each wait uniformly between half its length and its full length."""
    give_up: Duration = 60.0
    """Maximum time from the accepted submit to the last poll."""
    pace: ArrivalRate | None = None
    """Maximum rate of all polls of the entry. A rate "of limit" refers to the retrieval limit."""

    def problems(self) -> Mapping[str, object]:
        needless = self.model_fields_set & {"factor", "max"} if self.policy == "fixed" else ()
        return {
            "interval must be at least 1ms": self.interval < 0.001,
            "give_up is shorter than interval: no poll would be sent": self.give_up < self.interval,
            "factor and max need policy = 'exponential'": needless,
            "interval is longer than max": self.max < self.interval,
            "pace must be above zero": self.pace is not None and self.pace.value <= 0,
        }

    def wait(self, number: int, draw: float) -> float:
        """Return the seconds from the last answer to the ``number``-th poll. ``draw`` (0 to 1) sets the jitter."""
        wait = self.interval
        if self.policy == "exponential":
            wait = min(self.max, self.interval * self.factor ** min(number - 1, 64))
        return wait * (0.5 + draw / 2) if self.jitter else wait


class Expect(Strict):
    """Requirements on the answers of an operation."""

    status: Status | None = None
    """Expected status of the run, submit or retrieval. By default 200, and 202 for a submit."""
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

    def problems(self) -> Mapping[str, object]:
        return {"mistakes add up to more than 100%": sum(self.shares.values()) > 1 + 1e-9}

    @cached_property  # read for each arrival
    def shares(self) -> dict[MistakeKind, float]:
        return {kind: share for kind in MISTAKE_STATUS if (share := getattr(self, kind)) > 0}

    def pick(self, seed: int, traffic: str, number: int) -> MistakeKind | None:
        """Return the mistake of arrival ``number``, if any. With the same seed, every run makes the same mistakes."""
        left = seeded_random(seed, traffic, number, "mistake") if self.shares else 1.0
        for kind, share in self.shares.items():
            if left < share:
                return kind
            left -= share
        return None


WARMUP: Final = "warmup"
"""Name of the warm-up stage in the record."""

_MAX_STEPS: Final = 200


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
    """Number of operations that arrive when the stage starts, or a multiple of a window's quota for all keys."""
    recorded: str | None = None
    """File of arrivals, relative to the scenario. Each line has an offset in seconds and the number of a key."""
    speed: Annotated[float, Field(ge=0.001, le=1000)] = 1.0
    """Recorded arrivals come this many times as fast."""
    duration: PositiveDuration
    """Duration of the stage, or of each of its steps."""
    expect: list[Annotated[int, Field(ge=400, le=599)]] = []
    """Statuses that breakers, ``unexpected_errors`` and Locust's statistics do not count as failures. 429 is added if
    the plan exceeds a limit in this stage."""

    def problems(self) -> Mapping[str, object]:
        steps = [each for each in (self.from_, self.to, self.step) if each is not None]
        shapes = [each for each in (self.rate, self.burst, self.recorded) if each is not None]
        problems: dict[str, object] = {
            "give one of rate, burst, recorded, or from with to and step": len(shapes) + bool(steps) != 1,
            "speed needs recorded arrivals": self.recorded is None and "speed" in self.model_fields_set,
            "ramp_to needs a rate to ramp from": self.ramp_to is not None and self.rate is None,
            "steps need all of from, to and step": len(steps) in {1, 2},
        }
        if len(steps) == 3:
            first, last, step = steps
            mixed = len({each.of_limit for each in steps}) > 1
            # If steps are very small, counting them would overflow.
            many = step.value <= 0 or abs(last.value - first.value) >= step.value * _MAX_STEPS
            problems["from, to and step must all be absolute or all relative to the limit"] = mixed
            problems[f"step must be above zero and give at most {_MAX_STEPS} steps"] = many
        return problems

    @property
    def parts(self) -> list[tuple[str, Rate, Rate]]:
        """Name, initial rate and final rate of the stage, or of each step (``NAME-1`` and so on)."""
        if self.from_ is None or self.to is None or self.step is None:
            rate = self.rate or Rate(0.0, of_limit=False)
            return [(self.name, rate, self.ramp_to or rate)]
        span = self.to.value - self.from_.value
        step = self.step.value
        count = math.floor(abs(span) / step + 1e-9) + 1
        rates = [self.from_.value + number * math.copysign(step, span) for number in range(count)]
        steps = [Rate(rate, self.from_.of_limit) for rate in rates]
        return [(f"{self.name}-{number}", rate, rate) for number, rate in enumerate(steps, 1)]


class Traffic(Strict):
    """A named stream of operations of one kind."""

    operation: OperationWord
    workflow: str | None = None
    """Workflow to run. For a retrieval, it is the workflow of the seeded jobs."""
    parameters: JsonObject = {}
    inputs: str | None = None
    """File of parameters (JSON lines or CSV). The values in an operation's row take precedence over ``parameters``."""
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
        """The recorded arrivals. None before ``read_recording``, and for an entry without recorded arrivals."""
        return self._recording

    def read_recording(self, folder: Path) -> None:
        """Read recorded arrivals, if there are any, from the scenario's folder. An unusable file raises InputError."""
        stage = self.stages[0]
        if stage.recorded is not None:
            self._recording = read_recording(folder / stage.recorded, stage.speed, stage.duration)

    def key_number(self, arrival: int) -> int:
        """Return the number of an arrival's key, from 0. Callers take it modulo the number of the entry's keys."""
        return arrival if self._recording is None else self._recording.key_list[arrival]

    def problems(self) -> Mapping[str, object]:
        about_job = self.operation in JOB_OPERATIONS
        given = self.model_fields_set
        polled = self.operation in POLLED_OPERATIONS
        sync = self.operation == Operation.SYNC_RUN
        wrong_body = self.mistakes.unknown_workflow or self.mistakes.invalid_body
        names = self.stage_names
        poisson = self.arrivals == "poisson"
        recorded = any(stage.recorded for stage in self.stages)
        burst = any(stage.burst is not None for stage in self.stages)
        clash = len(set(names)) < len(names) or WARMUP in names
        only_jobs = f"for operation = {' or '.join(map(repr, JOB_OPERATIONS))} only"
        return {
            f"operation = '{self.operation}' needs a workflow": not about_job and self.workflow is None,
            f"job_ids and seed_jobs are {only_jobs}": not about_job and given & {"job_ids", "seed_jobs"},
            f"inputs are for runs: a {self.operation} sends no parameters": about_job and self.inputs is not None,
            "polling is for operation = 'async_run' only": not polled and "polling" in given,
            "expect.job needs an operation with a job: a sync_run has none": sync and self.expect.job is not None,
            "a retrieval sends neither workflow nor body: use unknown_job or bad_key": about_job and wrong_body,
            f"mistakes.unknown_job is {only_jobs}": not about_job and self.mistakes.unknown_job,
            f"stages need distinct names, and {WARMUP!r} is reserved: {', '.join(names)}": clash,
            "recorded arrivals need an entry with a single stage": recorded and len(self.stages) > 1,
            "recorded arrivals come as recorded: remove arrivals = 'poisson'": recorded and poisson,
            "a burst is a fixed number of operations: it needs arrivals = 'even'": burst and poisson,
        }

    @property
    def stage_names(self) -> list[str]:
        return [name for stage in self.stages for name, _, _ in stage.parts]

    @property
    def duration(self) -> float:
        """Total duration of the stages in seconds, without warm-up."""
        return sum(stage.duration * len(stage.parts) for stage in self.stages)
