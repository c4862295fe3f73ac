"""A probe's requests, answers and bursts, and a generator of bursts. Pure: the caller sends the bursts."""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

import msgspec
import numpy as np

from loadtest.arrays import Floats, Ints
from loadtest.units import Limit

WINDOWS: Final = 8.0
"""A probe lasts at most this many documented windows (docs/capacity.md)."""
SAME: Final = 0.02
"""Two rates count as equal if they differ by at most this share: an error of 0.1 s (``NETWORK_S``) in 5 s."""
_MOMENTS: Final = 6, 40
"""A burst of 6 or more requests is replayed as 6 to 40 groups. More groups would slow down the probe."""
_UNEVEN: Final = (math.sqrt(5) - 1) / 2
"""The golden section, an irrational number, so that distances between requests have no period."""
NETWORK_S: Final = 0.1
"""The network delays a request and its answer together by at most this many seconds (bench/README.md)."""
PATIENCE_S: Final = 2.5 * NETWORK_S
"""Seconds to wait for an answer, or longer if rejections are slow. Unanswered requests then count as accepted."""
_TRIP_S: Final = 0.005
"""A rejection is assumed to take this many seconds, until a rejection or the first answer takes longer."""
_PARTS: Final = 8
"""A burst of the documented count is sent in this many parts, so that few requests follow the first rejection. It has
fewer parts if the window is short, and more at a low rate."""
_SHORT: Final = 0.15
"""All parts of a burst should be answered within this share of a documented window, so that most bursts lie in
one window."""
Who = Literal["own", "other key", "other limit"]
"""The quota that a request consumes: the probed quota, the same limit of another key, or another limit."""


