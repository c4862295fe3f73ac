"""Response times over time: dots of single operations, and percentiles of bins."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis import bins
from loadtest.analysis.book import OUTCOMES
from loadtest.analysis.chunks import Chunk
from loadtest.analysis.distribution import Distribution, Distributions
from loadtest.analysis.record import Record
from loadtest.analysis.rows import OK, TIMED_OUT, Rows
from loadtest.analysis.times import response_time
from loadtest.contract import THROTTLED_STATUS, Outcome

Floats = NDArray[np.float64]

LAYERS: Final = ("ok", "429", "failed", "timed out")
_MOST: Final = 11_000
"""Dots of a layer that are drawn evenly; and beside them, as many of the slowest 2 % as ``_SLOW``."""
_SLOW: Final = 1_000
_PER_BIN: Final = 25
_FAILED: Final = OUTCOMES.index(Outcome.FAILED)
_THROTTLED: Final = OUTCOMES.index(Outcome.THROTTLED)


@dataclass(frozen=True, eq=False)
class Responses:
    """Of one traffic entry.

    Attributes:
        dots: by layer, (intended start in s since the epoch, response time in ms) of operations.
        cuts: edges of the bins, in s since the epoch.
        binned: of each bin, the response times of its operations that were ok or timed out.
        n: how many those are.
    """

    dots: dict[str, tuple[Floats, Floats]]
    cuts: Floats
    binned: list[Distribution]
    n: int


class Points:
    """Gathers the responses of each traffic entry, warm-up included."""

    def __init__(self, record: Record) -> None:
        self._record = record
        entries = range(len(record.book.entries))
        self._n = [self._outcomes(entry, (OK, TIMED_OUT)) for entry in entries]
        self._cuts = [bins.edges(0, record.covered_s, bins.width(record.covered_s, n, _PER_BIN)) for n in self._n]
        self._binned = [Distributions(max(1, len(cuts) - 1), exact=1_000) for cuts in self._cuts]
        self._dots: list[dict[str, list[tuple[Floats, Floats]]]] = [{layer: [] for layer in LAYERS} for _ in entries]
        self._seen = np.zeros((len(entries), len(LAYERS)), np.int64)
        self._slow_from = [self._slow(name) for name in record.book.entries]

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        for cell, rows in chunk.operations.by_cell:
            self._take(chunk.book.entry_of[cell], rows)

    def result(self) -> dict[str, Responses]:
        """Of each traffic entry."""
        return {
            name: Responses(
                {
                    layer: (np.concatenate([s for s, _ in parts]), np.concatenate([r for _, r in parts]))
                    for layer, parts in self._dots[entry].items()
                    if parts
                },
                self._cuts[entry],
                [self._binned[entry].get([k]) for k in range(len(self._cuts[entry]) - 1)],
                self._n[entry],
            )
            for entry, name in enumerate(self._record.book.entries)
        }

    def _take(self, entry: int, rows: Rows) -> None:
        good = rows.answered
        bins.spread(self._binned[entry], self._cuts[entry], good.floats("intended_start") / 1e9, response_time(good))
        outcome = rows.words("outcome")
        which = {
            "ok": outcome == OK,
            "429": (rows.floats("status") == THROTTLED_STATUS) & (outcome != TIMED_OUT),
            "failed": outcome == _FAILED,
            "timed out": outcome == TIMED_OUT,
        }
        for layer, of in which.items():
            if of.any():
                self._keep(entry, layer, rows.where(of))

    def _keep(self, entry: int, layer: str, rows: Rows) -> None:
        """Keep every n-th, and of the slowest 2 % more, so that no stall is thinned away."""
        response = response_time(rows)
        if not (response > 0).all():
            rows = rows.where(response > 0)
            response = response_time(rows)
        place = LAYERS.index(layer)
        before, total = int(self._seen[entry, place]), self._total(entry, layer)
        self._seen[entry, place] += len(rows)
        keep = bins.every(max(1, -(-total // _MOST)), before, len(rows))
        if layer == "ok":
            slow = bins.every(max(1, -(-total // (_SLOW * 50))), before, len(rows))
            keep = np.union1d(keep, slow[response[slow] > self._slow_from[entry]])
        if len(keep):
            self._dots[entry][layer].append((rows.floats("intended_start")[keep] / 1e9, response[keep]))

    def _total(self, entry: int, layer: str) -> int:
        outcomes = {"ok": (OK,), "timed out": (TIMED_OUT,), "failed": (_FAILED,)}
        return self._outcomes(entry, outcomes.get(layer, (_THROTTLED,)))

    def _outcomes(self, entry: int, outcomes: tuple[int, ...]) -> int:
        cells = self._record.cells_of(self._record.book.entries[entry])
        return int(self._record.counts.outcomes[np.ix_(cells, outcomes)].sum())

    def _slow(self, name: str) -> float:
        response = self._record.times.of["response_time_ms"].get(self._record.cells_of(name))
        return float(response.at([max(1, round(response.n * 0.98))])[0]) if response.n else np.inf
