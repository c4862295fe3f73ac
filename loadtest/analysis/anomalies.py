"""Failed requests, grouped by kind, status, code, reason and traffic entry; impossible values in successful responses.

Impossible values are findings about the target, such as an executionTime longer than the client waited. A response
without executionTime counts as failed, ``wrong_shape``.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.columns import DAY_MS, KINDS, OK, Rows, Vocabulary
from loadtest.analysis.reader import Chunk
from loadtest.analysis.results import Count, Result
from loadtest.analysis.times import GRAIN_MS, longest_execution
from loadtest.contract import JobState, Operation

GROUPS: Final = 500
"""Maximum number of groups, which bounds memory if a server returns arbitrary codes."""


class ErrorGroup(Result, frozen=True, kw_only=True):
    """Requests with the same outcome.

    Attributes:
        kind: the kind of request.
        status: HTTP status; None without a response.
        code: ``code`` of the error body; None if absent.
        reason: the load client's reason for the failure.
        count: number of requests without warm-up and set-up.
        first_s: send time of the first request, in s since the epoch.
        last_s: send time of the last request.
        traffic: the traffic entry.
        request_id: the ``traceparent`` of the first request.
    """

    kind: str
    status: int | None
    code: str | None
    reason: str | None
    count: Count
    first_s: float
    last_s: float
    traffic: str
    request_id: str | None


class Errors:
    """Collects the groups.

    Attributes:
        beyond: requests in groups after the first ``GROUPS``.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.beyond = 0
        self._vocabulary = vocabulary
        self._groups: dict[tuple[int, ...], ErrorGroup] = {}

    def add(self, chunk: Chunk) -> None:
        rows = chunk.requests
        rows = rows.where((rows.words("outcome") != OK) & (rows.stage_index >= 0))
        rows = rows.where(self._vocabulary.in_figures[rows.stage_index]).as_recorded()
        if not len(rows):
            return
        status = np.fmax(rows.floats("status"), -1.0).astype(np.int64)
        names = ("kind", "error_code", "reason", "traffic")
        columns: list[NDArray[Any]] = [status, *map(rows.words, names)]
        alike = np.zeros(len(rows), np.int64)
        for column in columns:
            alike = alike * (int(column.max()) + 2) + column + 1
        order = np.argsort(alike, kind="stable")
        firsts = np.flatnonzero(np.diff(alike[order], prepend=-1))
        counts = np.diff(firsts, append=len(order))
        starts = rows.floats("start")[order] / 1e9
        earliest, latest = np.minimum.reduceat(starts, firsts), np.maximum.reduceat(starts, firsts)
        for place, row in enumerate(order[firsts].tolist()):
            key = tuple(int(column[row]) for column in columns)
            within = (int(counts[place]), float(earliest[place]), float(latest[place]))
            self._merge(key, rows, row, within)

    def result(self) -> list[ErrorGroup]:
        """Return all groups, the most frequent first."""
        return sorted(self._groups.values(), key=lambda group: (-group.count, group.first_s))

    def _merge(self, key: tuple[int, ...], rows: Rows, row: int, within: tuple[int, float, float]) -> None:
        count, first_s, last_s = within
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= GROUPS:
                self.beyond += count
                return
            words = self._vocabulary.words
            status, kind, code, reason, traffic = key
            self._groups[key] = ErrorGroup(
                kind=KINDS[kind],
                status=status if status >= 0 else None,
                code=words["error_code"][code] if code >= 0 else None,
                reason=words["reason"][reason] if reason >= 0 else None,
                count=count,
                first_s=first_s,
                last_s=last_s,
                traffic=words["traffic"][traffic],
                request_id=rows.text("request_id", row),
            )
            return
        self._groups[key] = msgspec.structs.replace(
            group, count=group.count + count, first_s=min(group.first_s, first_s), last_s=max(group.last_s, last_s)
        )


WORDS: Final = {
    "negative": "executionTime below zero",
    "longer_than_seen": "executionTime longer than the client waited for it",
    "no_time": "executionTime above a day",
    "seconds": "executionTime near a thousandth of the time that the client waited: seconds for milliseconds",
    "unknown_state": "a job state that is not documented, and counts as pending",
    "wrong_result": "a result that is not that of what was asked",
}


SECONDS: Final = (950.0, 1500.0)
"""Range of the client's wait ÷ executionTime that suggests seconds for milliseconds: 1,000, plus network time."""
_NEARLY_ALL: Final = 0.8
_FEW: Final = 5
"""Minimum number of operations; with fewer, a ratio may be chance."""
_LONGEST: Final = 60
"""Maximum number of characters of a target's job state that are kept."""


