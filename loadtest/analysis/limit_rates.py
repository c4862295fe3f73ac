"""How many requests were offered, sent, accepted and refused over time, for each limit."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis import bins
from loadtest.analysis.chunks import KINDS, LIMIT_OF_KIND, LIMIT_OF_OPERATION, Chunk
from loadtest.analysis.record import Record
from loadtest.analysis.throttling import Expectation, boundaries

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
        requests, operations = chunk.requests, chunk.operations
        unsent = operations[np.isnan(chunk.floats("start")[operations])]
        kind = chunk.words("kind")[requests]
        for name, series in self.of.items():
            mine = requests[np.isin(kind, [KINDS.index(k) for k in KINDS if LIMIT_OF_KIND[k] in self._names[name]])]
            wanted = [o for o, limit in LIMIT_OF_OPERATION.items() if limit in self._names[name]]
            never = unsent[np.isin(chunk.words("operation")[unsent], chunk.book.codes("operation", wanted))]
            status = chunk.floats("status")[mine]
            sent = chunk.floats("start")[mine]
            self._count(series.sent, series, sent)
            self._count(series.throttled, series, sent[status == 429])
            self._count(series.accepted, series, sent[~np.isnan(status) & (status != 429)])
            intended = chunk.floats("intended_start")
            self._count(series.offered, series, np.concatenate((intended[mine], intended[never])))

    def _count(self, counts: Ints, series: LimitSeries, times: Floats) -> None:
        # What was sent before the epoch, to set up, or after the end, in the drain, is no part of a rate.
        seconds = times / 1e9
        seconds = seconds[(seconds >= 0) & (seconds <= self._covered_s)]
        places = bins.place(seconds, series.cuts)
        counts += np.bincount(places[places >= 0], minlength=len(counts))
