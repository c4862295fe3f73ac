"""Each limiter's load at each request: the number that it compares with its threshold, which is N or the burst.

If a replay followed its own decisions, one wrong decision would spoil all later decisions. Here, a limiter's state
follows from the *recorded* decisions, and only the next decision is predicted. Each decision is separate evidence.
A request was wrongly rejected if the limiter had room for it, and wrongly admitted if it had no room.

The arrival of a request at the server is known within a tolerance, and the decision on an unanswered request is
unknown. The functions of ``LOADS`` therefore return bounds on the load. A limiter accepts a request if load + 1 ≤
threshold. A decision is undecidable if the limiter accepts the request at the lower bound and rejects it at the upper
bound.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Final

import numpy as np

from loadtest.arrays import Bools, Floats, Ints
from loadtest.limits import ALGORITHMS, CONCURRENCY, LimiterSpec, at_once
from loadtest.units import Limit

Loads = tuple[Floats, Floats]
"""The lower and the upper bound on a limiter's load at each request."""

SLACK: Final = 1e-6
"""Tolerance for rounding errors of a load, in requests."""
_KEPT: Final = 50_000
"""Windows and loads of a log with more requests are not cached, because they take about 200 bytes per request."""
_EDGE: Final = 1e-12
"""Tolerance for rounding errors of a time, in units of W."""


@dataclass(frozen=True, eq=False)
class RequestLog:
    """The requests that one limit counts, for all its limiters (for example, a limiter per key).

    Each limiter's requests follow the previous limiter's requests on one time axis in s. A limiter's times differ from
    the wall clock by a whole number of windows. Idle windows separate the limiters, so that they are independent.

    Attributes:
        times: send time of each request, ascending.
        ends: time when each request was answered, or given up.
        rejected: whether the request was answered with 429.
        judged: whether the request belongs to the record rather than to the preflight.
        tolerance_s: maximum delay between sending and arrival at the server.
        place: index of each request in ``SentRequests.table``; -1 for requests of the preflight.
        begins: index of each limiter's first request.
        grain_s: resolution of times that are rounded down; 0 if rounding is negligible. ``tolerance_s`` includes it.
    """

    limit: Limit
    times: Floats
    ends: Floats
    rejected: Bools
    answered: Bools
    judged: Bools
    tolerance_s: float
    place: Ints
    begins: Ints
    grain_s: float = 0.0

    @cached_property
    def accepted(self) -> Bools:
        return self.answered & ~self.rejected

    def part(self, begin: int, count: int) -> "RequestLog":
        if not begin and len(self.times) <= count:
            return self
        kept, begins = slice(begin, begin + count), np.unique(np.clip(self.begins - begin, 0, None))
        columns = ("times", "ends", "rejected", "answered", "judged", "place")
        return replace(
            self,
            begins=begins[: np.searchsorted(self.begins, begin + count)],
            **{name: getattr(self, name)[kept] for name in columns},
        )

    @cached_property
    def known(self) -> Bools:
        """Whether the request is in the record and its decision is known."""
        return self.judged & self.answered

    @cached_property
    def decisions(self) -> tuple[Ints, Ints]:
        """The indices of the ``known`` requests that were accepted, and of those that were rejected."""
        return np.flatnonzero(self.known & ~self.rejected), np.flatnonzero(self.known & self.rejected)

    @cached_property
    def aligned(self) -> "_Axis":
        # ``tolerance_s`` includes ``grain_s``, for comparisons of two rounded times. A window's edge is not rounded, so
        # half of ``grain_s`` is enough here.
        return _Axis(self, self.times + self.grain_s / 2, self.tolerance_s - self.grain_s / 2)

    @cached_property
    def from_first(self) -> "_Axis":
        return _Axis(self, _from_first(self), self.tolerance_s)

    @cached_property
    def passed(self) -> "_Counted":
        return _Counted(self, all_count=False)

    @cached_property
    def seen(self) -> "_Counted":
        """Counts of all requests, for limiters that count rejections too."""
        return _Counted(self, all_count=True)

    def counted(self, spec: LimiterSpec) -> "_Counted":
        return self.seen if spec.count_rejected else self.passed


