"""The limiters that may be in force, as cells of their parameters; contradicted cells are discarded.

A burst (``Volley``) is known by its start, the time when its last request had been decided, and the number accepted. A
model's parameter (window, rate, or the offset of the server's clock) is divided into cells. For each cell the accepted
requests give bounds on the load before a burst, and these bound the count N (or the burst size B). If k were accepted,
N ≥ least + k; if some were rejected, N < most + k + 1. A cell without any possible N is contradicted for all values
inside it. The remaining cells are divided further (set inversion by intervals: Jaulin and Walter, Automatica 1993).
"""

from typing import ClassVar, Final

import numpy as np

from loadtest.arrays import Bools, Floats, Ints
from loadtest.limits import ALGORITHMS, AlgorithmName
from loadtest.limits.probing.evidence import ProbeEvidence, Volley
from loadtest.limits.replays import REPLAYS, LimiterReplay
from loadtest.units import Limit

SLACK: Final = 1e-6
"""Tolerance for rounding of sums, in requests or s: above the 2.4e-7 s resolution of a unix time."""
_CELLS_MOST: Final = 240
"""Number of cells of one model above which none is divided: bounds the time; ten for each weighed cell
(`experiments._CELLS`)."""
MANY: Final = 1e9
"""A number of requests above any limit: no bound."""
GRAIN_S: Final = 0.002
"""Width in seconds below which cells of a time are not divided: a network hides smaller differences."""


