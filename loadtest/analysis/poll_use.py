"""How much of the retrieval limit is spent on polling: polls and retrieves, by when they were sent."""

from itertools import pairwise
from typing import Final

import numpy as np

from loadtest.analysis import bins
from loadtest.analysis.book import KINDS, Book
from loadtest.analysis.chunks import Chunk
from loadtest.analysis.rows import tally
from loadtest.contract import RequestKind
from loadtest.record.run_info import RunInfo, StagePlan

_POLL: Final = KINDS.index(RequestKind.POLL)
_RETRIEVE: Final = KINDS.index(RequestKind.RETRIEVE)


class PollUse:
    """Counts polls and retrieves of each traffic entry in each stretch: the time between two stage boundaries of any.

    A poll counts where it was sent, as it draws on that time's quota: one of a stage's last jobs may be sent in the
    next stage, or in the drain, which is in no figure. Memory: 16 bytes for each entry and stretch.
    """

    def __init__(self, book: Book, info: RunInfo) -> None:
        self._entries = book.entries
        ends = {t for _, stage in book.cells for t in (stage.start_s, stage.start_s + stage.duration_s)}
        self._edges = np.array(sorted(ends))
        self._counts = np.zeros((len(book.entries), max(0, len(ends) - 1), 2), np.int64)
        cut_short = info.end != "finished" and info.elapsed_s is not None
        self._until_s = float(info.elapsed_s or 0.0) if cut_short else np.inf

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        for cell, rows in chunk.requests.by_cell:
            seconds = rows.floats("start") / 1e9
            stretch = np.where(seconds <= self._until_s, bins.place(seconds, self._edges), -1)
            kind = rows.words("kind")
            for place, of in enumerate((_RETRIEVE, _POLL)):
                tally(self._counts[chunk.book.entry_of[cell], :, place], stretch[kind == of])

    def during(self, planned: list[tuple[str, StagePlan]]) -> tuple[int, int]:
        """Polls that entries sent during stages of theirs; and polls and retrieves of all traffic in that time."""
        polls = 0
        on = np.zeros(self._counts.shape[1], bool)
        for name in dict.fromkeys(name for name, _ in planned):
            mine = self._covered([stage for entry, stage in planned if entry == name])
            polls += int(self._counts[self._entries.index(name), mine, 1].sum())
            on |= mine
        return polls, int(self._counts[:, on].sum())

    def _covered(self, stages: list[StagePlan]) -> np.ndarray:
        return np.array(
            [
                any(stage.start_s <= begin and end <= stage.start_s + stage.duration_s for stage in stages)
                for begin, end in pairwise(self._edges.tolist())
            ],
            bool,
        )
