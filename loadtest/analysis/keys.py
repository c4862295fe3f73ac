"""Response times by API key: a target that treats one key worse than the others is seen in no figure of all keys.

Keys are known by their index alone. Arrivals take turns with the keys of their traffic entry, so that each of them
meets the same stages and the same moments: what differs between keys is the target's doing.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from loadtest.analysis.chunks import Chunk
from loadtest.analysis.distribution import Distribution, Distributions
from loadtest.analysis.percentiles import percentile
from loadtest.analysis.record import Record
from loadtest.analysis.times import response_time

MOST: Final = 64
"""Keys that are told apart: those with the lowest indices."""
_SLOWER: Final = 1.5
"""By how much slower a key has to be to be named: much less is what one key's share of the work may do."""
_STATISTICS: Final = (("p50", 0.5), ("p95", 0.95))


@dataclass(frozen=True)
class KeyFigures:
    """Operations of one traffic entry and one key that were ok or timed out."""

    traffic: str
    key: int
    times: Distribution

    def as_json(self) -> dict[str, Any]:
        """What ``metrics.json`` holds of it; null where n can't carry a percentile."""
        found = {name: percentile(self.times, quantile).value for name, quantile in _STATISTICS}
        return {"traffic": self.traffic, "key": self.key, "n": self.times.n, "response_time_ms": found}


@dataclass(frozen=True)
class SlowKey:
    """A key that is significantly slower than the others of its traffic entry.

    Attributes:
        traffic: the entry.
        key: its index.
        statistic: in which it is slower: ``p50``, or ``p95`` where that is not.
        value_ms: of the key.
        others_ms: of all other keys of the entry together.
        n: operations of the key.
    """

    traffic: str
    key: int
    statistic: str
    value_ms: float
    others_ms: float
    n: int

    @property
    def factor(self) -> float:
        """How many times as long its operations took."""
        return self.value_ms / self.others_ms


class KeyTimes:
    """Response times of judged operations by traffic entry and key; nothing is gathered where there is one key."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._keys = min(record.info.keys, MOST)
        self._times = Distributions(len(record.book.entries) * self._keys)

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        if self._keys < 2:
            return
        for cell, rows in chunk.operations.by_cell:
            if chunk.book.in_figures[cell]:
                good = rows.meant_well.answered
                good = good.where(good.floats("key_index") < self._keys)
                place = chunk.book.entry_of[cell] * self._keys + good.floats("key_index").astype(np.int64)
                self._times.add(place, response_time(good), good.late)

    def result(self) -> list[KeyFigures]:
        """Of each traffic entry the keys that had times; empty for entries with fewer than two such keys."""
        found = []
        for place, name in enumerate(self._record.book.entries):
            times = [self._times.get([place * self._keys + key]) for key in range(self._keys)]
            mine = [KeyFigures(name, key, each) for key, each in enumerate(times) if each.n]
            found += mine if len(mine) > 1 else []
        return found

    def slow(self) -> list[SlowKey]:
        """Keys that are slower than all others of their entry together, the slowest first.

        Significant is a percentile at least ``_SLOWER`` times the others', whose 95 % interval (order statistics)
        begins above the end of theirs.
        """
        found = []
        for one in self.result():
            place = self._record.book.entries.index(one.traffic) * self._keys
            others = self._times.get([place + key for key in range(self._keys) if key != one.key])
            found += [slow] if (slow := _slower(one, others)) else []
        return sorted(found, key=lambda slow: -slow.factor)


def _slower(one: KeyFigures, others: Distribution) -> SlowKey | None:
    for name, quantile in _STATISTICS:
        mine, theirs = percentile(one.times, quantile), percentile(others, quantile)
        if mine.value is None or mine.low is None or not theirs.value or theirs.high is None:
            continue
        if mine.low > theirs.high and mine.value >= _SLOWER * theirs.value:
            return SlowKey(one.traffic, one.key, name, mine.value, theirs.value, one.times.n)
    return None
