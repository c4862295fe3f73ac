"""A history in the formats of other tools: Apache Otava's CSV, Bencher's JSON, and that of github-action-benchmark."""

import csv
import io
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from loadtest.compare.history import History
from loadtest.compare.measurements import NATURES, Key, Measurement, RunMeasurements
from loadtest.errors import InputError

_Z95: Final = 1.959964
"""Of the standard normal distribution, two-sided 95 %."""


def exported(history: History) -> list[RunMeasurements]:
    """The runs that other tools get, the oldest first: all but the invalid and the rejected ones.

    Raises:
        InputError: if there is none.
    """
    runs = [each.measurements for each in history.runs if each.status in {"accepted", "waiting"}]
    if not runs:
        raise InputError("the history holds no valid run, so there is nothing to export")
    return runs


def to_otava(history: History) -> str:
    """CSV for Apache Otava: a row for each run, a column for each gated metric that all of them have.

    Otava wants a number in every cell, so that a metric which some run lacks has no column.

    Raises:
        InputError: if there is no run.
    """
    runs = exported(history)
    columns = [_gated(run) for run in runs]
    keys = [key for key in columns[-1] if all(key in column for column in columns)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time", "run", "commit", "version", *map(_name, keys)])
    for run, column in zip(runs, columns, strict=True):
        values = [column[key].value for key in keys]
        writer.writerow([run.started, run.run, run.commit, run.target_version, *values])
    return text.getvalue()


def to_bmf(history: History) -> str:
    """Bencher Metric Format (JSON) of the last run: each traffic entry and stage is a benchmark, each metric a measure.

    Raises:
        InputError: if there is no run.
    """
    benchmarks: dict[str, dict[str, Mapping[str, float]]] = {}
    for key, one in _gated(exported(history)[-1]).items():
        benchmarks.setdefault(f"{key.traffic}/{key.stage}", {})[key.metric] = _bounds(one)
    return _json(benchmarks)


def to_benchmark_action(history: History) -> str:
    """``customSmallerIsBetter`` (JSON) for github-action-benchmark: the last run, less metrics of which more is better.

    Raises:
        InputError: if there is no run.
    """
    run = exported(history)[-1]
    about = "\n".join(text for text in (run.run, run.commit, run.target_version) if text)
    smaller = {key: one for key, one in _gated(run).items() if NATURES[key.metric].worse > 0}
    return _json(
        [
            {"name": _name(key), "unit": NATURES[key.metric].unit, "value": one.value, **_range(one), "extra": about}
            for key, one in smaller.items()
        ]
    )


def _range(one: Measurement) -> dict[str, str]:
    upper = _bounds(one).get("upper_value")
    return {} if upper is None else {"range": f"± {upper - one.value:.3g}"}


FORMATS: Final[Mapping[str, Callable[[History], str]]] = {
    "otava": to_otava,
    "bmf": to_bmf,
    "benchmark-action": to_benchmark_action,
}
"""By the name that ``--to`` takes."""


def _gated(run: RunMeasurements) -> dict[Key, Measurement]:
    return {one.key: one for one in run.measurements if one.gated}


def _name(key: Key) -> str:
    return f"{key.traffic}/{key.stage}/{key.metric}"


def _bounds(one: Measurement) -> dict[str, float]:
    """A value with its 95 % interval within the run, where a time or a rate has one."""
    if one.se is None or NATURES[one.metric].scale != "log":
        return {"value": one.value}
    factor = math.exp(_Z95 * one.se)
    return {"value": one.value, "lower_value": one.value / factor, "upper_value": one.value * factor}


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"
