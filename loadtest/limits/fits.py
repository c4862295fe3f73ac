"""Fits of limiters to the recorded decisions, and their comparison.

A limiter's loads show which recorded decisions contradict it. They also give the likelihood of all decisions.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from loadtest.arrays import Bools, Floats
from loadtest.limits import ALGORITHMS, LimiterSpec, at_once
from loadtest.limits.loads import LOADS, SLACK, Loads, RequestLog, bucket_loads
from loadtest.stats.shares import log10_at_most
from loadtest.units import Limit

_HELD_FROM_S: Final = 0.02
"""A queue is noticed only if it would delay a request by more than this, in s. A network delays by a few ms."""
_HELD_ENOUGH: Final = 10
"""``held`` returns a correlation only if at least this many requests would have waited for ``_HELD_FROM_S``."""


_ERROR: Final = 0.01
"""Assumed share of decisions that deviate by chance. It sets the penalty of a contradiction."""
BAR: Final = 0.95
"""Share of the decided 429s, and of the decided accepted requests, that a limiter must predict (docs/metrics.md)."""
_UNLIKELY: Final = -2.0
"""A limiter does not fit if log10 of the record's probability is lower than this, which stands for 1 in 100."""

SIGNIFICANT: Final = -3.0
"""A limiter or a value of a parameter is excluded if log10 of its probability is lower."""

Fitted = Literal["count", "burst", "shift", "rate", "phase"]


@dataclass(frozen=True, eq=False)
class Fit:
    """One limiter's fit to the recorded decisions. Counts include only requests with an answer.

    Attributes:
        fitted: the parameters fitted to the record.
        shift_s: the server's clock minus ours, for wall-aligned windows.
        right: decisions that the limiter predicts.
        wrongly_rejected: requests rejected although the limiter had room.
        wrongly_admitted: requests accepted although the limiter was exhausted.
        undecidable: requests that the limiter cannot predict within the tolerance of times. It decides the others.
        rejected: rejected requests among those that the limiter decides.
        accepted: accepted requests among those that the limiter decides.
        not_held: accepted requests that were faster than a queue's delay. They count as wrong.
        score: log-likelihood, minus half the logarithm of n for each fitted parameter (after Schwarz's criterion).
        wrong: whether each request's decision contradicts the limiter.
        bursts: the smallest and largest burst that fit equally well; None if only one burst was tried.
        counts: if the count was fitted, the smallest and largest count that the decisions do not exclude.
        rates: if the rate was fitted, the smallest and largest rate in requests/s that the decisions do not exclude.
        phases: if the phase was fitted, the earliest and latest phase in s. The earliest may be negative.
    """

    spec: LimiterSpec
    limit: Limit
    fitted: tuple[Fitted, ...]
    shift_s: float | None
    right: int
    wrongly_rejected: int
    wrongly_admitted: int
    undecidable: int
    rejected: int
    accepted: int
    not_held: int
    score: float
    wrong: Bools = field(repr=False)
    bursts: tuple[int, int] | None = None
    counts: tuple[int, int] | None = None
    rates: tuple[float, float] | None = None
    phases: tuple[float, float] | None = None

    @property
    def fits(self) -> bool:
        """Whether the limiter predicts ``BAR`` of the decided 429s, and of the decided accepted requests.

        Sampling error is allowed for. The result is False only if a limiter that predicts ``BAR`` would have so many
        contradictions with a probability below 1 %.
        """
        shares = ((self.wrongly_rejected, self.rejected), (self.wrongly_admitted + self.not_held, self.accepted))
        return (
            all(log10_at_most(n - wrong, n, BAR) >= _UNLIKELY for wrong, n in shares)
            and self.rejected + self.accepted > 0
        )

    @property
    def explained(self) -> float | None:
        """The smaller of the predicted shares of decided 429s and of decided accepted requests."""
        shares = []
        if self.rejected:
            shares.append(1 - self.wrongly_rejected / self.rejected)
        if self.accepted:
            shares.append(1 - (self.wrongly_admitted + self.not_held) / self.accepted)
        return max(0.0, min(shares)) if shares else None


def judge(
    requests: RequestLog,
    loads: Loads,
    threshold: int,
    spec: LimiterSpec,
    limit: Limit,
    *,
    fitted: tuple[Fitted, ...] = (),
    shift_s: float | None = None,
    unheld: Bools | None = None,
) -> Fit:
    """Compare one limiter's loads with the recorded decisions.

    Args:
        requests: the requests of one limit.
        loads: the limiter's loads.
        threshold: the highest load + 1 that the limiter accepts.
        spec: the limiter's specification.
        limit: the limit that it enforces.
        fitted: the parameters that were fitted.
        shift_s: as in ``Fit``.
        unheld: whether each request took less time than the limiter would have delayed it.
    """
    known, known_rejected = requests.known, requests.known & requests.rejected
    would_pass, would_not = loads[1] <= threshold + SLACK - 1, loads[0] > threshold + SLACK - 1
    unsure = known & ~(would_pass | would_not)
    rejected, admitted = known_rejected & would_pass, known & requests.accepted & would_not
    late = np.zeros_like(known) if unheld is None else unheld & known & ~admitted & ~unsure
    wrong, n, n_unsure = rejected | admitted | late, int(np.count_nonzero(known)), int(np.count_nonzero(unsure))
    n_wrong = int(np.count_nonzero(wrong))
    return Fit(
        spec=spec,
        limit=limit,
        fitted=fitted,
        shift_s=shift_s,
        right=n - n_wrong - n_unsure,
        wrongly_rejected=int(np.count_nonzero(rejected)),
        wrongly_admitted=int(np.count_nonzero(admitted)),
        undecidable=n_unsure,
        rejected=int(np.count_nonzero(known_rejected & ~unsure)),
        accepted=int(np.count_nonzero(known & requests.accepted & ~unsure)),
        not_held=int(np.count_nonzero(late)),
        score=_likelihood(n, n_wrong, n_unsure) - 0.5 * len(fitted) * math.log(max(n, 1)),
        wrong=wrong,
    )