class _Counted:
    """Bounds on the number of requests counted before each request.

    Attributes:
        least: number of certainly counted requests before each index, ``[n + 1]``.
        most: number of possibly counted requests before each index, ``[n + 1]``.
        before: (least, most) for each request, valid even if requests arrived in another order than they were sent.
    """

    def __init__(self, requests: RequestLog, *, all_count: bool) -> None:
        certain = requests.answered if all_count else requests.accepted
        self.least = _sums(certain)
        self.most = _sums(np.ones_like(certain) if all_count else ~requests.rejected)
        times, n = requests.times, len(requests.times)
        # An accepted request that was sent soon after a rejected request may have arrived before it. Then it counts.
        later = _sums(requests.accepted)
        reach = np.searchsorted(times, times + requests.tolerance_s, side="right")
        overtaken = np.where(requests.rejected, later[reach] - later[1:], 0)
        least = self.least[:n].astype(float)
        if all_count:  # an accepted request may have arrived before a rejected request that was sent a little earlier
            rejected = _sums(requests.rejected)
            back = np.searchsorted(times, times - requests.tolerance_s, side="left")
            least -= np.where(requests.accepted, rejected[:n] - rejected[back], 0)
        self.before = (least, (self.most[:n] + overtaken).astype(float))

    def since(self, early: Ints, late: Ints) -> Loads:
        """Return bounds on the number of requests counted before each request.

        Counting starts at an index between ``early`` and ``late``.
        """
        return np.maximum(self.before[0] - self.least[late], 0.0), self.before[1] - self.most[early]


def _sums(flags: Bools) -> Ints:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(flags)))


def _from_first(requests: RequestLog) -> Floats:
    """Map times so that windows start at multiples of W. After an empty window, the next request starts a window."""
    window, reach, found = requests.limit.window, requests.tolerance_s, []
    opened = number = end = -np.inf
    for time in requests.times.tolist():
        if time >= end + window:
            opened, number, end = time, max(number + 3, 0.0), time + window
        elif time >= end:
            end, number = end + window, number + 1
        # The request that opens windows is the first in them. Requests soon after it are placed at least ``reach``
        # after the window's start, so that no clock of ``_Axis`` puts them into the previous window.
        found.append(number * window + max(time - end + window, reach if time - opened <= reach else -np.inf))
    return np.asarray(found, float)


class _Windows:
    """The windows that have requests according to one clock.

    Args:
        times: the requests' times, ascending, on an axis on which windows start at multiples of ``window``.
        numbers: numbers of windows, ascending. They include all windows that have requests.
        firsts: the index of the first request at or after each window's start.
    """

    def __init__(self, times: Floats, window: float, numbers: Floats, firsts: Ints) -> None:
        ends = np.append(firsts[1:], len(times))
        used = np.flatnonzero(ends > firsts)
        numbers, self._firsts = numbers[used], firsts[used]
        self._sizes = ends[used] - self._firsts
        follows = np.flatnonzero(numbers[1:] == numbers[:-1] + 1)
        self._befores = self._firsts.copy()  # first request of the previous window; if that is empty, of this window
        self._befores[follows + 1] = self._firsts[follows]
        self._left = np.minimum(np.maximum(np.repeat(numbers + 1, self._sizes) - times / window, 0.0), 1.0)

    def loads(self, counted: _Counted, may: float) -> tuple[Loads, Loads]:
        """Return bounds on the count of each request's window, and on the weighted count of the previous window.

        ``may`` is the largest difference, in units of W, between the delays of a request and of its window's first
        request.
        """
        found = []
        for side, own in zip((counted.least, counted.most), counted.before, strict=True):
            first = side[self._firsts]
            found.append((own - np.repeat(first, self._sizes), np.repeat(first - side[self._befores], self._sizes)))
        (least, before_least), (most, before_most) = found
        weighed = before_least * np.maximum(self._left - may, 0.0), before_most * np.minimum(self._left + may, 1.0)
        return (np.maximum(least, 0.0), most), weighed


