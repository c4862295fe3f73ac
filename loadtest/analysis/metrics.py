"""The figures of a run: one cell overall, for each operation and for each traffic entry, with stages inside.

Counts are counted, rates derived from them, percentiles come from ``percentiles`` and are never averaged. The
warm-up is in no figure.
"""

from typing import Any, Final

import numpy as np
import pandas as pd

from loadtest.analysis.frame import Record
from loadtest.analysis.lost import Missing, find_missing
from loadtest.analysis.percentiles import summarize
from loadtest.analysis.throttling import Expectation
from loadtest.runfile import StagePlan

Cell = dict[str, Any]
OUTCOMES: Final = ("ok", "throttled", "failed", "timed_out", "dropped", "lost")
FIRST_KINDS: Final = ("run", "submit", "retrieve")
"""Kinds of request that an operation begins with; polls are the rest."""


def compute(record: Record, expectation: Expectation) -> Cell:
    """``{overall, operations: {}, traffic: {}}``, each cell as ``metrics.json`` holds it.

    Args:
        record: the record.
        expectation: which requests the believed limiter would reject.
    """
    tables = _Tables(record, expectation)
    plans = record.info.traffic
    by_operation = sorted({plan.operation for plan in plans.values()})
    return {
        "overall": tables.cell(),
        "operations": {name: tables.cell(operation=name) for name in by_operation},
        "traffic": {name: tables.cell(traffic=name) for name in plans},
    }


class _Tables:
    """The rows that cells are cut from."""

    def __init__(self, record: Record, expectation: Expectation) -> None:
        self.record = record
        self.missing = find_missing(record)
        rejected = expectation.rejected
        self.requests = record.requests.assign(expected=rejected.reindex(record.requests.index))
        self.operations = record.operations.assign(expected=_expected_of_operations(record, self.requests))

    def cell(self, *, traffic: str | None = None, operation: str | None = None) -> Cell:
        """One cell with its stages; of neither traffic nor operation: the overall one, which has no latency."""
        operations, requests, missing = self.operations, self.requests, self.missing
        if traffic is not None:
            operations, requests = (rows[rows["traffic"] == traffic] for rows in (operations, requests))
        if operation is not None:
            operations, requests = (rows[rows["operation"] == operation] for rows in (operations, requests))
        planned = self.record.stages(traffic=traffic, operation=operation)
        missing = [m for m in missing if any(m.traffic == name for name, _ in planned)]
        kind = operation or (self.record.info.traffic[traffic].operation if traffic is not None else None)
        whole = self._figures(operations, requests, missing, planned, kind)
        whole["stages"] = {
            name: self._figures(
                operations[operations["stage"] == name],
                requests[requests["stage"] == name],
                [m for m in missing if m.stage == name],
                [(entry, stage) for entry, stage in planned if stage.name == name],
                kind,
            )
            for name in dict.fromkeys(stage.name for _, stage in planned)
        }
        return whole

    def _figures(
        self,
        operations: pd.DataFrame,
        requests: pd.DataFrame,
        missing: list[Missing],
        planned: list[tuple[str, StagePlan]],
        operation: str | None,
    ) -> Cell:
        seconds = covered_seconds([stage for _, stage in planned], self.record.covered_s)
        cell = _counts(operations, requests, sum(m.count for m in missing), seconds)
        if operation is not None:
            cell.update(_latencies(operations, requests, operation))
        cell["statuses"] = _statuses(requests)
        cell["reasons"] = _tally(operations["reason"].dropna())
        return cell


def covered_seconds(stages: list[StagePlan], until_s: float) -> float:
    """Seconds in which at least one of the stages was on, up to ``until_s``."""
    total, reached = 0.0, 0.0
    for begin, end in sorted((stage.start_s, stage.start_s + stage.duration_s) for stage in stages):
        total += max(0.0, min(end, until_s) - max(begin, reached))
        reached = max(reached, min(end, until_s))
    return total


