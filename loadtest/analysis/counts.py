"""What adds up over a record, by stage: counts of operations and requests, sums of times, polls by time, and arrivals.

Arrivals that left no row are lost, and belong to the stage of their neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis import distribution as bins
from loadtest.analysis.columns import KINDS, OUTCOMES, TIMED_OUT, Rows, StageKey, Vocabulary, groups, tally
from loadtest.analysis.distribution import Distribution, distribution, known
from loadtest.analysis.reader import Chunk
from loadtest.analysis.times import response_time, start_lag, submit_time
from loadtest.arrays import Bools, Ints
from loadtest.contract import FIRST_KINDS, LIMIT_NAMES, LIMIT_OF_KIND, THROTTLED_STATUS, Outcome, RequestKind
from loadtest.record.run_info import RunInfo, StagePlan

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
        self._ended: list[Bools] = [np.zeros(0, bool) for _ in vocabulary.entries]
        self._named: list[Bools] = [np.zeros(0, bool) for _ in vocabulary.entries]
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
            absent, beyond = self._absent(place, plan.offered)
            stage_indices = [
                stage_index for stage_index, (entry, _) in enumerate(self._vocabulary.stage_keys) if entry == name
            ]
            counts = self._by_cell(absent, beyond, stage_indices)
            found += [
                Missing(name, self._vocabulary.stage_keys[stage_index][1].name, count)
                for stage_index, count in zip(stage_indices, counts, strict=True)
                if count and self._vocabulary.in_figures[stage_index]
            ]
        return found

    def _absent(self, place: int, offered: int | None) -> tuple[Ints, int]:
        """The arrivals of an entry that have no operation row; and how many more there are, beyond every known one."""
        ended, named = self._ended[place], self._named[place]
        if offered is None:
            return np.flatnonzero(named & ~_grown(ended, len(named))[: len(named)]), 0
        return np.flatnonzero(~ended[:offered]), max(0, offered - len(ended))

    def _by_cell(self, absent: Ints, beyond: int, stage_indices: list[int]) -> list[int]:
        """How many belong to each stage: to that of the nearest known arrival before, else after."""
        seen = [stage_index for stage_index in stage_indices if np.isfinite(self._first[stage_index])]
        if not seen:
            return [0] * (len(stage_indices) - 1) + [len(absent) + beyond] if stage_indices else []
        firsts = self._first[seen]
        order = np.argsort(firsts)
        places = np.maximum(np.searchsorted(firsts[order], absent, side="right") - 1, 0)
        counts = np.bincount(places, minlength=len(seen))
        counts[-1] += beyond
        by_stage = dict(zip(np.asarray(seen)[order].tolist(), counts.tolist(), strict=True))
        return [by_stage.get(stage_index, 0) for stage_index in stage_indices]

    def _see(self, stage_index: int, rows: Rows, column: str, seen: list[Bools]) -> None:
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


NO_ANSWER: Final = 0
"""The status of a request that got none."""
FIRST: Final = len(FIRST_KINDS)
"""So many of ``KINDS`` begin an operation; the rest are polls."""
_STATUSES: Final = 1000
_FAILED: Final = OUTCOMES.index(Outcome.FAILED)


class Counts:
    """Counts by stage of a book; those that are judged and those of the warm-up alike.

    Attributes:
        outcomes: ``[stage, outcome]`` operations.
        sent: ``[stage]`` operations of which a request was sent.
        reasons: ``[stage, reason]`` operations, by the book's words.
        statuses: ``[stage, status]`` requests; ``NO_ANSWER`` for those without one.
        errors: ``[stage, status]`` requests that failed or timed out.
        first: ``[stage]`` runs, submits and retrieves.
        requested: requests by limit name, set-up included.
        keys: the key indices that were used on each limit name.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        stage_indices = len(vocabulary.stage_keys)
        self.outcomes = np.zeros((stage_indices, len(OUTCOMES)), np.int64)
        self.sent = np.zeros(stage_indices, np.int64)
        self.reasons = np.zeros((stage_indices, 0), np.int64)
        self.statuses = np.zeros((stage_indices, _STATUSES), np.int64)
        self.errors = np.zeros((stage_indices, _STATUSES), np.int64)
        self.first = np.zeros(stage_indices, np.int64)
        self._bytes = np.zeros(stage_indices)
        self.requested: dict[str, int] = dict.fromkeys(LIMIT_NAMES, 0)
        self.keys: dict[str, set[int]] = {name: set() for name in LIMIT_NAMES}

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        self._operations(chunk)
        self._requests(chunk)

    def received(self, stage_indices: list[int]) -> float:
        """Bytes of an answer, on average over the requests of some stages; 0 without any."""
        requested = int(self.statuses[stage_indices].sum())
        return float(self._bytes[stage_indices].sum()) / requested if requested else 0.0

    def _operations(self, chunk: Chunk) -> None:
        chunk.columns.words("reason")  # brings new ones
        words = len(self._vocabulary.words["reason"])
        if words > self.reasons.shape[1]:
            self.reasons = np.pad(self.reasons, ((0, 0), (0, words - self.reasons.shape[1])))
        for stage_index, rows in chunk.operations.by_stage:
            tally(self.outcomes[stage_index], rows.words("outcome"))
            tally(self.reasons[stage_index], rows.words("reason"))
            self.sent[stage_index] += len(rows) - np.count_nonzero(np.isnan(rows.floats("start")))

    def _requests(self, chunk: Chunk) -> None:
        self._ask(chunk.requests)
        for stage_index, rows in chunk.requests.by_stage:
            status = np.fmax(rows.floats("status"), NO_ANSWER)
            places = np.minimum(status, _STATUSES - 1).astype(np.int64)
            outcome = rows.words("outcome")
            tally(self.statuses[stage_index], places)
            tally(self.errors[stage_index], places[(outcome == _FAILED) | (outcome == TIMED_OUT)])
            self.first[stage_index] += np.count_nonzero(rows.words("kind") < FIRST)
            self._bytes[stage_index] += known(rows.floats("bytes_received")).sum()

    def _ask(self, rows: Rows) -> None:
        """Count what was asked with which key; a request without one counts as the first key's."""
        for kind, some in rows.by_kind:
            limit = LIMIT_OF_KIND[KINDS[kind]]
            self.requested[limit] += len(some)
            keys = np.fmax(some.floats("key_index"), 0.0).astype(np.int64)
            self.keys[limit] |= {key for key, _ in groups(keys)}


