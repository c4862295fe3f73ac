"""Which arrivals the record tells of: what is missing at the end was lost with a worker. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from loadtest.load.workers.roster import EpochPlan
from loadtest.schedule import Arrival, TrafficSchedule

_GROWTH: Final = 1 << 16


class Seen:
    """Notes the arrivals of each traffic entry whose operation is in the record: a byte for each."""

    def __init__(self) -> None:
        self._known: dict[str, npt.NDArray[np.uint8]] = {}
        self.twice = 0
        """Arrivals that came a second time, which must not be."""

    def add(self, traffic: str, numbers: npt.NDArray[np.int64]) -> None:
        """Note arrivals."""
        if not len(numbers):
            return
        known = self._known.get(traffic, np.zeros(0, np.uint8))
        if numbers.max() >= len(known):
            grown = np.zeros(max(int(numbers.max()) + _GROWTH, 2 * len(known)), np.uint8)
            grown[: len(known)] = known
            known = self._known[traffic] = grown
        self.twice += int(known[numbers].sum()) + len(numbers) - len(np.unique(numbers))
        known[numbers] = 1

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Note the arrivals of a batch's operations."""
        traffic = batch.column("traffic")
        numbers = batch.column("arrival")
        operations = ~np.asarray(numbers.is_null())
        codes = traffic.indices.to_numpy(zero_copy_only=False)
        values = numbers.fill_null(-1).to_numpy(zero_copy_only=False)
        for code, name in enumerate(traffic.dictionary.to_pylist()):
            self.add(name, values[operations & (codes == code)])

    def count(self, traffic: str) -> int:
        """How many of an entry's arrivals are known."""
        return int(self._known.get(traffic, np.zeros(0, np.uint8)).sum())

    def has(self, arrival: Arrival) -> bool:
        """Whether an arrival is known."""
        known = self._known.get(arrival.traffic)
        return known is not None and arrival.number < len(known) and bool(known[arrival.number])

    def missing(
        self, schedule: TrafficSchedule, epochs: Sequence[EpochPlan], until_ns: int, whose: set[str] | None
    ) -> Iterator[tuple[Arrival, str]]:
        """Yield the arrivals that were assigned and are not known, and the worker that had each.

        Args:
            schedule: of the entry.
            epochs: who shared the schedule from when on.
            until_ns: arrivals from here on were not offered by anybody.
            whose: workers to look at; None for all.
        """
        ends = [*(epoch.from_ns for epoch in epochs[1:]), until_ns]
        for epoch, end in zip(epochs, ends, strict=True):
            for place, worker in enumerate(epoch.workers):
                if whose is not None and worker not in whose:
                    continue
                for arrival in schedule.share(place, len(epoch.workers), epoch.from_ns):
                    if arrival.intended_ns >= min(end, until_ns):
                        break
                    if not self.has(arrival):
                        yield arrival, worker
