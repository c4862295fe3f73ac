"""The kinds of faults and their keys: values that say how a target is to misbehave. Pure: nothing is done here.

What belongs to a job (that it never finishes, that its result is wrong) is decided when it is submitted, and holds
for every later retrieval of it.
"""

from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from loadtest.contract import LIMIT_NAMES, LimitName

MAX_SECONDS: Final = 7 * 24 * 3600.0
SECONDS: Final = ("start", "duration", "idle")
"""Keys whose values are seconds here, and written with a unit."""

_Millis = Annotated[float, Meta(ge=0, le=600_000)]
_KeyIndex = Annotated[int, Meta(ge=0, le=999)]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every fault has: times in s, a probability of 0-1, and the index of a key in the server's."""

    ON: ClassVar[tuple[LimitName, ...]] = LIMIT_NAMES
    """The kinds of requests for which it makes sense."""

    start: Annotated[float, Meta(description="Since the load's epoch, or since the server is ready.")] = 0.0
    duration: Annotated[float, Meta(description="How long; for ever if it isn't said.")] | None = None
    probability: Annotated[float, Meta(ge=0, le=1, description="Of each request to be hit.")] = 1.0
    on: tuple[LimitName, ...] = ()
    """The kinds of requests that it may hit; empty for all that make sense."""
    key: Annotated[_KeyIndex, Meta(description="Only requests of this API key, by its number from 0.")] | None = None

    def __post_init__(self) -> None:
        """Check what one type can't say, and bring equal faults into one form.

        Raises:
            ValueError: in words for the user, beginning with the key.
        """
        for name in SECONDS:
            if (value := getattr(self, name, None)) is not None:
                if not 0 <= value <= MAX_SECONDS:
                    raise ValueError(f"{name}: {value:g} s is not between zero and a week")
                msgspec.structs.force_setattr(self, name, round(value, 9))
        if self.duration == 0:
            raise ValueError("duration: must be above zero")
        if wrong := [name for name in self.on if name not in self.ON]:
            raise ValueError(f"on: {wrong[0]!r} makes no sense for {self.kind}; known here: {', '.join(self.ON)}")
        on = tuple(name for name in self.ON if name in self.on)
        msgspec.structs.force_setattr(self, "on", () if on == self.ON else on)
        self._check()

    def _check(self) -> None:
        """Check what only one kind has; errors as ``__post_init__``."""

    @property
    def kind(self) -> str:
        return str(self.__struct_config__.tag)

    @property
    def names(self) -> tuple[LimitName, ...]:
        return self.on or self.ON


class Latency(Fault, frozen=True, tag="latency"):
    """Requests are answered later, without being executed longer."""

    ms: Annotated[_Millis, Meta(description="Added; of lognormal the median, of ramp what it grows to.")]
    shape: Annotated[Literal["constant", "lognormal", "ramp"], Meta(description="How it is spread.")] = "constant"
    sigma: Annotated[float, Meta(ge=0, le=5, description="Of lognormal: standard deviation of the logarithm.")] = 0.5

    def _check(self) -> None:
        if self.shape == "ramp" and self.duration is None:
            raise ValueError("duration: a ramp needs one, over which it grows")
        if self.shape != "lognormal" and self.sigma != 0.5:
            raise ValueError("sigma: is for shape = lognormal only")


class SlowExecution(Fault, frozen=True, tag="slow-execution"):
    """Workflows execute longer, and their executionTime says so."""

    ON = (LimitName.SYNC_RUN, LimitName.ASYNC_SUBMIT)

    factor: Annotated[float, Meta(ge=1, le=1000, description="Times what it takes.")] = 1.0
    ms: Annotated[_Millis, Meta(description="Added.")] = 0.0

    def _check(self) -> None:
        if self.factor == 1 and self.ms == 0:
            raise ValueError("factor: give factor, ms, or both")


class Freeze(Fault, frozen=True, tag="freeze"):
    """The whole server stops: it accepts, answers and executes nothing.

    Without ``ms`` it does for the whole time of the fault; with it, for so long at every request that is hit.
    """

    ms: Annotated[_Millis, Meta(description="At every request that is hit; else for the whole duration.")] | None = None

    def _check(self) -> None:
        if self.ms is None and (self.probability != 1 or self.on or self.key is not None):
            raise ValueError("ms: probability, on and key need it, the freeze of each request that is hit")


