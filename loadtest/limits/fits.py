"""How each limiter explains the decisions that were seen: of every algorithm, with its variants and bursts.

A limiter's loads, compared with what was seen, show which decisions contradict it and how likely it makes them all.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

from loadtest.arrays import Bools
from loadtest.limits import ALGORITHMS, LimiterSpec, at_once
from loadtest.limits.loads import LOADS, SLACK, Loads, RequestLog, bucket_loads
from loadtest.stats.shares import log10_at_most
from loadtest.units import Limit

_STEPS: Final = 31
"""Shifts of the server's clock in each of two grids: 0.04 s apart for the 0.6 s of an unknown clock, then 15 times
finer."""
_PHASED: Final = 10_000
"""Requests on which the phase of wall-aligned windows is fitted, which is the same all along: a bound on time."""
_NEAR_RATED: Final = 2000
"""Requests to which a rate near the documented one is fitted: nginx's is one request off after a hundred."""
_HELD_FROM_S: Final = 0.02
"""Seconds of waiting from which it can be seen whether requests were held: well above a network's few ms."""
_HELD_ENOUGH: Final = 10
"""Requests that waited so long from which a correlation is told."""
_TOGETHER_S: Final = 0.02
"""Seconds between the first and the last request of a burst, at most: as in `sent_requests._BURST_SPAN_S`."""
_BURSTS_MOST: Final = 6
"""Bursts that are tried where it is not clear which requests passed: a bound on time."""


_ERROR: Final = 0.01
"""Share of decisions that come out otherwise for reasons of their own: what a contradiction is charged with."""
BAR: Final = 0.95
"""Share of the decided 429s, and of the decided accepted requests, that a limiter has to predict: ARCHITECTURE.md,
"inferred limiter"."""
_UNLIKELY: Final = -2.0
"""log10 of the probability of what was seen, below which a limiter does not fit: once in a hundred times."""

Fitted = Literal["count", "burst", "shift", "rate"]


