"""The kinds of faults, and their keys.

Whether a fault changes a job's execution or result is decided when the job is submitted. A wrong result is the same in
all retrievals of the job.
"""

from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from loadtest.contract import LIMIT_NAMES, LimitName
from loadtest.errors import WrongValueError

SECONDS: Final = ("start", "duration", "idle")
"""The values of these keys are in seconds. In files they have a unit."""

_Millis = Annotated[float, Meta(ge=0, le=600_000)]
_KeyIndex = Annotated[int, Meta(ge=0, le=999)]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Base of all faults. Times are in s (``ms`` in ms), probabilities are 0-1, and API keys are given by index."""

    ON: ClassVar[tuple[LimitName, ...]] = LIMIT_NAMES
    """The kinds of requests that the fault can affect."""

    start: Annotated[float, Meta(description="Start of the fault, counted from the load's epoch.")] = 0.0
    duration: Annotated[float, Meta(description="Duration of the fault. Default: unlimited.")] | None = None
    probability: Annotated[float, Meta(ge=0, le=1, description="Probability that a request is affected.")] = 1.0
    on: tuple[LimitName, ...] = ()
    """The kinds of requests that the fault affects. Empty means all kinds in ``ON``."""
    key: Annotated[_KeyIndex, Meta(description="Only the API key with this number (from 0) is affected.")] | None = None

    def __post_init__(self) -> None:
        """Check the values, and normalise ``on``, so that faults with the same effect compare equal."""
        if self.duration == 0:
            raise WrongValueError("must be above zero", key="duration")
        on = tuple(name for name in self.ON if name in self.on)
        msgspec.structs.force_setattr(self, "on", () if on == self.ON else on)
        self._check()

    def _check(self) -> None:
        """Check the rules of this kind. Raises ``WrongValueError``."""

    @property
    def kind(self) -> str:
        return str(self.__struct_config__.tag)

    @property
    def names(self) -> tuple[LimitName, ...]:
        return self.on or self.ON


class Latency(Fault, frozen=True, tag="latency"):
    """Requests are answered later, but execute at their usual speed."""

    ms: Annotated[_Millis, Meta(description="Added time. For lognormal it is the median, for ramp the final value.")]
    shape: Annotated[Literal["constant", "lognormal", "ramp"], Meta(description="Course of the latency.")] = "constant"
    sigma: Annotated[float, Meta(ge=0, le=5, description="For lognormal: standard deviation of the logarithm.")] = 0.5

    def _check(self) -> None:
        if self.shape == "ramp" and self.duration is None:
            raise WrongValueError("a ramp needs a duration", key="duration")
        if self.shape != "lognormal" and self.sigma != 0.5:
            raise WrongValueError("needs shape = lognormal", key="sigma")


class SlowExecution(Fault, frozen=True, tag="slow-execution"):
    """Workflows execute longer, and executionTime shows it."""

    ON = (LimitName.SYNC_RUN, LimitName.ASYNC_SUBMIT)

    factor: Annotated[float, Meta(ge=1, le=1000, description="The execution time is multiplied by this.")] = 1.0
    ms: Annotated[_Millis, Meta(description="Added time.")] = 0.0

    def _check(self) -> None:
        if self.factor == 1 and self.ms == 0:
            raise WrongValueError("give factor, ms, or both", key="factor")


class Freeze(Fault, frozen=True, tag="freeze"):
    """The whole server stops. It reads no requests, sends no answers and starts no workflows.

    Without ``ms``, it stops for the whole duration of the fault. With ``ms``, every affected request stops it for this
    time.
    """

    ms: Annotated[_Millis, Meta(description="Time per affected request. Default: the whole duration.")] | None = None

    def _check(self) -> None:
        if self.ms is None and (self.probability != 1 or self.on or self.key is not None):
            raise WrongValueError("is missing: probability, on and key need a time per affected request", key="ms")


class Error(Fault, frozen=True, tag="error"):
    """Requests are answered with a server error, and are not executed."""

    status: Annotated[int, Meta(ge=500, le=599, description="Status of the answer.")] = 500


class Reset(Fault, frozen=True, tag="reset"):
    """Connections are reset (RST), before the request is executed or in the middle of its answer."""

    when: Annotated[
        Literal["before", "middle"], Meta(description="Before execution, or in the middle of the answer.")
    ] = "before"


class Truncate(Fault, frozen=True, tag="truncate"):
    """The connection is closed after half of the body."""


class Garbage(Fault, frozen=True, tag="garbage"):
    """Requests are answered with meaningless bytes."""

    what: Annotated[
        Literal["body", "answer"], Meta(description="A body that is not JSON, or an answer that is not HTTP.")
    ] = "body"


class NeverFinish(Fault, frozen=True, tag="never-finish"):
    """Jobs are accepted, but stay pending."""

    ON = (LimitName.ASYNC_SUBMIT,)


class WrongResult(Fault, frozen=True, tag="wrong-result"):
    """Sync runs and jobs return wrong results."""

    ON = (LimitName.SYNC_RUN, LimitName.ASYNC_SUBMIT)


class DuplicateResult(Fault, frozen=True, tag="duplicate-result"):
    """The previous result or job id of the same API key is returned again."""

    ON = (LimitName.SYNC_RUN, LimitName.ASYNC_SUBMIT)

    what: Annotated[Literal["result", "id"], Meta(description="The previous result, or the previous job id.")] = (
        "result"
    )

    def _check(self) -> None:
        if self.what == "id" and LimitName.SYNC_RUN in self.on:
            raise WrongValueError("a sync_run has no id; leave it out, or write on = async_submit", key="on")
        if self.what == "id":
            msgspec.structs.force_setattr(self, "on", (LimitName.ASYNC_SUBMIT,))


class FalseExecutionTime(Fault, frozen=True, tag="false-execution-time"):
    """The stated executionTime is wrong by a factor or by some ms, impossible, or missing."""

    ON = (LimitName.SYNC_RUN, LimitName.ASYNC_SUBMIT)

    value: Annotated[
        Literal["off", "above", "negative", "missing"],
        Meta(description="Changed by factor and ms, longer than the client measured, negative, or missing."),
    ] = "off"
    factor: Annotated[float, Meta(ge=-1000, le=1000, description="The true time is multiplied by this.")] = 1.0
    ms: Annotated[float, Meta(ge=-600_000, le=600_000, description="Added time.")] = 0.0

    def _check(self) -> None:
        scaled = self.factor != 1 or self.ms != 0
        if self.value == "off" and not scaled:
            raise WrongValueError("give factor or ms, or value = above, negative or missing", key="factor")
        if self.value != "off" and scaled:
            raise WrongValueError(f"{self.value} goes with neither factor nor ms; leave them out", key="value")


class BackToPending(Fault, frozen=True, tag="back-to-pending"):
    """Jobs that had ended become pending again."""

    ON = (LimitName.RETRIEVAL,)


class Throttle(Fault, frozen=True, tag="throttle"):
    """Requests are answered with 429 regardless of the limits, and do not count against them."""


class ColdStart(Fault, frozen=True, tag="cold-start"):
    """After an idle period, requests wait while the server starts."""

    ms: Annotated[_Millis, Meta(description="Duration of the start.")]
    idle: Annotated[float, Meta(description="A server that was idle for this time starts cold.")] = 10.0


class Starve(Fault, frozen=True, tag="starve"):
    """Sync runs and jobs of one API key wait while another key has unfinished sync runs or jobs."""

    ON = (LimitName.SYNC_RUN, LimitName.ASYNC_SUBMIT)

    by: Annotated[_KeyIndex, Meta(description="The preferred API key. Default: any other key.")] | None = None

    def _check(self) -> None:
        if self.key is None:
            raise WrongValueError("is missing: the key to starve", key="key")
        if self.by == self.key:
            raise WrongValueError(f"key {self.key} cannot starve itself", key="by")


KINDS: Final[dict[str, type[Fault]]] = {str(each.__struct_config__.tag): each for each in Fault.__subclasses__()}
