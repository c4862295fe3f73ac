"""Send times of arrivals compared with the schedule. Uneven arrivals change the 429 rate."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.columns import Vocabulary, grown, tally
from loadtest.analysis.distribution import Distribution, distribution, summarize
from loadtest.analysis.reader import Chunk
from loadtest.analysis.results import Result, Summary
from loadtest.analysis.times import start_lag
from loadtest.arrays import Ints

GAPS: Final = 5_000_000
"""Gaps are measured for at most this many arrivals of an entry. Later arrivals are ignored."""
_MOMENTS: Final = ("start", "intended_start")


class Arrivals:
    """Collects the first and last moments of arrivals, by traffic entry.

    Attributes:
        last: the last moment of the record, in ns since the epoch.
        first_of: earliest moment of each entry, by column of ``_MOMENTS``, in ns. Only sent operations count.
        last_of: latest moment of the same operations, in ns.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.last = -np.inf
        self.first_of = {name: np.full(len(vocabulary.entries), np.inf) for name in _MOMENTS}
        self.last_of = {name: np.full(len(vocabulary.entries), -np.inf) for name in _MOMENTS}

    def add(self, chunk: Chunk) -> None:
        for name in ("start", "end"):
            self.last = float(np.fmax(self.last, np.fmax.reduce(chunk.everything.floats(name))))
        for stage_index, rows in chunk.operations.by_judged_stage:
            entry = chunk.vocabulary.entry_of[stage_index]
            for name in _MOMENTS:
                times = rows.sent.floats(name)
                self.first_of[name][entry] = times.min(initial=self.first_of[name][entry])
                self.last_of[name][entry] = times.max(initial=self.last_of[name][entry])


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
    """Collects the start lags of each traffic entry's arrivals, and counts their starts in bins of 100 ms."""

    def __init__(self, vocabulary: Vocabulary, arrivals: Arrivals) -> None:
        self._entries, self._arrivals = [] if vocabulary.imported else vocabulary.entries, arrivals
        self._lag: list[NDArray[np.float32]] = [np.zeros(0, np.float32) for _ in self._entries]
        self._bins: dict[tuple[int, str], Ints] = {}
        for entry in range(len(self._entries)):
            for column in _MOMENTS:
                first, last = arrivals.first_of[column][entry], arrivals.last_of[column][entry]
                if np.isfinite(first) and (count := int((last - first) / 1e9 / _BIN_S)) >= 2:
                    self._bins[entry, column] = np.zeros(count, np.int64)

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.operations.by_judged_stage if self._entries else ():
            entry, sent = chunk.vocabulary.entry_of[stage_index], rows.sent
            early = sent.where(sent.floats("arrival") < GAPS)
            numbers = early.floats("arrival").astype(np.int64)
            self._lag[entry] = grown(self._lag[entry], int(numbers.max(initial=-1)) + 1, np.nan)[:GAPS]
            self._lag[entry][numbers] = start_lag(early)
            for column in _MOMENTS if len(sent) else ():
                if (counts := self._bins.get((entry, column))) is None:
                    continue
                since = sent.floats(column) - self._arrivals.first_of[column][entry]
                # As in np.histogram, the last bin includes its upper edge.
                places = np.minimum(since / (_BIN_S * 1e9), np.nextafter(len(counts), 0)).astype(np.int64)
                if since.max() > len(counts) * _BIN_S * 1e9:
                    places = places[since <= len(counts) * _BIN_S * 1e9]
                tally(counts, places)

    def result(self) -> dict[str, Evenness]:
        return {
            name: Evenness(
                gap_error_ms=summarize(_gap_errors(self._lag[entry])),
                bins_sent=_spread(self._bins.get((entry, "start"))),
                bins_intended=_spread(self._bins.get((entry, "intended_start"))),
            )
            for entry, name in enumerate(self._entries)
        }


def _gap_errors(lag: NDArray[np.float32]) -> Distribution:
    """Return by how many ms the gaps between neighbouring sent arrivals differ from the scheduled gaps."""
    gaps = np.diff(lag[~np.isnan(lag)].astype(np.float64))
    return distribution(np.abs(gaps, out=gaps))


def _spread(counts: Ints | None) -> float | None:
    if counts is None or counts.mean() < _ENOUGH:
        return None
    return float(counts.std() / counts.mean())