class Model:
    """One algorithm: the remaining cells of its parameter, and the possible N of each.

    Args:
        low: lower end of the parameter in each cell.
        high: upper end.
        windows: window of each cell, if the parameter is not the window.
        count_rejected: whether rejected requests count.
        grain: maximum width of a cell that is not divided.
    """

    algorithm: ClassVar[AlgorithmName]
    scale_free = False
    """Whether ``grain`` is relative to the parameter."""
    fewest = 2.0
    """The smallest N considered: a window for one request is a bucket of one."""
    whole_streams = False
    """Whether it treats a stream as one burst, because it keeps its load between bursts."""

    def __init__(
        self,
        low: Floats,
        high: Floats,
        windows: Floats | None = None,
        *,
        count_rejected: bool = False,
        grain: float = GRAIN_S,
    ) -> None:
        self.kind = REPLAYS[self.algorithm]
        self.windowed = not ALGORITHMS[self.algorithm].has_burst
        """Whether its replay's windows are window lengths rather than seconds per refilled request."""
        self.count_rejected = count_rejected
        self.grain = grain
        self.low, self.high = low, high
        self.aligned = windows is not None
        self.windows: Floats = low if windows is None else windows
        """The window length of each cell, if windows are aligned."""
        self.floor_n, self.ceiling_n = np.full(len(low), self.fewest), np.full(len(low), MANY)
        """Bounds on N from other sources than ``bounds``."""
        number = len(np.unique(self.windows if windows is not None else low))
        self._first = number, float((high - low).sum()) / number
        """The initial number of windows, and the mean width of an offset's range."""
        self._start()

    @property
    def key(self) -> tuple[str, bool]:
        return self.algorithm, self.count_rejected

    @property
    def stands(self) -> bool:
        return len(self.low) > 0

    def _start(self) -> None:
        self.bounds: list[tuple[float, float]] = []
        """Time of each rejection, and the upper bound on N that it implies."""
        self.least_n, self.most_n = self.floor_n.copy(), self.ceiling_n.copy()

    def _keep(self, kept: Bools) -> None:
        for name in ("low", "high", "windows", "least_n", "most_n", "floor_n", "ceiling_n"):
            setattr(self, name, getattr(self, name)[kept])

    def loads(self, evidence: ProbeEvidence, place: int) -> tuple[Floats, Floats]:
        """Bounds on the load of each cell at a burst, without the burst's own requests."""
        raise NotImplementedError

    def _after(self, volley: Volley) -> None:
        """Count a burst, in models that keep their load between bursts."""

    def see(self, evidence: ProbeEvidence, place: int) -> None:
        if not self.stands:
            return
        volley = evidence.wholes[place] if self.whole_streams else evidence.volleys[place]
        if volley is None:
            return
        least, most = self.loads(evidence, place)
        if volley.passed:
            self.least_n = np.maximum(self.least_n, np.ceil(least + volley.passed - SLACK))
        if volley.rejected:
            bound = np.ceil(most + volley.passed + 1 - SLACK) - 1
            self.bounds.append((volley.begin, float(bound.min())))
            self.most_n = np.minimum(self.most_n, bound)
        self._after(volley)
        kept = self.least_n <= self.most_n
        if not kept.all():
            self._keep(kept)

    def divide(self, evidence: ProbeEvidence) -> None:
        """Divide the remaining cells as far as their number allows, and discard contradicted parts."""
        while 0 < len(self.low) < _CELLS_MOST:
            wide = self._wide()
            if not wide.any():
                return
            before = len(self.low), float((self.high - self.low).sum())
            middle = (self.low + self.high) / 2
            lows, highs = (self.low, middle[wide]), (np.where(wide, middle, self.high), self.high[wide])
            for name in ("windows", "floor_n", "ceiling_n"):
                setattr(self, name, np.concatenate((getattr(self, name), getattr(self, name)[wide])))
            self.low, self.high = np.concatenate(lows), np.concatenate(highs)
            self._start()
            for place in range(len(evidence.volleys)):
                self.see(evidence, place)
            if len(self.low) >= 2 * before[0] and float((self.high - self.low).sum()) >= before[1] * 0.999:
                return  # the evidence does not distinguish the halves

    def _wide(self) -> Bools:
        return (self.high - self.low) > self.grain * (self.low if self.scale_free else 1.0)

    def narrow(self, least: Floats, most: Floats) -> None:
        """Restrict N in each cell to a range; a cell with ``least`` above ``most`` is discarded."""
        self.floor_n, self.ceiling_n = np.maximum(self.floor_n, least), np.minimum(self.ceiling_n, most)
        self.least_n, self.most_n = np.maximum(self.least_n, least), np.minimum(self.most_n, most)
        self._keep(self.least_n <= self.most_n)

    def nearest(self, documented: Limit) -> Ints:
        """Cells to examine in any case."""
        return np.zeros(0, int)

    def share(self, cell: int, documented: Limit) -> float:
        """A cell's prior probability: half for the documented window, the rest equally for all other windows."""
        same = self.windows[cell] if self.aligned else (self.low[cell] + self.high[cell]) / 2
        wanted = abs(same - documented.window) < 0.01 * documented.window
        other = max(1.0, self._first[0] - 1)
        part = (self.high[cell] - self.low[cell]) / self._first[1] if self.aligned else 1.0
        return float(part) * (0.5 if wanted else 0.5 / other)

    def replay(self, counts: Floats, values: Floats, cells: Ints) -> LimiterReplay:
        none = np.zeros_like(values)
        if self.aligned:
            return self.kind(counts, self.windows[cells, None] + none, values, count_rejected=self.count_rejected)
        return self.kind(counts, values, none, count_rejected=self.count_rejected)

    def set_aside(self) -> None:
        self._keep(np.zeros(len(self.low), bool))

    def order(self) -> Ints:
        return np.lexsort((self.low, self.windows if self.aligned else self.low))

    def window(self) -> tuple[float, float]:
        """The smallest and largest remaining window, in s."""
        if self.aligned:
            return float(self.windows.min()), float(self.windows.max())
        return float(self.low.min()), float(self.high.max())

    def agreeing(self, apart: float) -> int:
        """The number of rejections, at least ``apart`` seconds apart, that confirm the largest remaining N."""
        times: list[float] = []
        for time, bound in self.bounds:
            if bound <= 1.01 * float(self.most_n.max()) + 1 and (not times or time >= times[-1] + apart):
                times.append(time)
        return len(times)

    def count(self) -> tuple[int, int]:
        return int(self.least_n.min()), int(self.most_n.max())
