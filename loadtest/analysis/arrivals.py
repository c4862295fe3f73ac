"""Which arrivals a record tells of: those that left no row are lost, and belong to the stage of their neighbours."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.columns import Rows, Vocabulary
from loadtest.analysis.distribution import Distribution, distribution, known
from loadtest.analysis.reader import Chunk
from loadtest.analysis.times import start_lag
from loadtest.record.run_info import RunInfo

GAPS: Final = 5_000_000
"""Arrivals of an entry whose gaps are looked at: the first."""


@dataclass(frozen=True, slots=True)
class Missing:
    """How many arrivals of a stage have no operation row."""

    traffic: str
    stage: str
    count: int


class Arrivals:
    """Of each traffic entry, which arrivals have an operation row, which a request names, and how late each left."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._ended: list[NDArray[np.bool_]] = [np.zeros(0, bool) for _ in vocabulary.entries]
        self._named: list[NDArray[np.bool_]] = [np.zeros(0, bool) for _ in vocabulary.entries]
        self._lag: list[NDArray[np.float32]] = [np.zeros(0, np.float32) for _ in vocabulary.entries]
        self._first = np.full(len(vocabulary.stage_keys), np.inf)
        """The least arrival that is known of each stage: arrivals are numbered in the order of their stages."""

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        for stage_index, rows in chunk.operations.by_stage:
            entry = self._vocabulary.entry_of[stage_index]
            self._see(stage_index, rows, "arrival", self._ended)
            if chunk.vocabulary.in_figures[stage_index]:
                self._note_lags(entry, rows)
        for stage_index, rows in chunk.requests.by_stage:
            self._see(stage_index, rows, "parent_arrival", self._named)

    def gap_errors(self, entry: str) -> Distribution:
        """|gap between two starts − gap between their intended starts| of neighbouring sent arrivals, in ms."""
        lag = self._lag[self._vocabulary.entries.index(entry)]
        gaps = np.diff(lag[~np.isnan(lag)].astype(np.float64))
        return distribution(np.abs(gaps, out=gaps))

    def missing(self, info: RunInfo) -> list[Missing]:
        """Arrivals without an operation row, the warm-up's left out.

        Of a run that ended, those are the numbers below ``offered`` that have no row. Of a killed one, whose
        ``offered`` nobody wrote down, the arrivals that requests name but that never got an outcome.
        """
        found = []
        for place, (name, plan) in enumerate(info.traffic.items()):
            named = self._named[place] if plan.offered is None else np.ones(plan.offered, bool)
            absent = np.flatnonzero(named & ~_grown(self._ended[place], len(named))[: len(named)])
            stage_indices = [
                stage_index for stage_index, (entry, _) in enumerate(self._vocabulary.stage_keys) if entry == name
            ]
            counts = self._by_cell(absent, stage_indices)
            found += [
                Missing(name, self._vocabulary.stage_keys[stage_index][1].name, count)
                for stage_index, count in zip(stage_indices, counts, strict=True)
                if count and self._vocabulary.in_figures[stage_index]
            ]
        return found

    def _by_cell(self, absent: NDArray[np.int64], stage_indices: list[int]) -> list[int]:
        """How many belong to each stage: to that of the nearest known arrival before, else after."""
        seen = [stage_index for stage_index in stage_indices if np.isfinite(self._first[stage_index])]
        if not seen:
            return [0] * (len(stage_indices) - 1) + [len(absent)] if stage_indices else []
        firsts = self._first[seen]
        order = np.argsort(firsts)
        places = np.maximum(np.searchsorted(firsts[order], absent, side="right") - 1, 0)
        counts = np.bincount(places, minlength=len(seen))
        by_stage = dict(zip(np.asarray(seen)[order].tolist(), counts.tolist(), strict=True))
        return [by_stage.get(stage_index, 0) for stage_index in stage_indices]

    def _see(self, stage_index: int, rows: Rows, column: str, seen: list[NDArray[np.bool_]]) -> None:
        number = known(rows.floats(column)).astype(np.int64)
        if not len(number):
            return
        self._first[stage_index] = min(self._first[stage_index], number.min())
        entry = self._vocabulary.entry_of[stage_index]
        seen[entry] = _grown(seen[entry], int(number.max()) + 1)
        seen[entry][number] = True

    def _note_lags(self, entry: int, rows: Rows) -> None:
        lag, number = start_lag(rows), rows.floats("arrival")
        noted = np.flatnonzero(~np.isnan(lag) & (number < GAPS))
        places = number.take(noted).astype(np.int64)
        self._lag[entry] = _grown(self._lag[entry], int(places.max(initial=-1)) + 1, np.nan)
        self._lag[entry][places] = lag.take(noted)


def _grown(array: NDArray[Any], needed: int, empty: float = 0) -> NDArray[Any]:
    """The array, at least as long as needed; it doubles, so that growing it costs little."""
    if needed <= len(array):
        return array
    # Of zeros that were never written to there is no memory.
    longer = np.zeros(max(needed, 2 * len(array)), array.dtype)
    longer[: len(array)] = array
    if empty:
        longer[len(array) :] = empty
    return longer
