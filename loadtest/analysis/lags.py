"""How late operations left over time: the worst of each bin."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis import bins
from loadtest.analysis.chunks import Chunk
from loadtest.analysis.record import Record
from loadtest.analysis.rows import groups
from loadtest.analysis.times import dispatch_lag, start_lag

Floats = NDArray[np.float64]


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
        for name in record.book.entries:
            sent = int(record.counts.sent[record.cells_of(name)].sum())
            cuts = bins.edges(0, record.covered_s, bins.width(record.covered_s, sent, 10))
            count = max(0, len(cuts) - 1)
            self._of.append(Lags(cuts, np.full(count, np.nan), np.full(count, np.nan)))

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        for cell, rows in chunk.operations.by_cell:
            lags = self._of[chunk.book.entry_of[cell]]
            sent = rows.where(~np.isnan(start_lag(rows)))
            start, dispatch = start_lag(sent), dispatch_lag(sent)
            for place, of in groups(bins.place(sent.floats("intended_start") / 1e9, lags.cuts)):
                if place < 0:
                    continue
                for worst, lag in ((lags.start_lag, start), (lags.dispatch_lag, dispatch)):
                    worst[place] = np.fmax(worst[place], (lag if of is None else lag.take(of)).max())

    def result(self) -> dict[str, Lags]:
        """Of each traffic entry that sent anything."""
        found = zip(self._record.book.entries, self._of, strict=True)
        return {name: lags for name, lags in found if not np.isnan(lags.start_lag).all()}