@dataclass(frozen=True, eq=False)
class Fit:
    """How one limiter explains what was seen. Counts are of requests that were answered, by the record.

    Attributes:
        fitted: which of its numbers were fitted to what was seen: ``count``, ``burst``, ``shift``, ``rate``.
        shift_s: the server's clock minus ours, where windows are wall-aligned.
        right: decisions that it predicts.
        wrongly_rejected: rejected, though it had room.
        wrongly_admitted: accepted, though it had none.
        undecidable: about which it says nothing, within the tolerance of times.
        rejected: of the decided ones, those that were rejected.
        accepted: of the decided ones, those that were accepted.
        not_held: accepted ones that a queue would have held for longer than they took; they count as wrong.
        score: log-likelihood, less half the logarithm of n for each fitted number (after Schwarz's criterion).
        wrong: for each request that was asked, whether its decision contradicts the limiter.
        bursts: the least and the greatest burst that fits as well; None where only one was looked at.
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

    @property
    def fits(self) -> bool:
        """Whether it predicts ``BAR`` of the decided 429s and of the decided accepted ones, as far as n can tell.

        It does not where so many are contradicted as would be once in a hundred times if that were its true share.
        """
        shares = ((self.wrongly_rejected, self.rejected), (self.wrongly_admitted + self.not_held, self.accepted))
        return (
            all(log10_at_most(n - wrong, n, BAR) >= _UNLIKELY for wrong, n in shares)
            and self.rejected + self.accepted > 0
        )

    @property
    def explained(self) -> float | None:
        """The lesser of the shares of decided 429s and of decided accepted requests that it predicts."""
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
    """Compare one limiter's loads with what was seen.

    Args:
        requests: of one limit.
        loads: of the limiter.
        threshold: load + 1 up to which it lets a request pass.
        spec: of the limiter.
        limit: that it enforces.
        fitted: which of its numbers were fitted.
        shift_s: as in ``Fit``.
        unheld: requests that it would have held for longer than they took.
    """
    known = requests.judged & requests.answered
    would_pass, would_not = loads[1] + 1 <= threshold + SLACK, loads[0] + 1 > threshold + SLACK
    unsure = known & ~would_pass & ~would_not
    rejected, admitted = known & requests.rejected & would_pass, known & requests.accepted & would_not
    late = np.zeros_like(known) if unheld is None else unheld & known & ~admitted & ~unsure
    wrong, n, n_unsure = rejected | admitted | late, int(known.sum()), int(unsure.sum())
    n_wrong = int(wrong.sum())
    return Fit(
        spec=spec,
        limit=limit,
        fitted=fitted,
        shift_s=shift_s,
        right=n - n_wrong - n_unsure,
        wrongly_rejected=int(rejected.sum()),
        wrongly_admitted=int(admitted.sum()),
        undecidable=n_unsure,
        rejected=int((known & requests.rejected & ~unsure).sum()),
        accepted=int((known & requests.accepted & ~unsure).sum()),
        not_held=int(late.sum()),
        score=_likelihood(n - n_wrong - n_unsure, n_wrong, n_unsure) - 0.5 * len(fitted) * math.log(max(n, 1)),
        wrong=wrong,
    )


def _likelihood(right: int, wrong: int, unsure: int) -> float:
    return right * math.log(1 - _ERROR) + wrong * math.log(_ERROR) + unsure * math.log(0.5)


def best_threshold(requests: RequestLog, loads: Loads) -> int:
    """The threshold that contradicts the fewest decisions; the least of several."""
    known = requests.judged & requests.answered
    # An accepted one needs load + 1 ≤ T; a rejected one is contradicted where load + 1 ≤ T.
    needs = np.ceil(loads[0][known & requests.accepted] + 1 - SLACK)
    refutes = np.ceil(loads[1][known & requests.rejected] + 1 - SLACK)
    most = int(needs.max(initial=1)) + 1
    needed = np.bincount(needs.astype(np.int64), minlength=most + 1)[: most + 1]
    refuted = np.bincount(np.minimum(refutes, most + 1).astype(np.int64), minlength=most + 2)[: most + 1]
    cost = needed.sum() - np.cumsum(needed) + np.cumsum(refuted)
    return int(np.argmin(cost[1:])) + 1


def candidates(requests: RequestLog, assumed: LimiterSpec, offset: float, reach: float) -> list[Fit]:
    """Compare every algorithm with what was seen; also with numbers that fit better, where there are such.

    Args:
        requests: of one limit.
        assumed: its burst is tried as well.
        offset: the server's clock minus ours, in s.
        reach: by how much that may be wrong.
    """
    fits = [
        *_without_burst(requests, offset, reach, windowed=True),
        *_with_burst(requests, assumed),
        *_without_burst(requests, offset, reach, windowed=False),
    ]
    return sorted(fits, key=lambda fit: -fit.score)


def compare_with(requests: RequestLog, spec: LimiterSpec, shift: float) -> Fit:
    """Compare one limiter, with the count that is assumed, with all that was seen.

    Args:
        requests: of one limit.
        spec: of the limiter.
        shift: the server's clock minus ours, in s; only wall-aligned windows depend on it.
    """
    limit, algorithm = requests.limit, ALGORITHMS[spec.algorithm]
    loads = LOADS[algorithm.name](requests, spec, limit, shift)
    unheld = _unheld(requests, loads, limit) if algorithm.holds else None
    shift_s = shift if algorithm.aligned else None
    return judge(requests, loads, at_once(spec, limit), spec, limit, shift_s=shift_s, unheld=unheld)


def _without_burst(requests: RequestLog, offset: float, reach: float, *, windowed: bool) -> Iterator[Fit]:
    """Windows, those that begin by the server's clock last; or whatever has neither windows nor a burst."""
    wanted = [each for each in ALGORITHMS.values() if each.windowed == windowed and not each.has_burst]
    for algorithm in sorted(wanted, key=lambda each: each.aligned):
        for rejected in algorithm.variants:
            spec = LimiterSpec(algorithm.name, count_rejected=rejected)
            if algorithm.aligned:
                yield from _aligned(requests, spec, offset, reach)
            else:
                yield from _counted(requests, spec, LOADS[algorithm.name](requests, spec, requests.limit, 0.0))


