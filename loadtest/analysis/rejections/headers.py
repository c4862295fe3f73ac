"""What headers say of a limit, and whether it was true: ``Retry-After``, and rate-limit headers of other names.

A wait is compared with when that limiter passed a request again. When room came is known only to lie between the last
request that was refused and the first that passed. A wait that ends before the former was too short, one that ends
after the latter too long; whole seconds are rounded up, so that a second too long is honest.
"""

import re
from collections import Counter
from datetime import datetime
from typing import Final

import msgspec
import numpy as np

from loadtest.analysis.distribution import distribution, percentile
from loadtest.analysis.results import Count, Result
from loadtest.arrays import Bools, Floats, Ints
from loadtest.http_headers import parse_retry_after
from loadtest.limits.loads import RequestLog

ROUNDED_S: Final = 1.0
"""By which a wait in whole seconds, or a date, may be longer than it has to be."""


class RetryAfter(Result, frozen=True, kw_only=True):
    """The ``Retry-After`` of one limit's 429s. Times in s.

    Attributes:
        n: 429s.
        seconds: of these, with a number of seconds.
        dates: with a date.
        unreadable: with something else.
        waits: that could be read: least, median, most; None without any.
        judged: 429s whose wait could be held against a later accepted request of the same limiter.
        honest: of these, as true as rounding and what was sent allow to say.
        early: too short: a request that came after it was refused all the same.
        late: too long: a request that came more than a second before its end passed.
        early_s: by how much too short, of ``early``: median, 95 %, most; None without any.
        late_s: by how much too long, of ``late``, likewise.
    """

    n: Count = msgspec.field(name="throttled")
    seconds: Count
    dates: Count
    unreadable: Count
    waits: tuple[float, float, float] | None = msgspec.field(name="told_s")
    judged: Count
    honest: Count
    early: Count = msgspec.field(name="too_early")
    late: Count = msgspec.field(name="too_late")
    early_s: tuple[float | None, float | None, float] | None = msgspec.field(name="too_early_by_s")
    late_s: tuple[float | None, float | None, float] | None = msgspec.field(name="too_late_by_s")

    @property
    def carried(self) -> int:
        """429s that had the header, whatever was in it."""
        return self.seconds + self.dates + self.unreadable


def readings(words: list[str]) -> tuple[Floats, Floats]:
    """What each header says: seconds to wait, and unix time of a date; NaN for what it does not.

    The last place stands for no header.
    """
    waits, dates = np.full(len(words) + 1, np.nan), np.full(len(words) + 1, np.nan)
    for place, word in enumerate(words):
        wanted = parse_retry_after(word)
        if isinstance(wanted, datetime):
            dates[place] = wanted.timestamp()
        elif wanted is not None:
            waits[place] = wanted
    return waits, dates


def retry_after(
    requests: RequestLog, codes: Ints, words: list[str], unix_s: Floats, clock: tuple[float, float]
) -> RetryAfter:
    """Look at the 429s of one limit.

    Args:
        requests: of the limit.
        codes: of each request, the place of its header in ``words``; -1 for none.
        words: every header that was seen.
        unix_s: when each request was sent, by our clock.
        clock: the server's minus ours, and by how much that may be wrong, in s.
    """
    offset, unsure_s = clock
    refused = np.flatnonzero(requests.rejected & requests.judged)
    waits, dates = readings(words)
    code = codes[refused]
    wait, date = waits[code], dates[code]
    dated = ~np.isnan(date)
    wait = np.where(dated, date - offset - unix_s[refused], wait)
    known = ~np.isnan(wait)
    known_waits = np.sort(np.maximum(wait[known], 0.0))
    last, again = _room(requests)
    # A wait in seconds counts from the answer; what the way back took is within the tolerance of a request's own.
    over = np.where(dated, requests.times[refused] + wait, requests.ends[refused] + wait)
    slack = requests.tolerance_s + np.where(dated, unsure_s, 0.0)
    judged = known & np.isfinite(again[refused])
    early = np.where(judged, last[refused] - over - slack, 0.0)
    late = np.where(judged, over - again[refused] - slack - ROUNDED_S, 0.0)
    return RetryAfter(
        n=len(refused),
        seconds=int((known & ~dated).sum()),
        dates=int(dated.sum()),
        unreadable=int(((code >= 0) & ~known).sum()),
        waits=(float(known_waits[0]), float(np.median(known_waits)), float(known_waits[-1]))
        if len(known_waits)
        else None,
        judged=int(judged.sum()),
        honest=int((judged & (early <= 0) & (late <= 0)).sum()),
        early=int((early > 0).sum()),
        late=int((late > 0).sum()),
        early_s=_spread((last[refused] - over)[early > 0]),
        late_s=_spread((over - again[refused])[late > 0]),
    )


