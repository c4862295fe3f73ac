"""What was not ok, grouped by kind, status, code and reason: how often, when first and last, and one to look up."""

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.book import KINDS, Book
from loadtest.analysis.chunks import Chunk
from loadtest.analysis.results import Count, Result
from loadtest.analysis.rows import OK, Rows

GROUPS: Final = 500
"""Groups that are told apart; a server that makes up codes without end fills no memory."""


class ErrorGroup(Result, frozen=True, kw_only=True):
    """Requests that ended alike.

    Attributes:
        kind: what was asked.
        status: HTTP status; None without an answer.
        code: ``code`` of the error body; None without one.
        reason: why it is not ok, as the load client calls it.
        count: how many, warm-up and set-up left out.
        first_s: when the first of them was sent, in s since the epoch.
        last_s: when the last was.
        traffic: the entry of the first.
        request_id: the ``traceparent`` of the first.
    """

    kind: str
    status: int | None
    code: str | None
    reason: str | None
    count: Count
    first_s: float
    last_s: float
    traffic: str
    request_id: str | None


class Errors:
    """Gathers the groups.

    Attributes:
        beyond: requests of groups beyond the first ``GROUPS``.
    """

    def __init__(self, book: Book) -> None:
        self.beyond = 0
        self._book = book
        self._groups: dict[tuple[int, ...], ErrorGroup] = {}

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        rows = chunk.requests
        rows = rows.where((rows.words("outcome") != OK) & (rows.cell >= 0))
        rows = rows.where(self._book.in_figures[rows.cell])
        if not len(rows):
            return
        status = np.fmax(rows.floats("status"), -1.0).astype(np.int64)
        columns: list[NDArray[Any]] = [status, *(rows.words(name) for name in ("kind", "error_code", "reason"))]
        alike = np.zeros(len(rows), np.int64)
        for column in columns:
            alike = alike * (int(column.max()) + 2) + column + 1
        order = np.argsort(alike, kind="stable")
        firsts = np.flatnonzero(np.diff(alike[order], prepend=-1))
        counts = np.diff(firsts, append=len(order))
        starts = rows.floats("start")[order] / 1e9
        earliest, latest = np.minimum.reduceat(starts, firsts), np.maximum.reduceat(starts, firsts)
        for place, row in enumerate(order[firsts].tolist()):
            key = tuple(int(column[row]) for column in columns)
            within = (int(counts[place]), float(earliest[place]), float(latest[place]))
            self._merge(key, rows, row, within)

    def result(self) -> list[ErrorGroup]:
        """Every group, the most frequent first."""
        return sorted(self._groups.values(), key=lambda group: (-group.count, group.first_s))

    def _merge(self, key: tuple[int, ...], rows: Rows, row: int, within: tuple[int, float, float]) -> None:
        count, first_s, last_s = within
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= GROUPS:
                self.beyond += count
                return
            words = self._book.words
            status, kind, code, reason = key
            self._groups[key] = ErrorGroup(
                kind=KINDS[kind],
                status=status if status >= 0 else None,
                code=words["error_code"][code] if code >= 0 else None,
                reason=words["reason"][reason] if reason >= 0 else None,
                count=count,
                first_s=first_s,
                last_s=last_s,
                traffic=words["traffic"][rows.words("traffic")[row]],
                request_id=rows.text("request_id", row),
            )
            return
        self._groups[key] = msgspec.structs.replace(
            group, count=group.count + count, first_s=min(group.first_s, first_s), last_s=max(group.last_s, last_s)
        )
