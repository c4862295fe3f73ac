"""How many requests were offered, sent, accepted and refused over time, for each limit."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis import bins
from loadtest.analysis.book import KINDS, LIMIT_OF_KIND, LIMIT_OF_OPERATION
from loadtest.analysis.chunks import Chunk
from loadtest.analysis.record import Record
from loadtest.analysis.rows import Rows, tally
from loadtest.analysis.throttling import Expectation, boundaries

_REFUSED: Final = 429
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LimitSeries:
    """Counts of one limit by bins of time.

    Attributes:
        cuts: edges of the bins, in s since the epoch; bins end where the server's windows end.
        boundaries: where the server's windows are believed to begin, in s since the epoch.
        offered: requests by when the schedule or a policy wanted them, those never sent included.
        sent: requests by when they were sent, as what follows.
        accepted: of these, answered, and not with 429.
        throttled: of these, answered with 429.
    """

    cuts: Floats
    boundaries: Floats
    offered: Ints = field(init=False)
    sent: Ints = field(init=False)
    accepted: Ints = field(init=False)
    throttled: Ints = field(init=False)

    def __post_init__(self) -> None:
        for name in ("offered", "sent", "accepted", "throttled"):
            object.__setattr__(self, name, np.zeros(max(0, len(self.cuts) - 1), np.int64))


class LimitRates:
    """Fills a series for each limit that was asked anything."""

    def __init__(self, record: Record, expectation: Expectation) -> None:
        self.of: dict[str, LimitSeries] = {}
        self._covered_s = record.covered_s
        self._names = {name: record.belief.together(name) for name in record.limits()}
        for name, together in self._names.items():
            asked = sum(record.counts.asked[each] for each in together)
            marks = boundaries(record, expectation, record.belief.limit_on(name).window)
            width = bins.width(record.covered_s, asked, 8)
            cuts = bins.edges(0, record.covered_s, width, float(marks[0]) if len(marks) else 0.0)
            self.of[name] = LimitSeries(cuts, marks)

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        operations = chunk.operations
        unsent = operations.where(np.isnan(operations.floats("start")))
        kind = chunk.requests.words("kind")
        for name, series in self.of.items():
            kinds = [place for place, each in enumerate(KINDS) if LIMIT_OF_KIND[each] in self._names[name]]
            rows = chunk.requests.where(np.isin(kind, kinds))
            wanted = [o for o, limit in LIMIT_OF_OPERATION.items() if limit in self._names[name]]
            never = unsent.where(np.isin(unsent.words("operation"), chunk.book.codes("operation", wanted)))
            places, status = self._places(series, rows, "start"), rows.floats("status")
            tally(series.sent, places)
            throttled = status == _REFUSED
            tally(series.throttled, places[throttled])
            tally(series.accepted, places[~np.isnan(status) & ~throttled])
            for each in (rows, never):
                tally(series.offered, self._places(series, each, "intended_start"))

    def _places(self, series: LimitSeries, rows: Rows, column: str) -> Ints:
        seconds = rows.floats(column) / 1e9
        # What was sent before the epoch, to set up, or after the end, in the drain, is no part of a rate.
        outside = (seconds < 0) | (seconds > self._covered_s)
        return np.where(outside, -1, bins.place(seconds, series.cuts))