class _Axis:
    """An axis of time. Windows start at its multiples of W if the server's clock equals ours.

    ``times`` are the requests' times on this axis, ascending. ``reach`` is their tolerance in s.
    """

    def __init__(self, requests: RequestLog, times: Floats, reach: float) -> None:
        self._window, self._reach, self._times = requests.limit.window, reach, times
        used = np.unique(np.floor(times / self._window))
        self._numbers = lru_cache(lambda low, high: np.unique(used[:, None] + np.arange(low - 1, high + 3)))
        # Several limiters are tried at the same shift, so results are kept.
        small = len(times) <= _KEPT
        self._windows = lru_cache(maxsize=1 if small else 0)(self._at)
        self.loads = lru_cache(maxsize=2 if small else 0)(self._loads)

    def _loads(self, shift: float, counted: _Counted) -> list[tuple[Loads, Loads]]:
        """Return ``_Windows.loads`` for each clock of ``_at``."""
        windows, may = self._windows(shift), self._reach / self._window
        # If only the middle clock is used, its error is added to a request's delay.
        return [each.loads(counted, may if len(windows) > 1 else 2 * may) for each in windows]

    def _at(self, shift: float) -> list[_Windows]:
        """Return the windows of three clocks: ``shift`` − reach, ``shift`` and ``shift`` + reach s ahead of ours.

        If all three put each request into the same window, only the windows of the middle clock are returned.
        """
        shifts = (shift - self._reach, shift, shift + self._reach)
        numbers = self._numbers(*(math.floor(each / self._window) for each in shifts[::2]))
        begins = (numbers - _EDGE) * self._window
        clocks = [(each, np.searchsorted(self._times, begins - each)) for each in shifts]
        same = (clocks[0][1] == clocks[2][1]).all()
        return [
            _Windows(self._times + each, self._window, numbers, firsts)
            for each, firsts in (clocks[1:2] if same else clocks)
        ]


def _windowed(requests: RequestLog, spec: LimiterSpec, _: Limit, shift: float) -> Loads:
    aligned, found = ALGORITHMS[spec.algorithm].aligned, []
    axis = requests.aligned if aligned else requests.from_first
    for counts, before in axis.loads(shift - spec.phase if aligned else 0.0, requests.counted(spec)):
        weighed = [np.floor(each + SLACK) for each in before] if spec.round_down else before
        found.append(counts if spec.algorithm == "fixed-window" else (counts[0] + weighed[0], counts[1] + weighed[1]))
    return np.minimum.reduce([least for least, _ in found]), np.maximum.reduce([most for _, most in found])


def _window_from_first(requests: RequestLog) -> Loads:
    """Return the loads of windows that start with the first request after the previous window.

    Near a window's end, a request's decision shows which window the request is in, so it is not predicted.
    """
    begins = np.asarray(opened(requests), np.int64)
    which = np.searchsorted(begins, np.arange(len(requests.times)), side="right") - 1
    begin = begins[which]
    least, most = requests.passed.since(begin, begin)
    ends = requests.times[begins] + requests.limit.window
    past = np.concatenate((np.full(min(1, len(ends)), -np.inf), ends[:-1]))
    close = (requests.times >= ends[which] - requests.tolerance_s) | (
        requests.times <= past[which] + requests.tolerance_s
    )
    least[close] = 0.0
    most[close] = np.inf
    return least, most


def opened(requests: RequestLog) -> list[int]:
    """Return the indices of the requests that open windows."""
    times, rejected = requests.times.tolist(), np.flatnonzero(requests.rejected).tolist()
    n, reach, window = len(times), requests.tolerance_s, requests.limit.window
    begins, at = [], 0
    while at < n:
        begins.append(at)
        end = times[at] + window
        first, last = bisect_left(times, end - reach, at + 1), bisect_right(times, end + reach, at + 1)
        inside, beyond = bisect_left(rejected, first), bisect_left(rejected, last)
        if beyond > inside:  # a rejection near the end shows that the window was open
            at = rejected[beyond - 1] + 1
        elif inside and rejected[inside - 1] > at:  # the window was full, so accepted requests came after its end
            at = first
        else:
            at = bisect_left(times, end, at + 1)
    return begins


def _sliding_log(requests: RequestLog, counted: _Counted) -> Loads:
    edge = requests.times - requests.limit.window
    early = np.searchsorted(requests.times, edge - requests.tolerance_s, side="left")
    late = np.searchsorted(requests.times, edge + requests.tolerance_s, side="right")
    own = np.arange(len(edge))
    return counted.since(np.minimum(early, own), np.minimum(late, own))


