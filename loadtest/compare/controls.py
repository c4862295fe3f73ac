"""Controls: what the service cannot touch. If they moved, so did the surroundings."""

import math
import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

from loadtest.compare.change import student
from loadtest.compare.measurements import RunMeasurements
from loadtest.compare.noise import PRIOR_DF, variance, winsorised
from loadtest.compare.results import ControlComparison


class _Kind(NamedTuple):
    """What is assumed of a control: its sd from run to run (log scale), and the least growth that counts."""

    prior_sd: float
    least_ratio: float
    least_ms: float


# A timed loop repeats within some per cent on a calm machine; a p99 of lags of tenths of a ms does not.
_KINDS: Final = {"CPU loop": _Kind(0.03, 1.05, 0.0), "dispatch lag p99": _Kind(0.30, 1.5, 1.0)}
_LEVEL: Final = 0.01
_LEAST: Final = 3


def compare_controls(
    base: Sequence[tuple[RunMeasurements, RunMeasurements | None]], run: RunMeasurements | None
) -> tuple[ControlComparison, ...]:
    """Controls of a run beside those of a history, or of the head side beside the base side of pairs.

    A control moved if it grew by its minimum effect and one-sided p ≤ 1 % (Student, its sd shrunk to a prior).

    Args:
        base: earlier runs, each with None; or pairs.
        run: the run in question; None for pairs.
    """
    found = []
    for name, kind in _KINDS.items():
        if run is None:
            pairs = [(_value(one, name), _value(other, name)) for one, other in base if other is not None]
            logs = [(math.log(one), math.log(other)) for one, other in pairs if one and other]
            centre, head = [one for one, _ in logs], [other for _, other in logs]
            moves, prior = [other - one for one, other in logs], 2 * kind.prior_sd**2
        else:
            value = _value(run, name)
            values = [_value(one, name) for one, _ in base]
            centre = [math.log(each) for each in values if each] if value else []
            head = [math.log(value)] if value else []
            centre = winsorised(centre, kind.prior_sd) if centre else []
            moves, prior = centre, kind.prior_sd**2
        if len(moves) >= _LEAST:
            found.append(_compare(name, kind, (centre, head), moves, prior))
    return tuple(found)


def _compare(
    name: str, kind: _Kind, sides: tuple[list[float], list[float]], moves: list[float], prior: float
) -> ControlComparison:
    """One control: ``moves`` are what its variance is taken of."""
    base, head = (statistics.fmean(side) for side in sides)
    n, df = len(moves), PRIOR_DF + len(moves) - 1
    squared_sd = (PRIOR_DF * prior + (n - 1) * variance(moves)) / df
    # Of a history the new run is one more; of pairs, ``moves`` are the differences themselves.
    squared = squared_sd * (1 / n + (1 if len(sides[1]) == 1 else 0))
    t = (head - base) / math.sqrt(squared)
    ratio, more = math.exp(head - base), math.exp(head) - math.exp(base)
    moved = t >= student(1 - _LEVEL, df) and ratio >= kind.least_ratio and more >= kind.least_ms
    return ControlComparison(name=name, base_ms=math.exp(base), head_ms=math.exp(head), ratio=ratio, moved=moved)


def _value(run: RunMeasurements, name: str) -> float | None:
    """A control's value in a run, if it has one above zero."""
    return next((one.value_ms for one in run.controls if one.name == name and one.value_ms > 0), None)
