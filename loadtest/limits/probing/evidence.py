"""What a probe sends and sees: requests, answers, and volleys, also as columns."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

import numpy as np

from loadtest.arrays import Floats

_UNEVEN: Final = (math.sqrt(5) - 1) / 2
"""Step of an even sequence without a period, the golden section: distances between requests repeat nothing."""
OWN_SHARE: Final = 5
"""Requests of our own for each one of another in a mixed stream: docs/probe.md, "a few requests of the others"."""
ProbedRequest = tuple[float, float, bool, int]
"""When it was sent, when it was answered, whether it passed, and the place of its volley."""
Who = Literal["own", "other key", "other limit"]
"""Whose quota a request draws on: the one that is probed, the same limit of another key, or another limit."""


@dataclass(frozen=True, slots=True)
class VolleyOrder:
    """Requests to send together.

    Attributes:
        at: when, as early as may be; unix seconds of our clock.
        count: how many.
        patience: seconds without any answer after which nobody waits for those that are missing: these requests are
            being carried out, or held.
        who: whose quota they draw on.
        spread: seconds over which they are sent, instead of all at once.
        also: who else sends some of them, each a fifth of what ``who`` sends.
    """

    at: float
    count: int
    patience: float
    who: Who = "own"
    spread: float = 0.0
    also: tuple[Who, ...] = ()

    @property
    def whose(self) -> list[Who]:
        """Whose quota each draws on: mixed without an order, that none may come just when something passes."""
        of = (*self.also, *[self.who] * OWN_SHARE)
        return [of[each] for each in np.random.default_rng(self.count).integers(len(of), size=self.count)]

    @property
    def after(self) -> list[float]:
        """Seconds after the first moment at which each is to be sent.

        At uneven distances: a limiter without a burst lets every second one pass of a pace of 1.1 and of 1.9 times its
        rate, if it is even.
        """
        apart = self.spread / self.count
        return [apart * (place + place * place * _UNEVEN % 1) for place in range(self.count)]


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """What became of a request.

    Attributes:
        sent: by our clock, in unix seconds.
        answered: likewise; infinite if there was no answer yet.
        passed: whether the limiter let it pass.
        who: whose quota it draws on.
    """

    sent: float
    answered: float
    passed: bool
    who: Who = "own"


@dataclass(frozen=True, slots=True)
class Volley:
    """Requests that were sent together.

    Attributes:
        begin: when the first was sent, in unix seconds of our clock.
        end: by when the last had been decided.
        sent: how many there were.
        passed: how many of them were not rejected.
    """

    begin: float
    end: float
    sent: int
    passed: int

    @property
    def rejected(self) -> int:
        return self.sent - self.passed


_T = TypeVar("_T")
Exchange = Generator[VolleyOrder, Sequence[ProbeAnswer], _T]
"""Asks for volleys, takes their answers, and returns what they tell: whoever drives it sends."""


class ProbeEvidence:
    """What was sent and seen: by the volley, for bounds that hold for certain, and by the request, for replays.

    A stream of requests is divided into volleys that overlap; any other volley began after all before it had been
    decided.
    """

    def __init__(self) -> None:
        self.streams = 0
        """How many there were."""
        self.volleys: list[Volley] = []
        self.wholes: list[Volley | None] = []
        """Of each volley itself; of a stream's volleys, the stream at the last one, and None before."""
        self.requests: list[ProbedRequest] = []
        self._columns: Floats = np.empty((4, 0))

    def add(self, volleys: Sequence[Volley], answers: Sequence[Sequence[ProbeAnswer]]) -> None:
        whole = Volley(
            volleys[0].begin,
            max(each.end for each in volleys),
            sum(each.sent for each in volleys),
            sum(each.passed for each in volleys),
        )
        for place, own in enumerate(answers, len(self.volleys)):
            self.requests += [(each.sent, each.answered, each.passed, place) for each in own]
        self.volleys += volleys
        self.wholes += [None] * (len(volleys) - 1) + [whole]
        columns = np.array([(each.begin, each.end, each.passed, each.sent) for each in volleys]).T
        self._columns = np.concatenate((self._columns, columns), axis=1)

    def tighten(self, longest: float) -> None:
        """Correct by when volleys had been decided, once it is known how long that takes at most."""
        last = {place: sent for sent, *_, place in sorted(self.requests)}
        self.volleys = [replace(each, end=min(each.end, last[at] + longest)) for at, each in enumerate(self.volleys)]
        self.wholes = list(self.volleys)
        self._columns[1] = [each.end for each in self.volleys]

    def until(self, place: int, *, count_rejected: bool) -> tuple[Floats, Floats, Floats, Floats]:
        """Begin and end of the other volleys that may have come before one, with the least and the most that counted.

        Args:
            place: of that one.
            count_rejected: whether rejected requests count, too.
        """
        now, places = self.volleys[place], np.arange(len(self.volleys))
        may = (places < place) | ((self._columns[0] < now.end) & (places > place))
        begin, end, passed, sent = self._columns[:, may]
        most = sent if count_rejected else passed
        # Of one that overlaps, a rejected request may have come after all that passed.
        least = np.where(end <= now.begin, most, passed)
        return begin, end, np.where(places[may] < place, least, 0.0), most

    def renewals(self, place: int) -> tuple[float, float]:
        """What a stream, whose last volley is given, says of windows of which each begins with a whole allowance.

        Where a request was rejected, a later one passed, and a still later one was rejected, all N of a window passed
        in between; and two such turns from rejected to passed are in two windows.

        Returns:
            The most that N, and the longest that W may be.
        """
        first = place
        while first and self.wholes[first - 1] is None:
            first -= 1
        volleys, count, span = self.volleys[first : place + 1], math.inf, math.inf
        rejected: Volley | None = None
        turn: tuple[float, float] | None = None
        before: tuple[float, float] | None = None
        for volley in volleys:
            if turn and volley.rejected and volley.begin >= turn[1]:
                within = (each.passed for each in volleys if each.end > turn[0] and each.begin < volley.end)
                count = min(count, sum(within))
                rejected, before, turn = volley, turn, None
            elif rejected and volley.passed and volley.begin >= rejected.end:
                turn = rejected.begin, volley.end
                rejected = None
                if before:
                    span = min(span, turn[1] - before[0])
            elif volley.rejected and not turn:
                rejected = volley
        return count, span
