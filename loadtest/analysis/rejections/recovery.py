"""What came with a limit's 429s and after them: Retry-After and other headers, recovery, retries.

A wait is compared with when that limiter passed a request again. When room came is known only to lie between the last
request that was rejected and the first that passed. A wait that ends before the former was too short, one that ends
after the latter too long; whole seconds are rounded up, so that a second too long is honest.
"""

import re
from collections import Counter
from datetime import datetime
from typing import Final

import msgspec
import numpy as np

from loadtest.analysis.columns import OK, OUTCOMES
from loadtest.analysis.distribution import Distributions, distribution, percentile, summarize
from loadtest.analysis.reader import Chunk
from loadtest.analysis.results import Count, Result, Summary
from loadtest.analysis.run_record import Record
from loadtest.analysis.times import response_time
from loadtest.arrays import Bools, Floats, Ints
from loadtest.contract import Outcome
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
    rejected = np.flatnonzero(requests.rejected & requests.judged)
    waits, dates = readings(words)
    code = codes[rejected]
    wait, date = waits[code], dates[code]
    dated = ~np.isnan(date)
    wait = np.where(dated, date - offset - unix_s[rejected], wait)
    known = ~np.isnan(wait)
    last, again = _room(requests)
    # A wait in seconds counts from the answer; what the way back took is within the tolerance of a request's own.
    over = np.where(dated, requests.times[rejected] + wait, requests.ends[rejected] + wait)
    slack = requests.tolerance_s + np.where(dated, unsure_s, 0.0)
    judged = known & np.isfinite(again[rejected])
    early = np.where(judged, last[rejected] - over - slack, 0.0)
    late = np.where(judged, over - again[rejected] - slack - ROUNDED_S, 0.0)
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
        early_s=_lateness((last[rejected] - over)[early > 0]),
        late_s=_lateness((over - again[rejected])[late > 0]),
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


def _lateness(values: Floats) -> tuple[float | None, float | None, float] | None:
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
    rejected = np.append(requests.rejected, False)[places + 1]
    return RateHeaders(
        n=len(carried),
        names=dict(names.most_common(_NAMES_MOST)),
        counts=dict(counts.most_common(_NAMES_MOST)),
        remaining=len(left),
        held=int(shown.sum()),
        untrue=int((shown & (remaining > 0) & rejected).sum()),
        spent_and_passed=int((shown & (remaining == 0) & ~rejected).sum()),
    )


def _shown(requests: RequestLog, places: Ints) -> Bools:
    """Whether the limiter's next request came after this one's answer, and was answered, and nothing in between."""
    following = np.minimum(places + 1, len(requests.times) - 1)
    # One that is still under way, sent before, may draw on the limit later than this one did.
    busy = np.maximum.accumulate(requests.ends)[places] > requests.times[following]
    same = (following > places) & ~np.isin(following, requests.begins)
    return np.asarray(same & ~busy & requests.answered[following])


_THROTTLED: Final = OUTCOMES.index(Outcome.THROTTLED)


class Recovery(Result, frozen=True, kw_only=True):
    """Of one limit. Times in s, from the sending of a 429's request to that of the next that passed.

    Attributes:
        limiters: that refused a request.
        recovered: of these, those that accepted one afterwards.
        first_s: from the first 429 on, over limiters: least, median, most; None if none recovered.
        spells: times of nothing but 429s, of all limiters together.
        spell_s: how long they were, of those that ended: least, median, most; None without any.
    """

    limiters: Count
    recovered: Count
    first_s: tuple[float, float, float] | None
    spells: Count
    spell_s: tuple[float, float, float] | None


def recovery(requests: RequestLog) -> Recovery:
    """How soon the limiters of one limit let requests pass again."""
    known = np.flatnonzero(requests.answered)
    times, rejected = requests.times[known], requests.rejected[known]
    limiter = np.searchsorted(requests.begins, known, side="right")
    changes = np.diff(limiter, prepend=-1) != 0
    starts = np.flatnonzero(rejected & (changes | ~np.concatenate((rejected[:1], rejected[:-1]))))
    passes = np.flatnonzero(~rejected)
    following = np.append(passes, len(known))[np.searchsorted(passes, starts)]
    ended = np.append(limiter, -1)[following] == limiter[starts]
    took = np.append(times, np.nan)[following] - times[starts]
    first = np.diff(limiter[starts], prepend=-1) != 0
    return Recovery(
        limiters=int(first.sum()),
        recovered=int((first & ended).sum()),
        first_s=_extent(took[first & ended]),
        spells=len(starts),
        spell_s=_extent(took[ended]),
    )


def _extent(values: Floats) -> tuple[float, float, float] | None:
    return (float(values.min()), float(np.median(values)), float(values.max())) if len(values) else None


class Retries(Result, frozen=True, kw_only=True):
    """Operations of one traffic entry that tried again after a refusal.

    Attributes:
        operations: those of which more than one first request was sent.
        attempts: first requests that these sent, all together.
        ok: of the operations, those that ended well.
        throttled: those that gave up.
        time_to_success_ms: response time of those that ended well, waiting included.
    """

    operations: Count
    attempts: Count
    ok: Count
    throttled: Count
    time_to_success_ms: Summary


class Retried:
    """Gathers what operations in figures did that took more than one attempt."""

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
                throttled=int(self._counts[entry, _THROTTLED]),
                time_to_success_ms=summarize(self._times.get([entry])),
            )
            for entry, name in enumerate(self._names)
        }
