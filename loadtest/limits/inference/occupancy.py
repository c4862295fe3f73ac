"""How full a limiter was when each request came, by each algorithm, given what it really let through until then.

Unlike a free replay, one decision that is off does not spoil those after it: what a limiter holds is what was *seen* to
pass, and only the next decision is predicted. So decisions are evidence one by one: a request was wrongly refused if it
was refused though there was room, and wrongly admitted if it passed though there was none.

When a request reached the server is known to within a tolerance, and of requests without an answer it is not known
whether they passed. So each algorithm gives the least and the greatest load that there may have been; what lies between
is undecidable. An algorithm lets a request pass where load + 1 ≤ its threshold (N, or the burst).
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from loadtest.arrays import Bools, Floats, Ints
from loadtest.units import Limit

Loads = tuple[Floats, Floats]
"""The least and the greatest number that a limiter may have held when each request came."""

SLACK: Final = 1e-6
"""By which a load may be off by rounding alone."""


@dataclass(frozen=True, eq=False)
class RequestLog:
    """What the limiters of one limit were asked, one limiter after another on one axis of time.

    Times are in s; a whole number of windows lies between the wall clock and this axis, and so many windows of silence
    between two limiters that neither knows of the other.

    Attributes:
        times: when each request was sent, ascending.
        ends: when each was answered, or given up.
        refused: whether it was answered with 429.
        answered: whether it was answered at all.
        judged: whether it is a request of the record, and not one of the preflight.
        tolerance_s: by how much later than it was sent a request may have reached the server.
        place: of each request in ``SentRequests.frame()``; -1 for the preflight's.
        begins: places at which the requests of one limiter after another begin.
    """

    limit: Limit
    times: Floats
    ends: Floats
    refused: Bools
    answered: Bools
    judged: Bools
    tolerance_s: float
    place: Ints
    begins: Ints

    @cached_property
    def accepted(self) -> Bools:
        """Whether each request was answered, and not with 429."""
        return self.answered & ~self.refused

    def part(self, begin: int, count: int) -> "RequestLog":
        """So many requests from a place on."""
        if not begin and len(self.times) <= count:
            return self
        kept = slice(begin, begin + count)
        return RequestLog(
            self.limit,
            self.times[kept],
            self.ends[kept],
            self.refused[kept],
            self.answered[kept],
            self.judged[kept],
            self.tolerance_s,
            self.place[kept],
            np.unique(np.clip(self.begins - begin, 0, None))[: np.searchsorted(self.begins, begin + count)],
        )

    @cached_property
    def passed(self) -> "_Counted":
        """Requests that passed, as they are counted."""
        return _Counted(self, rejected=False)

    @cached_property
    def seen(self) -> "_Counted":
        """All requests, where rejected ones are counted, too."""
        return _Counted(self, rejected=True)


class _Counted:
    """How many requests were counted before each place, at least and at most.

    Attributes:
        least: ``[n + 1]``, those that certainly count, before each place.
        most: ``[n + 1]``, those that may.
        before: (least, most) before each request itself, with those that may have overtaken it.
    """

    def __init__(self, requests: RequestLog, *, rejected: bool) -> None:
        certain = requests.answered if rejected else requests.accepted
        self.least = _sums(certain)
        self.most = _sums(np.ones_like(certain) if rejected else ~requests.refused)
        times, n = requests.times, len(requests.times)
        # A refused request may have come after one that was sent a little later, and passed.
        later = _sums(requests.accepted)
        reach = np.searchsorted(times, times + requests.tolerance_s, side="right")
        overtaken = np.where(requests.refused, later[reach] - later[1:], 0)
        least = self.least[:n].copy()
        if rejected:  # and one that passed may have come before a refused one, that was sent a little earlier
            refused = _sums(requests.refused)
            back = np.searchsorted(times, times - requests.tolerance_s, side="left")
            least -= np.where(requests.accepted, refused[:n] - refused[back], 0)
        self.before = (least, self.most[:n] + overtaken)

    def since(self, early: Ints, late: Ints) -> Loads:
        """How many were counted before each request, from a place on that lies between two."""
        return (
            np.maximum(self.before[0] - self.least[late], 0).astype(float),
            (self.before[1] - self.most[early]).astype(float),
        )


def _sums(flags: Bools) -> Ints:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(flags)))


def fixed_window(requests: RequestLog, shift: float) -> Loads:
    """Of wall-aligned windows, the server's clock ``shift`` s ahead of ours."""
    return _widest([_in_window(requests, shift + by) for by in (-requests.tolerance_s, 0.0, requests.tolerance_s)])


def _in_window(requests: RequestLog, shift: float) -> Loads:
    begin, _, _ = _windows(requests, shift)
    return requests.passed.since(begin, begin)


def sliding_counter(requests: RequestLog, shift: float, *, count_rejected: bool) -> Loads:
    """What is left of the last wall-aligned window's count, and this one's."""
    counted = requests.seen if count_rejected else requests.passed
    found = []
    for by in (-requests.tolerance_s, 0.0, requests.tolerance_s):
        begin, before, left = _windows(requests, shift + by)
        least, most = counted.since(begin, begin)
        least += (counted.least[begin] - counted.least[before]) * left
        most += (counted.most[begin] - counted.most[before]) * left
        found.append((least, most))
    return _widest(found)


