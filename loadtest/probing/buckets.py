"""Token bucket, GCRA and leaky queue: which rates and bursts stand, and how well each explains what passed.

A bucket that refills quickly is seen through a network that mixes requests up: bounds on single moments say nothing of
it. So all requests are replayed, at moments drawn from those at which each may have arrived, and what passes of each
volley is compared with what did.
"""

import math
from copy import copy
from dataclasses import dataclass
from typing import Final

import numpy as np

from loadtest.inference.occupancy import Bools, Floats
from loadtest.probing.models import MANY, Model
from loadtest.probing.past import Past, Volley
from loadtest.probing.tallies import BucketTally, Tally

_WORSE: Final = 16.0
"""Squared deviations by which a bucket may explain less than the best one: 4 deviations of a normal error."""
_FEW: Final = 3
_DRAWS: Final = 10
"""Replays, at least and at most, each with other moments of arrival."""
_AT_ONCE: Final = 3000
"""Buckets times draws that are replayed at once, if more than the fewest draws are to be made."""
_SLOW: Final = 1.2
"""Requests per trip up to which it is known which one of a bucket of one came after which."""
_TOLD: Final = 10
"""Requests of the smallest volley that is compared: what passes of a few is chance."""
_VARIANCE: Final = 0.25
"""Variance of a count in any case: counts are whole numbers."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Buckets to replay.

    Attributes:
        rates: of each, requests/s.
        bursts: of each.
        width: share by which the rates may be larger or smaller.
        gaps: of each, by which its burst may be larger or smaller.
    """

    rates: Floats
    bursts: Floats
    width: float
    gaps: Floats


