"""``[target]``: what the embedded target is like while a scenario runs."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from loadtest.limiters import SHARED_SCOPES, AlgorithmName, LimiterSpec, Scope, check_spec
from loadtest.scenario.fields import CodeWord, Duration, LimitSpec, Strict
from loadtest.scenario.target_faults import FaultSpec

EnforceName = Literal["sync_run", "async_submit", "retrieval", "all"]
Recode = Annotated[str, StringConstraints(pattern=r"^([45]\d\d(/[!-~]+)?|/[!-~]+)$")]


class TargetSettings(Strict):
    """Settings of the embedded target; they do not apply to any other."""

    enforce: dict[EnforceName, LimitSpec] = {}
    """Limits over the documented ones; ``all`` is that of all requests together, for the scopes that have one."""
    keys: Annotated[int, Field(ge=1, le=1000)] = 1
    """API keys that the embedded target makes and the traffic shares."""
    algorithm: AlgorithmName = "fixed-window"
    """How limits are enforced."""
    burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Requests that may pass at once, where the algorithm has a burst."""
    count_rejected: bool = False
    """Whether rejected requests are counted, too."""
    limit_scope: Scope = "key-and-name"
    """What one limiter counts."""
    draws: Literal["all", "valid"] = "all"
    """Which requests draw on a limit."""
    retry_after: Literal["none", "seconds", "date"] = "none"
    """Whether a 429 says when to come again."""
    retry_after_factor: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """By how much ``Retry-After`` is off."""
    rate_headers: Literal["none", "x-ratelimit", "ietf"] = "none"
    """Which headers tell of a limit's state."""
    workers: Annotated[int, Field(ge=1, le=10_000)] | None = None
    threads: Annotated[int, Field(ge=1, le=1000)] | None = None
    queue: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    retention: Duration | None = None
    run_timeout: Duration | None = None
    workflows: list[str] = []
    """Modules with workflows beside the built-in ones; relative paths begin at the working directory."""
    answers: dict[CodeWord, Recode] = {}
    """Errors by their code, and how they are answered instead: ``queue_full = "429"``."""
    pending_execution_time: Literal["elapsed", "zero", "omitted"] = "elapsed"
    unknown_parameters: Literal["reject", "ignore"] = "reject"
    max_body: Annotated[int, Field(ge=1, le=1024 * 1024)] | None = None
    """Bytes that a request's body may have."""
    fault: list[FaultSpec] = []
    """How it misbehaves, and when; seconds count from the epoch, with which warm-up begins."""

    @property
    def limiter(self) -> LimiterSpec:
        """How limits are counted."""
        return LimiterSpec(self.algorithm, self.burst, self.count_rejected, self.limit_scope)

    @field_validator("burst", "count_rejected")
    @classmethod
    def _makes_sense_to_the_algorithm(cls, value: int | None, info: ValidationInfo) -> int | None:
        if "algorithm" in info.data:  # else that is what is wrong
            said: dict[str, Any] = {str(info.field_name): value}
            check_spec(LimiterSpec(info.data["algorithm"], **said))
        return value

    @field_validator("retry_after_factor")
    @classmethod
    def _is_a_factor_of_something(cls, value: float, info: ValidationInfo) -> float:
        if value != 1 and info.data.get("retry_after") == "none":
            raise ValueError("has no effect without retry_after, which is 'seconds' or 'date'")
        return value

    @field_validator("run_timeout")
    @classmethod
    def _lets_something_run(cls, value: float | None) -> float | None:
        if value == 0:
            raise ValueError("must be above zero")
        return value

    @model_validator(mode="after")
    def _one_limit_for_all(self) -> Self:
        shared = self.limit_scope in SHARED_SCOPES
        if shared and "all" not in self.enforce:
            raise ValueError(f"limit_scope {self.limit_scope!r} needs one limit for all requests: enforce.all")
        if "all" in self.enforce and not shared:
            raise ValueError(f"enforce.all is for limit_scope 'key' and 'global', and it is {self.limit_scope!r}")
        return self