def bucket_loads(requests: RequestLog, rate: float, whole_at: float | None = None) -> Loads:
    """Return bounds on the number u of tokens that a bucket lacks. It is also the length of a leaky queue.

    A request that is accepted Δt s after the previous accepted request changes u to max(0, u − ρΔt) + 1. With k
    requests accepted until time t, u equals the distance of k − ρt from its minimum so far. ``rate`` is ρ, the tokens
    refilled per second. If the server's clock shows whole seconds, ``whole_at`` is its clock minus ours, in s.
    """
    early, late = _readings(requests, whole_at)
    either = []
    for counted, own, past in ((requests.passed.least, late, early), (requests.passed.most, early, late)):
        lowest = np.minimum.accumulate(np.concatenate(([np.inf], (counted[:-1] - rate * past)[:-1])))
        either.append(np.maximum(counted[:-1] - rate * own - lowest, 0.0))  # negative while the bucket is full
    overtaken = requests.passed.before[1] - requests.passed.most[:-1]
    return either[0], either[1] + overtaken


def _readings(requests: RequestLog, whole_at: float | None) -> tuple[Floats, Floats]:
    """Return the earliest and the latest reading of the server's clock at each request."""
    reach = requests.tolerance_s
    if whole_at is None:
        return requests.times - reach, requests.times + reach
    times, reach = requests.times + requests.grain_s / 2 + whole_at, reach - requests.grain_s / 2
    return np.floor(times - reach), np.floor(times + reach)


def _bucket_of_all(requests: RequestLog, rate: float, burst: int, whole_at: float | None) -> Loads:
    """Return ``bucket_loads`` for a bucket from which rejected requests take tokens too, down to −B tokens."""
    used, last, most, found = 0.0, -np.inf, 2.0 * burst, []
    early, late = _readings(requests, whole_at)
    times = requests.times if whole_at is None else np.floor(requests.times + whole_at)
    for time in times.tolist():
        used -= (time - last) * rate
        last = time
        found.append(used)
        used = used + 1.0 if used > 0.0 else 1.0
        used = min(used, most)
    level, may = np.asarray(found, float), rate * (late - early)
    # An unanswered request may never have arrived, so the lower bound is reduced by the unanswered requests so far.
    unsure = requests.seen.most[:-1] - requests.seen.least[:-1]
    swapped = np.minimum(requests.seen.before[0] - requests.seen.least[:-1], 0)
    overtaken = requests.seen.before[1] - requests.seen.most[:-1]
    return np.maximum(level - may - unsure + swapped, 0.0), np.maximum(level + may, 0.0) + overtaken


def _concurrency(requests: RequestLog) -> Loads:
    certain = np.sort(requests.ends[requests.accepted])
    possible = np.sort(requests.ends[~requests.rejected])
    over = np.searchsorted(certain, requests.times + requests.tolerance_s, side="right")
    still = np.searchsorted(possible, requests.times - requests.tolerance_s, side="left")
    least = np.maximum(requests.passed.before[0] - over, 0).astype(float)
    return least, (requests.passed.before[1] - still).astype(float)


def _bucket(requests: RequestLog, spec: LimiterSpec, limit: Limit, shift: float) -> Loads:
    whole_at = shift if spec.round_down else None
    if spec.count_rejected:
        return _bucket_of_all(requests, limit.rate, at_once(spec, limit), whole_at)
    return bucket_loads(requests, limit.rate, whole_at)


LOADS: Final[dict[str, Callable[[RequestLog, LimiterSpec, Limit, float], Loads]]] = {
    "fixed-window": _windowed,
    "fixed-window-from-first": lambda log, *_: _window_from_first(log),
    "sliding-log": lambda log, spec, *_: _sliding_log(log, log.counted(spec)),
    "sliding-counter": _windowed,
    "sliding-counter-from-first": _windowed,
    "token-bucket": _bucket,
    "gcra": _bucket,
    "leaky-queue": _bucket,
    CONCURRENCY: lambda log, *_: _concurrency(log),
}
"""Functions that compute loads, by algorithm. The last argument is the server's clock minus ours in s."""
