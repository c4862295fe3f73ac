"""How many requests were offered, sent, accepted and refused over time, for each limit."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis import bins
from loadtest.analysis.book import KINDS
from loadtest.analysis.chunks import Chunk
from loadtest.analysis.record import Record
from loadtest.analysis.rows import Rows, tally
from loadtest.analysis.throttling import Expectation, boundaries
from loadtest.contract import LIMIT_OF_KIND, LIMIT_OF_OPERATION, THROTTLED_STATUS

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
        for kind, rows in chunk.requests.by_kind:
            series = self._drawn_on(LIMIT_OF_KIND[KINDS[kind]])
            if series is not None:
                self._count(series, rows)
        for cell, rows in chunk.operations.by_cell:
            series = self._drawn_on(LIMIT_OF_OPERATION[chunk.book.operation_of[cell]])
            never = rows.where(np.isnan(rows.floats("start")))
            if series is not None and len(never):
                tally(series.offered, self._places(series, never, "intended_start"))

    def _drawn_on(self, limit: str) -> LimitSeries | None:
        return next((self.of[name] for name, together in self._names.items() if limit in together), None)

    def _count(self, series: LimitSeries, rows: Rows) -> None:
        places, status = self._places(series, rows, "start"), rows.floats("status")
        tally(series.sent, places)
        throttled = status == THROTTLED_STATUS
        tally(series.throttled, places[throttled])
        tally(series.accepted, places[~np.isnan(status) & ~throttled])
        tally(series.offered, self._places(series, rows, "intended_start"))

    def _places(self, series: LimitSeries, rows: Rows, column: str) -> Ints:
        seconds = rows.floats(column) / 1e9
        # What was sent before the epoch, to set up, or after the end, in the drain, is no part of a rate.
        outside = (seconds < 0) | (seconds > self._covered_s)
        return np.where(outside, -1, bins.place(seconds, series.cuts))
