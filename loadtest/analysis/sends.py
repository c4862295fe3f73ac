"""The requests that limiters are replayed over: of each limit name at most a million, as a compact frame."""

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loadtest.analysis.book import KINDS, LIMIT_OF_KIND, Book
from loadtest.analysis.chunks import Chunk
from loadtest.analysis.rows import Rows
from loadtest.limits import LIMIT_NAMES

TOLD: Final = 50_000
"""Answers of which the headers that tell of a rate limit are kept: the first that have any."""
MOST: Final = 1_000_000
"""Requests of a limit name that are kept: the first in the record. What comes after them has no expectation."""
_LIMIT: Final = np.array([LIMIT_NAMES.index(LIMIT_OF_KIND[kind]) for kind in KINDS], np.int8)
_NUMBERS: Final = ("start", "end", "status", "key_index", "parent_arrival")
_WORDS: Final = ("traffic", "mistake", "error_code")
_PLAIN: Final = ("cell", "kind", "limit", "retry_after")


class Sends:
    """Keeps requests that were sent, set-up and warm-up included, since they spend quota too.

    Attributes:
        complete: whether every request was kept.
    """

    def __init__(self, book: Book) -> None:
        self.complete = True
        self._book = book
        self._room = np.full(len(LIMIT_NAMES), MOST)
        self._parts: dict[str, list[NDArray[Any]]] = {n: [] for n in (*_NUMBERS, *_WORDS, *_PLAIN)}
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
        parts = self._parts
        for name in _NUMBERS:
            parts[name].append(rows.floats(name))
        for name in _WORDS:
            parts[name].append(rows.words(name).astype(np.int16))
        parts["cell"].append(rows.cell.astype(np.int16))
        parts["kind"].append(rows.words("kind").astype(np.int8))
        parts["limit"].append(limit)
        # Dates make as many words as there are seconds.
        parts["retry_after"].append(rows.words("retry_after"))
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
        joined: dict[str, Any] = {
            name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in self._parts.items()
        }
        words = {name: self._book.words[name] for name in _WORDS}
        words |= {"kind": list(KINDS), "limit": list(LIMIT_NAMES)}
        for name, known in words.items():
            joined[name] = pd.Categorical.from_codes(joined[name].astype(np.int16), pd.Index(known, dtype=str))
        cell = joined["cell"].astype(np.int64)
        judged = np.append(self._book.in_figures, False)  # the last one stands for -1
        told = joined["retry_after"].astype(np.int64)
        return pd.DataFrame({**joined, "cell": cell, "in_figures": judged[cell], "retry_after": told})

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
