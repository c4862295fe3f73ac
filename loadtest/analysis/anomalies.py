"""Findings about the target: groups of requests that were not ok, impossible values in responses, and slow API keys.

An executionTime longer than the client waited is impossible. A missing executionTime is not an anomaly. If
it is required, a response without it fails, usually with the reason ``wrong_shape``, except in an imported log.
"""

from collections.abc import Callable, Iterator
from math import inf
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from loadtest.analysis.columns import DAY_MS, KINDS, OK, Rows, Vocabulary
from loadtest.analysis.distribution import Distribution, Distributions, percentile
from loadtest.analysis.reader import Chunk
from loadtest.analysis.results import Count, Result, result_of
from loadtest.analysis.times import GRAIN_MS, longest_execution, response_time
from loadtest.contract import JobState, Operation

GROUPS: Final = 500
"""At most this many groups are kept, because a server may return any number of codes."""


class ErrorGroup(Result, frozen=True, kw_only=True):
    """Requests of one kind and traffic entry that were not ok, with the same status, code and reason.

    Attributes:
        status: HTTP status; None without a response.
        code: ``code`` of the error body; None if absent.
        count: number of requests. Warm-up and set-up are excluded.
        first_s: send time of the first request, in s since the epoch. ``last_s`` is that of the last request.
        request_id: the ``traceparent`` of the first recorded request.
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
    """Collects the groups of errors. ``beyond`` is the number of requests outside the first ``GROUPS`` groups."""

    def __init__(self) -> None:
        self.beyond = 0
        self._groups: dict[tuple[int, ...], ErrorGroup] = {}

    def add(self, chunk: Chunk) -> None:
        rows = chunk.requests.where(chunk.requests.words("outcome") != OK)
        rows = rows.where(chunk.vocabulary.in_figures[rows.stage_index]).as_recorded()
        if not len(rows):
            return
        status = np.fmax(rows.floats("status"), -1.0).astype(np.int64)
        columns: list[NDArray[Any]] = [status, *map(rows.words, ("kind", "error_code", "reason", "traffic"))]
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
            if key not in self._groups and len(self._groups) >= GROUPS:
                self.beyond += int(counts[place])
                continue
            group = self._groups.get(key) or _empty(key, rows.text("request_id", row), chunk.vocabulary.words)
            self._groups[key] = msgspec.structs.replace(
                group,
                count=group.count + int(counts[place]),
                first_s=min(group.first_s, float(earliest[place])),
                last_s=max(group.last_s, float(latest[place])),
            )

    def result(self) -> list[ErrorGroup]:
        """Return all groups, the most frequent first."""
        return sorted(self._groups.values(), key=lambda group: (-group.count, group.first_s))


def _empty(key: tuple[int, ...], request_id: str | None, words: dict[str, list[str]]) -> ErrorGroup:
    status, kind, code, reason, traffic = key
    return ErrorGroup(
        kind=KINDS[kind],
        status=status if status >= 0 else None,
        code=words["error_code"][code] if code >= 0 else None,
        reason=words["reason"][reason] if reason >= 0 else None,
        count=0,
        first_s=inf,
        last_s=-inf,
        traffic=words["traffic"][traffic],
        request_id=request_id,
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
"""If the client's wait ÷ executionTime is in this range, the executionTime seems to be in seconds."""
_NEARLY_ALL: Final = 0.8
_FEW: Final = 5
"""Fewer operations than this may have a ratio in ``SECONDS`` by accident."""
_EXTREME: Final[dict[str, Callable[[Any], float]]] = {"negative": min, "longer_than_seen": max, "seconds": max}
"""By kind of anomaly, the function that selects the worst executionTime. Other kinds have no ``worst_ms``."""
_LONGEST: Final = 60
"""A job state is cut to this many characters."""


