"""Load of a limiter when each request came, by each algorithm, given the requests that were seen to pass until then.

Unlike a free replay, one decision that is off does not spoil those after it: what a limiter holds is what was *seen* to
pass, and only the next decision is predicted. So decisions are evidence one by one: a request was wrongly rejected if
it was rejected though there was room, and wrongly admitted if it passed though there was none.

When a request reached the server is known to within a tolerance, and of requests without an answer it is not known
whether they passed. So each algorithm gives the least and the greatest load that there may have been; what lies between
is undecidable. An algorithm lets a request pass where load + 1 ≤ its threshold (N, or the burst).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from loadtest.arrays import Bools, Floats, Ints
from loadtest.limits import CONCURRENCY, AlgorithmName, LimiterSpec, at_once
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
        rejected: whether it was answered with 429.
        answered: whether it was answered at all.
        judged: whether it is a request of the record, and not one of the preflight.
        tolerance_s: by how much later than it was sent a request may have reached the server.
        place: of each request in ``SentRequests.frame()``; -1 for the preflight's.
        begins: places at which the requests of one limiter after another begin.
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

    @cached_property
    def accepted(self) -> Bools:
        return self.answered & ~self.rejected

    def part(self, begin: int, count: int) -> "RequestLog":
        """Return at most ``count`` requests from place ``begin`` on."""
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
    def passed(self) -> "_Counted":
        return _Counted(self, all_count=False)

    @cached_property
    def seen(self) -> "_Counted":
        """Counts of all requests, for limiters that count rejected ones, too."""
        return _Counted(self, all_count=True)

    def counted(self, spec: LimiterSpec) -> "_Counted":
        return self.seen if spec.count_rejected else self.passed


class _Counted:
    """How many requests were counted before each place, at least and at most.

    Attributes:
        least: ``[n + 1]``, those that certainly count, before each place.
        most: ``[n + 1]``, those that may.
        before: (least, most) before each request itself, with those that may have overtaken it.
    """

    def __init__(self, requests: RequestLog, *, all_count: bool) -> None:
        certain = requests.answered if all_count else requests.accepted
        self.least = _sums(certain)
        self.most = _sums(np.ones_like(certain) if all_count else ~requests.rejected)
        times, n = requests.times, len(requests.times)
        # A rejected request may have come after one that was sent a little later, and passed.
        later = _sums(requests.accepted)
        reach = np.searchsorted(times, times + requests.tolerance_s, side="right")
        overtaken = np.where(requests.rejected, later[reach] - later[1:], 0)
        least = self.least[:n].copy()
        if all_count:  # and one that passed may have come before a rejected one, that was sent a little earlier
            rejected = _sums(requests.rejected)
            back = np.searchsorted(times, times - requests.tolerance_s, side="left")
            least -= np.where(requests.accepted, rejected[:n] - rejected[back], 0)
        self.before = (least, self.most[:n] + overtaken)

    def since(self, early: Ints, late: Ints) -> Loads:
        """How many were counted before each request, from a place on that lies between two."""
        return (
            np.maximum(self.before[0] - self.least[late], 0).astype(float),
            (self.before[1] - self.most[early]).astype(float),
        )


def _sums(flags: Bools) -> Ints:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(flags)))


def _fixed_window(requests: RequestLog, shift: float) -> Loads:
    begin, _, _ = _windows(requests, shift)
    return requests.passed.since(begin, begin)


def _sliding_counter(requests: RequestLog, counted: _Counted, shift: float) -> Loads:
    begin, before, left = _windows(requests, shift)
    least, most = counted.since(begin, begin)
    least += (counted.least[begin] - counted.least[before]) * left
    most += (counted.most[begin] - counted.most[before]) * left
    return least, most


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


def widest(requests: RequestLog, shift: float, loads: Callable[[float], Loads]) -> Loads:
    """Return bounds on loads that depend on the server's clock, which is ``shift`` s ahead within the tolerance."""
    found = [loads(shift + by) for by in (-requests.tolerance_s, 0.0, requests.tolerance_s)]
    return np.minimum.reduce([least for least, _ in found]), np.maximum.reduce([most for _, most in found])


def _window_from_first(requests: RequestLog) -> Loads:
    """Loads of windows that begin with the first request after the last one ended.

    Where a request came within the tolerance of a window's end, its answer says whether it still lay in it.
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
    """Return the places of the requests that open windows, where each begins with a request."""
    times, rejected = requests.times.tolist(), np.flatnonzero(requests.rejected).tolist()
    n, reach, window = len(times), requests.tolerance_s, requests.limit.window
    begins, at = [], 0
    while at < n:
        begins.append(at)
        end = times[at] + window
        first, last = bisect_left(times, end - reach, at + 1), bisect_right(times, end + reach, at + 1)
        inside, beyond = bisect_left(rejected, first), bisect_left(rejected, last)
        if beyond > inside:  # the window was not over yet for one that was rejected at its end
            at = rejected[beyond - 1] + 1
        elif inside and rejected[inside - 1] > at:  # it was full: whoever passed came after its end
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


def bucket_loads(requests: RequestLog, rate: float) -> Loads:
    """Return what a bucket lacks that is refilled at ``rate`` per second; the length of a leaky queue as well.

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


def _bucket_of_all(requests: RequestLog, rate: float, burst: int) -> Loads:
    """``bucket_loads`` where rejected requests take tokens, too: down to a debt of the burst."""
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


def _concurrency(requests: RequestLog) -> Loads:
    certain = np.sort(requests.ends[requests.accepted])
    possible = np.sort(requests.ends[~requests.rejected])
    over = np.searchsorted(certain, requests.times + requests.tolerance_s, side="right")
    still = np.searchsorted(possible, requests.times - requests.tolerance_s, side="left")
    least = np.maximum(requests.passed.before[0] - over, 0).astype(float)
    return least, (requests.passed.before[1] - still).astype(float)


def _bucket(requests: RequestLog, spec: LimiterSpec, limit: Limit, _: float) -> Loads:
    counting = spec.count_rejected
    return (
        _bucket_of_all(requests, limit.rate, at_once(spec, limit)) if counting else bucket_loads(requests, limit.rate)
    )


LOADS: Final[dict[AlgorithmName, Callable[[RequestLog, LimiterSpec, Limit, float], Loads]]] = {
    "fixed-window": lambda log, _, __, shift: widest(log, shift, lambda by: _fixed_window(log, by)),
    "fixed-window-from-first": lambda log, *_: _window_from_first(log),
    "sliding-log": lambda log, spec, *_: _sliding_log(log, log.counted(spec)),
    "sliding-counter": lambda log, spec, _, shift: widest(
        log, shift, lambda by: _sliding_counter(log, log.counted(spec), by)
    ),
    "token-bucket": _bucket,
    "gcra": _bucket,
    "leaky-queue": _bucket,
    CONCURRENCY: lambda log, *_: _concurrency(log),
}
"""By algorithm: its loads over a log, for a spec, the limit that it enforces, and the s that its clock is ahead."""
