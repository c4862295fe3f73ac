"""Requests that are wrong on purpose, or whose error is expected: how many were answered as documented, of how many.

A kind that was planned and never sent is listed with none: nothing is known of it, however well the others did.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from loadtest.analysis.columns import OK, OUTCOMES, Vocabulary
from loadtest.analysis.reader import Chunk
from loadtest.analysis.results import Count, OperationFigures, Result
from loadtest.analysis.written import WrittenEntry, written_entry
from loadtest.contract import MISTAKE_STATUS, JobState, Outcome
from loadtest.record.run_info import RunInfo

EXPECTED: Final = "expected"
"""The kind of operations that are right, and whose error the scenario expects."""
_THROTTLED: Final = OUTCOMES.index(Outcome.THROTTLED)


class OnPurpose(Result, frozen=True, kw_only=True):
    """Operations of a traffic entry that were to be answered with an error.

    Attributes:
        kind: of mistake; ``EXPECTED`` where the scenario expects an error of all that an entry sends.
        answer: what the documentation, or the scenario, says that comes back.
        sent: operations.
        as_documented: answered so.
        throttled: got 429 instead, which says nothing of the answer.
        otherwise: answered otherwise, or not at all.
    """

    traffic: str
    kind: str
    answer: str
    sent: Count
    as_documented: Count
    throttled: Count
    otherwise: Count


class Mistakes:
    """Counts mistakes by traffic entry and kind; those of the warm-up are in no figure."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._counts: dict[tuple[int, int], list[int]] = {}

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        for index, rows in chunk.operations.by_stage:
            words = rows.words("mistake")
            if not self._vocabulary.in_figures[index] or not (words >= 0).any():
                continue
            sent, outcome = ~np.isnan(rows.floats("start")), rows.words("outcome")
            for word in np.unique(words[words >= 0]).tolist():
                chosen = sent & (words == word)
                counts = self._counts.setdefault((self._vocabulary.entry_of[index], word), [0, 0, 0])
                for place, some in enumerate((chosen, chosen & (outcome == OK), chosen & (outcome == _THROTTLED))):
                    counts[place] += int(np.count_nonzero(some))

    def result(self, info: RunInfo, traffic: Mapping[str, OperationFigures]) -> list[OnPurpose]:
        """All that were planned or sent, in the order of the scenario."""
        return [each for name in info.traffic for each in self._of_entry(info, name, traffic[name])]

    def _of_entry(self, info: RunInfo, name: str, figures: OperationFigures) -> Iterator[OnPurpose]:
        place, words = self._vocabulary.entries.index(name), self._vocabulary.words["mistake"]
        entry, wrong = written_entry(info, name), [0, 0, 0]
        for kind, status in MISTAKE_STATUS.items():
            counts = self._counts.get((place, words.index(kind)), [0, 0, 0]) if kind in words else [0, 0, 0]
            wrong = [one + more for one, more in zip(wrong, counts, strict=True)]
            if counts[0] or entry.mistakes.get(kind):
                yield _counted(name, kind, str(status), counts)
        if expected := _expected(entry):
            counted = figures.operations
            rest = [counted.sent - wrong[0], counted.ok - wrong[1], counted.throttled - wrong[2]]
            yield _counted(name, EXPECTED, expected, rest)


def _expected(entry: WrittenEntry) -> str:
    if entry.expect.job == JobState.FAILED:
        return f"a job that {JobState.FAILED}"
    status = entry.expect.status
    return str(status) if status is not None and status >= 400 else ""


def _counted(traffic: str, kind: str, answer: str, counts: list[int]) -> OnPurpose:
    sent, ok, throttled = counts
    return OnPurpose(
        traffic=traffic,
        kind=kind,
        answer=answer,
        sent=sent,
        as_documented=ok,
        throttled=throttled,
        otherwise=sent - ok - throttled,
    )
