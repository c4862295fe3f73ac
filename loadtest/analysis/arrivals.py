"""Arrivals compared with the schedule: lost arrivals, send times, delay and evenness.

An arrival without a row is lost, and counts in its scheduled stage. Uneven arrivals change the 429 rate.
"""

from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis import distribution
from loadtest.analysis.columns import Rows, Vocabulary, grown, tally
from loadtest.analysis.consistency import Consistency
from loadtest.analysis.distribution import Distribution, summarize
from loadtest.analysis.reader import Chunk
from loadtest.analysis.results import Result, Summary
from loadtest.analysis.times import start_lag
from loadtest.arrays import Ints
from loadtest.record.run_info import RunInfo
from loadtest.schedule import TrafficSchedule

GAPS: Final = 5_000_000
"""Gaps are measured for at most this many arrivals of an entry. Later arrivals are ignored."""
_MOMENTS: Final = ("start", "intended_start")


class Arrivals:
    """Collects the moments and start lags of arrivals, by traffic entry.

    Attributes:
        last: the last moment of the record, in ns since the epoch.
        first_of: earliest moment of each entry, by column of ``_MOMENTS``, in ns. Only sent operations count.
        last_of: latest moment of the same operations, in ns.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.last = -np.inf
        self.first_of = {name: np.full(len(vocabulary.entries), np.inf) for name in _MOMENTS}
        self.last_of = {name: np.full(len(vocabulary.entries), -np.inf) for name in _MOMENTS}
        self._vocabulary = vocabulary
        self._lag: list[NDArray[np.float32]] = [np.zeros(0, np.float32) for _ in vocabulary.entries]

    def add(self, chunk: Chunk) -> None:
        for name in ("start", "end"):
            self.last = float(np.fmax(self.last, np.fmax.reduce(chunk.everything.floats(name))))
        for stage_index, rows in chunk.operations.by_judged_stage:
            if len(rows.sent):
                self._note(self._vocabulary.entry_of[stage_index], rows.sent)

    def gap_errors(self, entry: str) -> Distribution:
        """Return by how many ms the gaps between neighbouring sent arrivals differ from the scheduled gaps."""
        lag = self._lag[self._vocabulary.entries.index(entry)]
        gaps = np.diff(lag[~np.isnan(lag)].astype(np.float64))
        return distribution.distribution(np.abs(gaps, out=gaps))

    def missing(self, info: RunInfo, consistency: Consistency) -> dict[int, int]:
        """Return the number of arrivals without an operation row, by the index of their stage.

        In a completed run, each arrival number below ``offered`` must have a row. In a killed run, ``offered`` is
        unknown, and an arrival is missing if it has requests but no outcome.
        """
        lost: dict[str, tuple[Ints, range]] = {}
        for ended, (name, plan) in zip(consistency.ended, info.traffic.items(), strict=True):
            absent = consistency.unended(len(lost)) if plan.offered is None else np.flatnonzero(~ended[: plan.offered])
            lost[name] = absent, range(len(ended), plan.offered or 0)
        if not any(len(absent) or len(beyond) for absent, beyond in lost.values()):
            return {}
        from loadtest.plan import schedules  # noqa: PLC0415 - imports pydantic, which few records need

        counts = [_by_stage(each, *lost[each.traffic]) for each in schedules(info.traffic, info.seed)]
        return dict(enumerate(chain.from_iterable(counts)))

    def _note(self, entry: int, rows: Rows) -> None:
        for name in _MOMENTS:
            times = rows.floats(name)
            self.first_of[name][entry] = min(self.first_of[name][entry], times.min())
            self.last_of[name][entry] = max(self.last_of[name][entry], times.max())
        rows = rows.where(rows.floats("arrival") < GAPS)
        places = rows.floats("arrival").astype(np.int64)
        self._lag[entry] = grown(self._lag[entry], int(places.max(initial=-1)) + 1, np.nan)[:GAPS]
        self._lag[entry][places] = start_lag(rows)


def _by_stage(schedule: TrafficSchedule, absent: Ints, beyond: range) -> list[int]:
    """Count lost arrivals by scheduled stage. Arrivals after the end of the schedule belong to the last stage."""
    counts = np.zeros(len(schedule.stages), np.int64)
    if not len(counts):
        return []
    for first, _, where in schedule.blocks():
        low, high = np.searchsorted(absent, (first, first + len(where)))
        tally(counts, where[absent[low:high] - first])
        tally(counts, where[max(0, beyond.start - first) : max(0, beyond.stop - first)])
    found: list[int] = counts.tolist()
    found[-1] += len(absent) + len(beyond) - sum(found)
    return found


_BIN_S: Final = 0.1
_ENOUGH: Final = 5
"""If bins have fewer arrivals than this on average, their counts differ even in a perfect schedule."""


class Evenness(Result, frozen=True, kw_only=True):
    """Evenness of a traffic entry's arrivals.

    Attributes:
        gap_error_ms: absolute difference between the gap of two starts and the gap of their intended starts.
        bins_sent: sd ÷ mean of the number of starts per 100 ms; None with too few arrivals.
        bins_intended: sd ÷ mean of the number of intended starts per 100 ms. In a perfect run, ``bins_sent`` is equal.
    """

    gap_error_ms: Summary
    bins_sent: float | None
    bins_intended: float | None


class Evennesses:
    """Counts the starts of each traffic entry's operations in bins of 100 ms."""

    def __init__(self, vocabulary: Vocabulary, arrivals: Arrivals) -> None:
        self._entries, self._arrivals = [] if vocabulary.imported else vocabulary.entries, arrivals
        self._bins: dict[tuple[int, str], Ints] = {}
        for entry in range(len(self._entries)):
            for column in _MOMENTS:
                first, last = arrivals.first_of[column][entry], arrivals.last_of[column][entry]
                if np.isfinite(first) and (count := int((last - first) / 1e9 / _BIN_S)) >= 2:
                    self._bins[entry, column] = np.zeros(count, np.int64)

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.operations.by_judged_stage:
            self._count(chunk.vocabulary.entry_of[stage_index], rows.sent)

    def result(self) -> dict[str, Evenness]:
        return {
            name: Evenness(
                gap_error_ms=summarize(self._arrivals.gap_errors(name)),
                bins_sent=_spread(self._bins.get((entry, "start"))),
                bins_intended=_spread(self._bins.get((entry, "intended_start"))),
            )
            for entry, name in enumerate(self._entries)
        }

    def _count(self, entry: int, rows: Rows) -> None:
        for column in _MOMENTS:
            counts = self._bins.get((entry, column))
            if counts is None or not len(rows):
                continue
            since = rows.floats(column) - self._arrivals.first_of[column][entry]
            # As in np.histogram, the last bin includes its upper edge.
            places = np.minimum(since / (_BIN_S * 1e9), np.nextafter(len(counts), 0)).astype(np.int64)
            if since.max() > len(counts) * _BIN_S * 1e9:
                places = places[since <= len(counts) * _BIN_S * 1e9]
            tally(counts, places)


def _spread(counts: Ints | None) -> float | None:
    if counts is None or counts.mean() < _ENOUGH:
        return None
    return float(counts.std() / counts.mean())