def _counted(requests: RequestLog, spec: LimiterSpec, loads: Loads, shift: float | None = None) -> Iterator[Fit]:
    limit = requests.limit
    more: tuple[Fitted, ...] = () if shift is None else ("shift",)
    yield judge(requests, loads, limit.count, spec, limit, shift_s=shift, fitted=more)
    count = best_threshold(requests, loads)
    if count != limit.count:
        other = replace(limit, count=count)
        yield judge(requests, loads, count, spec, other, shift_s=shift, fitted=("count", *more))


def _aligned(requests: RequestLog, spec: LimiterSpec, offset: float, reach: float) -> Iterator[Fit]:
    """Where windows are wall-aligned: at the shift of the clock that explains most, near to what is known of it."""
    first = int(np.argmax(requests.rejected))
    some, loads = requests.part(max(0, first - _PHASED // 4), _PHASED), LOADS[ALGORITHMS[spec.algorithm].name]
    tried: dict[float, tuple[float, float]] = {}
    for wanted in (0, 1):  # the documented count has a phase of its own
        step, centre, width = 0.0, offset, reach
        for _ in range(2):
            step = 2 * width / (_STEPS - 1)
            for shift in np.clip(centre + np.linspace(-width, width, _STEPS), offset - reach, offset + reach).tolist():
                if shift not in tried:
                    tried[shift] = _scores(some, loads(some, spec, some.limit, shift), spec)
            centre = max(tried, key=lambda shift: (tried[shift][wanted], -abs(shift - offset)))
            width = step
        fits = list(_counted(requests, spec, loads(requests, spec, requests.limit, centre), centre))
        yield from fits[wanted : wanted + 1]


def _scores(requests: RequestLog, loads: Loads, spec: LimiterSpec) -> tuple[float, float]:
    documented, best = requests.limit.count, best_threshold(requests, loads)
    score = judge(requests, loads, documented, spec, requests.limit).score
    return score, score if best == documented else judge(requests, loads, best, spec, requests.limit).score


def _with_burst(requests: RequestLog, assumed: LimiterSpec) -> Iterator[Fit]:
    """Buckets, some of which decide alike, and some of which hold what passes."""
    limit = requests.limit
    rates: list[tuple[Limit, tuple[Fitted, ...]]] = [
        (limit, ()),
        *((each, ("count",)) for each in _other_rate(requests)),
        *((each, ("rate",)) for each in _near_rate(requests)),
    ]
    for each, fitted in rates:
        loads = bucket_loads(requests, each.rate)
        bursts = _bursts(limit, assumed, best_threshold(requests, loads))
        yield from _each_burst(requests, each, bursts, fitted, loads)
        may = [_bursts(limit, assumed, best) for best in _first_bursts(requests, loads)]
        yield from _each_burst(requests, each, {burst: of for some in may for burst, of in some.items()}, fitted, None)


def _each_burst(
    requests: RequestLog,
    limit: Limit,
    bursts: dict[int, tuple[Fitted, ...]],
    fitted: tuple[Fitted, ...],
    loads: Loads | None,
) -> Iterator[Fit]:
    """All that have a burst; without loads those that count rejected requests, whose loads depend on the burst."""
    counting = loads is None
    buckets = [each for each in ALGORITHMS.values() if each.has_burst and counting in each.variants]
    unheld = None if loads is None else _unheld(requests, loads, limit)
    for burst, of_burst in bursts.items():
        specs = {each: LimiterSpec(each.name, burst, counting) for each in buckets}
        own = loads or LOADS[buckets[0].name](requests, specs[buckets[0]], limit, 0.0)
        alike = judge(requests, own, burst, specs[buckets[0]], limit, fitted=(*fitted, *of_burst))
        for algorithm, spec in specs.items():
            if algorithm.holds:
                yield judge(requests, own, burst, spec, limit, fitted=(*fitted, *of_burst), unheld=unheld)
            else:
                yield replace(alike, spec=spec)


def _bursts(limit: Limit, assumed: LimiterSpec, best: int) -> dict[int, tuple[Fitted, ...]]:
    """The bursts that are tried, and whether they were fitted: the algorithms' own, the assumed and the best one."""
    own = [each.default_burst(limit) for each in ALGORITHMS.values() if each.default_burst]
    known = dict.fromkeys([*own, *([assumed.burst] if assumed.burst else [])], ())
    fitted: dict[int, tuple[Fitted, ...]] = {best: ("burst",)}
    return {**fitted, **known}


def _first_bursts(requests: RequestLog, loads: Loads) -> range:
    """The bursts that may have passed when the first request was rejected: until then, rejected ones do not matter."""
    first = int(np.argmax(requests.rejected)) if requests.rejected.any() else len(requests.times) - 1
    # Requests that left together reach the server in any order.
    later = int(np.searchsorted(requests.times, requests.times[first] + _TOGETHER_S))
    least, most = (
        max(1, math.ceil(float(loads[0][:end][requests.accepted[:end]].max(initial=0.0)) - SLACK) + 1)
        for end in (first, later)
    )
    return range(max(least, most - _BURSTS_MOST + 1), most + 1)


def _other_rate(requests: RequestLog) -> list[Limit]:
    """The rate at which requests passed while others were being rejected, where it is another than the documented."""
    limit, places = requests.limit, np.flatnonzero(requests.rejected)
    gaps, passed = np.diff(requests.times[places]), np.diff(requests.passed.least[places])
    dense = gaps < max(limit.window / 4, 3 / limit.rate)
    if gaps[dense].sum() < limit.window / 2:
        return []
    count = round(float(passed[dense].sum() / gaps[dense].sum()) * limit.window)
    # A few per cent off is what any other limiter's rate is, too: no other count is suggested by it.
    return [] if count < 1 or abs(count - limit.count) <= 0.03 * limit.count else [replace(limit, count=count)]


def _near_rate(requests: RequestLog) -> list[Limit]:
    """A rate within 2 % of the documented one, where that one explains too little and another much more.

    Some keep rates in whole thousandths of a request a second and cut what has run off (nginx does): after a hundred
    requests that is a whole one.
    """
    some, limit = requests.part(0, _NEAR_RATED), requests.limit
    spec = LimiterSpec("token-bucket")

    def fit(factor: float) -> tuple[float, bool]:
        loads = bucket_loads(some, limit.rate * factor)
        best = judge(some, loads, best_threshold(some, loads), spec, limit, fitted=("burst",))
        return best.score, best.fits

    if fit(1.0)[1]:
        return []
    factors = {float(factor): fit(float(factor)) for factor in 1 + np.linspace(-0.02, 0.02, 161)}
    factor = max(factors, key=lambda each: (factors[each][0], -abs(each - 1)))
    return [replace(limit, window=limit.window / factor)] if factors[factor][1] else []


def _unheld(requests: RequestLog, loads: Loads, limit: Limit) -> Bools:
    """Accepted requests that were answered before a queue would have let them out."""
    # Those that were sent just before may have come after it.
    back = np.searchsorted(requests.times, requests.times - requests.tolerance_s, side="left")
    swapped = requests.passed.least[:-1] - requests.passed.least[back]
    wait = (loads[0] - swapped) / limit.rate
    took = requests.ends - requests.times
    return requests.accepted & (wait > _HELD_FROM_S) & (took < 0.98 * wait - requests.tolerance_s)


def held(requests: RequestLog) -> float | None:
    """How closely the time that accepted requests took follows their place in a queue.

    Returns:
        Pearson's correlation; None where there are too few that would have had to wait.
    """
    wait = bucket_loads(requests, requests.limit.rate)[0] / requests.limit.rate
    passed = requests.accepted & requests.judged
    waits, took = wait[passed], (requests.ends - requests.times)[passed]
    if (waits > _HELD_FROM_S).sum() < _HELD_ENOUGH or not waits.std() or not took.std():
        return None
    return float(np.corrcoef(waits, took)[0, 1])
