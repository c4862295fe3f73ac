"""Counts of operations and requests by stage, and sums of their times."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis import distribution as bins
from loadtest.analysis.columns import KINDS, Rows, Stages, Vocabulary
from loadtest.analysis.distribution import known
from loadtest.analysis.reader import Chunk
from loadtest.analysis.times import between, last_pending, response_time, start_lag, submit_time
from loadtest.arrays import Floats
from loadtest.assumed_limits import CONCURRENCY, AssumedLimits
from loadtest.contract import FIRST_KINDS, LIMIT_OF_KIND, THROTTLED_STATUS
from loadtest.record.run_info import RunInfo

NO_ANSWER: Final = 0
"""Status of a request without a response."""
FIRST: Final = len(FIRST_KINDS)
"""Number of kinds that begin an operation. These come first in ``KINDS``; the others are polls."""
_STATUSES: Final = 1000
_DENSE: Final = 100_000
"""If more cells than this are possible, only those that occur are counted."""


class OperationCell(NamedTuple):
    """Operations that differ only in their times. Words are integers of the vocabulary, with -1 for null."""

    outcome: int
    sent: int
    reason: int
    mistake: int


class RequestCell(NamedTuple):
    """Requests that differ only in their times.

    Attributes:
        status: HTTP status, or ``NO_ANSWER``.
        stretch: index of the period, between two stage boundaries, in which they were sent; -1 outside all periods.
    """

    kind: int
    outcome: int
    status: int
    key: int
    stretch: int


class Counts:
    """Counts of operations and requests by stage and cell. Cells that do not occur are absent.

    A request draws on the quota at its send time. The polls of a stage's last jobs may be sent in the next stage,
    or in the drain, which no figure includes.

    Attributes:
        operations: counts by stage index, warm-up included.
        requests: counts by stage index, with -1 for the set-up. A request without a key counts for the first key.
    """

    def __init__(self, vocabulary: Vocabulary, info: RunInfo, assumed: AssumedLimits) -> None:
        self._vocabulary = vocabulary
        self.operations: dict[int, Counter[OperationCell]] = defaultdict(Counter)
        self.requests: dict[int, Counter[RequestCell]] = defaultdict(Counter)
        self._edges = np.unique([t for key in vocabulary.stage_keys for t in (key.stage.start_s, key.stage.end_s)])
        cut_short = info.end != "finished" and info.elapsed_s is not None
        self._until_s = float(info.elapsed_s or 0.0) if cut_short else np.inf
        self._concurrency = assumed.spec.algorithm == CONCURRENCY
        self._held = np.zeros((len(KINDS), len(self._edges)))
        """Total seconds in flight of requests without a 429, by kind and stretch, for a concurrency limit."""

    def add(self, chunk: Chunk) -> None:
        rows = chunk.operations
        words = (rows.words(name) for name in ("reason", "mistake"))
        sent = ~np.isnan(rows.floats("start"))
        for (stage, *cell), count in _occurring(rows.stage_index, rows.words("outcome"), sent, *words):
            self.operations[stage][OperationCell(*cell)] += count
        rows = chunk.requests
        status = np.clip(np.fmax(rows.floats("status"), NO_ANSWER), NO_ANSWER, _STATUSES - 1)
        key, seconds = np.fmax(rows.floats("key_index"), 0.0), rows.floats("start") / 1e9
        stretch = np.where(seconds <= self._until_s, bins.place(seconds, self._edges), -1)
        columns = (rows.stage_index, rows.words("kind"), rows.words("outcome"), status, key, stretch)
        for (stage, *cell), count in _occurring(*columns):
            self.requests[stage][RequestCell(*cell)] += count
        if self._concurrency:
            self._hold(rows.where((rows.stage_index >= 0) & (status != THROTTLED_STATUS)))

    def _hold(self, rows: Rows) -> None:
        end = np.minimum(rows.floats("end") / 1e9, self._until_s)
        begin, kind = rows.floats("start") / 1e9, rows.words("kind")
        for place, (low, high) in enumerate(pairwise(self._edges)):
            held = np.fmax(np.minimum(end, high) - np.maximum(begin, low), 0.0)
            self._held[:, place] += np.bincount(kind, held, minlength=len(KINDS))

    def of_operations(self, stages: Iterable[int]) -> "Counter[OperationCell]":
        return _sum(self.operations, stages)

    def of_requests(self, stages: Iterable[int]) -> "Counter[RequestCell]":
        return _sum(self.requests, stages)

    def ended(self, stages: Iterable[int], *outcomes: int) -> int:
        """Return the number of the stages' operations that ended in any of the outcomes."""
        return sum(count for cell, count in self.of_operations(stages).items() if cell.outcome in outcomes)

    def sent(self, stages: Iterable[int]) -> int:
        """Return the number of the stages' operations that sent a request."""
        return sum(count for cell, count in self.of_operations(stages).items() if cell.sent)

    def sent_within(self, spans: Iterable[tuple[float, float]]) -> "Counter[RequestCell]":
        """Count the requests sent within any of the spans. Spans begin and end at stage boundaries."""
        places = {place for span in spans for place in self._stretches(*span)}
        return _sum(self._by_stretch, {(name, place) for name in self._vocabulary.entries for place in places})

    def sent_during(self, stages: Stages) -> "Counter[RequestCell]":
        """Count the requests that traffic entries sent during their own stages."""
        spans = {(key.traffic, key.stage.start_s, key.stage.end_s) for key in stages}
        during = {(traffic, place) for traffic, *span in spans for place in self._stretches(*span)}
        return _sum(self._by_stretch, during)

    def held_s(self, kinds: list[int], begin_s: float, end_s: float) -> float:
        """Return the total seconds in flight of requests without a 429 within a span."""
        return float(self._held[kinds][:, self._stretches(begin_s, end_s)].sum())

    def _stretches(self, begin_s: float, end_s: float) -> range:
        return range(*np.searchsorted(self._edges, (begin_s, end_s)).tolist())

    @cached_property
    def _by_stretch(self) -> "dict[tuple[str, int], Counter[RequestCell]]":
        """Counts by traffic entry and stretch, without the set-up."""
        found: dict[tuple[str, int], Counter[RequestCell]] = defaultdict(Counter)
        for stage, cells in self.requests.items():
            for cell, count in cells.items() if stage >= 0 else ():
                found[self._vocabulary.stage_keys[stage].traffic, cell.stretch][cell] += count
        return found

    def requested(self, limit: str) -> int:
        """Return the number of requests that drew on a limit, set-up included."""
        return self.on_limit[limit].total()

    @cached_property
    def on_limit(self) -> "dict[str, Counter[int]]":
        """Number of requests by limit name and key, set-up included. Read this only after the scan."""
        found: dict[str, Counter[int]] = defaultdict(Counter)
        for cells in self.requests.values():
            for cell, count in cells.items():
                found[LIMIT_OF_KIND[KINDS[cell.kind]]][cell.key] += count
        return found


