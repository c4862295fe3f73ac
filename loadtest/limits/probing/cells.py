"""The limiters that may still be in force: cells of their parameters, set aside where the answers contradict them.

What is known of a volley is when it began, when the last of its requests had been decided, and how many passed. A
model's parameter (window, rate, or the offset of the server's clock) is divided into cells. For each cell the least and
the greatest load before a volley follow from what was seen to pass; they bound the count N (or the burst B): k passed,
so N ≥ least + k; some were rejected, so N < most + k + 1. A cell without any N left is contradicted, whatever the true
value inside it. Cells that stand are divided further (set inversion by intervals: Jaulin and Walter, Automatica 1993).
"""

from typing import ClassVar, Final

import numpy as np

from loadtest.arrays import Bools, Floats, Ints
from loadtest.limits import ALGORITHMS, AlgorithmName
from loadtest.limits.probing.evidence import ProbeEvidence, Volley
from loadtest.limits.replays import REPLAYS, LimiterReplay
from loadtest.units import Limit

SLACK: Final = 1e-6
"""Requests, or s, by which sums of floats may be off: more than the 2.4e-7 s of a unix time."""
_CELLS_MOST: Final = 240
"""Cells of one model beyond which none is divided: a bound on time, ten for each one that is weighed
(`experiments._CELLS`)."""
MANY: Final = 1e9
"""Requests that no limit has: stands for no bound."""
GRAIN_S: Final = 0.002
"""Seconds below which cells of a time are not divided: less cannot be seen over a network."""


class Model:
    """One algorithm: the cells of its parameter that stand, and what N each leaves.

    Args:
        low: least value of the parameter of each cell.
        high: greatest value.
        windows: of each cell, where the parameter is not the window itself.
        count_rejected: whether rejected requests count.
        grain: a cell that is no wider is not divided.
    """

    algorithm: ClassVar[AlgorithmName]
    scale_free = False
    """Whether ``grain`` is a part of the parameter, and not in its unit."""
    fewest = 2.0
    """The least N that is looked for: a window for one request is a bucket of one."""
    whole_streams = False
    """Whether it sees a stream as one volley: it keeps its load from one volley to the next."""

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
        """Whether its replay's windows are lengths of time, and not the s in which one request's room comes back."""
        self.count_rejected = count_rejected
        self.grain = grain
        self.low, self.high = low, high
        self.aligned = windows is not None
        self.windows: Floats = low if windows is None else windows
        """Of each cell, the length of its windows, where these are aligned."""
        self.floor_n, self.ceiling_n = np.full(len(low), self.fewest), np.full(len(low), MANY)
        """What N may be for other reasons than bounds."""
        number = len(np.unique(self.windows if windows is not None else low))
        self._first = number, float((high - low).sum()) / number
        """How many windows there were at first, and the mean width of an offset's range."""
        self._start()

    @property
    def key(self) -> tuple[str, bool]:
        return self.algorithm, self.count_rejected

    @property
    def stands(self) -> bool:
        """Whether any cell is not contradicted."""
        return len(self.low) > 0

    def _start(self) -> None:
        self.bounds: list[tuple[float, float]] = []
        """When something was rejected, and what N may be at most for it."""
        self.least_n, self.most_n = self.floor_n.copy(), self.ceiling_n.copy()

    def _keep(self, kept: Bools) -> None:
        for name in ("low", "high", "windows", "least_n", "most_n", "floor_n", "ceiling_n"):
            setattr(self, name, getattr(self, name)[kept])

    def loads(self, evidence: ProbeEvidence, place: int) -> tuple[Floats, Floats]:
        """The least and the greatest load of each cell at the volley in a place, its own requests not counted."""
        raise NotImplementedError

    def _after(self, volley: Volley) -> None:
        """Count a volley, where a model keeps its load from one volley to the next."""

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
        """Divide cells that stand, as far as their number allows, and see what is left."""
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
                return  # nothing that was seen tells the halves apart

    def _wide(self) -> Bools:
        return (self.high - self.low) > self.grain * (self.low if self.scale_free else 1.0)

    def narrow(self, least: Floats, most: Floats) -> None:
        """Keep, of each cell, what N is not less or more than given: none where the least is above the most."""
        self.floor_n, self.ceiling_n = np.maximum(self.floor_n, least), np.minimum(self.ceiling_n, most)
        self.least_n, self.most_n = np.maximum(self.least_n, least), np.minimum(self.most_n, most)
        self._keep(self.least_n <= self.most_n)

    def nearest(self, documented: Limit) -> Ints:
        """Cells that are worth a look whatever else is looked at."""
        return np.zeros(0, int)

    def share(self, cell: int, documented: Limit) -> float:
        """How likely a cell was at first: half for the documented window, and the same for each other one together."""
        same = self.windows[cell] if self.aligned else (self.low[cell] + self.high[cell]) / 2
        wanted = abs(same - documented.window) < 0.01 * documented.window
        other = max(1.0, self._first[0] - 1)
        part = (self.high[cell] - self.low[cell]) / self._first[1] if self.aligned else 1.0
        return float(part) * (0.5 if wanted else 0.5 / other)

    def replay(self, counts: Floats, values: Floats, cells: Ints) -> LimiterReplay:
        """Limiters with some counts and values of the parameter, of some cells."""
        none = np.zeros_like(values)
        if self.aligned:
            return self.kind(counts, self.windows[cells, None] + none, values, count_rejected=self.count_rejected)
        return self.kind(counts, values, none, count_rejected=self.count_rejected)

    def set_aside(self) -> None:
        self._keep(np.zeros(len(self.low), bool))

    def order(self) -> Ints:
        return np.lexsort((self.low, self.windows if self.aligned else self.low))

    def window(self) -> tuple[float, float]:
        """The least and the greatest window that stands, in s."""
        if self.aligned:
            return float(self.windows.min()), float(self.windows.max())
        return float(self.low.min()), float(self.high.max())

    def agreeing(self, apart: float) -> int:
        """How often, so many seconds apart, something was rejected by the greatest N that stands."""
        times: list[float] = []
        for time, bound in self.bounds:
            if bound <= 1.01 * float(self.most_n.max()) + 1 and (not times or time >= times[-1] + apart):
                times.append(time)
        return len(times)

    def count(self) -> tuple[int, int]:
        return int(self.least_n.min()), int(self.most_n.max())
