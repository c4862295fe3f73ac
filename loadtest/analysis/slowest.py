"""The slowest operations of each traffic entry, with their requests."""

from typing import Final

import numpy as np

from loadtest.analysis.columns import KINDS, OUTCOMES, Rows, Vocabulary
from loadtest.analysis.reader import Chunk
from loadtest.analysis.times import response_time
from loadtest.record.figures import RequestPhase, SlowOperation

MOST: Final = 100
"""At most this many operations of a traffic entry are kept."""
REQUESTS: Final = 200
"""At most this many requests of an operation are kept. Later requests are dropped."""


class Slowest:
    """Collects the slowest operations that count in figures, in the first pass over the record."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._kept: list[list[SlowOperation]] = [[] for _ in vocabulary.entries]
        self._bar = [-np.inf] * len(vocabulary.entries)
        """Further operations of an entry are kept only if their response time exceeds this many ms."""

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.operations.by_judged_stage:
            entry, response = self._vocabulary.entry_of[stage_index], response_time(rows)
            candidates = np.flatnonzero(response > self._bar[entry])
            if len(candidates) > MOST:
                candidates = candidates[np.argpartition(response[candidates], -MOST)[-MOST:]]
            if len(candidates):
                found = [self._operation(rows, place, float(response[place])) for place in candidates.tolist()]
                kept = sorted(self._kept[entry] + found, key=lambda one: (-one.response_ms, one.arrival))[:MOST]
                self._kept[entry] = kept
                self._bar[entry] = kept[-1].response_ms if len(kept) == MOST else -np.inf

    def result(self) -> dict[str, list[SlowOperation]]:
        """Return each traffic entry's slowest operations, slowest first. ``Phases`` adds their requests."""
        return dict(zip(self._vocabulary.entries, self._kept, strict=True))

    def _operation(self, rows: Rows, row: int, response_ms: float) -> SlowOperation:
        def number(name: str) -> float | None:
            value = float(rows.floats(name)[row])
            return None if np.isnan(value) else value

        reason = rows.words("reason")[row]
        start, intended = number("start"), number("intended_start") or 0.0
        return SlowOperation(
            traffic=self._vocabulary.words["traffic"][rows.words("traffic")[row]],
            stage=self._vocabulary.words["stage"][rows.words("stage")[row]],
            arrival=int(number("arrival") or 0),
            intended_s=intended / 1e9,
            response_ms=response_ms,
            start_lag_ms=None
            if self._vocabulary.imported
            else (intended if start is None else start) / 1e6 - intended / 1e6,
            outcome=OUTCOMES[rows.words("outcome")[row]],
            reason=None if reason < 0 else self._vocabulary.words["reason"][reason],
            execution_ms=number("execution_time_ms"),
            attempts=int(number("attempt") or 0),
            request_id=rows.text("request_id", row),
            phases=[],
        )


class Phases:
    """Collects the requests of the slowest operations, in the second pass over the record."""

    def __init__(self, vocabulary: Vocabulary, slow: dict[str, list[SlowOperation]]) -> None:
        entries = vocabulary.entries
        self._of = {(entries.index(name), one.arrival): one for name, found in slow.items() for one in found}
        self._arrivals = [np.sort([a for place, a in self._of if place == entry]) for entry in range(len(entries))]

    def add(self, chunk: Chunk) -> None:
        for stage_index, rows in chunk.requests.by_stage:
            entry, parent = chunk.vocabulary.entry_of[stage_index], rows.floats("parent_arrival")
            arrivals = self._arrivals[entry]
            first, last = np.searchsorted(arrivals, (np.fmin.reduce(parent), np.fmax.reduce(parent)))
            within = arrivals[first : last + 1]
            if len(within):
                slow = rows.where(np.isin(parent, within))
                for row, arrival in enumerate(slow.floats("parent_arrival").tolist()):
                    one = self._of[entry, int(arrival)]
                    if len(one.phases) < REQUESTS:
                        one.phases.append(_phase(slow, row, one.intended_s * 1e9))
                        one.phases.sort(key=lambda phase: phase.start_ms)


def _phase(rows: Rows, row: int, intended: float) -> RequestPhase:
    def since(name: str) -> float | None:
        value = float(rows.floats(name)[row])
        return None if np.isnan(value) else (value - intended) / 1e6

    status = float(rows.floats("status")[row])
    return RequestPhase(
        kind=KINDS[rows.words("kind")[row]],
        start_ms=since("start") or 0.0,
        first_byte_ms=since("first_byte"),
        end_ms=since("end"),
        outcome=OUTCOMES[rows.words("outcome")[row]],
        status=None if np.isnan(status) else int(status),
    )
