"""What a client does: after a 429, while a job runs, with an answer; and what it does wrong on purpose."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from loadtest.scenario.fields import ArrivalRate, Duration, JsonObject, Share, Status, Strict

MistakeKind = Literal["unknown_job", "unknown_workflow", "invalid_body", "bad_key"]
MISTAKE_STATUS: Final[dict[MistakeKind, int]] = {
    "unknown_job": 404,
    "unknown_workflow": 404,
    "invalid_body": 400,
    "bad_key": 401,
}
"""The status that each deliberate mistake expects, as the documentation lists them."""


class Retry(Strict):
    """What follows a 429 to a run, submit or retrieval (see ``loadtest.load.backoff``). Seconds."""

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
        return sum(
            min(self.max, self.initial * self.factor ** min(tried, 64)) for tried in range(self.max_attempts - 1)
        )


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


class Expect(Strict):
    """What the last answer of an operation must be for it to be ok."""

    status: Status | None = None
    """Instead of the documented one (200 of a run or retrieval, 202 of a submit)."""
    job: Literal["completed", "failed"] | None = None
    """State in which a job must end; completed where nothing is said."""
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

    @property
    def shares(self) -> dict[MistakeKind, float]:
        """The shares above zero, by kind."""
        return {kind: share for kind in MISTAKE_STATUS if (share := getattr(self, kind)) > 0}
