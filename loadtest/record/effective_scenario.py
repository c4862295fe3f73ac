"""The effective scenario in ``run.json``, as the analysis of a run reads it."""

import re
from typing import Any, Final, TypeVar

import msgspec

from loadtest.contract import POLLED_OPERATIONS
from loadtest.errors import RecordError
from loadtest.record.run_info import RunInfo

NOT_HASHED: Final = {
    "title", "description", "threshold", "compare", "seed", "breakers", "regression", "unexpected_errors",
}  # fmt: skip
"""The hash of a scenario leaves out these keys, because runs that differ only in them can be compared."""
UNEXPECTED_ERRORS: Final = 0.01
"""Default of the key ``unexpected_errors``."""


class _Retry(msgspec.Struct, frozen=True):
    policy: str = "none"


class _Polling(msgspec.Struct, frozen=True):
    policy: str = "fixed"
    interval: str = "1s"
    max: str = "60s"
    jitter: bool = False
    pace: str | None = None


class _Expect(msgspec.Struct, frozen=True):
    status: int | None = None
    job: str | None = None


class WrittenStage(msgspec.Struct, frozen=True):
    """A stage of an entry. A stage with ``step`` becomes several stages of the plan, with numbered names."""

    name: str = ""
    step: Any = None
    expect: tuple[int, ...] = ()


class WrittenEntry(msgspec.Struct, frozen=True):
    """A traffic entry. ``mistakes`` has the shares of deliberately wrong operations, by kind of mistake."""

    user: str | None = None
    workflow: str | None = None
    parameters: dict[str, Any] = {}
    inputs: str | None = None
    inputs_order: str = "sequential"
    retry: _Retry = _Retry()
    polling: _Polling = _Polling()
    mistakes: dict[str, Any] = {}
    expect: _Expect = _Expect()
    stages: tuple[WrittenStage, ...] = ()

    @property
    def retries(self) -> bool:
        return self.retry.policy != "none"

    @property
    def sends(self) -> tuple[object, ...]:
        """The scenario's values that determine the bodies of the entry's requests."""
        return self.workflow, self.parameters, self.inputs, self.inputs_order

    def expected_in(self, stage: str) -> frozenset[int]:
        """Return the ``expect`` statuses of a stage of the plan."""
        of_steps = stage.rpartition("-")[0]
        written = [each.expect for each in self.stages if each.name == (stage if each.step is None else of_steps)]
        return frozenset().union(*written)


class WrittenThreshold(msgspec.Struct):
    """A threshold. ``loadtest.threshold`` parses ``require``."""

    require: str
    traffic: str | None = None
    operation: str | None = None
    stage: str | None = None
    confident: bool = False
    note: str = ""


class WrittenComparison(msgspec.Struct):
    """A comparison of ``entries`` with each other, or of one entry's ``stages`` with the first of these stages."""

    by: list[str]
    entries: list[str] | None = None
    entry: str | None = None
    stages: list[str] | None = None


def written_entry(info: RunInfo, traffic: str) -> WrittenEntry:
    """Return a traffic entry of the effective scenario, or an empty entry if it is missing or invalid."""
    try:
        return msgspec.convert(info.scenario.effective.get("traffic", {}).get(traffic, {}), WrittenEntry)
    except (msgspec.ValidationError, AttributeError):
        return WrittenEntry()


def polling(info: RunInfo, traffic: str) -> str:
    """Describe an entry's polling, such as ``polled every 500 ms to 10 s``.

    The text is empty for an imported run, and for an operation without polls.
    """
    if info.imported or info.traffic[traffic].operation not in POLLED_OPERATIONS:
        return ""
    written = written_entry(info, traffic).polling
    # A space goes before the unit of a duration.
    first, last = (re.sub(r"(?<=\d)(?=[a-z])", "\u00a0", each) for each in (written.interval, written.max))
    if written.policy != "fixed":
        return f"polled every {first} to {last}"
    return f"polled every {first}{' at most' if written.jitter else ''}{', paced' if written.pace else ''}"


_Written = TypeVar("_Written", WrittenThreshold, WrittenComparison)


def written(info: RunInfo, kind: type[_Written]) -> list[_Written]:
    """Return the thresholds or the comparisons of the effective scenario. Raise ``RecordError`` if they are damaged."""
    key = "threshold" if kind is WrittenThreshold else "compare"
    try:
        return msgspec.convert(info.scenario.effective.get(key, []), list[kind])  # type: ignore[valid-type] # mypy rejects a variable as a type
    except msgspec.ValidationError as error:
        raise RecordError(f"run.json is damaged: {error} - of `$.scenario.effective.{key}`") from error
