"""Shares of a count: intervals, log odds, exact tail probabilities, and tests of a difference.

Each ``EventCount`` has expected log odds, for example those of 429s under a known limiter. ``common_log_odds``
estimates one difference between actual and expected log odds for all counts, by maximum likelihood (McCullagh & Nelder,
"Generalized Linear Models", 1989, §4.4).
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from loadtest.arrays import Floats

_SMALL: Final = 1e-290
"""Probabilities below this are summed as logarithms, because they are near the smallest float."""
_UNLIKELY: Final = -3.0
"""A difference is significant if log10 of its probability by chance is at most this (1 in 1,000)."""
_STEPS: Final = 25
"""Maximum number of steps of Newton's method. Three or four are usually enough."""


def wilson(share: float, n: float, z: float) -> tuple[float, float]:
    """Return the score interval of a share of n (Wilson, 1927), for a normal or Student deviate z."""
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # The bounds are exact at 0 and 1, where rounding could put the share outside its interval.
    low = 0.0 if share <= 0 else max(0.0, (middle - half) / (1 + z * z / n))
    return low, 1.0 if share >= 1 else min(1.0, (middle + half) / (1 + z * z / n))


def clopper_pearson(count: int, of: int) -> float:
    """Return the one-sided upper 95 % bound of the share ``count`` ÷ ``of`` (Clopper and Pearson, 1934)."""
    if count >= of:
        return 1.0
    from scipy.special import betaincinv  # noqa: PLC0415 - slow to import, and `--help` does not need it

    return float(betaincinv(count + 1, of - count, 0.95))


def log10_at_most(k: int, n: int, p: float) -> float:
    """Return log10 of the binomial probability of at most k events among n, for 0 < p < 1."""
    from scipy.special import bdtr, gammaln, logsumexp  # noqa: PLC0415 - slow to import

    if k >= n:
        return 0.0
    probability = float(bdtr(k, n, p))
    if probability > _SMALL:
        return math.log10(probability)
    j = np.arange(k + 1)
    terms = gammaln(n + 1) - gammaln(j + 1) - gammaln(n - j + 1) + j * math.log(p) + (n - j) * math.log1p(-p)
    return float(logsumexp(terms)) / math.log(10)


def more_often(during: tuple[int, int], apart: tuple[int, int]) -> bool:
    """Whether events are significantly more frequent in one period than in another (p ≤ 0.001).

    Each period is (n, events). By chance, the probability that an event falls into a period is proportional to its n.
    """
    total, share = during[1] + apart[1], during[0] / (during[0] + apart[0])
    # If the first period has at least k events, the other has at most total − k.
    return total > 0 and during[1] > total * share and log10_at_most(apart[1], total, 1 - share) <= _UNLIKELY


def logit(share: float) -> float:
    """Return the log odds, ln(p ÷ (1 − p)), of a share p above 0 and below 1."""
    return math.log(share) - math.log1p(-share)


def expit(log_odds: float) -> float:
    """Return the share with these log odds."""
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0  # below this, exp overflows


def share_score(events: float, n: float) -> float:
    """Return the log odds of a share, with half an event and half a non-event added (Haldane–Anscombe)."""
    return logit((events + 0.5) / (n + 1))


def share_scores(events: Floats, n: Floats) -> Floats:
    """Return the ``share_score`` of each pair of two arrays."""
    return np.asarray(np.log((events + 0.5) / (n - events + 0.5)))


class EventCount(NamedTuple):
    """The number of events among n. ``offset`` is the expected log odds; 0 without an expectation."""

    events: float
    n: float
    offset: float

    @property
    def variance(self) -> float:
        """Variance of the log odds of k events by counting error: 1 ÷ (k + ½) + 1 ÷ (n − k + ½) (Haldane–Anscombe)."""
        return 1 / (self.events + 0.5) + 1 / (self.n - self.events + 0.5)


def pooled(counts: Sequence[EventCount]) -> Sequence[EventCount]:
    """Add up counts if their expected log odds are equal."""
    offset = counts[0].offset
    if any(one.offset != offset for one in counts):
        return counts
    return [EventCount(sum(one.events for one in counts), sum(one.n for one in counts), offset)]


def common_log_odds(counts: Sequence[EventCount], *, half: bool = False) -> float:
    """Return the maximum-likelihood difference between log odds and offset, common to all counts.

    It is −∞ if no value is an event, and ∞ if all are. ``half`` adds half an event and half a non-event, which makes
    the result finite.
    """
    events, n = sum(one.events for one in counts), sum(one.n for one in counts)
    more, of = (0.5, 1.0) if half else (0.0, 0.0)
    if events + more <= 0:
        return -math.inf
    if events + more >= n + of:
        return math.inf
    found = logit((events + more) / (n + of)) - sum(one.n * one.offset for one in counts) / n
    if all(one.offset == counts[0].offset for one in counts):
        return found
    for _ in range(_STEPS):
        # Newton's method; the log likelihood is concave.
        expected = sum(one.n * expit(found + one.offset) for one in counts)
        step = (events + more - expected * (1 + of / n)) / information(counts, found)
        found += min(max(step, -2.0), 2.0)
        if abs(step) < 1e-9:
            break
    return found


def information(counts: Sequence[EventCount], log_odds: float, *, half: bool = False) -> float:
    """Return the inverse variance of log odds: Σ n·p·(1 − p), where p is the share expected in a count of n.

    ``half`` adds half an event and half a non-event.
    """
    total = sum(one.n * (p := expit(log_odds + one.offset)) * (1 - p) for one in counts)
    return max(total * (1 + 1 / sum(one.n for one in counts)) if half else total, 1e-12)


def fisher_deviate(base: EventCount, head: EventCount, *, better: bool) -> float:
    """Return Fisher's exact one-sided p as a normal deviate: positive for more events in head (fewer if ``better``)."""
    from scipy.special import gammaln, ndtri  # noqa: PLC0415 - slow to import

    here, n, others = round(head.events), round(head.n), round(base.n)
    events = here + round(base.events)
    k = np.arange(max(0, events - others), here + 1) if better else np.arange(here, min(events, n) + 1)
    ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    ways += gammaln(others + 1) - gammaln(events - k + 1) - gammaln(others - events + k + 1)
    total = gammaln(n + others + 1) - gammaln(events + 1) - gammaln(n + others - events + 1)
    p = float(np.exp(ways - total).sum())
    return -float(ndtri(min(max(p, 1e-300), 1 - 1e-16)))


def deviance_root(base: Sequence[EventCount], head: Sequence[EventCount], log_odds: float) -> float:
    """Return the signed root of the deviance from common log odds; positive if head has more events than expected.

    If the sides differ only by chance, it is approximately standard normal. Up to half an event is moved between the
    sides towards the expected counts (Yates' correction for continuity).
    """
    from scipy.special import kl_div  # noqa: PLC0415 - slow to import

    sums = [(sum(each.events for each in side), sum(each.n for each in side)) for side in (base, head)]
    expected = [sum(each.n * expit(log_odds + each.offset) for each in side) for side in (base, head)]
    excess = sums[1][0] - expected[1]
    moved = math.copysign(max(0.0, abs(excess) - 0.5), excess)
    total = 0.0
    for (_, n), mean, by in zip(sums, expected, (-moved, moved), strict=True):
        events = min(max(mean + by, 0.0), n)
        total += float(kl_div(events, mean) + kl_div(n - events, n - mean))
    return math.copysign(math.sqrt(2 * total), moved)