class Anomaly(Result, frozen=True, kw_only=True):
    """A kind of impossible value.

    Attributes:
        name: one of ``WORDS``.
        possible: number of operations checked; for job states, number of requests checked. Named ``of`` in the file.
        traffic: traffic entry of the first row with such a value. ``request_id`` is from the same row.
        worst_ms: the most extreme executionTime; null for ``no_time``, ``unknown_state`` and ``wrong_result``.
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

    def __init__(self) -> None:
        self._found = {name: Anomaly(name=name) for name in WORDS}
        self._first = dict.fromkeys(WORDS, inf)
        """For each kind of anomaly, the place of its first row in the record."""
        self._before = 0

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.operations.by_judged_stage:
            for name, possible, found in _look(rows, chunk.vocabulary.stage_keys[stage_index].operation):
                self._note(name, possible, found)
        documented = chunk.vocabulary.codes("job_state", list(JobState))
        for _, rows in chunk.requests.by_judged_stage:
            state = rows.words("job_state")
            odd = rows.where((state >= 0) & ~np.isin(state, documented))
            self._note("unknown_state", int(np.count_nonzero(state >= 0)), odd)
        self._before += chunk.columns.count

    def result(self) -> list[Anomaly]:
        """Return the anomalies that occurred.

        ``seconds`` is included only if at least ``_FEW`` and nearly all checked operations have it.
        """
        seconds = self._found["seconds"]
        few = seconds.count < max(_FEW, _NEARLY_ALL * seconds.possible)
        return [one for one in self._found.values() if one.count and not (one is seconds and few)]

    def _note(self, name: str, possible: int, rows: Rows) -> None:
        """Note that ``possible`` more rows were checked for an anomaly, and that ``rows`` have it."""
        anomaly = self._found[name]
        words = rows.columns.vocabulary.words
        changes: dict[str, Any] = {"possible": anomaly.possible + possible, "count": anomaly.count + len(rows)}
        if len(rows) and (place := self._before + int(rows.places[0])) < self._first[name]:
            self._first[name] = place
            traffic = words["traffic"][rows.words("traffic")[0]]
            changes |= {"traffic": traffic, "request_id": rows.text("request_id", 0)}
            if name == "unknown_state":
                changes["example"] = words["job_state"][rows.words("job_state")[0]][:_LONGEST]
        if len(rows) and (extreme := _EXTREME.get(name)) is not None:
            worst = float(extreme(rows.execution_given))
            changes["worst_ms"] = worst if anomaly.worst_ms is None else extreme((worst, anomaly.worst_ms))
        self._found[name] = msgspec.structs.replace(anomaly, **changes)


def _look(rows: Rows, operation: Operation) -> Iterator[tuple[str, int, Rows]]:
    """For each kind of anomaly in operations, yield its name, the number of checked rows, and the anomalous rows."""
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


MOST_KEYS: Final = 64
"""At most this many keys have figures: those with the lowest indices."""
_SLOWER: Final = 1.5
"""A key is slow only if its p50 or p95 is at least this factor × that of the entry's other keys.

Different work per key may cause a smaller factor.
"""


class Slower(Result, frozen=True):
    """A percentile of times (``value_ms``), significantly greater than that of other times (``others_ms``)."""

    statistic: Literal["p50", "p95"]
    value_ms: float
    others_ms: float
    factor: float


def slower(times: Distribution, others: Distribution) -> Slower | None:
    """Return p50, or else p95, if it is at least ``_SLOWER`` × the others', and the 95 % intervals are disjoint."""
    statistics: tuple[tuple[Literal["p50", "p95"], float], ...] = (("p50", 0.5), ("p95", 0.95))
    for name, quantile in statistics:
        own, theirs = percentile(times, quantile), percentile(others, quantile)
        if own.value is None or own.low is None or not theirs.value or theirs.high is None:
            continue
        if own.low > theirs.high and own.value >= _SLOWER * theirs.value:
            return Slower(name, own.value, theirs.value, own.value / theirs.value)
    return None


class KeyPercentiles(Result, frozen=True, kw_only=True):
    """Response times of one key. A percentile is null if samples are too few."""

    p50: float | None
    p95: float | None


class KeyFigures(Result, frozen=True, kw_only=True):
    """Ok and timed-out operations of one traffic entry and key. ``key`` is the index of the key, never its value."""

    traffic: str
    key: Count
    n: Annotated[int, Meta(ge=1)]
    response_time_ms: KeyPercentiles


class SlowKey(Slower, frozen=True, kw_only=True):
    """A key that is significantly slower than the other keys of its traffic entry."""

    traffic: str
    key: Count
    n: Annotated[int, Meta(ge=1)]


class KeyTimes:
    """Collects response times by traffic entry and API key, if the run has several keys.

    An entry uses all keys at the same time, so slow periods of the target affect all keys equally.
    """

    def __init__(self, vocabulary: Vocabulary, keys: int) -> None:
        self._entries = vocabulary.entries
        self._keys = min(keys, MOST_KEYS)
        self._times = Distributions(len(self._entries) * self._keys)

    def add(self, chunk: Chunk) -> None:
        if self._keys < 2:
            return
        for stage_index, rows in chunk.operations.by_judged_stage:
            good = rows.without_mistakes.answered
            good = good.where(good.floats("key_index") < self._keys)
            place = chunk.vocabulary.entry_of[stage_index] * self._keys + good.floats("key_index").astype(np.int64)
            self._times.add(place, response_time(good), good.late)

    def result(self) -> tuple[list[KeyFigures], list[SlowKey]]:
        """Return the keys with times, and the significantly slower keys, the largest ``factor`` first.

        A traffic entry is left out unless at least two of its keys have times.
        """
        figures = []
        slow = []
        for entry, name in enumerate(self._entries):
            places = range(entry * self._keys, (entry + 1) * self._keys)
            by_key = {key: times for key, place in enumerate(places) if (times := self._times.get([place])).n}
            for key, times in by_key.items() if len(by_key) > 1 else ():
                p50, p95 = (percentile(times, quantile).value for quantile in (0.5, 0.95))
                percentiles = KeyPercentiles(p50=p50, p95=p95)
                figures.append(KeyFigures(traffic=name, key=key, n=times.n, response_time_ms=percentiles))
                others = self._times.get([place for place in places if place != places[key]])
                if (found := slower(times, others)) is not None:
                    slow.append(result_of(SlowKey, found, traffic=name, key=key, n=times.n))
        return figures, sorted(slow, key=lambda one: -one.factor)