@dataclass(frozen=True, slots=True)
class VolleyOrder:
    """A burst to send.

    Attributes:
        at: earliest start, in unix seconds of our clock.
        patience: seconds to wait for a further answer. Unanswered requests then count as accepted.
        held: whether a queue delays the answers to accepted requests. The caller then waits for answers until at most
            2 × ``patience`` after the last send.
        spread: seconds over which the requests are spread; 0 to send them together.
    """

    at: float
    count: int
    patience: float
    who: Who = "own"
    spread: float = 0.0
    held: bool = False

    @property
    def after(self) -> list[float]:
        """Delay of each request after the first request, in seconds.

        The distances are uneven, because an even stream shows little: a limiter with a burst of 1 accepts every second
        request of an even stream, both at 1.1 and at 1.9 times the limit's rate.
        """
        apart = self.spread / self.count
        return [apart * (place + place * place * _UNEVEN % 1) for place in range(self.count)]


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """A request's result.

    Attributes:
        sent: unix seconds of our clock.
        answered: unix seconds of our clock; infinite if there is no answer yet.
        headers: values by name. Names are in lower case.
    """

    sent: float
    answered: float
    passed: bool
    who: Who = "own"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Volley:
    """A burst of requests, in order of sending, with the number that passed. Times are as in ``ProbeAnswer``."""

    sent: Floats
    answered: Floats
    passed: int

    @property
    def rejected(self) -> int:
        return len(self.sent) - self.passed


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of accepted requests. They assume nothing about the limiter.

    Attributes:
        windows: numbers of accepted and of sent requests in each documented window that has requests. The first window
            starts with the first request.
        longest_burst: the most requests accepted in a row without a pause of a tenth of a documented window.
        sustained: requests accepted between the first and the last rejection, and the seconds between these rejections.
    """

    windows: list[tuple[int, int]] = []
    longest_burst: int = 0
    sustained: tuple[int, float] | None = None


_T = TypeVar("_T")
Exchange = Generator[VolleyOrder, Sequence[ProbeAnswer], _T]
"""A generator that yields bursts, receives their answers and returns a result. Its caller sends the bursts."""


class ProbeEvidence:
    """A probe's experiments. Each is a series of bursts. A burst starts after the decisions on all earlier bursts."""

    def __init__(self) -> None:
        self.experiments: list[list[Volley]] = []
        self.answers: list[ProbeAnswer] = []
        self.longest = math.inf
        """The server is assumed to decide on a request within this many seconds, even if its answer takes longer."""
        self.first = 0, 0.0, 0.0
        """Accepted requests in the first experiment, and bounds on the seconds from its first to its last decision."""
        self._arrivals: dict[tuple[int, int, float], tuple[Floats, Ints]] = {}
        self.full: list[int] = []
        """Numbers of accepted requests in bursts with rejections, and in the whole first experiment."""

    @property
    def volleys(self) -> list[Volley]:
        return [each for experiment in self.experiments for each in experiment]

    def decided(self, volley: Volley) -> Floats:
        """Return the latest possible time of the decision on each request."""
        return np.minimum(volley.answered, volley.sent + self.longest)

    def weight(self, volley: Volley, window: float) -> float:
        """Return a burst's weight: below 1 if its mean decision time exceeds both 0.1 s and 2 % of ``window``.

        The random arrival times of ``arrivals`` cover the network's delays, but may not cover those of a busy machine.
        """
        slow = float((self.decided(volley) - volley.sent).mean()) / max(NETWORK_S, SAME * window)
        return 1 / max(1.0, slow)

    def pauses(self) -> Floats:
        """Return the middle of each pause between two bursts, in unix seconds of our clock."""
        ends = np.array([self.decided(each).max() for each in self.volleys[:-1]])
        return np.asarray((ends + np.array([each.sent.min() for each in self.volleys[1:]])) / 2)

    def arrivals(self, volley: Volley, draws: int, refill_s: float) -> tuple[Floats, Ints]:
        """Return possible arrival times of a burst's groups of requests, and the size of each group.

        In half of the draws, a burst's requests are delayed together, because a busy server may receive them only just
        before it answers.

        A group lasts about half of ``refill_s``, within the bounds of ``_MOMENTS``. ``refill_s`` is a bucket's time per
        refilled request; for windows, it is a 60th of the documented window.
        """
        lasts = min(volley.answered[-1], volley.sent[-1] + self.longest) - volley.sent[0]
        moments = int(min(max(2 * lasts / refill_s, _MOMENTS[0]), _MOMENTS[1]))
        key = id(volley), moments, self.longest
        if key not in self._arrivals:
            self._arrivals[key] = self._drawn(volley, draws, moments)
        return self._arrivals[key]

    def _drawn(self, volley: Volley, draws: int, moments: int) -> tuple[Floats, Ints]:
        count = len(volley.sent)
        edges = np.unique(np.linspace(0, count, min(count, moments) + 1).round().astype(int))
        chance = np.random.default_rng(count + int(volley.sent[0] * 1000) % 100_000)
        within = chance.random((len(edges) - 1, draws))
        within[:, ::2] = within[:1, ::2]
        begin = np.add.reduceat(volley.sent, edges[:-1]) / np.diff(edges)
        end = np.add.reduceat(self.decided(volley), edges[:-1]) / np.diff(edges)
        times = begin[:, None] + (end - begin)[:, None] * within
        return np.sort(times, axis=0), np.diff(edges)

    def exceeds(self, limit: Limit) -> bool:
        """Whether more requests were accepted than the limit can accept at any phase. Other clients can't cause this.

        In T seconds, windows of N requests per W seconds accept at most N·(⌊T/W⌋ + 2), and a bucket of N accepts fewer.
        """
        passed = [(each.sent, each.answered) for each in self.answers if each.passed and each.who == "own"]
        sent, answered = np.array(passed).reshape(-1, 2).T
        for volley in self.volleys:
            lasted = np.sort(answered[sent >= volley.sent[0]]) - volley.sent[0]
            most = limit.count * (np.floor(lasted / limit.window) + 2)
            if (np.arange(1, len(lasted) + 1) > most).any():
                return True
        return False

    def facts(self, documented: Limit) -> Facts:
        """Count the accepted requests to the probed quota."""
        own = sorted((each for each in self.answers if each.who == "own"), key=lambda each: each.sent)
        begin = last = own[0].sent
        windows: dict[int, tuple[int, int]] = {}
        longest = row = 0
        for each in own:
            number = int((each.sent - begin) / documented.window)
            passed, sent = windows.get(number, (0, 0))
            windows[number] = passed + each.passed, sent + 1
            row = (row + 1 if each.sent < last + 0.1 * documented.window else 1) if each.passed else 0
            longest, last = max(longest, row), each.sent
        rejected = [each.sent for each in own if not each.passed] or [0.0]
        passed = sum(each.passed for each in own if rejected[0] < each.sent < rejected[-1])
        sustained = (passed, rejected[-1] - rejected[0]) if rejected[-1] > rejected[0] else None
        return Facts(windows=list(windows.values()), longest_burst=longest, sustained=sustained)


