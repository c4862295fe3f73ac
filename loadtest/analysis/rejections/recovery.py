"""Accuracy of a limit's Retry-After and rate-limit headers, recovery after 429s, and retries.

After 429s, a limiter becomes able to accept requests at some time between the last rejected request and the accepted
request that follows. A stated wait is too short if it ends before this rejected request, and too long if it ends after
this accepted request.
"""

from collections import Counter
from datetime import datetime
from typing import Final

import msgspec
import numpy as np

from loadtest.analysis.columns import OK, OUTCOMES, THROTTLED
from loadtest.analysis.distribution import Distributions, distribution, percentile, summarize
from loadtest.analysis.reader import Chunk
from loadtest.analysis.rejections import BURST_SPAN_S, in_bursts
from loadtest.analysis.results import Count, Result, Summary
from loadtest.analysis.run_record import Record
from loadtest.analysis.times import response_time
from loadtest.arrays import Floats, Ints
from loadtest.http_headers import parse_retry_after, stated_limits
from loadtest.http_headers import remaining as left_of
from loadtest.limits.loads import RequestLog

ROUNDED_S: Final = 1.0
"""A correct Retry-After may be this many seconds too long, because it is in whole seconds or a date."""


class RetryAfter(Result, frozen=True, kw_only=True):
    """The ``Retry-After`` headers of one limit's 429s. Times are in s.

    Attributes:
        seconds: number of 429s whose header is a number of seconds. ``dates`` and ``unreadable`` count other headers.
        told_s: minimum, median and maximum of the waits that could be parsed; None if there are none.
        judged: number of 429s whose wait can be checked, because the limiter accepted a later request. A wait that only
            requests of a burst contradict does not count.
        honest: number of waits that are correct within rounding and the tolerance of times.
        too_early: number of waits that were too short: the limiter rejected a request sent after their end.
        too_late: number of waits that were too long: the limiter accepted a request over a second before their end.
        too_early_by_s: median, 95th percentile and maximum error of waits that were too short; None if there are none.
            ``too_late_by_s`` has the same statistics of waits that were too long.
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
        """The number of 429s with the header, readable or not."""
        return self.seconds + self.dates + self.unreadable


def readings(words: list[str]) -> tuple[Floats, Floats]:
    """For each header, return its seconds to wait and the unix time of its date; one is NaN, or both if unreadable.

    The last value of both arrays stands for a missing header.
    """
    waits, dates = np.full(len(words) + 1, np.nan), np.full(len(words) + 1, np.nan)
    for place, word in enumerate(words):
        wanted = parse_retry_after(word)
        if isinstance(wanted, datetime):
            dates[place] = wanted.timestamp()
        elif wanted is not None:
            waits[place] = wanted
    return waits, dates


def retry_after(record: Record, requests: RequestLog) -> RetryAfter:
    """Check the Retry-After of one limit's 429s. ``requests`` are all requests of this limit."""
    offset, unsure_s = record.clock
    rejected = np.flatnonzero(requests.rejected & requests.judged)
    sent = record.sent_requests[requests.place[rejected]]
    unix_s = sent["start"] / 1e9 + (record.info.epoch_unix_ns or 0) / 1e9
    code = sent["retry_after"]
    wait, date = (each[code] for each in readings(record.vocabulary.words["retry_after"]))
    dated = ~np.isnan(date)
    wait = np.where(dated, date - offset - unix_s, wait)
    known = ~np.isnan(wait)
    following = _next_accepted(requests)
    n = len(requests.times)
    crowded = in_bursts(requests.times)[1]
    before = np.maximum.accumulate(np.where(requests.rejected, np.arange(n), -1))
    last = before[following[rejected] - 1]
    again = np.append(requests.times, np.inf)[following[rejected]]
    unsure = crowded[last] | np.append(crowded, False)[following[rejected]]
    # A client counts a wait in seconds from the arrival of the response. The tolerance covers the response's way back.
    over = np.where(dated, requests.times[rejected] + wait, requests.ends[rejected] + wait)
    slack = requests.tolerance_s + np.where(dated, unsure_s, 0.0)
    early = requests.times[last] - over - slack
    late = over - again - slack - ROUNDED_S
    # Requests of a burst arrive in any order, so they cannot contradict a wait.
    judged = known & np.isfinite(again) & ~(unsure & ((early > 0) | (late > 0)))
    early, late = np.where(judged, early, 0.0), np.where(judged, late, 0.0)
    return RetryAfter(
        n=len(rejected),
        seconds=int((known & ~dated).sum()),
        dates=int(dated.sum()),
        unreadable=int(((code >= 0) & ~known).sum()),
        waits=_extent(np.maximum(wait[known], 0.0)),
        judged=int(judged.sum()),
        honest=int((judged & (early <= 0) & (late <= 0)).sum()),
        early=int((early > 0).sum()),
        late=int((late > 0).sum()),
        early_s=_lateness((requests.times[last] - over)[early > 0]),
        late_s=_lateness((over - again)[late > 0]),
    )


