"""Values of single arrivals, for the differences between compared traffic entries.

Other figures come from counts and distributions, because a record may be of any size. A difference needs the values
themselves, by time and arrival. They are kept only for the requested entries, and only for the first ``MOST`` arrivals
of each stage.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from loadtest.analysis.columns import KINDS, OK, OUTCOMES, TIMED_OUT, Rows, Vocabulary
from loadtest.analysis.reader import Chunk
from loadtest.analysis.times import FORMULAS
from loadtest.arrays import Bools, Floats, Ints
from loadtest.metrics import METRICS, PARTS, SUMMARIES, Cell, field_of

MOST: Final = 100_000
"""Largest number of arrivals of a stage whose values are kept; later arrivals are dropped."""
_OURS: Final = ("start_lag", "dispatch_lag")
"""Times that measure the load generator, not the service. Every sent operation has them."""
_SCATTER: Final = 0.6180339887498949
"""Golden ratio − 1. Its multiples are spread evenly modulo 1."""
_Table = Literal["operations", "requests"]
_WORDS: Final[dict[_Table, tuple[str, ...]]] = {
    "operations": ("outcome", "mistake"),
    "requests": ("outcome", "mistake", "kind"),
}
_NUMBERS: Final[dict[_Table, tuple[str, ...]]] = {
    "operations": ("arrival", "intended_start"),
    "requests": ("start", "status", "parent_arrival"),
}
_TIMES: Final[dict[_Table, tuple[str, ...]]] = {
    "operations": tuple(name for name in SUMMARIES if name != "service_time"),
    "requests": ("service_time",),
}


@dataclass(frozen=True, eq=False)
class Values:
    """Values of one metric in the order of time.

    Attributes:
        numbers: infinite where a time never ended.
        arrivals: the arrival of each value; None for values of requests, because an arrival may have several.
    """

    numbers: Floats
    arrivals: Ints | None = None


class ArrivalValues:
    """Collector of values for some traffic entries.

    Attributes:
        cut: whether a stage had more arrivals than were kept.
    """

    def __init__(self, vocabulary: Vocabulary, entries: Collection[str]) -> None:
        keys = enumerate(vocabulary.stage_keys)
        self._wanted = {index for index, key in keys if key.traffic in entries and vocabulary.in_figures[index]}
        self._parts: dict[tuple[_Table, int], list[dict[str, Floats]]] = defaultdict(list)
        self.cut = False

    def add(self, chunk: Chunk) -> None:
        if not self._wanted:
            return
        for index in self._wanted:
            self._take("operations", index, dict(chunk.operations.by_stage).get(index))
            self._take("requests", index, dict(chunk.requests.by_stage).get(index))

    def get(self, metric: str, stages: Sequence[int], *, whole: bool) -> Values | None:
        """Return the values of a metric, named as in a threshold, in some stages.

        Args:
            metric: with its statistic.
            stages: indices of stages of one entry.
            whole: whether every sent arrival counts, with an infinite time if it never became ok. Otherwise only ok and
                timed-out operations count, as in ``metrics.json``.

        Returns:
            None for a count or a rate, which has no value for a single arrival.
        """
        name, entry = metric.partition(".")[0], METRICS[metric]
        if name == "service_time":
            return self._service_times(stages)
        if entry.whole == "requests.sent":
            return Values(_in_any(entry.parts, self._whole("requests", stages)).astype(float))
        rows = self._whole("operations", stages)
        sent = ~np.isnan(rows["start_lag"])
        if name in SUMMARIES:
            return _times(name, {key: values[sent] for key, values in rows.items()}, whole=whole)
        if entry.whole != "operations.sent":
            return None
        if entry.parts[0].startswith("requests."):
            numbers = self._asked(entry.parts, rows["arrival"], stages)
        else:
            numbers = _in_any(entry.parts, rows).astype(float)
        return Values(numbers[sent], rows["arrival"][sent].astype(np.int64))

    def first_arrival(self, stages: Sequence[int]) -> int | None:
        """Return the number of the first arrival of some stages; None without any."""
        arrivals = self._whole("operations", stages)["arrival"]
        return int(arrivals.min()) if arrivals.size else None

    def _take(self, table: _Table, index: int, rows: Rows | None) -> None:
        """Keep the rows of a stage that fit below ``MOST``."""
        parts = self._parts[table, index]
        room = MOST - sum(len(part["outcome"]) for part in parts)
        if rows is None:
            return
        if len(rows) > room:
            self.cut = True
            rows = rows.some(slice(0, room))
        words = {name: rows.words(name).astype(np.float64) for name in _WORDS[table]}
        numbers = {name: rows.floats(name) for name in _NUMBERS[table]}
        parts.append(words | numbers | {name: FORMULAS[field_of(name)](rows) for name in _TIMES[table]})

    def _service_times(self, stages: Sequence[int]) -> Values:
        rows = self._whole("requests", stages)
        late = rows["outcome"] == TIMED_OUT
        answered = (late | (rows["outcome"] == OK)) & (rows["mistake"] < 0)
        return Values(np.where(late, np.inf, rows["service_time"])[answered])

    def _asked(self, counts: Sequence[str], arrivals: Floats, stages: Sequence[int]) -> Floats:
        """Return the requests of each arrival that are in any of some counts."""
        rows = self._whole("requests", stages)
        parents = rows["parent_arrival"][~np.isnan(rows["parent_arrival"]) & _in_any(counts, rows)].astype(np.int64)
        if not arrivals.size:
            return np.zeros(0)
        low, high = int(arrivals.min()), int(arrivals.max())
        inside = parents[(parents >= low) & (parents <= high)]
        found = np.bincount(inside - low, minlength=high - low + 1)
        return found[(arrivals - low).astype(np.int64)].astype(np.float64)

    def _whole(self, table: _Table, stages: Sequence[int]) -> dict[str, Floats]:
        """Return every column of some stages as one array each, in the order of time."""
        found = [part for index in stages for part in self._parts.get((table, index), ())]
        names = (*_WORDS[table], *_NUMBERS[table], *_TIMES[table])
        whole = {name: np.concatenate([np.zeros(0), *(part[name] for part in found)]) for name in names}
        if table == "requests":
            order = np.argsort(whole["start"], kind="stable")
        else:
            # Arrivals at the same moment are ordered by a scatter of their numbers. By number, a burst would look like
            # a trend, because its first arrivals are accepted. The same order for every entry keeps pairs together.
            order = np.lexsort((whole["arrival"] * _SCATTER % 1.0, whole["intended_start"]))
        return {name: values[order] for name, values in whole.items()}


def _in_any(counts: Sequence[str], rows: dict[str, Floats]) -> Bools:
    """Return whether each operation or request is in any of the named counts."""
    columns = [
        rows["outcome"].astype(np.int64),
        *(np.nan_to_num(rows[name]).astype(np.int64) for name in ("kind", "status") if name in rows),
    ]
    if not columns[0].size:
        return np.zeros(0, bool)
    leasts = [int(column.min()) for column in columns]
    sizes = [int(column.max()) - least + 1 for column, least in zip(columns, leasts, strict=True)]
    code = np.ravel_multi_index([column - least for column, least in zip(columns, leasts, strict=True)], sizes)
    counted = np.zeros(math.prod(sizes), bool)
    for place in np.flatnonzero(np.bincount(code)):
        outcome, *of = (int(n) + least for n, least in zip(np.unravel_index(place, sizes), leasts, strict=True))
        known = Cell(OUTCOMES[outcome], kind=KINDS[of[0]], status=of[1] or None) if of else Cell(OUTCOMES[outcome])
        counted[place] = any(PARTS[name](known) for name in counts)
    return counted[code]


def _times(name: str, rows: dict[str, Floats], *, whole: bool) -> Values:
    """Return a time of sent operations, without deliberate mistakes."""
    values, outcome = rows[name], rows["outcome"]
    kept = np.ones(len(outcome), bool)
    if name not in _OURS:
        ok, late = outcome == OK, outcome == TIMED_OUT
        kept = (rows["mistake"] < 0) & (ok | late | whole)
        if name in ("response_time", "time_to_result", "overhead") or (whole and name == "submit"):
            never = late | ~ok if name != "submit" else np.isnan(values)
            values = np.where(never, np.inf, values)
    kept &= ~np.isnan(values)
    return Values(values[kept], rows["arrival"][kept].astype(np.int64))
