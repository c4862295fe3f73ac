"""A probe's requests, answers and bursts, also as columns."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

import numpy as np

from loadtest.arrays import Floats
from loadtest.units import Limit

_UNEVEN: Final = (math.sqrt(5) - 1) / 2
"""Step of an even sequence without a period, the golden section: distances between requests never repeat."""
OWN_SHARE: Final = 5
"""Our own requests for each request of another client in a mixed stream (bench/README.md)."""
ProbedRequest = tuple[float, float, bool, int]
"""Send time, answer time, whether it was accepted, and the index of its burst."""
Who = Literal["own", "other key", "other limit"]
"""The quota that a request consumes: the probed one, the same limit of another key, or another limit."""


@dataclass(frozen=True, slots=True)
class VolleyOrder:
    """A burst to send.

    Attributes:
        at: earliest time, in unix seconds of our clock.
        count: number of requests.
        patience: seconds without any answer after which missing answers are no longer awaited: these requests are in
            progress, or held.
        who: whose quota they consume.
        spread: seconds over which they are sent, instead of all at once.
        also: other clients that send some of them, each a fifth as many as ``who``.
    """

    at: float
    count: int
    patience: float
    who: Who = "own"
    spread: float = 0.0
    also: tuple[Who, ...] = ()

    @property
    def whose(self) -> list[Who]:
        """The client of each request, in random order, so that no client sends only at moments of acceptance."""
        of = (*self.also, *[self.who] * OWN_SHARE)
        return [of[each] for each in np.random.default_rng(self.count).integers(len(of), size=self.count)]

    @property
    def after(self) -> list[float]:
        """Delay of each request after the first, in seconds.

        The distances are uneven: a limiter without a burst accepts every second request of an even stream at both 1.1
        and 1.9 times its rate.
        """
        apart = self.spread / self.count
        return [apart * (place + place * place * _UNEVEN % 1) for place in range(self.count)]


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """A request's result.

    Attributes:
        sent: unix seconds of our clock.
        answered: likewise; infinite if there is no answer yet.
        passed: whether the limiter accepted it.
        who: whose quota it consumes.
    """

    sent: float
    answered: float
    passed: bool
    who: Who = "own"


@dataclass(frozen=True, slots=True)
class Volley:
    """A burst: requests sent together.

    Attributes:
        begin: send time of the first, in unix seconds of our clock.
        end: latest possible time of the last decision.
        sent: number of requests.
        passed: number of accepted requests.
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
"""Yields bursts to send, receives their answers, and returns a result; its driver sends."""


class ProbeEvidence:
    """A probe's evidence: bursts, which give strict bounds, and single requests, which are replayed.

    A stream is divided into bursts that overlap. Any other burst started after the last decision on earlier bursts.
    """

    def __init__(self) -> None:
        self.streams = 0
        """Number of streams."""
        self.volleys: list[Volley] = []
        self.wholes: list[Volley | None] = []
        """Each burst itself; in a stream, the whole stream at its last burst and None before."""
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

    def exceeds(self, limit: Limit, burst: float = math.inf) -> bool:
        """Whether more was accepted than a limit can accept at any phase, whoever else sends.

        In T seconds, no window of W accepts more than N·(⌊T/W⌋ + 2), and no bucket of ``burst`` B more than B + T·N/W.
        """
        sent, answered = np.array([each[:2] for each in self.requests if each[2]]).reshape(-1, 2).T
        for volley in self.volleys:
            lasted = np.sort(answered[sent >= volley.begin]) - volley.begin
            windows = np.floor(lasted / limit.window)
            most = limit.count * (windows + 2) if math.isinf(burst) else burst + lasted * limit.rate
            if (np.arange(1, len(lasted) + 1) > most).any():
                return True
        return False

    def tighten(self, longest: float) -> None:
        """Correct the decision times of bursts, once the maximum decision time is known."""
        last = {place: sent for sent, *_, place in sorted(self.requests)}
        self.volleys = [replace(each, end=min(each.end, last[at] + longest)) for at, each in enumerate(self.volleys)]
        self.wholes = list(self.volleys)
        self._columns[1] = [each.end for each in self.volleys]

    def until(self, place: int, *, count_rejected: bool) -> tuple[Floats, Floats, Floats, Floats]:
        """Begin and end of the other bursts that may precede one, with bounds on their counted requests.

        Args:
            place: index of that burst.
            count_rejected: whether rejected requests count too.
        """
        now, places = self.volleys[place], np.arange(len(self.volleys))
        may = (places < place) | ((self._columns[0] < now.end) & (places > place))
        begin, end, passed, sent = self._columns[:, may]
        most = sent if count_rejected else passed
        # In an overlapping burst, a rejected request may have come after all accepted requests.
        least = np.where(end <= now.begin, most, passed)
        return begin, end, np.where(places[may] < place, least, 0.0), most

    def renewals(self, place: int) -> tuple[float, float]:
        """Bounds from a stream, given its last burst, for windows that each start with the full allowance.

        If accepted requests lie between two rejected requests, they include all N of a window. Two changes from
        rejected to accepted lie in two windows.

        Returns:
            Upper bounds on N and W.
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