def _next_accepted(requests: RequestLog) -> Ints:
    """For each request, return the place of its limiter's next accepted request (maybe itself); n if there is none."""
    n = len(requests.times)
    place = np.arange(n)
    following = np.minimum.accumulate(np.where(requests.accepted, place, n)[::-1])[::-1]
    ends = np.append(requests.begins[1:], n)[np.searchsorted(requests.begins, place, side="right") - 1]
    return np.where(following < ends, following, n)


def _lateness(values: Floats) -> tuple[float | None, float | None, float] | None:
    found = distribution(values)
    if not found.n:
        return None
    return percentile(found, 0.5).value, percentile(found, 0.95).value, found.most


_NAMES_MOST: Final = 20


class RateHeaders(Result, frozen=True, kw_only=True):
    """Rate-limit headers of one limit's responses. ``n`` is the number of responses with such a header.

    Attributes:
        counts: number of responses by the limit that the header states.
        remaining: number of responses that state how many requests remain.
        held: number of these responses that can be checked: the next request to the limiter was answered, and was sent
            after this request and all earlier requests had ended.
        untrue: number of checked responses that state that requests remain although a 429 follows.
        spent_and_passed: number of checked responses that state that no request remains although an accepted request
            follows. The quota may have been renewed in between.
    """

    n: Count
    names: dict[str, Count]
    counts: dict[str, Count]
    remaining: Count
    held: Count
    untrue: Count
    spent_and_passed: Count


def rate_headers(requests: RequestLog, headers: dict[int, str]) -> RateHeaders:
    """Check the rate-limit headers of one limit's responses. ``headers`` is ``SentRequests.rate_headers``."""
    read = []
    for place in np.flatnonzero(np.isin(requests.place, list(headers))).tolist():
        lines = (line.partition(":") for line in headers[int(requests.place[place])].splitlines())
        read.append((place, {name.strip().lower(): value.strip() for name, _, value in lines}))
    names = Counter(name for _, fields in read for name in fields)
    stated = [[limit.count for limit in stated_limits(fields) if limit.count is not None] for _, fields in read]
    counts = Counter(str(each[0]) for each in stated if each)
    left = [(place, number) for place, fields in read if (number := left_of(fields)) is not None]
    places = np.array([place for place, _ in left], np.int64)
    remaining = np.array([number for _, number in left], np.int64)
    rejected = np.append(requests.rejected, False)[places + 1]
    # A response is not checked if earlier requests are in flight, because they may use quota later.
    following = np.minimum(places + 1, len(requests.times) - 1)
    busy = np.maximum.accumulate(requests.ends)[places] > requests.times[following]
    same = (following > places) & ~np.isin(following, requests.begins)
    shown = same & ~busy & requests.answered[following]
    return RateHeaders(
        n=len(read),
        names=dict(names.most_common(_NAMES_MOST)),
        counts=dict(counts.most_common(_NAMES_MOST)),
        remaining=len(left),
        held=int(shown.sum()),
        untrue=int((shown & (remaining > 0) & rejected).sum()),
        spent_and_passed=int((shown & (remaining == 0) & ~rejected).sum()),
    )