class Bucket(Model):
    """B at once and ρ a second: token bucket, GCRA, and a leaky queue; the cells are of ρ.

    The level that is used up falls by ρ a second. It is least where requests came as early as they may have, and
    greatest where they came as late.
    """

    scale_free = True
    fewest = 1.0
    whole_streams = True
    trip = 0.0
    """The longest time from a request to its refusal, in s."""
    misfit = 0.0
    """How badly the best of it explains what passed, in squared deviations; 0 before there was a stream."""

    def __init__(self, low: Floats, high: Floats, *, rejected: bool) -> None:
        super().__init__("token-bucket", low, high, rejected=rejected, grain=0.004)
        self._replayed = 0
        """How many requests there were at the last replay."""
        # Of replays, which are not made again for each part of a cell.
        self.windows = np.stack((np.ones(len(low)), np.full(len(low), MANY)), axis=1)

    def _start(self) -> None:
        super()._start()
        if self.windows.ndim > 1:
            self.least_n, self.most_n = self.windows.T.copy()
        self._level = np.zeros((2, len(self.low)))
        """The least at ``_since[0]`` and the greatest at ``_since[1]``."""
        self._since = (-math.inf, -math.inf)

    def _keep(self, kept: Bools) -> None:
        super()._keep(kept)
        self._level = self._level[:, kept]

    def _at(self, time: float) -> tuple[Floats, Floats]:
        gone = [0.0 if math.isinf(since) else max(0.0, time - since) for since in self._since]
        return (
            np.maximum(self._level[0] - self.high * gone[0], 0.0),
            np.maximum(self._level[1] - self.low * gone[1], 0.0),
        )

    def loads(self, past: Past, place: int) -> tuple[Floats, Floats]:
        """The level when a volley came, less what may have run off while it did."""
        now = past.wholes[place] or past.volleys[place]
        least, most = self._at(now.begin)
        return least - self.high * (now.end - now.begin), most

    def _after(self, volley: Volley) -> None:
        counted = volley.sent if self.rejected else volley.passed
        least, most = self._at(volley.begin)[0] + counted, self._at(volley.end)[1] + counted
        if volley.refused:  # then there was less than one left
            least = np.maximum(least, self.least_n - 1)
        if self.rejected:  # a debt of the burst is the most
            least, most = np.minimum(least, 2 * self.least_n), np.minimum(most, 2 * self.most_n)
        else:
            most = np.minimum(most, self.most_n)
        self._level, self._since = np.stack((least, most)), (volley.begin, volley.end)

    def divide(self, past: Past) -> None:
        """Divide cells, and set aside those with which no replay shows what was seen."""
        super().divide(past)
        if not past.streams or len(past.requests) < self._replayed + 10:
            return
        self._replayed = len(past.requests)
        for _ in range(6):
            extent = self._extent()
            self._replay(past)
            if self._extent() > 0.8 * extent:
                return
            super().divide(past)

    def _extent(self) -> float:
        return float(((self.high - self.low) * (1 + np.log(self.most_n / self.least_n))).sum())

    def _replay(self, past: Past) -> None:
        if not self.stands:
            return
        tried = [_between(low, high) for low, high in zip(self.least_n, self.most_n, strict=True)]
        cells = np.repeat(np.arange(len(tried)), [len(each) for each in tried])
        bursts, rates = np.concatenate(tried), ((self.low + self.high) / 2)[cells]
        width = float(((self.high - self.low) / (self.high + self.low)).max())
        gaps = np.concatenate([np.gradient(each) / 2 if len(each) > 1 else np.zeros(1) for each in tried])
        buckets = Buckets(rates, bursts, width, gaps - gaps.min())
        found = misfits(past, self.trip, buckets, rejected=self.rejected)
        self.misfit = float(found.min())
        good = (found <= self.misfit + _WORSE) & (found < np.inf)
        kept = np.zeros(len(tried), bool)
        for cell, each in enumerate(tried):
            places = np.flatnonzero(good[cells == cell])
            if len(places):
                kept[cell] = True
                low, high = each[max(places[0] - 1, 0)], each[min(places[-1] + 1, len(each) - 1)]
                self.least_n[cell] = low + (places[0] > 0)
                self.most_n[cell] = high - (places[-1] < len(each) - 1)
        self.windows = np.stack((self.least_n, self.most_n), axis=1)
        self._keep(kept)

    def tally(self, cell: int, count: float) -> Tally:
        """A bucket of the cell's rate and burst."""
        return BucketTally(count, 1 / self.middle(cell), rejected=self.rejected)

    def window(self) -> tuple[float, float]:
        """The times in which one request's room comes back."""
        return 1 / float(self.high.max()), 1 / float(self.low.min())


def _between(low: float, high: float) -> Floats:
    """Some whole numbers from one to another, denser where they are small."""
    return np.unique(np.round(np.geomspace(low, max(low, min(high, 1e4)), 6)))


def arrivals(past: Past, trip: float, draws: int) -> Floats:
    """Moments at which each request may have reached the server: a row for each of some draws.

    Of the time to an answer, each way takes at most half a ``trip``. What took longer was carried out or held.
    """
    sent, answered = np.array([each[:2] for each in past.requests]).T
    took = answered - sent
    low = np.where(took > trip, 0.0, np.maximum(took - trip / 2, 0.0))
    high = np.minimum(took, trip / 2)
    chance = np.random.default_rng(len(sent))
    return np.asarray(sent + low + (high - low) * chance.random((draws, len(sent))))


def misfits(past: Past, trip: float, tried: Buckets, *, rejected: bool) -> Floats:
    """How badly each of some buckets explains what passed: the sum of squared deviations, infinite if not at all.

    Args:
        past: all that was sent, from when the bucket was full.
        trip: the longest time from a request to its refusal, in s.
        tried: the buckets.
        rejected: whether refused requests count.
    """
    more = _more(past, trip, tried.rates, tried.bursts, rejected=rejected)
    squares, compared = np.zeros(len(tried.rates)), 0
    begin, last = 0, -np.inf
    for place, whole in enumerate(past.wholes):
        if whole is None:
            continue
        parts = more[begin : place + 1]
        slack = tried.width * tried.rates * min(whole.end - last, whole.end - whole.begin + 2 * trip)
        if whole.sent >= _TOLD:
            squares += _squares(parts.sum(axis=0), slack + tried.gaps)
            compared += 1
        if len(parts) > 1:
            apart = sum(_squares(part, slack / len(parts) + tried.gaps) for part in parts)
            squares[apart > 1.2 * len(parts) + 5 * np.sqrt(2 * len(parts))] = np.inf
        begin, last = place + 1, whole.end
    squares[squares > 3 * compared + 15] = np.inf
    slow = (tried.bursts == 1) & (tried.rates * trip < _SLOW) & (not rejected)
    if slow.any():
        surprise = _surprise(past, trip, 1 / tried.rates[slow])
        squares[slow] += surprise - surprise.min()
    return squares


