"""Response times over time: dots of single operations, and percentiles of bins."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis import bins
from loadtest.analysis.chunks import OUTCOMES, Chunk
from loadtest.analysis.distribution import Distribution, Distributions
from loadtest.analysis.record import Record
from loadtest.analysis.times import OK, TIMED_OUT, response_time

Floats = NDArray[np.float64]

LAYERS: Final = ("ok", "429", "failed", "timed out")
_MOST: Final = 11_000
"""Dots of a layer that are drawn evenly; and beside them, as many of the slowest 2 % as ``_SLOW``."""
_SLOW: Final = 1_000
_PER_BIN: Final = 25


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
        rows = chunk.operations
        response = response_time(chunk, rows)
        rows, response = rows[~np.isnan(response)], response[~np.isnan(response)]
        traffic, outcome = chunk.words("traffic")[rows], chunk.words("outcome")[rows]
        refused = chunk.floats("status")[rows] == 429
        seconds = chunk.floats("intended_start")[rows] / 1e9
        which = {
            "ok": outcome == OK,
            "429": refused & (outcome != TIMED_OUT),
            "failed": outcome == OUTCOMES.index("failed"),
            "timed out": outcome == TIMED_OUT,
        }
        for entry, cuts in enumerate(self._cuts):
            mine = traffic == entry
            good = mine & (which["ok"] | which["timed out"])
            places = bins.place(seconds[good], cuts)
            self._binned[entry].add(places[places >= 0], response[good][places >= 0])
            for layer in LAYERS:
                layered = mine & which[layer] & (response > 0)
                self._keep(entry, layer, seconds[layered], response[layered])

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

    def _keep(self, entry: int, layer: str, seconds: Floats, response: Floats) -> None:
        """Keep every n-th, and of the slowest 2 % more, so that no stall is thinned away."""
        place = LAYERS.index(layer)
        number = self._seen[entry, place] + np.arange(len(seconds))
        self._seen[entry, place] += len(seconds)
        total = self._total(entry, layer)
        keep = number % max(1, -(-total // _MOST)) == 0
        if layer == "ok":
            keep |= (response > self._slow_from[entry]) & (number % max(1, -(-total // (_SLOW * 50))) == 0)
        if keep.any():
            self._dots[entry][layer].append((seconds[keep], response[keep]))

    def _total(self, entry: int, layer: str) -> int:
        outcomes = {"ok": (OK,), "timed out": (TIMED_OUT,), "failed": (OUTCOMES.index("failed"),)}
        return self._outcomes(entry, outcomes.get(layer, (OUTCOMES.index("throttled"),)))

    def _outcomes(self, entry: int, outcomes: tuple[int, ...]) -> int:
        cells = self._record.cells_of(self._record.book.entries[entry])
        return int(self._record.counts.outcomes[np.ix_(cells, outcomes)].sum())

    def _slow(self, name: str) -> float:
        response = self._record.times.of["response_time_ms"].get(self._record.cells_of(name))
        return float(response.at([max(1, round(response.n * 0.98))])[0]) if response.n else np.inf