class BurstSender:
    """Sends requests through its caller and collects the answers.

    Args:
        now: unix seconds of our clock.
        rate: maximum requests/s.
        until: unix seconds of our clock after which no burst begins.
    """

    def __init__(self, documented: Limit, now: float, rate: float, requests: int, until: float) -> None:
        self.documented, self._rate, self._left, self._until = documented, rate, requests, until
        self._past = ProbeEvidence()
        self._begin = self._now = now
        self._trip = _TRIP_S
        """The longest time in s from a request to its rejection, or from the first request to its answer."""
        self._held: bool | None = None
        """Whether a queue delays accepted requests; None during the first experiment."""
        self._took: list[float] = []
        """Durations of accepted requests, in s."""

    @property
    def _patience(self) -> float:
        return max(PATIENCE_S, 3 * self._trip)

    @property
    def _longest(self) -> float:
        # Durations of accepted requests count too, because a busy machine reads answers late. A queue's delays do not
        # count.
        return max([1.5 * self._trip + 0.02, *([] if self._held else self._took)])

    def _volley(self, at: float, count: int, who: Who = "own", *, spread: float = 0.0) -> Exchange[Volley]:
        """Send requests, and add them to the present experiment if they may count against the probed quota."""
        answers = yield VolleyOrder(max(at, self._now), count, self._patience, who, spread, bool(self._held))
        self._left -= count
        took = [each.answered - each.sent if each.answered < math.inf else self._patience for each in answers]
        rejected = [time for time, each in zip(took, answers, strict=True) if not each.passed]
        self._trip = max([self._trip, *rejected, *([] if self._past.answers else took[:1])])
        self._took += [time for time, each in zip(took, answers, strict=True) if each.passed]
        self._past.answers += answers
        self._past.longest = self._longest
        self._now = max(min(each.answered, each.sent + self._longest) for each in answers) + 0.001
        in_order = sorted(answers, key=lambda each: each.sent)
        sent, answered = np.array([(each.sent, each.answered) for each in in_order]).T
        volley = Volley(sent, answered, sum(each.passed for each in answers))
        if who == "own" or not volley.passed:  # the limiter may count rejected requests, whatever their key or limit
            self._past.experiments[-1].append(volley)
        return volley

    def _begin_experiment(self) -> None:
        self._past.experiments.append([])

    def _in_time(self, at: float, bursts: int = 1) -> bool:
        return max(at, self._now) + bursts * self._patience <= self._until

    @property
    def _size(self) -> int:
        """Number of requests in a part of a burst."""
        parts = max(1, min(_PARTS, int(_SHORT * self.documented.window / max(self._trip, NETWORK_S))))
        return max(1, min(-(-self.documented.count // parts), int(self._rate * max(2 * PATIENCE_S, self._trip))))

    def _burst(self, at: float, count: int, *, whole: bool = False) -> Exchange[bool]:
        """Send up to ``count`` requests in parts, at the maximum rate, and return whether any were rejected.

        Unless ``whole``, stop after a part with rejections.
        """
        size, passed, rejected, last, spread = self._size, 0, 0, -math.inf, 0.0
        while count > 0 and self._left > 0 and (whole or not rejected):
            at = max(at, last + size / self._rate)
            if not self._in_time(at + spread):
                break
            volley = yield from self._volley(at, min(size, count, self._left), spread=spread)
            last = float(volley.sent[0])
            passed, rejected, count = passed + volley.passed, rejected + volley.rejected, count - len(volley.sent)
            if self._held is None and self._now - last >= PATIENCE_S:
                # A queue seems to hold requests, so the rest is sent in one part, spread over time.
                size, spread = max(1, count), count / self._rate
        if rejected and passed and passed not in self._past.full:
            self._past.full.append(passed)
        return rejected > 0