def _room(requests: RequestLog) -> tuple[Floats, Floats]:
    """Of each request, when the last one was refused before the next that passed, and when that was sent.

    Infinite where none of the same limiter passed any more.
    """
    times, n = requests.times, len(requests.times)
    place = np.arange(n)
    following = np.minimum.accumulate(np.where(requests.accepted, place, n)[::-1])[::-1]
    before = np.maximum.accumulate(np.where(requests.rejected, place, -1))
    end = np.append(requests.begins[1:], n)[np.searchsorted(requests.begins, place, side="right") - 1]
    padded = np.append(times, np.inf)
    again = np.where(following < end, padded[np.minimum(following, n)], np.inf)
    last = times[np.maximum(before[np.clip(following - 1, 0, n - 1)], 0)] if n else times
    return last, again


def _spread(values: Floats) -> tuple[float | None, float | None, float] | None:
    found = distribution(values)
    if not found.n:
        return None
    return percentile(found, 0.5).value, percentile(found, 0.95).value, found.most


_REMAINING: Final = re.compile(
    r"^(?:x-)?rate-?limit-remaining:\s*(\d{1,9})|^ratelimit:.*?\b(?:r|remaining)=(\d{1,9})",
    re.IGNORECASE | re.MULTILINE,
)
_COUNT: Final = re.compile(
    r"^(?:x-)?rate-?limit-limit:\s*(\d{1,9})|^ratelimit-policy:.*?\bq=(\d{1,9})", re.IGNORECASE | re.MULTILINE
)
_NAMES_MOST: Final = 20


class RateHeaders(Result, frozen=True, kw_only=True):
    """Headers of one limit's answers.

    Attributes:
        n: answers that had any.
        names: how often each header was seen.
        counts: how often each limit was named, by its count.
        remaining: answers that gave how many requests remain.
        held: of these, those whose limiter's very next request shows whether it was true: it was sent when this one
            had been answered.
        untrue: of ``held``, those that promised one more and were followed by a 429.
        spent_and_passed: of ``held``, those that promised none and were followed by one that passed (it may have come
            when there was room again).
    """

    n: Count
    names: dict[str, Count]
    counts: dict[str, Count]
    remaining: Count
    held: Count
    untrue: Count
    spent_and_passed: Count


def rate_headers(requests: RequestLog, headers: dict[int, str]) -> RateHeaders:
    """Look at the headers of one limit's answers.

    Args:
        requests: of the limit.
        headers: the headers by place of the request, each as ``name: value``, one a line.
    """
    having = np.flatnonzero(np.isin(requests.place, list(headers)))
    carried = [
        (place, headers[row]) for place, row in zip(having.tolist(), requests.place[having].tolist(), strict=True)
    ]
    names = Counter(line.partition(":")[0].strip().lower() for _, text in carried for line in text.splitlines())
    counts = Counter(found[1] or found[2] for _, text in carried if (found := _COUNT.search(text)))
    left = [(place, int(found[1] or found[2])) for place, text in carried if (found := _REMAINING.search(text))]
    places = np.array([place for place, _ in left], np.int64)
    remaining = np.array([number for _, number in left], np.int64)
    shown = _shown(requests, places)
    refused = requests.rejected[np.minimum(places + 1, max(0, len(requests.times) - 1))] if len(places) else shown
    return RateHeaders(
        n=len(carried),
        names=dict(names.most_common(_NAMES_MOST)),
        counts=dict(counts.most_common(_NAMES_MOST)),
        remaining=len(left),
        held=int(shown.sum()),
        untrue=int((shown & (remaining > 0) & refused).sum()),
        spent_and_passed=int((shown & (remaining == 0) & ~refused).sum()),
    )


def _shown(requests: RequestLog, places: Ints) -> Bools:
    """Whether the limiter's next request came after this one's answer, and was answered, and nothing in between."""
    following = places + 1
    there = following < len(requests.times)
    following = np.minimum(following, max(0, len(requests.times) - 1))
    if not len(places):
        return np.zeros(0, bool)
    # One that is still under way, sent before, may draw on the limit later than this one did.
    busy = np.maximum.accumulate(requests.ends)[places] > requests.times[following]
    same = ~np.isin(following, requests.begins)
    sound: Bools = there & same & ~busy & requests.answered[following]
    return sound