def _windows(requests: RequestLog, shift: float) -> tuple[Ints, Ints, Floats]:
    """Of each request, where its window begins, where the one before it does, and what part of its own is left."""
    times, window = requests.times + shift, requests.limit.window
    number = np.floor(times / window + 1e-12)
    opens = np.diff(number, prepend=-np.inf) != 0
    firsts = np.flatnonzero(opens)
    which = np.cumsum(opens) - 1
    numbers = number[firsts]
    before = np.where(np.diff(numbers, prepend=-np.inf) == 1, np.concatenate((firsts[:1], firsts[:-1])), firsts)
    return firsts[which], before[which], np.clip(number + 1 - times / window, 0.0, 1.0)


def _widest(found: list[Loads]) -> Loads:
    return np.minimum.reduce([least for least, _ in found]), np.maximum.reduce([most for _, most in found])


def window_from_first(requests: RequestLog) -> Loads:
    """Of windows that begin with the first request after the last one ended.

    Where a request came within the tolerance of a window's end, what was seen says whether it still lay in it.
    """
    begins = np.asarray(opened(requests), np.int64)
    which = np.searchsorted(begins, np.arange(len(requests.times)), side="right") - 1
    begin = begins[which]
    least, most = requests.passed.since(begin, begin)
    # Beside an end, either window may have it.
    ends = requests.times[begins] + requests.limit.window
    past = np.concatenate((np.full(min(1, len(ends)), -np.inf), ends[:-1]))
    close = (requests.times >= ends[which] - requests.tolerance_s) | (
        requests.times <= past[which] + requests.tolerance_s
    )
    least[close] = 0.0
    most[close] = np.inf
    return least, most


def opened(requests: RequestLog) -> list[int]:
    """Places of the requests that open such windows."""
    times, refused = requests.times.tolist(), np.flatnonzero(requests.refused).tolist()
    n, reach, window = len(times), requests.tolerance_s, requests.limit.window
    begins, at = [], 0
    while at < n:
        begins.append(at)
        end = times[at] + window
        first, last = bisect_left(times, end - reach, at + 1), bisect_right(times, end + reach, at + 1)
        inside, beyond = bisect_left(refused, first), bisect_left(refused, last)
        if beyond > inside:  # the window was not over yet for one that was refused at its end
            at = refused[beyond - 1] + 1
        elif inside and refused[inside - 1] > at:  # it was full: whoever passed came after its end
            at = first
        else:
            at = bisect_left(times, end, at + 1)
    return begins


def sliding_log(requests: RequestLog, *, count_rejected: bool) -> Loads:
    """What came in the window before each request."""
    counted = requests.seen if count_rejected else requests.passed
    edge = requests.times - requests.limit.window
    early = np.searchsorted(requests.times, edge - requests.tolerance_s, side="left")
    late = np.searchsorted(requests.times, edge + requests.tolerance_s, side="right")
    own = np.arange(len(edge))
    return counted.since(np.minimum(early, own), np.minimum(late, own))


def bucket(requests: RequestLog, rate: float) -> Loads:
    """What a bucket that is refilled at ``rate`` lacks: of a GCRA, and the length of a leaky queue, as well.

    u ← max(0, u − ρΔt) + 1 for each request that passed: its distance from the lowest point of count − ρt so far.
    """
    drained = rate * requests.times
    either = []
    for counted in (requests.passed.least, requests.passed.most):
        level = counted[:-1] - drained
        lowest = np.minimum.accumulate(np.concatenate(([np.inf], level[:-1])))
        either.append(level - lowest)  # below zero: full for a while
    may = 2 * rate * requests.tolerance_s
    overtaken = requests.passed.before[1] - requests.passed.most[:-1]
    return np.maximum(either[0] - may, 0.0), np.maximum(either[1] + may, 0.0) + overtaken


def bucket_of_all(requests: RequestLog, rate: float, burst: int) -> Loads:
    """The same where rejected requests take tokens, too: down to a debt of the burst."""
    used, last, most, found = 0.0, -np.inf, 2.0 * burst, []
    for time in requests.times.tolist():
        used -= (time - last) * rate
        last = time
        found.append(used)
        used = min(max(used, 0.0) + 1.0, most)
    level, may = np.asarray(found, float), 2 * rate * requests.tolerance_s
    # One without an answer may never have come; how long that is felt is not worked out.
    unsure = requests.seen.most[:-1] - requests.seen.least[:-1]
    swapped = np.minimum(requests.seen.before[0] - requests.seen.least[:-1], 0)
    overtaken = requests.seen.before[1] - requests.seen.most[:-1]
    return np.maximum(level - may - unsure + swapped, 0.0), np.maximum(level + may, 0.0) + overtaken


def concurrency(requests: RequestLog) -> Loads:
    """How many requests that passed were being answered when each came."""
    certain = np.sort(requests.ends[requests.accepted])
    possible = np.sort(requests.ends[~requests.refused])
    over = np.searchsorted(certain, requests.times + requests.tolerance_s, side="right")
    still = np.searchsorted(possible, requests.times - requests.tolerance_s, side="left")
    least = np.maximum(requests.passed.before[0] - over, 0).astype(float)
    return least, (requests.passed.before[1] - still).astype(float)
