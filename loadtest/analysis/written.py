"""A traffic entry as the scenario in force says it: what ``run.json`` keeps of it beside the plan."""

from typing import Any, Final

import msgspec

from loadtest.record.run_info import RunInfo


class _Retry(msgspec.Struct, frozen=True):
    policy: str = "none"


class _Expect(msgspec.Struct, frozen=True):
    status: int | None = None
    job: str | None = None


class WrittenStage(msgspec.Struct, frozen=True):
    """A stage of it; one with a step stands for several of the plan, each with a number behind its name."""

    name: str = ""
    step: Any = None
    expect: tuple[int, ...] = ()


class WrittenEntry(msgspec.Struct, frozen=True):
    """A traffic entry, as far as the analysis asks.

    Attributes:
        mistakes: shares of its operations that are wrong on purpose, by kind.
        expect: the answer that it expects.
        stages: with the statuses that are no failure there.
    """

    workflow: str | None = None
    parameters: dict[str, Any] = {}
    inputs: str | None = None
    inputs_order: str = "sequential"
    retry: _Retry = _Retry()
    mistakes: dict[str, Any] = {}
    expect: _Expect = _Expect()
    stages: tuple[WrittenStage, ...] = ()

    @property
    def retries(self) -> bool:
        """Whether it tries again after a 429."""
        return self.retry.policy != "none"

    @property
    def sends(self) -> tuple[object, ...]:
        """What it sends: equal where arrival k of two entries sends the same."""
        return self.workflow, self.parameters, self.inputs, self.inputs_order

    def expected_in(self, stage: str) -> frozenset[int]:
        """Statuses that are no failure in a stage of the plan, of which a stage with steps has several."""
        of_steps = stage.rpartition("-")[0]
        return frozenset(
            status
            for written in self.stages
            if written.name == (stage if written.step is None else of_steps)
            for status in written.expect
        )


_NOTHING: Final = WrittenEntry()


def written_entry(info: RunInfo, traffic: str) -> WrittenEntry:
    """A traffic entry of the scenario in force; an empty one where ``run.json`` holds none that can be read."""
    try:
        return msgspec.convert(info.scenario.effective.get("traffic", {}).get(traffic, {}), WrittenEntry)
    except (msgspec.ValidationError, AttributeError):
        return _NOTHING
