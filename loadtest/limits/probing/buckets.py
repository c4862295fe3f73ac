"""Token bucket, GCRA and leaky queue: which rates and bursts stand."""

import math
from typing import Final

import numpy as np

from loadtest.arrays import Bools, Floats, Ints
from loadtest.limits.probing.models import Model
from loadtest.limits.probing.past import Past, Volley
from loadtest.limits.probing.replays import BucketReplay, Replay
from loadtest.units import Limit

RATES: Final = 30.0
"""Factor within which rates are looked for, of the documented one and on either side."""
_NEAR: Final = 0.1
"""Part of the documented rate, around it, in which half of all buckets are at first."""


class Bucket(Model):
    """B at once and ρ a second: token bucket, GCRA, and a leaky queue; the cells are of ρ.

    The level that is used up falls by ρ a second. It is least where requests came as early as they may have, and
    greatest where they came as late.
    """

    kind = BucketReplay
    windowed = False
    scale_free = True
    fewest = 1.0
    whole_streams = True

    def __init__(self, low: Floats, high: Floats, *, rejected: bool) -> None:
        super().__init__("token-bucket", low, high, rejected=rejected, grain=0.004)

    def _start(self) -> None:
        super()._start()
        self._level = np.zeros((2, len(self.low)))
        """The least at ``_since[0]`` and the greatest at ``_since[1]``."""
        self._since = (-math.inf, -math.inf)

    def _keep(self, kept: Bools) -> None:
        super()._keep(kept)
        self._level = self._level[:, kept]

    def _at(self, time: float) -> tuple[Floats, Floats]:
        gone = [0.0 if math.isinf(since) else max(0.0, time - since) for since in self._since]
        return (
            np.maximum(self._level[0] - self.high * gone[0], 0.0),
            np.maximum(self._level[1] - self.low * gone[1], 0.0),
        )

    def loads(self, past: Past, place: int) -> tuple[Floats, Floats]:
        """The level when a volley came, less what may have run off while it did."""
        now = past.wholes[place] or past.volleys[place]
        least, most = self._at(now.begin)
        return least - self.high * (now.end - now.begin), most

    def _after(self, volley: Volley) -> None:
        counted = volley.sent if self.rejected else volley.passed
        least, most = self._at(volley.begin)[0] + counted, self._at(volley.end)[1] + counted
        if volley.refused:  # then there was less than one left
            least = np.maximum(least, self.least_n - 1)
        if self.rejected:  # a debt of the burst is the most
            least, most = np.minimum(least, 2 * self.least_n), np.minimum(most, 2 * self.most_n)
        else:
            most = np.minimum(most, self.most_n)
        self._level, self._since = np.stack((least, most)), (volley.begin, volley.end)

    def nearest(self, documented: Limit) -> Ints:
        """Up to four with the documented rate, or next to it."""
        apart = np.abs(np.log((self.low + self.high) / 2 / documented.rate))
        return np.flatnonzero(apart < _NEAR / 2 + np.log(self.high / self.low) / 2)[:4]

    def share(self, cell: int, documented: Limit) -> float:
        """How likely a cell was at first: half for the documented rate, the other half even by the rate's logarithm."""
        width = math.log(self.high[cell] / self.low[cell])
        near = abs(math.log(documented.rate / ((self.low[cell] + self.high[cell]) / 2)))
        return 0.5 * width / (2 * math.log(RATES)) + 0.5 * (width / _NEAR if near < _NEAR / 2 + width / 2 else 0.0)

    def replay(self, counts: Floats, values: Floats, cells: Ints) -> Replay:
        """Buckets that refill at some rates."""
        return self.kind(counts, 1 / values, np.zeros_like(values), rejected=self.rejected)

    def window(self) -> tuple[float, float]:
        """The times in which one request's room comes back."""
        return 1 / float(self.high.max()), 1 / float(self.low.min())