class Recovery(Result, frozen=True, kw_only=True):
    """Recovery of one limit after 429s: the time from sending a rejected request to sending the next accepted request.

    A recovery within a burst is left out, because the order of a burst's requests is unknown.

    Attributes:
        limiters: number of limiters that rejected a request.
        recovered: number of these limiters that accepted a later request.
        first_s: minimum, median and maximum recovery in s after a limiter's first 429; None if no limiter recovered.
        spells: number of uninterrupted series of 429s, over all limiters.
        spell_s: the same statistics of recoveries after the first 429 of each series that ended.
    """

    limiters: Count
    recovered: Count
    first_s: tuple[float, float, float] | None
    spells: Count
    spell_s: tuple[float, float, float] | None


def recovery(requests: RequestLog) -> Recovery:
    """Return how long one limit's limiters needed to accept a request again."""
    known = np.flatnonzero(requests.answered)
    rejected = requests.rejected[known]
    limiter = np.searchsorted(requests.begins, known, side="right")
    changes = np.diff(limiter, prepend=-1) != 0
    begun = rejected & (changes | ~np.concatenate((rejected[:1], rejected[:-1])))
    starts = known[begun]
    following = _next_accepted(requests)[starts]
    took = np.append(requests.times, np.nan)[following] - requests.times[starts]
    # Requests of a burst arrive in any order, so they show no recovery.
    crowded = np.append(in_bursts(requests.times)[1], False)
    shown = ~(crowded[starts] & crowded[following] & (took <= 2 * BURST_SPAN_S))
    whose = limiter[begun][shown]
    took = took[shown]
    first = np.diff(whose, prepend=-1) != 0
    ended = ~np.isnan(took)
    return Recovery(
        limiters=len(np.unique(limiter[rejected])),
        recovered=int((first & ended).sum()),
        first_s=_extent(took[first & ended]),
        spells=len(took),
        spell_s=_extent(took[ended]),
    )


def _extent(values: Floats) -> tuple[float, float, float] | None:
    return (float(values.min()), float(np.median(values)), float(values.max())) if len(values) else None


class Retries(Result, frozen=True, kw_only=True):
    """One traffic entry's operations with more than one attempt: their number, attempts and outcomes.

    ``time_to_success_ms`` is the response time of those that ended ok, including waits.
    """

    operations: Count
    attempts: Count
    ok: Count
    throttled: Count
    time_to_success_ms: Summary


class Retried:
    """Collects operations that took more than one attempt and are in figures."""

    def __init__(self, record: Record) -> None:
        entries = len(record.vocabulary.entries)
        self._names = record.vocabulary.entries
        self._counts = np.zeros((entries, len(OUTCOMES)), np.int64)
        self._attempts = np.zeros(entries, np.int64)
        self._times = Distributions(entries)

    def add(self, chunk: Chunk) -> None:
        rows = chunk.operations
        rows = rows.where(rows.floats("attempt") > 1)
        rows = rows.where(chunk.vocabulary.in_figures[rows.stage_index])
        if not len(rows):
            return
        traffic, outcome = rows.words("traffic"), rows.words("outcome")
        np.add.at(self._counts, (traffic, outcome), 1)
        np.add.at(self._attempts, traffic, rows.floats("attempt").astype(np.int64))
        self._times.add(rows.ok.words("traffic"), response_time(rows.ok))

    def result(self) -> dict[str, Retries]:
        return {
            name: Retries(
                operations=int(self._counts[entry].sum()),
                attempts=int(self._attempts[entry]),
                ok=int(self._counts[entry, OK]),
                throttled=int(self._counts[entry, THROTTLED]),
                time_to_success_ms=summarize(self._times.get([entry])),
            )
            for entry, name in enumerate(self._names)
        }
