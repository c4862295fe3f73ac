"""Arrivals of a traffic entry that have no outcome yet, with their requests so far: few, however long a record is."""

from typing import Final

import numpy as np

from loadtest.arrays import Floats, Ints

_DENSE: Final = 8
"""Up to so many times as many numbers as arrivals, a place for each number is faster than sorting them."""


class OpenArrivals:
    """Counts the requests of each arrival until its operation ends."""

    def __init__(self) -> None:
        self._arrivals, self._requests = np.zeros((2, 0), np.int64)
        self._last_end = np.zeros(0)

    def close(self, parents: Ints, ends: Floats, arrivals: Ints) -> tuple[Ints, Floats]:
        """Add requests, then forget the arrivals that have an outcome.

        Args:
            parents: the arrival of each request.
            ends: of each request, in ns.
            arrivals: that have an outcome now.

        Returns:
            For each of ``arrivals``, how many requests it had and when the last one ended (NaN without any).
        """
        numbers, known = np.concatenate((self._arrivals, parents)), len(self._arrivals)
        if not len(numbers):
            return np.zeros(len(arrivals), np.int64), np.full(len(arrivals), np.nan)
        distinct, places = _places(numbers)
        requests = np.bincount(places[known:], minlength=len(distinct))
        requests[places[:known]] += self._requests
        last_end = np.full(len(distinct), np.nan)
        last_end[places[:known]] = self._last_end
        np.fmax.at(last_end, places[known:], ends)
        at = np.searchsorted(distinct, arrivals).clip(max=len(distinct) - 1)
        there = distinct[at] == arrivals
        found = np.where(there, requests[at], 0), np.where(there, last_end[at], np.nan)
        requests[at[there]] = 0
        still = requests.nonzero()[0]
        self._arrivals, self._requests, self._last_end = distinct[still], requests[still], last_end[still]
        return found


def _places(numbers: Ints) -> tuple[Ints, Ints]:
    """Return ascending numbers that hold all of some, and the place of each in them."""
    least, most = int(numbers.min()), int(numbers.max())
    if most - least < _DENSE * len(numbers):
        return np.arange(least, most + 1), numbers - least
    distinct, places = np.unique(numbers, return_inverse=True)
    return distinct, places
