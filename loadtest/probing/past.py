"""What was sent and seen so far: volleys, also as columns."""

from dataclasses import dataclass

import numpy as np

from loadtest.inference.occupancy import Floats


@dataclass(frozen=True, slots=True)
class Volley:
    """Requests that were sent together.

    Attributes:
        begin: when the first was sent, in unix seconds of our clock.
        end: by when the last had been decided.
        sent: how many there were.
        passed: how many of them were not refused.
    """

    begin: float
    end: float
    sent: int
    passed: int

    @property
    def refused(self) -> int:
        """How many were refused."""
        return self.sent - self.passed


class Past:
    """Volleys as columns, for sums over all of them at once."""

    def __init__(self) -> None:
        self.volleys: list[Volley] = []
        self._columns: Floats = np.empty((4, 0))

    def add(self, volley: Volley) -> None:
        """Append one, which began after all others had ended."""
        self.volleys.append(volley)
        column = np.array([[volley.begin], [volley.end], [volley.passed], [volley.sent]])
        self._columns = np.concatenate((self._columns, column), axis=1)

    def until(self, place: int, *, rejected: bool) -> tuple[Floats, Floats, Floats]:
        """Begin, end and count of each volley before a place; with ``rejected`` refused requests count, too."""
        columns = self._columns[:, :place]
        return columns[0], columns[1], columns[3 if rejected else 2]
