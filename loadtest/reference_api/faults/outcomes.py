"""Outcomes that are not what they should be. Pure."""

import math
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from loadtest.faults import AnyFault
from loadtest.faults.kinds import DuplicateResult, FalseExecutionTime, SlowExecution, WrongResult
from loadtest.reference_api.execution import Outcome

_ABOVE: Final = 600_000.0
"""ms by which an executionTime is above the truth, more than any client waits."""

_LEVELS: Final = 100
"""Levels of a result that are made wrong: a result may be nested as deeply as the stack allows."""

_ABSENT: Final = b',"executionTime":null'


def slowness(faults: Iterable[AnyFault], milliseconds: float) -> float:
    """Seconds that an execution is to last longer than the ``milliseconds`` that it took."""
    slow = [fault for fault in faults if isinstance(fault, SlowExecution)]
    return sum(milliseconds * (fault.factor - 1) + fault.ms for fault in slow) / 1000


def falsify(outcome: Outcome, faults: Iterable[AnyFault], before: bytes | None) -> Outcome:
    """Make an outcome wrong.

    Args:
        outcome: the true one.
        faults: what hits it.
        before: the result, as JSON, of the last execution for the same key; None if there was none.
    """
    for fault in faults:
        if isinstance(fault, FalseExecutionTime):
            outcome = outcome._replace(milliseconds=_false_time(fault, outcome.milliseconds))
        elif outcome.result is not None and isinstance(fault, DuplicateResult) and before is not None:
            outcome = outcome._replace(result=before)
        elif outcome.result is not None and isinstance(fault, WrongResult):
            outcome = outcome._replace(result=msgspec.json.encode(spoil(msgspec.json.decode(outcome.result))))
    return outcome


def _false_time(fault: FalseExecutionTime, milliseconds: float) -> float:
    match fault.value:
        case "above":
            return milliseconds + _ABOVE
        case "negative":
            return -1.0 - milliseconds
        case "missing":
            return math.nan  # which becomes null in JSON: see ``without_time``
    return round(milliseconds * fault.factor + fault.ms, 3)


def without_time(answer: bytes) -> bytes:
    """An answer without its ``executionTime``, where that is to be missing."""
    before, absent, after = answer.rpartition(_ABSENT)
    return before + after if absent else answer


def spoil(value: Any, levels: int = _LEVELS) -> Any:
    """A result of the same shape with other values; an empty one gets a key that doesn't belong there.

    Args:
        value: the result, or what is in it.
        levels: how deep to go; what lies deeper is replaced.
    """
    if isinstance(value, dict) and levels:
        return {key: spoil(each, levels - 1) for key, each in value.items()} or {"wrong": True}
    if isinstance(value, list) and levels:
        return [spoil(each, levels - 1) for each in value] or ["wrong"]
    if isinstance(value, dict | list):
        return "wrong"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"not {value}"
