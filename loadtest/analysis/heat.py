"""How response times lie over a long run: counts by time and by response time, where dots would hide one another."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis import bins
from loadtest.analysis.chunks import Chunk
from loadtest.analysis.record import Record
from loadtest.analysis.rows import Rows, tally
from loadtest.analysis.times import response_time

Floats = NDArray[np.float64]

LONG_S: Final = 600.0
MANY: Final = 50_000
"""A run above the one, or an entry above the other, has a heat map."""
_TIMES: Final = 180
_PER_DECADE: Final = 16
_MOST_LEVELS: Final = 96


@dataclass(frozen=True, eq=False)
class Heat:
    """Of one traffic entry.

    Attributes:
        cuts: edges of the bins of time, in s since the epoch.
        levels: edges of the bins of response time, in ms, as far apart on a log scale.
        counts: ``[time, level]`` operations that were ok or timed out.
    """

    cuts: Floats
    levels: Floats
    counts: NDArray[np.int64]


class Heats:
    """Counts the response times of each entry that has many, or of all in a long run; the warm-up included.

    At most 241 x 96 counts an entry, whatever the length of the run.
    """

    def __init__(self, record: Record) -> None:
        self._of: dict[int, tuple[str, Heat]] = {}
        for entry, name in enumerate(record.book.entries):
            cells = record.cells_of(name)
            times = record.times.of["response_time_ms"].get(cells)
            if not times.n or (times.n < MANY and record.covered_s < LONG_S) or times.most <= 0:
                continue
            low = max(times.least, times.most / 1e9, 1e-6)
            decades = max(np.log10(times.most / low), 0.1)
            count = min(_MOST_LEVELS, max(4, int(np.ceil(decades * _PER_DECADE))))
            levels = np.geomspace(low * 0.999, times.most * 1.001, count + 1)
            width = bins.width(record.covered_s, _TIMES, 1)
            cuts = bins.edges(0, record.covered_s, width)
            self._of[entry] = name, Heat(cuts, levels, np.zeros((len(cuts) - 1, count), np.int64))

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        for cell, rows in chunk.operations.by_cell:
            found = self._of.get(chunk.book.entry_of[cell])
            if found is not None:
                _count(found[1], rows.answered)

    def result(self) -> dict[str, Heat]:
        """Of each entry that has one."""
        return dict(self._of.values())


def _count(heat: Heat, rows: Rows) -> None:
    response = response_time(rows)
    start, step = heat.cuts[0], heat.cuts[1] - heat.cuts[0]
    when = np.floor((rows.floats("intended_start") / 1e9 - start) / step)
    base, scale = np.log(heat.levels[0]), heat.counts.shape[1] / np.log(heat.levels[-1] / heat.levels[0])
    level = (np.log(np.maximum(response, heat.levels[0])) - base) * scale
    inside = (when >= 0) & (when < len(heat.counts)) & ~np.isnan(response)
    if not inside.all():
        when, level = when[inside], level[inside]
    level = np.minimum(level, heat.counts.shape[1] - 1)
    flat = when.astype(np.int64) * heat.counts.shape[1] + level.astype(np.int64)
    tally(heat.counts.reshape(-1), flat)
