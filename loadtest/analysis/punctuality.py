"""How late operations left, and how evenly, against the schedule: the shape of arrivals decides the 429 rate."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from loadtest.analysis import distribution
from loadtest.analysis.columns import Rows, groups, tally
from loadtest.analysis.distribution import summarize
from loadtest.analysis.reader import Chunk
from loadtest.analysis.record import Record
from loadtest.analysis.results import Result, Summary
from loadtest.analysis.times import dispatch_lag, start_lag
from loadtest.arrays import Floats, Ints


@dataclass(frozen=True, eq=False)
class Lags:
    """Of one traffic entry, in ms; NaN where a bin has none.

    Attributes:
        cuts: edges of the bins, in s since the epoch.
        start_lag: the worst start lag of each bin.
        dispatch_lag: the worst dispatch lag of each bin.
    """

    cuts: Floats
    start_lag: Floats
    dispatch_lag: Floats


class WorstLags:
    """Gathers the lags of each traffic entry that sent anything, warm-up included."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._of: list[Lags] = []
        for name in record.vocabulary.entries:
            sent = record.counts.sent(record.stage_indices_of(name))
            cuts = distribution.edges(0, record.covered_s, distribution.width(record.covered_s, sent, 10))
            count = max(0, len(cuts) - 1)
            self._of.append(Lags(cuts, np.full(count, np.nan), np.full(count, np.nan)))

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        for stage_index, rows in chunk.operations.by_stage:
            lags = self._of[chunk.vocabulary.entry_of[stage_index]]
            sent = rows.where(~np.isnan(start_lag(rows)))
            start, dispatch = start_lag(sent), dispatch_lag(sent)
            for place, rows_of_bin in groups(distribution.place(sent.floats("intended_start") / 1e9, lags.cuts)):
                if place < 0:
                    continue
                for worst, lag in ((lags.start_lag, start), (lags.dispatch_lag, dispatch)):
                    worst[place] = np.fmax(worst[place], (lag if rows_of_bin is None else lag.take(rows_of_bin)).max())

    def result(self) -> dict[str, Lags]:
        """Of each traffic entry that sent anything."""
        found = zip(self._record.vocabulary.entries, self._of, strict=True)
        return {name: lags for name, lags in found if not np.isnan(lags.start_lag).all()}


_BIN_S: Final = 0.1
_ENOUGH: Final = 5
"""Mean arrivals a bin from which the bins' spread says something; below, an even schedule spreads by itself."""
_COLUMNS: Final = ("start", "intended_start")


class Evenness(Result, frozen=True, kw_only=True):
    """Of one traffic entry.

    Attributes:
        gap_error_ms: of |gap between two starts − gap between their intended starts|.
        bins_sent: sd ÷ mean of the starts in bins of 100 ms; None where arrivals are too few for it.
        bins_intended: the same of the intended starts: what a perfect sender would show.
    """

    gap_error_ms: Summary
    bins_sent: float | None
    bins_intended: float | None


class Evennesses:
    """Counts each traffic entry's first requests in bins of 100 ms; reported, never judged."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._bins: dict[tuple[int, str], Ints] = {}
        extent = record.extent
        for entry in range(len(record.vocabulary.entries)):
            for column in _COLUMNS:
                first, last = extent.first[column][entry], extent.last_of[column][entry]
                if np.isfinite(first) and (count := int((last - first) / 1e9 / _BIN_S)) >= 2:
                    self._bins[entry, column] = np.zeros(count, np.int64)

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        for stage_index, rows in chunk.operations.by_stage:
            if chunk.vocabulary.in_figures[stage_index]:
                self._count(chunk.vocabulary.entry_of[stage_index], rows.where(~np.isnan(start_lag(rows))))

    def result(self) -> dict[str, Evenness]:
        """Of each traffic entry."""
        return {
            name: Evenness(
                gap_error_ms=summarize(self._record.arrivals.gap_errors(name)),
                bins_sent=_spread(self._bins.get((entry, "start"))),
                bins_intended=_spread(self._bins.get((entry, "intended_start"))),
            )
            for entry, name in enumerate(self._record.vocabulary.entries)
        }

    def _count(self, entry: int, rows: Rows) -> None:
        for column in _COLUMNS:
            counts = self._bins.get((entry, column))
            if counts is None or not len(rows):
                continue
            since = rows.floats(column) - self._record.extent.first[column][entry]
            # As np.histogram has it: the last bin holds its upper edge as well.
            places = np.minimum(since / (_BIN_S * 1e9), np.nextafter(len(counts), 0)).astype(np.int64)
            if since.max() > len(counts) * _BIN_S * 1e9:
                places = places[since <= len(counts) * _BIN_S * 1e9]
            tally(counts, places)


def _spread(counts: Ints | None) -> float | None:
    if counts is None or counts.mean() < _ENOUGH:
        return None
    return float(counts.std() / counts.mean())
