"""The requests that limiters are replayed over: of each limit name at most a million, as a compact frame."""

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loadtest.analysis.book import KINDS, Book
from loadtest.analysis.chunks import Chunk
from loadtest.analysis.rows import Rows
from loadtest.contract import LIMIT_NAMES, LIMIT_OF_KIND

TOLD: Final = 50_000
"""Answers of which the headers that tell of a rate limit are kept: the first that have any."""
MOST: Final = 1_000_000
"""Requests of a limit name that are kept: the first in the record. What comes after them has no expectation."""
_LIMIT: Final = np.array([LIMIT_NAMES.index(LIMIT_OF_KIND[kind]) for kind in KINDS], np.int8)
_COLUMNS: Final = {
    **dict.fromkeys(("start", "end", "status", "key_index", "parent_arrival"), np.float64),
    **dict.fromkeys(("traffic", "mistake"), np.int16),
    **dict.fromkeys(("error_code", "retry_after"), np.int32),  # a target may make up as many as it likes
    "cell": np.int64,
    "kind": np.int8,
    "limit": np.int8,
}


class Sends:
    """Keeps requests that were sent, set-up and warm-up included, since they spend quota too.

    Attributes:
        complete: whether every request was kept.
    """

    def __init__(self, book: Book) -> None:
        self.complete = True
        self._book = book
        self._room = np.full(len(LIMIT_NAMES), MOST)
        # Of memory that is never written to there is none.
        most = MOST * len(LIMIT_NAMES)
        self._columns: dict[str, NDArray[Any]] = {name: np.empty(most, kind) for name, kind in _COLUMNS.items()}
        self._kept = 0
        self._told: list[tuple[NDArray[np.int64], list[str]]] = []
        self._telling = 0

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        rows = chunk.requests
        limit = _LIMIT[rows.words("kind")]
        if len(rows) > self._room.min():
            keep = self._first(limit)
            rows, limit = rows.where(keep), limit[keep]
        if not len(rows):
            return
        self._room -= np.bincount(limit, minlength=len(LIMIT_NAMES))
        kept = slice(self._kept, self._kept + len(rows))
        for name, column in self._columns.items():
            column[kept] = self._values(rows, name, limit)
        self._tell(rows)
        self._kept += len(rows)

    @property
    def retry_after(self) -> list[str]:
        """What the integers in the column ``retry_after`` stand for."""
        return self._book.words["retry_after"]

    def told(self) -> tuple[NDArray[np.int64], list[str]]:
        """Places in ``frame()``, and the rate-limit headers of these answers, each as ``name: value``, one a line."""
        places = np.concatenate([np.zeros(0, np.int64), *(place for place, _ in self._told)])
        return places, [text for _, texts in self._told for text in texts]

    def frame(self) -> pd.DataFrame:
        """One row for each request, in the order of the record.

        Columns: ``start``, ``end`` (ns), ``status``, ``key_index``, ``parent_arrival`` (floats, NaN for null);
        ``traffic``, ``mistake``, ``error_code``, ``kind``, ``limit`` (categories); ``cell`` (-1 for the set-up),
        ``in_figures``; ``retry_after`` (a place in ``retry_after``, -1 for none).
        """
        columns: dict[str, Any] = {name: column[: self._kept] for name, column in self._columns.items()}
        words = {name: self._book.words[name] for name in ("traffic", "mistake", "error_code")}
        words |= {"kind": list(KINDS), "limit": list(LIMIT_NAMES)}
        for name, known in words.items():
            columns[name] = pd.Categorical.from_codes(columns[name], pd.Index(known, dtype=str))
        judged = np.append(self._book.in_figures, False)  # the last one stands for -1
        columns["in_figures"] = judged[columns["cell"]]
        # Not copied: there are up to three million rows.
        return pd.DataFrame(columns, copy=False)

    @staticmethod
    def _values(rows: Rows, name: str, limit: NDArray[np.int8]) -> NDArray[Any]:
        if name in ("cell", "limit"):
            return rows.cell if name == "cell" else limit
        return rows.floats(name) if _COLUMNS[name] is np.float64 else rows.words(name)

    def _tell(self, rows: Rows) -> None:
        if self._telling >= TOLD:
            return
        headers = rows.columns.arrow("rate_limit")
        if headers.null_count == len(headers):
            return
        mine = headers.take(rows.places)
        places = np.flatnonzero(mine.is_valid().to_numpy())[: TOLD - self._telling]
        if len(places):
            self._told.append((places + self._kept, mine.take(places).to_pylist()))
            self._telling += len(places)

    def _first(self, limit: NDArray[np.int8]) -> NDArray[np.bool_]:
        """Which requests there is room for, by their limits."""
        keep = np.zeros(len(limit), bool)
        for place, room in enumerate(self._room.tolist()):
            if room:
                keep[np.flatnonzero(limit == place)[:room]] = True
        self.complete &= bool(keep.all())
        return keep
