"""Each threshold of a scenario, held against a run's metrics."""

from dataclasses import dataclass
from math import inf
from typing import Any

from loadtest.record.run_info import RunInfo
from loadtest.threshold import EXPECTED, Judgement, Threshold, judge, parse_threshold


@dataclass(frozen=True, slots=True)
class Judged:
    """A threshold and what the run has to say about it. Values are in the threshold's unit.

    Attributes:
        threshold: the requirement.
        judgement: pass, fail or inconclusive.
        value: the metric's value; None where n can't carry it.
        bounds: where the value is known to lie, if it is known only within bounds (the upper one may be infinite).
        interval: 95 % interval of a percentile, sampling only.
        expected: the expected value, of metrics that have one.
        n: how many values, requests or operations it rests on.
        why: why it is inconclusive; empty otherwise.
    """

    threshold: Threshold
    judgement: Judgement
    value: float | None
    bounds: tuple[float, float] | None
    interval: tuple[float, float] | None
    expected: float | None
    n: int | None
    why: str

    @property
    def margin(self) -> float | None:
        """Distance to the nearest edge of what is allowed: above zero inside, below zero outside."""
        if self.value is None:
            return None
        t = self.threshold
        if t.operator in ("<", "<="):
            return t.value - self.value
        if t.operator in (">", ">="):
            return self.value - t.value
        if t.operator == "between" and t.upper is not None:
            return min(self.value - t.value, t.upper - self.value)
        if t.operator == "within":
            return None if self.expected is None else t.value - abs(self.value - self.expected)
        return -abs(self.value - t.value)


def thresholds_of(info: RunInfo) -> list[Threshold]:
    """The thresholds of the scenario in force.

    Raises:
        InputError: if one cannot be read.
    """
    return [
        parse_threshold(
            entry["require"],
            traffic=entry.get("traffic"),
            operation=entry.get("operation"),
            stage=entry.get("stage"),
        )
        for entry in info.scenario.effective.get("threshold", [])
    ]


def judge_all(info: RunInfo, metrics: dict[str, Any]) -> list[Judged]:
    """Judge every threshold of the scenario against the metrics."""
    return [judge_one(threshold, metrics) for threshold in thresholds_of(info)]


def judge_one(threshold: Threshold, metrics: dict[str, Any]) -> Judged:
    """Judge one threshold; what the record can't answer is inconclusive, and says why."""
    cell = find_cell(threshold, metrics)
    if cell is None:
        why = f"the run has no figures for {threshold.scope}"
        return Judged(threshold, "inconclusive", None, None, None, None, None, why)
    value, bounds, interval, n = resolve(threshold.metric, cell)
    expected = _expected(threshold.metric, cell)
    judgement = judge(threshold, bounds or value, expected)
    why = ""
    if judgement == "inconclusive":
        why = _why(threshold, value, bounds, expected, n)
    return Judged(threshold, judgement, value, bounds, interval, expected, n, why)


def find_cell(threshold: Threshold, metrics: dict[str, Any]) -> dict[str, Any] | None:
    """The cell that a threshold is about, or None if the run has none."""
    cell: dict[str, Any] | None = metrics["overall"]
    if threshold.traffic is not None:
        cell = metrics["traffic"].get(threshold.traffic)
    elif threshold.operation is not None:
        cell = metrics["operations"].get(threshold.operation)
    if cell is not None and threshold.stage is not None:
        cell = cell["stages"].get(threshold.stage)
    return cell


def resolve(
    metric: str, cell: dict[str, Any]
) -> tuple[float | None, tuple[float, float] | None, tuple[float, float] | None, int | None]:
    """A metric of a cell by its name in a threshold: value, bounds, interval, n.

    Bounds are given where the value is known only within them: a statistic that reaches a time-out has no upper one,
    and a time to result lies somewhere within the last poll interval.
    """
    name, _, statistic = metric.partition(".")
    block = cell.get(f"{name}_ms") if f"{name}_ms" in cell else cell.get(name)
    if not isinstance(block, dict):
        n = cell["operations"]["sent"] if metric in ("throttled_rate", "error_rate", "amplification") else None
        return block, None, None, n
    value = block.get(statistic)
    if "n" not in block:
        return value, None, None, block["offered" if name == "operations" else "sent"]
    bounds = None
    if value is not None:
        upper = inf if statistic in block["at_least"] else value
        lower = cell["time_to_result_lower_ms"].get(statistic) if name == "time_to_result" else value
        bounds = None if lower is None or lower == upper else (lower, upper)
    low_high = block.get(f"{statistic}_interval")
    return value, bounds, tuple(low_high) if low_high else None, block["n"]


def _expected(metric: str, cell: dict[str, Any]) -> float | None:
    if metric not in EXPECTED:
        return None
    found = cell["requests"]["expected_throttled_rate"] if "." in metric else cell["expected_throttled_rate"]
    return None if found is None else float(found)


def _why(
    threshold: Threshold,
    value: float | None,
    bounds: tuple[float, float] | None,
    expected: float | None,
    n: int | None,
) -> str:
    if value is None:
        if n:
            return f"{n} values can't carry {threshold.metric.partition('.')[2]}"
        return "no data: nothing to measure it on"
    if threshold.operator == "within" and expected is None:
        return "no expected value: the limiter could not be replayed"
    if bounds and bounds[1] == inf:
        return "it reaches time-outs, of which only a lower bound is known"
    return "the true value lies between two polls, and the threshold with it"