NAMES: Final = ("start_lag", "response", "execution", "submit", "pending_lower")


class Means:
    """Sums of the parts of ok operations' times in ms, by stage of a book; without those that were wrong on purpose.

    ``start_lag`` counts from zero; ``pending_lower`` is the lower bound of the time to result.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._sums = {name: np.zeros(len(vocabulary.stage_keys)) for name in NAMES}
        self._n = {name: np.zeros(len(vocabulary.stage_keys), np.int64) for name in NAMES}
        self.n = np.zeros(len(vocabulary.stage_keys), np.int64)
        """Ok operations."""

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        for stage_index, rows in chunk.operations.by_stage:
            self._take(stage_index, rows.without_mistakes.ok)

    def mean(self, stage_index: int, name: str) -> float | None:
        """A mean in ms; None where no operation has that part."""
        n = int(self._n[name][stage_index])
        return float(self._sums[name][stage_index]) / n if n else None

    def _take(self, stage_index: int, rows: Rows) -> None:
        self.n[stage_index] += len(rows)
        pending = rows.floats("pending_seen") - rows.floats("intended_start")
        parts = {
            "start_lag": np.maximum(start_lag(rows), 0.0),
            "response": response_time(rows),
            "execution": rows.floats("execution_time_ms"),
            "submit": submit_time(rows),
            "pending_lower": np.maximum(pending, 0.0) / 1e6,
        }
        for name, values in parts.items():
            found = known(values)
            self._sums[name][stage_index] += found.sum()
            self._n[name][stage_index] += len(found)


_POLL: Final = KINDS.index(RequestKind.POLL)
_RETRIEVE: Final = KINDS.index(RequestKind.RETRIEVE)


class RequestsInTime:
    """Counts requests of each traffic entry in each stretch: the time between two stage boundaries of any.

    A request counts where it was sent, as it draws on that time's quota: a poll of a stage's last jobs may be sent in
    the next stage, or in the drain, which is in no figure. Memory: 32 bytes for each entry and stretch.
    """

    def __init__(self, vocabulary: Vocabulary, info: RunInfo) -> None:
        self._entries = vocabulary.entries
        ends = {t for _, stage in vocabulary.stage_keys for t in (stage.start_s, stage.start_s + stage.duration_s)}
        self._edges = np.array(sorted(ends))
        self._counts = np.zeros((len(vocabulary.entries), max(0, len(ends) - 1), 4), np.int64)
        cut_short = info.end != "finished" and info.elapsed_s is not None
        self._until_s = float(info.elapsed_s or 0.0) if cut_short else np.inf

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        for stage_index, rows in chunk.requests.by_stage:
            seconds = rows.floats("start") / 1e9
            stretch = np.where(seconds <= self._until_s, bins.place(seconds, self._edges), -1)
            kind, status = rows.words("kind"), rows.floats("status")
            accepted = ~np.isnan(status) & (status != THROTTLED_STATUS)
            counts = self._counts[chunk.vocabulary.entry_of[stage_index]]
            for place, some in enumerate((kind == _RETRIEVE, kind == _POLL, None, accepted)):
                tally(counts[:, place], stretch if some is None else stretch[some])

    def during(self, planned: Sequence[StageKey]) -> tuple[int, int]:
        """Polls that entries sent during stages of theirs; and polls and retrieves of all traffic in that time."""
        polls = 0
        on = np.zeros(self._counts.shape[1], bool)
        for name in dict.fromkeys(name for name, _ in planned):
            covered = self._covered([stage for entry, stage in planned if entry == name])
            polls += int(self._counts[self._entries.index(name), covered, 1].sum())
            on |= covered
        return polls, int(self._counts[:, on, :2].sum())

    def sent_during(self, planned: Sequence[StageKey]) -> tuple[int, int]:
        """Requests that entries sent during stages of theirs, and how many of these were accepted."""
        sent = np.zeros(2, np.int64)
        for name in dict.fromkeys(name for name, _ in planned):
            covered = self._covered([stage for entry, stage in planned if entry == name])
            sent += self._counts[self._entries.index(name), covered, 2:].sum(axis=0)
        return int(sent[0]), int(sent[1])

    def _covered(self, stages: list[StagePlan]) -> np.ndarray:
        return np.array(
            [
                any(stage.start_s <= begin and end <= stage.start_s + stage.duration_s for stage in stages)
                for begin, end in pairwise(self._edges.tolist())
            ],
            bool,
        )