class Error(Fault, frozen=True, tag="error"):
    """Requests are answered with an error of the server's, and are not executed."""

    status: Annotated[int, Meta(ge=500, le=599, description="Of the answer.")] = 500


class Reset(Fault, frozen=True, tag="reset"):
    """Connections are reset (RST), before the request is executed or in the middle of its answer."""

    when: Annotated[Literal["before", "middle"], Meta(description="Before execution, or amid the answer.")] = "before"


class Truncate(Fault, frozen=True, tag="truncate"):
    """Half of the body is sent, less than Content-Length says, and the connection is closed."""


class Garbage(Fault, frozen=True, tag="garbage"):
    """Bytes that mean nothing: a body that isn't JSON, or an answer that isn't HTTP."""

    what: Annotated[Literal["body", "answer"], Meta(description="What is no JSON, or no HTTP.")] = "body"


class NeverFinish(Fault, frozen=True, tag="never-finish"):
    """Jobs are accepted, and stay pending."""

    ON = (LimitName.ASYNC_SUBMIT,)


class WrongResult(Fault, frozen=True, tag="wrong-result"):
    """Results are not those of the workflow."""

    ON = (LimitName.SYNC_RUN, LimitName.ASYNC_SUBMIT)


class DuplicateResult(Fault, frozen=True, tag="duplicate-result"):
    """What belongs to another one of the same key is given again: its result, or its job id."""

    ON = (LimitName.SYNC_RUN, LimitName.ASYNC_SUBMIT)

    what: Annotated[Literal["result", "id"], Meta(description="The one before's result or job id.")] = "result"

    def _check(self) -> None:
        if self.what == "id" and LimitName.SYNC_RUN in self.on:
            raise ValueError("on: a sync_run has no id; leave it out, or write on = async_submit")
        if self.what == "id":
            msgspec.structs.force_setattr(self, "on", (LimitName.ASYNC_SUBMIT,))


class FalseExecutionTime(Fault, frozen=True, tag="false-execution-time"):
    """ExecutionTime is not what the execution took: off by a factor or an addend, or impossible."""

    ON = (LimitName.SYNC_RUN, LimitName.ASYNC_SUBMIT)

    value: Annotated[
        Literal["off", "above", "negative", "missing"],
        Meta(description="Off by factor and ms; above the client's own time; below zero; or not there."),
    ] = "off"
    factor: Annotated[float, Meta(ge=-1000, le=1000, description="Times the true one.")] = 1.0
    ms: Annotated[float, Meta(ge=-600_000, le=600_000, description="Added.")] = 0.0

    def _check(self) -> None:
        scaled = self.factor != 1 or self.ms != 0
        if self.value == "off" and not scaled:
            raise ValueError("factor: give factor or ms, or value = above, negative or missing")
        if self.value != "off" and scaled:
            raise ValueError(f"value: {self.value} goes with neither factor nor ms")


class BackToPending(Fault, frozen=True, tag="back-to-pending"):
    """Jobs that were seen to end are pending again."""

    ON = (LimitName.RETRIEVAL,)


class Throttle(Fault, frozen=True, tag="throttle"):
    """Requests are answered with 429, whatever the limits say, and draw on none."""


class ColdStart(Fault, frozen=True, tag="cold-start"):
    """After a while without requests the server is cold: the first one, and all that come meanwhile, wait for it."""

    ms: Annotated[_Millis, Meta(description="That it takes to start.")]
    idle: Annotated[float, Meta(description="Without a request, after which it is cold.")] = 10.0


class Starve(Fault, frozen=True, tag="starve"):
    """One key's runs and jobs wait for as long as another key has any that are not finished."""

    ON = (LimitName.SYNC_RUN, LimitName.ASYNC_SUBMIT)

    by: Annotated[_KeyIndex, Meta(description="The key that comes first; any other if it isn't said.")] | None = None

    def _check(self) -> None:
        if self.key is None:
            raise ValueError("key: is missing; it is the one that is starved")
        if self.by == self.key:
            raise ValueError(f"by: key {self.key} can't starve itself")


AnyFault = (
    Latency
    | SlowExecution
    | Freeze
    | Error
    | Reset
    | Truncate
    | Garbage
    | NeverFinish
    | WrongResult
    | DuplicateResult
    | FalseExecutionTime
    | BackToPending
    | Throttle
    | ColdStart
    | Starve
)
KINDS: Final[dict[str, type[Fault]]] = {str(each.__struct_config__.tag): each for each in AnyFault.__args__}
"""Every kind, by its name."""
