"""How long executions took, as a histogram that costs next to nothing to add to."""

from bisect import bisect_left
from typing import Final

BOUNDS: Final = (0.1, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5)
"""Upper bounds of the buckets but the last, which has none; in ms, like ``executionTime``."""


class Times:
    """A histogram.

    Attributes:
        counts: how many took longer than the bound before, and at most the one of the same index.
        total: ms of all together.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, milliseconds: float) -> None:
        """Count one execution that took so long."""
        self.counts[bisect_left(BOUNDS, milliseconds)] += 1
        self.total += milliseconds
