"""What answers said of a limit in headers of other names than ``Retry-After``, and whether that was true."""

import re
from collections import Counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.admission import Asked
from loadtest.analysis.results import Count, Result

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
        remaining: answers that told how many requests remain.
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


def rate_headers(asked: Asked, told: dict[int, str]) -> RateHeaders:
    """Look at the headers of one limit's answers.

    Args:
        asked: of the limit.
        told: the headers by place of the request, each as ``name: value``, one a line.
    """
    having = np.flatnonzero(np.isin(asked.place, list(told)))
    mine = [(place, told[row]) for place, row in zip(having.tolist(), asked.place[having].tolist(), strict=True)]
    names = Counter(line.partition(":")[0].strip().lower() for _, text in mine for line in text.splitlines())
    counts = Counter(found[1] or found[2] for _, text in mine if (found := _COUNT.search(text)))
    left = [(place, int(found[1] or found[2])) for place, text in mine if (found := _REMAINING.search(text))]
    places = np.array([place for place, _ in left], np.int64)
    remaining = np.array([number for _, number in left], np.int64)
    shown = _shown(asked, places)
    refused = asked.refused[np.minimum(places + 1, max(0, len(asked.times) - 1))] if len(places) else shown
    return RateHeaders(
        n=len(mine),
        names=dict(names.most_common(_NAMES_MOST)),
        counts=dict(counts.most_common(_NAMES_MOST)),
        remaining=len(left),
        held=int(shown.sum()),
        untrue=int((shown & (remaining > 0) & refused).sum()),
        spent_and_passed=int((shown & (remaining == 0) & ~refused).sum()),
    )


def _shown(asked: Asked, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the limiter's next request came after this one's answer, and was answered, and nothing in between."""
    following = places + 1
    there = following < len(asked.times)
    following = np.minimum(following, max(0, len(asked.times) - 1))
    if not len(places):
        return np.zeros(0, bool)
    # One that is still under way, sent before, may draw on the limit later than this one did.
    busy = np.maximum.accumulate(asked.ends)[places] > asked.times[following]
    same = ~np.isin(following, asked.begins)
    sound: NDArray[np.bool_] = there & same & ~busy & asked.answered[following]
    return sound
