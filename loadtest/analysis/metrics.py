"""The figures of a run: one cell overall, for each operation and for each traffic entry, with stages inside.

Counts are counted, rates derived from them, percentiles come from ``percentiles`` and are never averaged. The
warm-up is in no figure.
"""

from typing import Any, Final

import numpy as np
import pandas as pd

from loadtest.analysis.arrivals import Missing
from loadtest.analysis.book import KINDS, OUTCOMES
from loadtest.analysis.counts import FIRST_KINDS, NO_ANSWER
from loadtest.analysis.percentiles import summarize
from loadtest.analysis.record import Record
from loadtest.analysis.throttling import Expectation
from loadtest.analysis.times import NAMES
from loadtest.contract import LimitName
from loadtest.plan import CONCURRENCY
from loadtest.record.run_info import StagePlan

Cell = dict[str, Any]
_ASYNC_ONLY: Final = (
    "submit_ms", "time_to_result_ms", "time_to_result_lower_ms", "queue_wait_lower_ms", "queue_wait_upper_ms",
    "poll_lag_upper_ms", "polls",
)  # fmt: skip


def compute(record: Record, expectation: Expectation) -> Cell:
    """``{overall, operations: {}, traffic: {}}``, each cell as ``metrics.json`` holds it.

    Args:
        record: the record.
        expectation: which requests the believed limiter would reject.
    """
    figures = _Figures(record, expectation)
    plans = record.info.traffic
    by_operation = sorted({plan.operation for plan in plans.values()})
    return {
        "overall": figures.cell(),
        "operations": {name: figures.cell(operation=name) for name in by_operation},
        "traffic": {name: figures.cell(traffic=name) for name in plans},
    }


class _Figures:
    """What cells are made of."""

    def __init__(self, record: Record, expectation: Expectation) -> None:
        self.record = record
        self.missing = record.arrivals.missing(record.info)
        rejected = expectation.rejected
        self.of_requests = _means(rejected, record.sent_requests["cell"], len(record.book.cells))
        first, cell = _last_first(record.sent_requests, rejected)
        self.of_operations = _means(first, cell, len(record.book.cells))

    def cell(self, *, traffic: str | None = None, operation: str | None = None) -> Cell:
        """One cell with its stages; of neither traffic nor operation: the overall one, which has no latency."""
        planned = self.record.stages(traffic=traffic, operation=operation)
        kind = operation or (self.record.info.traffic[traffic].operation if traffic is not None else None)
        whole = self._figures(planned, kind)
        whole["stages"] = {
            name: self._figures([(entry, stage) for entry, stage in planned if stage.name == name], kind)
            for name in dict.fromkeys(stage.name for _, stage in planned)
        }
        return whole

    def _figures(self, planned: list[tuple[str, StagePlan]], operation: str | None) -> Cell:
        record, cells = self.record, self.record.cells(planned)
        names = {(entry, stage.name) for entry, stage in planned}
        missing = [m for m in self.missing if (m.traffic, m.stage) in names]
        cell = self._counts(cells, missing, covered_seconds([stage for _, stage in planned], record.covered_s))
        if operation is not None:
            for name in NAMES:
                if operation == "async_run" or name not in _ASYNC_ONLY:
                    cell[name] = summarize(record.times.of[name].get(cells))
        if operation == "async_run":
            cell["polling"] = self._polling(planned)
        statuses = record.counts.statuses[cells].sum(axis=0)
        answers = {"none" if s == NO_ANSWER else str(s): int(statuses[s]) for s in statuses.nonzero()[0].tolist()}
        cell["statuses"] = dict(sorted(answers.items()))
        reasons = record.counts.reasons[cells].sum(axis=0)
        words = record.book.words["reason"]
        tally = {words[place]: int(reasons[place]) for place in reasons.nonzero()[0].tolist()}
        cell["reasons"] = dict(sorted(tally.items()))
        return cell

    def _polling(self, planned: list[tuple[str, StagePlan]]) -> Cell:
        record = self.record
        polls, retrievals = record.poll_use.during(planned)
        limit = record.belief.drawn_on(LimitName.RETRIEVAL)
        seconds = covered_seconds([stage for _, stage in planned], record.covered_s)
        # A limit on how many are answered at a time allows no number of them.
        sustained = limit in record.limits() and record.belief.spec.algorithm != CONCURRENCY
        allowed = record.belief.limit_on(limit).rate * record.quotas_on(limit) * seconds if sustained else 0.0
        return {
            "polls": polls,
            "retrievals": retrievals,
            "share_of_retrievals": _ratio(polls, retrievals),
            "share_of_limit": _ratio(polls, allowed),
            "limit_use": _ratio(retrievals, allowed),
        }

    def _counts(self, cells: list[int], missing: list[Missing], seconds: float) -> Cell:
        made = self.record.counts
        counts = dict(zip(OUTCOMES, made.outcomes[cells].sum(axis=0).tolist(), strict=True))
        offered = sum(counts.values()) + sum(m.count for m in missing)
        counts["lost"] += sum(m.count for m in missing)
        sent = int(made.sent[cells].sum())
        statuses = made.statuses[cells].sum(axis=0)
        asked, throttled = int(statuses.sum()), int(statuses[429])
        accepted = asked - int(statuses[NO_ANSWER]) - throttled
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
                "errors": int(made.errors[cells].sum()),
                "sent_rate": _ratio(asked, seconds),
                "accepted_rate": _ratio(accepted, seconds),
                "throttled_rate": _ratio(throttled, asked),
                "expected_throttled_rate": _mean(self.of_requests, cells),
            },
            "throttled_rate": _ratio(counts["throttled"], sent),
            "expected_throttled_rate": _mean(self.of_operations, cells),
            "error_rate": _ratio(counts["failed"] + counts["timed_out"], sent),
            "goodput": _ratio(counts["ok"], seconds),
            "amplification": _ratio(int(made.first[cells].sum()), sent),
        }


def covered_seconds(stages: list[StagePlan], until_s: float) -> float:
    """Seconds in which at least one of the stages was on, up to ``until_s``."""
    total, reached = 0.0, 0.0
    for begin, end in sorted((stage.start_s, stage.start_s + stage.duration_s) for stage in stages):
        total += max(0.0, min(end, until_s) - max(begin, reached))
        reached = max(reached, min(end, until_s))
    return total


def _last_first(sent: pd.DataFrame, rejected: "pd.Series[float]") -> tuple["pd.Series[float]", "pd.Series[int]"]:
    """Of each operation the last run, submit or retrieve: whether it would be a 429 (NaN if unknown), and its cell."""
    first = sent["kind"].isin(KINDS[:FIRST_KINDS]) & sent["parent_arrival"].notna()
    rows = sent.loc[first, ["traffic", "parent_arrival", "start", "cell"]].sort_values("start", kind="stable")
    rows = rows.drop_duplicates(["traffic", "parent_arrival"], keep="last")
    return rejected.reindex(rows.index), rows["cell"]


def _means(values: "pd.Series[float]", cell: "pd.Series[int]", cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the known values of each cell."""
    known = (values.notna() & (cell >= 0)).to_numpy()
    places = cell.to_numpy()[known]
    sums = np.bincount(places, values.to_numpy()[known], minlength=cells)
    return sums, np.bincount(places, minlength=cells)


def _mean(sums: tuple[np.ndarray, np.ndarray], cells: list[int]) -> float | None:
    return _ratio(float(sums[0][cells].sum()), int(sums[1][cells].sum()))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