def _surprise(past: Past, trip: float, spacings: Floats) -> Floats:
    """Twice the negative log likelihood of limiters that let one request pass every so often: a value for each spacing.

    A request passes if the last one that did lies long enough back; what came in between does not matter.
    """
    times, passed = arrivals(past, trip, _DRAWS), np.array([each[2] for each in past.requests])
    order = np.argsort(times, axis=1)
    ordered = np.take_along_axis(times, order, 1)
    last = np.maximum.accumulate(np.where(passed[order], ordered, -np.inf), axis=1)
    gaps = np.full(times.shape, np.inf)
    np.put_along_axis(gaps, order[:, 1:], ordered[:, 1:] - last[:, :-1], 1)
    chances = (0.5 + np.array([(gaps >= spacing).sum(axis=0) for spacing in spacings])) / (_DRAWS + 1)
    return np.asarray(-2 * np.log(np.where(passed, chances, 1 - chances)).sum(axis=1))


def uneven(past: Past, trip: float, tally: Tally) -> float:
    """How badly any limiter explains the volleys of streams: the sum of squared deviations."""
    times, places = arrivals(past, trip, _FEW), np.array([each[3] for each in past.requests])
    passed = np.array([each[2] for each in past.requests])
    more = np.zeros((len(past.volleys), _FEW))
    for draw, row in enumerate(times):
        replayed, order = copy(tally), np.argsort(row)
        passing = np.zeros(len(row))
        passing[order] = [replayed.volley(at, 1) for at in row[order]]
        more[:, draw] = np.bincount(places, passing - passed, len(past.volleys))
    streamed = [place for place, whole in enumerate(past.wholes) if whole is not past.volleys[place]]
    return float(sum(_squares(more[place], np.zeros(())) for place in streamed))


def _squares(more: Floats, slack: Floats) -> Floats:
    """The squared distance of the draws' mean from what was seen, in their deviations."""
    apart = np.maximum(np.abs(more.mean(axis=0)) - slack, 0.0)
    return np.asarray(apart**2 / (more.var(axis=0) + _VARIANCE))


def _more(past: Past, trip: float, rates: Floats, bursts: Floats, *, rejected: bool) -> Floats:
    """How many more of each volley pass than did: by volley, draw and bucket."""
    count = max(_FEW, min(_DRAWS, _AT_ONCE // len(rates)))
    times = arrivals(past, trip, count)
    order = np.argsort(times, axis=1)
    gaps = np.diff(np.take_along_axis(times, order, 1), axis=1, prepend=0.0)[:, :, None]
    passed, places = np.array([each[2:] for each in past.requests], int).T
    places_at, draws = places[order], np.arange(count)
    more = np.zeros((len(past.volleys), count, len(rates)))
    more -= np.bincount(places, passed, len(past.volleys))[:, None, None]
    used, most = np.zeros((count, len(rates))), bursts - 1 + 1e-6
    for at in range(len(places)):
        used -= gaps[:, at] * rates
        np.maximum(used, 0.0, out=used)
        passing = used <= most
        used += 1.0 if rejected else passing
        if rejected:
            np.minimum(used, 2 * bursts, out=used)
        more[places_at[:, at], draws] += passing
    return more