def score(requests: RequestLog, loads: Loads, threshold: int) -> float:
    """Return the score that ``judge`` gives without fitted parameters."""
    edge, (accepted, rejected) = threshold + SLACK - 1, requests.decisions
    sides = [(side[accepted] > edge, side[rejected] > edge) for side in loads]
    (n_admitted, n_full), (n_not_sure, n_refused) = ([int(np.count_nonzero(each)) for each in side] for side in sides)
    n_wrong = n_admitted + len(rejected) - n_refused
    n_unsure = n_not_sure - n_admitted + n_refused - n_full
    return _likelihood(len(accepted) + len(rejected), n_wrong, n_unsure)


def _likelihood(n: int, wrong: int, unsure: int) -> float:
    return (n - wrong - unsure) * math.log(1 - _ERROR) + wrong * math.log(_ERROR) + unsure * math.log(0.5)


def threshold_bounds(requests: RequestLog, loads: Loads) -> tuple[Floats, Floats]:
    """Return the threshold that each accepted request needs, and the lowest that each rejection contradicts."""
    accepted, rejected = requests.decisions
    return np.ceil(loads[0][accepted] + 1 - SLACK), np.ceil(loads[1][rejected] + 1 - SLACK)


def sign_test(wins: int, losses: int) -> float:
    """Return log10 of the probability of at most ``losses`` heads if a fair coin is thrown wins + losses times."""
    return log10_at_most(losses, wins + losses, 0.5) if wins > losses else 0.0


def compare(one: Fit, other: Fit) -> tuple[int, int]:
    """Count the decisions that contradict only ``other``, and those that contradict only ``one``."""
    return int((other.wrong & ~one.wrong).sum()), int((one.wrong & ~other.wrong).sum())


def beats(one: Fit, other: Fit) -> bool:
    """Whether one limiter explains significantly more decisions than another."""
    return one.score > other.score and sign_test(*compare(one, other)) <= SIGNIFICANT


def best_threshold(requests: RequestLog, loads: Loads) -> int:
    """Return the smallest threshold that the fewest decisions contradict."""
    needs, refutes = threshold_bounds(requests, loads)
    most = int(needs.max(initial=1)) + 1
    needed = np.bincount(needs.astype(np.int64), minlength=most + 1)[: most + 1]
    refuted = np.bincount(refutes[refutes <= most].astype(np.int64), minlength=most + 1)
    cost = needed.sum() - np.cumsum(needed) + np.cumsum(refuted)
    return int(np.argmin(cost[1:])) + 1


def may_fit(requests: RequestLog, loads: Loads) -> bool:
    """Whether any of several limiters may fit with some threshold. ``loads`` bound the loads of all these limiters."""
    needs, refutes = threshold_bounds(requests, loads)
    many = [
        bisect_left(range(n + 1), True, key=lambda wrong, n=n: log10_at_most(n - wrong, n, BAR) < _UNLIKELY)  # type: ignore[misc]
        for n in (len(needs), len(refutes))
    ]
    # Of the thresholds that few accepted requests contradict, the smallest has the fewest contradicting rejections.
    threshold = np.sort(np.append(needs, 1.0))[-many[0]]
    return bool(np.count_nonzero(refutes <= threshold) < many[1])


def compare_with(requests: RequestLog, spec: LimiterSpec, shift: float) -> Fit:
    """Compare one limiter with the record. The limiter has the assumed count.

    Args:
        requests: the requests of one limit.
        spec: the limiter's specification.
        shift: the server's clock minus ours, in s. Only wall-aligned windows depend on it.
    """
    limit, algorithm = requests.limit, ALGORITHMS[spec.algorithm]
    loads = LOADS[algorithm.name](requests, spec, limit, shift)
    unheld = unheld_by_queue(requests, loads, limit) if algorithm.holds else None
    shift_s = shift if spec.on_clock else None
    return judge(requests, loads, at_once(spec, limit), spec, limit, shift_s=shift_s, unheld=unheld)


def unheld_by_queue(requests: RequestLog, loads: Loads, limit: Limit) -> Bools:
    """Return which accepted requests were answered before a queue would have released them."""
    # Requests that were sent earlier, but within the tolerance, may have arrived later.
    back = np.searchsorted(requests.times, requests.times - requests.tolerance_s, side="left")
    swapped = requests.passed.least[:-1] - requests.passed.least[back]
    wait = (loads[0] - swapped) / limit.rate
    took = requests.ends - requests.times
    return requests.accepted & (wait > _HELD_FROM_S) & (took < 0.98 * wait - requests.tolerance_s)


def held(requests: RequestLog) -> float | None:
    """Return the correlation between accepted requests' durations and their position in a queue.

    Returns:
        Pearson's correlation. It is None if too few requests would have waited in the queue.
    """
    wait = bucket_loads(requests, requests.limit.rate)[0] / requests.limit.rate
    passed = requests.accepted & requests.judged
    waits, took = wait[passed], (requests.ends - requests.times)[passed]
    if (waits > _HELD_FROM_S).sum() < _HELD_ENOUGH or not waits.std() or not took.std():
        return None
    return float(np.corrcoef(waits, took)[0, 1])
