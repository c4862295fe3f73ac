"""The scenario in force, as ``run.json`` keeps it and a run's analysis reads it beside the plan."""

from typing import Any, Final, TypeVar

import msgspec

from loadtest.errors import RecordError
from loadtest.record.run_info import RunInfo


class _Retry(msgspec.Struct, frozen=True):
    policy: str = "none"


class _Expect(msgspec.Struct, frozen=True):
    status: int | None = None
    job: str | None = None


class WrittenStage(msgspec.Struct, frozen=True):
    """A stage of an entry; one with a step stands for several of the plan, each with a number behind its name."""

    name: str = ""
    step: Any = None
    expect: tuple[int, ...] = ()


class WrittenEntry(msgspec.Struct, frozen=True):
    """A traffic entry; ``mistakes`` are shares of its operations that are wrong on purpose, by kind."""

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
        return self.retry.policy != "none"

    @property
    def sends(self) -> tuple[object, ...]:
        """Equal where arrival k of two entries sends the same."""
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


class WrittenThreshold(msgspec.Struct):
    """A threshold; ``require`` is parsed by ``loadtest.threshold``."""

    require: str
    traffic: str | None = None
    operation: str | None = None
    stage: str | None = None
    confident: bool = False


class WrittenComparison(msgspec.Struct):
    """A comparison of ``entries`` with each other, or of the ``stages`` of an ``entry`` with the first of them."""

    by: list[str]
    entries: list[str] | None = None
    entry: str | None = None
    stages: list[str] | None = None


_NOTHING: Final = WrittenEntry()


def written_entry(info: RunInfo, traffic: str) -> WrittenEntry:
    """A traffic entry of the scenario in force; an empty one where ``run.json`` holds none that can be read."""
    try:
        return msgspec.convert(info.scenario.effective.get("traffic", {}).get(traffic, {}), WrittenEntry)
    except (msgspec.ValidationError, AttributeError):
        return _NOTHING


def written_thresholds(info: RunInfo) -> list[WrittenThreshold]:
    """Return the thresholds of the scenario in force.

    Raises:
        RecordError: if what is there is no list of thresholds.
    """
    return _listed(info, "threshold", WrittenThreshold)


def written_comparisons(info: RunInfo) -> list[WrittenComparison]:
    """Return the comparisons of the scenario in force.

    Raises:
        RecordError: if what is there is no list of comparisons.
    """
    return _listed(info, "compare", WrittenComparison)


_Written = TypeVar("_Written", WrittenThreshold, WrittenComparison)


def _listed(info: RunInfo, key: str, kind: type[_Written]) -> list[_Written]:
    try:
        return msgspec.convert(info.scenario.effective.get(key, []), list[kind])  # type: ignore[valid-type] # mypy takes no type of a variable
    except msgspec.ValidationError as error:
        raise RecordError(f"run.json is damaged: {error} - of `$.scenario.effective.{key}`") from error
