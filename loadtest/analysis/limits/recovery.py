"""How long it took until requests passed again after a 429, and what became of operations that tried again."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.columns import OK, OUTCOMES
from loadtest.analysis.distribution import Distributions, summarize
from loadtest.analysis.reader import Chunk
from loadtest.analysis.record import Record
from loadtest.analysis.results import Count, Result, Summary
from loadtest.analysis.times import response_time
from loadtest.contract import Outcome
from loadtest.inference.occupancy import RequestLog

_THROTTLED: Final = OUTCOMES.index(Outcome.THROTTLED)


class Recovery(Result, frozen=True, kw_only=True):
    """Of one limit. Times in s, from the sending of a 429's request to that of the next that passed.

    Attributes:
        limiters: that refused a request.
        recovered: of these, those that accepted one afterwards.
        first_s: from the first 429 on, over limiters: least, median, most; None if none recovered.
        spells: times of nothing but 429s, of all limiters together.
        spell_s: how long they were, of those that ended: least, median, most; None without any.
    """

    limiters: Count
    recovered: Count
    first_s: tuple[float, float, float] | None
    spells: Count
    spell_s: tuple[float, float, float] | None


def recovery(requests: RequestLog) -> Recovery:
    """How soon the limiters of one limit let requests pass again."""
    known = np.flatnonzero(requests.answered)
    times, refused = requests.times[known], requests.refused[known]
    limiter = np.searchsorted(requests.begins, known, side="right")
    changes = np.diff(limiter, prepend=-1) != 0
    starts = np.flatnonzero(refused & (changes | ~np.concatenate((refused[:1], refused[:-1]))))
    passes = np.flatnonzero(~refused)
    following = np.append(passes, len(known))[np.searchsorted(passes, starts)]
    ended = np.append(limiter, -1)[following] == limiter[starts]
    took = np.append(times, np.nan)[following] - times[starts]
    first = np.diff(limiter[starts], prepend=-1) != 0
    return Recovery(
        limiters=int(first.sum()),
        recovered=int((first & ended).sum()),
        first_s=_spread(took[first & ended]),
        spells=len(starts),
        spell_s=_spread(took[ended]),
    )


def _spread(values: NDArray[np.float64]) -> tuple[float, float, float] | None:
    return (float(values.min()), float(np.median(values)), float(values.max())) if len(values) else None


class Retries(Result, frozen=True, kw_only=True):
    """Operations of one traffic entry that tried again after a refusal.

    Attributes:
        operations: those of which more than one first request was sent.
        attempts: first requests that these sent, all together.
        ok: of the operations, those that ended well.
        throttled: those that gave up.
        time_to_success_ms: response time of those that ended well, waiting included.
    """

    operations: Count
    attempts: Count
    ok: Count
    throttled: Count
    time_to_success_ms: Summary


class Retried:
    """Gathers what operations in figures did that took more than one attempt."""

    def __init__(self, record: Record) -> None:
        entries = len(record.vocabulary.entries)
        self._names = record.vocabulary.entries
        self._counts = np.zeros((entries, len(OUTCOMES)), np.int64)
        self._attempts = np.zeros(entries, np.int64)
        self._times = Distributions(entries)

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        rows = chunk.operations
        rows = rows.where(rows.floats("attempt") > 1)
        rows = rows.where(chunk.vocabulary.in_figures[rows.stage_index])
        if not len(rows):
            return
        traffic, outcome = rows.words("traffic"), rows.words("outcome")
        np.add.at(self._counts, (traffic, outcome), 1)
        np.add.at(self._attempts, traffic, rows.floats("attempt").astype(np.int64))
        self._times.add(rows.ok.words("traffic"), response_time(rows.ok))

    def result(self) -> dict[str, Retries]:
        """Of each traffic entry."""
        return {
            name: Retries(
                operations=int(self._counts[entry].sum()),
                attempts=int(self._attempts[entry]),
                ok=int(self._counts[entry, OK]),
                throttled=int(self._counts[entry, _THROTTLED]),
                time_to_success_ms=summarize(self._times.get([entry])),
            )
            for entry, name in enumerate(self._names)
        }