class Anomaly(Result, frozen=True, kw_only=True):
    """A kind of impossible value.

    Attributes:
        name: a key of ``WORDS``.
        count: operations with such a value.
        possible: operations checked.
        traffic: the traffic entry of the first.
        request_id: the trace id of the first.
        worst_ms: the most extreme executionTime; None if not applicable.
        example: the first unknown job state; empty for other kinds.
    """

    name: str
    count: Count = 0
    possible: Count = msgspec.field(default=0, name="of")
    traffic: str = ""
    request_id: str | None = None
    worst_ms: float | None = None
    example: str = ""

    @property
    def words(self) -> str:
        return WORDS[self.name]


class Anomalies:
    """Collects impossible values of operations in figures."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._found = {name: Anomaly(name=name) for name in WORDS}

    def add(self, chunk: Chunk) -> None:
        anomalous: dict[str, list[Rows]] = {name: [] for name in WORDS}
        for stage_index, rows in chunk.operations.by_judged_stage:
            for name, possible, found in _look(rows, self._vocabulary.operation_of[stage_index]):
                known = self._found[name]
                self._found[name] = msgspec.structs.replace(known, possible=known.possible + possible)
                anomalous[name].append(found)
        for _, rows in chunk.requests.by_judged_stage:
            self._states(rows)
        for name, pieces in anomalous.items():
            if found_now := [rows for rows in pieces if len(rows)]:
                self._found[name] = self._counted(self._found[name], found_now)

    def result(self) -> list[Anomaly]:
        """Return the anomalies that occurred."""
        return [one for one in self._found.values() if one.count and (one.name != "seconds" or _nearly_all(one))]

    def _states(self, rows: Rows) -> None:
        """Count job states that the API does not document, and keep the first as an example."""
        state = rows.words("job_state")
        known = np.isin(state, self._vocabulary.codes("job_state", list(JobState)))
        found, odd = self._found["unknown_state"], rows.where((state >= 0) & ~known)
        found = msgspec.structs.replace(found, possible=found.possible + int(np.count_nonzero(state >= 0)))
        if len(odd):
            first = not found.count
            found = self._counted(found, [odd])
            if first:
                word = self._vocabulary.words["job_state"][odd.words("job_state")[0]]
                found = msgspec.structs.replace(found, example=word[:_LONGEST])
        self._found["unknown_state"] = found

    def _counted(self, anomaly: Anomaly, pieces: list[Rows]) -> Anomaly:
        """Return the anomaly with additional rows."""
        traffic, request_id, worst = anomaly.traffic, anomaly.request_id, anomaly.worst_ms
        if not anomaly.count:
            first = min(pieces, key=lambda rows: int(rows.places[0]))
            traffic = self._vocabulary.words["traffic"][first.words("traffic")[0]]
            request_id = first.text("request_id", 0)
        if anomaly.name not in ("wrong_result", "no_time", "unknown_state"):
            execution = np.concatenate([rows.execution_given for rows in pieces])
            further = min if anomaly.name == "negative" else max
            own = float(execution.min() if anomaly.name == "negative" else execution.max())
            worst = own if worst is None else further(own, worst)
        count = anomaly.count + sum(len(rows) for rows in pieces)
        return msgspec.structs.replace(anomaly, count=count, traffic=traffic, request_id=request_id, worst_ms=worst)


def _nearly_all(anomaly: Anomaly) -> bool:
    return anomaly.count >= max(_FEW, _NEARLY_ALL * anomaly.possible)


def _look(rows: Rows, operation: Operation) -> Iterator[tuple[str, int, Rows]]:
    """Yield each kind of anomaly, the number of rows checked, and the rows with the anomaly."""
    good = rows.without_mistakes.ok
    execution = good.execution_given
    yield "negative", len(good), good.where(execution < 0)
    absurd = execution > DAY_MS
    longest = longest_execution(good)
    yield "longer_than_seen", len(good), good.where(~absurd & (execution > longest + GRAIN_MS))
    yield "no_time", len(good), good.where(absurd)
    if operation == Operation.SYNC_RUN:
        # Jobs are excluded, because waiting for a poll can take a thousand times the executionTime.
        ratio = longest / np.where(execution > 0, execution, np.nan)
        low, high = SECONDS
        yield "seconds", int(np.count_nonzero(execution > 0)), good.where((ratio >= low) & (ratio <= high))
    matched = rows.floats("result_matched")
    yield "wrong_result", int(np.count_nonzero(~np.isnan(matched))), rows.where(matched == 0)