def _counts(operations: pd.DataFrame, requests: pd.DataFrame, missing: int, seconds: float) -> Cell:
    counts = {name: int((operations["outcome"] == name).sum()) for name in OUTCOMES}
    counts["lost"] += missing
    sent = int(operations["start"].notna().sum())
    offered = len(operations) + missing
    asked = len(requests)
    throttled = int((requests["status"] == 429).sum())
    accepted = int(requests["status"].notna().sum()) - throttled
    first = int(requests["kind"].isin(FIRST_KINDS).sum())
    return {
        "seconds": seconds,
        "operations": {
            "offered": offered,
            "sent": sent,
            **counts,
            "offered_rate": _ratio(offered, seconds),
            "sent_rate": _ratio(sent, seconds),
        },
        "requests": {
            "sent": asked,
            "accepted": accepted,
            "throttled": throttled,
            "errors": int(requests["outcome"].isin(["failed", "timed_out"]).sum()),
            "sent_rate": _ratio(asked, seconds),
            "accepted_rate": _ratio(accepted, seconds),
            "throttled_rate": _ratio(throttled, asked),
            "expected_throttled_rate": _mean(requests["expected"]),
        },
        "throttled_rate": _ratio(counts["throttled"], sent),
        "expected_throttled_rate": _mean(operations["expected"]),
        "error_rate": _ratio(counts["failed"] + counts["timed_out"], sent),
        "goodput": _ratio(counts["ok"], seconds),
        "amplification": _ratio(first, sent),
    }


def _latencies(operations: pd.DataFrame, requests: pd.DataFrame, operation: str) -> Cell:
    """Latency blocks: of ok and timed-out operations and requests that were not wrong on purpose.

    Lags cover every one that was sent: they say how well *we* did, so a 429 has them too.
    """
    answered = _intended(operations[operations["outcome"].isin(["ok", "timed_out"])])
    served = _intended(requests[requests["outcome"].isin(["ok", "timed_out"])])
    late, served_late = _timed_out(answered), _timed_out(served)
    block: Cell = {
        "response_time_ms": summarize(_floats(answered, "response_time_ms"), late),
        "service_time_ms": summarize(_floats(served, "service_time_ms"), served_late),
        "start_lag_ms": summarize(_floats(operations, "start_lag_ms")),
        "dispatch_lag_ms": summarize(_floats(operations, "dispatch_lag_ms")),
        "execution_time_ms": summarize(_floats(answered, "execution_time_ms")),
        "overhead_ms": summarize(_floats(answered, "overhead_ms")),
    }
    if operation == "async_run":
        block["submit_ms"] = summarize(_floats(answered, "submit_ms"))
        block["time_to_result_ms"] = summarize(_floats(answered, "time_to_result_ms"), late)
        block["time_to_result_lower_ms"] = summarize(_floats(answered, "time_to_result_lower_ms"))
        block["polls"] = summarize(_floats(answered, "poll"), late)
    return block


def _expected_of_operations(record: Record, requests: pd.DataFrame) -> pd.Series:
    """For each operation whether its last run, submit or retrieve would be a 429; NaN where that isn't known."""
    first = requests[requests["kind"].isin(FIRST_KINDS)].sort_values("start", kind="stable")
    last = first.groupby(["traffic", "parent_arrival"], sort=False)["expected"].last()
    index = pd.MultiIndex.from_frame(record.operations[["traffic", "arrival"]])
    return pd.Series(last.reindex(index).to_numpy(dtype=float), index=record.operations.index)


def _intended(rows: pd.DataFrame) -> pd.DataFrame:
    """Those that were not wrong on purpose: how fast a mistake is refused says nothing of how fast work is done."""
    return rows[rows["mistake"].isna()]


def _timed_out(rows: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return (rows["outcome"] == "timed_out").to_numpy(dtype=bool)


def _floats(rows: pd.DataFrame, column: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return rows[column].to_numpy(dtype=float)


def _statuses(requests: pd.DataFrame) -> dict[str, int]:
    return _tally(requests["status"].map(lambda status: "none" if pd.isna(status) else str(int(status))))


def _tally(values: pd.Series) -> dict[str, int]:
    names, counts = np.unique(values.to_numpy(dtype=str), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _mean(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.mean()) if len(known) else None
