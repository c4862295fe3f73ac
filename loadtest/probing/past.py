"""What a probe sends and sees: requests, answers, and volleys, also as columns."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from loadtest.inference.occupancy import Floats

Who = Literal["own", "other key", "other limit"]
"""Whose quota a request draws on: the one that is probed, the same limit of another key, or another limit."""


@dataclass(frozen=True, slots=True)
class Send:
    """Requests to send together.

    Attributes:
        at: when, as early as may be; unix seconds of our clock.
        count: how many.
        patience: seconds without any answer after which nobody waits for those that are missing: these requests are
            being carried out, or held.
        who: whose quota they draw on.
    """

    at: float
    count: int
    patience: float
    who: Who = "own"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request.

    Attributes:
        sent: by our clock, in unix seconds.
        answered: likewise; infinite if there was no answer yet.
        passed: whether the limiter let it pass.
    """

    sent: float
    answered: float
    passed: bool


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