_Key = TypeVar("_Key")
_Cell = TypeVar("_Cell", bound=tuple[object, ...])


def _sum(counts: Mapping[_Key, "Counter[_Cell]"], keys: Iterable[_Key]) -> "Counter[_Cell]":
    total: Counter[_Cell] = Counter()
    for key in keys:
        if key in counts:
            total.update(counts[key])
    return total


def _occurring(*columns: NDArray[Any]) -> Iterator[tuple[list[int], int]]:
    """Yield each combination of whole numbers that occurs in a row of the columns, and its frequency."""
    if not len(columns[0]):
        return
    code, sizes = np.zeros(len(columns[0]), np.int64), []
    leasts = [int(column.min()) for column in columns]
    for column, least in zip(columns, leasts, strict=True):
        sizes.append(int(column.max()) - least + 1)
        if sizes[-1] > 1:
            code *= sizes[-1]
            code += column.astype(np.int64) - least
    if math.prod(sizes) <= _DENSE:
        counts = np.bincount(code)
        found = counts.nonzero()[0]
        counts = counts[found]
    else:
        found, counts = np.unique(code, return_counts=True)
    places = np.stack(np.unravel_index(found, sizes), axis=1) + leasts
    yield from zip(places.tolist(), counts.tolist(), strict=True)


_PARTS: Final[dict[str, Callable[[Rows], Floats]]] = {
    "start_lag": lambda rows: np.maximum(start_lag(rows), 0.0),
    "retries": between("start", "accepted_start"),
    "response": response_time,
    "execution": lambda rows: rows.floats("execution_time_ms"),
    "submit": submit_time,
    "pending_lower": last_pending,
}
"""Parts of the time of an ok operation, in ms."""


class Means:
    """Means by stage: sizes of responses, and parts of the times of ok operations without deliberate mistakes.

    ``start_lag`` is at least zero. ``retries`` is the time from the first request to the accepted request.
    ``pending_lower`` ends with the last request that saw the job pending.

    Attributes:
        n: number of ok operations by stage.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        stages = len(vocabulary.stage_keys)
        self.n = np.zeros(stages, np.int64)
        # Each array has the sums of the known values, and their numbers.
        self._sums = {name: np.zeros((2, stages)) for name in (*_PARTS, "bytes")}

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.operations.by_stage:
            good = rows.without_mistakes.ok
            self.n[stage_index] += len(good)
            for name, part in _PARTS.items():
                values = known(part(good))
                self._sums[name][:, stage_index] += values.sum(), len(values)
        for stage_index, rows in chunk.requests.by_stage:
            self._sums["bytes"][:, stage_index] += known(rows.floats("bytes_received")).sum(), len(rows)

    def received(self, stage_indices: list[int]) -> float:
        """Return the mean size of some stages' responses in bytes; 0 without responses."""
        total, n = self._sums["bytes"][:, stage_indices].sum(axis=1)
        return float(total / n) if n else 0.0

    def mean(self, stage_index: int, name: str) -> float | None:
        """Return the mean of a part in ms; None if no operation has this part."""
        total, n = self._sums[name][:, stage_index]
        return float(total / n) if n else None
