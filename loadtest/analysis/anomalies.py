"""Groups of requests that were not ok, and impossible values in responses.

Impossible values are findings about the target, such as an executionTime longer than the client waited. A response
without executionTime counts as failed with the reason ``wrong_shape``.
"""

from collections.abc import Callable, Iterator
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
"""At most this many groups are kept, because a server may return any number of codes."""


class ErrorGroup(Result, frozen=True, kw_only=True):
    """Requests of one kind and traffic entry that were not ok, with the same status, code and reason.

    Attributes:
        status: HTTP status; None without a response.
        code: ``code`` of the error body; None if absent.
        count: number of requests. Warm-up and set-up are excluded.
        first_s: send time of the first request, in s since the epoch.
        last_s: send time of the last request, in s since the epoch.
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
    """Collects the groups of errors.

    Attributes:
        beyond: number of requests outside the first ``GROUPS`` groups.
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
    "negative": "an executionTime below zero, which is in no percentile",
    "longer_than_seen": "an executionTime longer than the client waited",
    "no_time": "an executionTime above a day, which is in no percentile",
    "seconds": "an executionTime that seems to be in seconds instead of ms",
    "unknown_state": "a job state that is not documented, and counts as pending",
    "wrong_result": "a result of another request",
}
"""Kinds of impossible values, in words."""
SECONDS: Final = (950.0, 1500.0)
"""If wait ÷ executionTime is in this range, the executionTime seems to be in seconds."""
_NEARLY_ALL: Final = 0.8
_FEW: Final = 5
"""Fewer operations than this may have a ratio in ``SECONDS`` by accident."""
_EXTREME: Final[dict[str, Callable[[Any], float]]] = {"negative": min, "longer_than_seen": max, "seconds": max}
"""For each kind of anomaly, the function that selects the worst executionTime."""
_LONGEST: Final = 60
"""A job state is cut to this many characters."""


class Anomaly(Result, frozen=True, kw_only=True):
    """A kind of impossible value.

    Attributes:
        name: one of ``WORDS``.
        possible: number of operations checked; for job states, number of requests.
        traffic: traffic entry of the first row with such a value.
        request_id: trace id of this row; if it is a request, its ``traceparent``.
        worst_ms: the most extreme executionTime; None for other values.
        example: the first unknown job state; empty for other kinds.
    """

    name: str
    count: Count = 0
    possible: Count = msgspec.field(default=0, name="of")
    traffic: str = ""
    request_id: str | None = None
    worst_ms: float | None = None
    example: str = ""


class Anomalies:
    """Collects impossible values in the operations and requests that count in figures."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._found = {name: Anomaly(name=name) for name in WORDS}

    def add(self, chunk: Chunk) -> None:
        pieces: dict[str, list[tuple[int, Rows]]] = {name: [] for name in WORDS}
        for stage_index, rows in chunk.operations.by_judged_stage:
            for name, possible, found in _look(rows, self._vocabulary.stage_keys[stage_index].operation):
                pieces[name].append((possible, found))
        documented = self._vocabulary.codes("job_state", list(JobState))
        for _, rows in chunk.requests.by_judged_stage:
            state = rows.words("job_state")
            odd = rows.where((state >= 0) & ~np.isin(state, documented))
            pieces["unknown_state"].append((int(np.count_nonzero(state >= 0)), odd))
        for name, some in pieces.items():
            self._found[name] = self._counted(self._found[name], some)

    def result(self) -> list[Anomaly]:
        """Return the anomalies that occurred."""
        found = dict(self._found)
        if found["seconds"].count < max(_FEW, _NEARLY_ALL * found["seconds"].possible):
            del found["seconds"]
        return [one for one in found.values() if one.count]

    def _counted(self, anomaly: Anomaly, pieces: list[tuple[int, Rows]]) -> Anomaly:
        """Add pieces to an anomaly. A piece is the number of checked rows, and the rows with impossible values."""
        found = [rows for _, rows in pieces if len(rows)]
        changes: dict[str, Any] = {
            "possible": anomaly.possible + sum(possible for possible, _ in pieces),
            "count": anomaly.count + sum(map(len, found)),
        }
        if found and not anomaly.count:
            first = min(found, key=lambda rows: int(rows.places[0]))
            words = self._vocabulary.words
            changes |= {
                "traffic": words["traffic"][first.words("traffic")[0]],
                "request_id": first.text("request_id", 0),
            }
            if anomaly.name == "unknown_state":
                changes["example"] = words["job_state"][first.words("job_state")[0]][:_LONGEST]
        if found and (extreme := _EXTREME.get(anomaly.name)) is not None:
            worst = [float(extreme(rows.execution_given)) for rows in found]
            changes["worst_ms"] = extreme([*worst, worst[0] if anomaly.worst_ms is None else anomaly.worst_ms])
        return msgspec.structs.replace(anomaly, **changes)


def _look(rows: Rows, operation: Operation) -> Iterator[tuple[str, int, Rows]]:
    """Yield for each kind of anomaly the number of checked rows, and the rows that have it."""
    good = rows.without_mistakes.ok
    execution = good.execution_given
    yield "negative", len(good), good.where(execution < 0)
    absurd = execution > DAY_MS
    longest = longest_execution(good)
    yield "longer_than_seen", len(good), good.where(~absurd & (execution > longest + GRAIN_MS))
    yield "no_time", len(good), good.where(absurd)
    if operation == Operation.SYNC_RUN:
        # Jobs are not checked, because the wait for a poll can be a thousand times the executionTime.
        ratio = longest / np.where(execution > 0, execution, np.nan)
        low, high = SECONDS
        yield "seconds", int(np.count_nonzero(execution > 0)), good.where((ratio >= low) & (ratio <= high))
    matched = rows.floats("result_matched")
    yield "wrong_result", int(np.count_nonzero(~np.isnan(matched))), rows.where(matched == 0)
