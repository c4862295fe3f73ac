"""Response times by API key, to find out whether a target treats one key worse than the others.

Records hold only the index of a key. Arrivals use the keys of their traffic entry in turn, so all keys are used in the
same stages and at the same time. The target therefore causes the differences between keys.
"""

from typing import Annotated, Final, Literal

import numpy as np
from msgspec import Meta

from loadtest.analysis.distribution import Distribution, Distributions, percentile
from loadtest.analysis.reader import Chunk
from loadtest.analysis.results import Count, Result, result_of
from loadtest.analysis.run_record import Record
from loadtest.analysis.times import response_time

MOST: Final = 64
"""At most this many keys have figures. Keys with lower indices come first."""
_SLOWER: Final = 1.5
"""A key is slow if its time is longer by at least this factor. Different work per key may cause a smaller factor."""


class Slower(Result, frozen=True):
    """A percentile of a key that is significantly longer than that of all other keys together."""

    statistic: Literal["p50", "p95"]
    value_ms: float
    others_ms: float
    factor: float


def slower(times: Distribution, others: Distribution) -> Slower | None:
    """Return p50 or p95 if it is longer by ``_SLOWER`` with disjoint 95 % intervals. If both are, return p50."""
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
    """Collects response times by traffic entry and key if the run has several keys."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._keys = min(record.info.keys, MOST)
        self._times = Distributions(len(record.vocabulary.entries) * self._keys)

    def add(self, chunk: Chunk) -> None:
        if self._keys < 2:
            return
        for stage_index, rows in chunk.operations.by_judged_stage:
            good = rows.without_mistakes.answered
            good = good.where(good.floats("key_index") < self._keys)
            place = chunk.vocabulary.entry_of[stage_index] * self._keys + good.floats("key_index").astype(np.int64)
            self._times.add(place, response_time(good), good.late)

    def result(self) -> list[KeyFigures]:
        """Return the keys with times. Traffic entries with fewer than two such keys are left out."""
        return [
            KeyFigures(
                traffic=name,
                key=key,
                n=times.n,
                response_time_ms=KeyPercentiles(p50=percentile(times, 0.5).value, p95=percentile(times, 0.95).value),
            )
            for name, by_key in self._by_entry().items()
            for key, times in by_key.items()
        ]

    def slow(self) -> list[SlowKey]:
        """Return the keys that are significantly slower than the other keys of their entry, slowest first."""
        found = []
        for name, by_key in self._by_entry().items():
            place = self._record.vocabulary.entries.index(name) * self._keys
            for key, times in by_key.items():
                others = self._times.get([place + other for other in range(self._keys) if other != key])
                if (slow := slower(times, others)) is not None:
                    found.append(result_of(SlowKey, slow, traffic=name, key=key, n=times.n))
        return sorted(found, key=lambda slow: -slow.factor)

    def _by_entry(self) -> dict[str, dict[int, Distribution]]:
        """Return the times of each key by traffic entry. Entries with fewer than two keys with times are left out."""
        found = {}
        for place, name in enumerate(self._record.vocabulary.entries):
            times = {key: self._times.get([place * self._keys + key]) for key in range(self._keys)}
            found[name] = {key: each for key, each in times.items() if each.n}
        return {name: by_key for name, by_key in found.items() if len(by_key) > 1}
