"""Fits of every algorithm, with its variants and bursts, to the recorded decisions.

A limiter's loads, compared with the record, show which decisions contradict it, and give the likelihood of all of them.
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
"""Clock shifts in each of two grids: 0.04 s apart over the 0.6 s uncertainty of an unknown clock, then 15 times finer.
"""
_PHASED: Final = 10_000
"""Maximum number of requests used to fit the phase of wall-aligned windows, which is constant: bounds the run time."""
_NEAR_RATED: Final = 2000
"""Requests used to fit a rate near the documented one; nginx's rate is off by one request in a hundred."""
_HELD_FROM_S: Final = 0.02
"""Minimum waiting time in seconds that reveals a queue: well above a network's few ms."""
_HELD_ENOUGH: Final = 10
"""Minimum number of requests that waited this long for a correlation to be reported."""
_TOGETHER_S: Final = 0.02
"""Maximum seconds between the first and last request of a burst, as in `sent_requests._BURST_SPAN_S`."""
_BURSTS_MOST: Final = 6
"""Maximum number of burst sizes tried where it is unclear which requests were accepted: bounds the run time."""


_ERROR: Final = 0.01
"""Assumed share of decisions that deviate by chance: the penalty of a contradiction."""
BAR: Final = 0.95
"""Share of the decided 429s, and of the decided accepted requests, that a limiter has to predict: ARCHITECTURE.md,
"inferred limiter"."""
_UNLIKELY: Final = -2.0
"""log10 of the probability of the record below which a limiter does not fit: 1 in 100."""

Fitted = Literal["count", "burst", "shift", "rate"]


@dataclass(frozen=True, eq=False)
class Fit:
    """One limiter's fit to the recorded decisions. Counts include only requests with an answer.

    Attributes:
        fitted: the parameters fitted to the record: ``count``, ``burst``, ``shift``, ``rate``.
        shift_s: the server's clock minus ours, for wall-aligned windows.
        right: decisions that the limiter predicts.
        wrongly_rejected: requests rejected although the limiter had room.
        wrongly_admitted: requests accepted although the limiter was exhausted.
        undecidable: requests that the limiter cannot predict within the tolerance of times.
        rejected: rejected requests among those decided.
        accepted: accepted requests among those decided.
        not_held: accepted requests that took less time than a queue would have held them; they count as wrong.
        score: log-likelihood, minus half the logarithm of n for each fitted parameter (after Schwarz's criterion).
        wrong: whether each request's decision contradicts the limiter.
        bursts: the smallest and largest burst that fit equally well; None if only one was tried.
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
        """Whether it predicts ``BAR`` of the decided 429s and of the decided accepted requests.

        Sampling error is allowed for: it fails only if so many contradictions had a probability below 1 % at a share of
        ``BAR``.
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
        unheld: requests that took less time than the limiter would have held them.
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
    """Return the threshold that contradicts the fewest decisions; the smallest if there are several."""
    known = requests.judged & requests.answered
    # An accepted request needs load + 1 ≤ T; a rejected request is contradicted where load + 1 ≤ T.
    needs = np.ceil(loads[0][known & requests.accepted] + 1 - SLACK)
    refutes = np.ceil(loads[1][known & requests.rejected] + 1 - SLACK)
    most = int(needs.max(initial=1)) + 1
    needed = np.bincount(needs.astype(np.int64), minlength=most + 1)[: most + 1]
    refuted = np.bincount(np.minimum(refutes, most + 1).astype(np.int64), minlength=most + 2)[: most + 1]
    cost = needed.sum() - np.cumsum(needed) + np.cumsum(refuted)
    return int(np.argmin(cost[1:])) + 1


def candidates(requests: RequestLog, assumed: LimiterSpec, offset: float, reach: float) -> list[Fit]:
    """Compare every algorithm with the record, also with fitted parameters where these explain more.

    Args:
        requests: the requests of one limit.
        assumed: the assumed limiter, whose burst is tried too.
        offset: the server's clock minus ours, in s.
        reach: the uncertainty of ``offset``, in s.
    """
    fits = [
        *_without_burst(requests, offset, reach, windowed=True),
        *_with_burst(requests, assumed),
        *_without_burst(requests, offset, reach, windowed=False),
    ]
    return sorted(fits, key=lambda fit: -fit.score)


def compare_with(requests: RequestLog, spec: LimiterSpec, shift: float) -> Fit:
    """Compare one limiter, with its assumed count, with the record.

    Args:
        requests: the requests of one limit.
        spec: the limiter's specification.
        shift: the server's clock minus ours, in s; only wall-aligned windows depend on it.
    """
    limit, algorithm = requests.limit, ALGORITHMS[spec.algorithm]
    loads = LOADS[algorithm.name](requests, spec, limit, shift)
    unheld = _unheld(requests, loads, limit) if algorithm.holds else None
    shift_s = shift if algorithm.aligned else None
    return judge(requests, loads, at_once(spec, limit), spec, limit, shift_s=shift_s, unheld=unheld)


def _without_burst(requests: RequestLog, offset: float, reach: float, *, windowed: bool) -> Iterator[Fit]:
    """Fit windowed algorithms, those aligned with the server's clock last, or those without window and burst."""
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
    """Fit wall-aligned windows at the clock shift that explains most, within the clock's uncertainty."""
    first = int(np.argmax(requests.rejected))
    some, loads = requests.part(max(0, first - _PHASED // 4), _PHASED), LOADS[ALGORITHMS[spec.algorithm].name]
    tried: dict[float, tuple[float, float]] = {}
    for wanted in (0, 1):  # the documented count may fit best at another phase
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
    """Fit buckets. Some decide alike, and some hold the requests they accept."""
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
    """Fit all algorithms with a burst; without ``loads`` those that count rejections, whose loads depend on it."""
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
    """The bursts to try, with the fitted parameters: the algorithms' defaults, the assumed burst and the best burst."""
    own = [each.default_burst(limit) for each in ALGORITHMS.values() if each.default_burst]
    known = dict.fromkeys([*own, *([assumed.burst] if assumed.burst else [])], ())
    fitted: dict[int, tuple[Fitted, ...]] = {best: ("burst",)}
    return {**fitted, **known}


def _first_bursts(requests: RequestLog, loads: Loads) -> range:
    """The range of bursts accepted before the first rejection; until then, counting rejections makes no difference."""
    first = int(np.argmax(requests.rejected)) if requests.rejected.any() else len(requests.times) - 1
    # Requests sent together reach the server in any order.
    later = int(np.searchsorted(requests.times, requests.times[first] + _TOGETHER_S))
    least, most = (
        max(1, math.ceil(float(loads[0][:end][requests.accepted[:end]].max(initial=0.0)) - SLACK) + 1)
        for end in (first, later)
    )
    return range(max(least, most - _BURSTS_MOST + 1), most + 1)


def _other_rate(requests: RequestLog) -> list[Limit]:
    """The rate of acceptance during periods with rejections, if it differs from the documented rate."""
    limit, places = requests.limit, np.flatnonzero(requests.rejected)
    gaps, passed = np.diff(requests.times[places]), np.diff(requests.passed.least[places])
    dense = gaps < max(limit.window / 4, 3 / limit.rate)
    if gaps[dense].sum() < limit.window / 2:
        return []
    count = round(float(passed[dense].sum() / gaps[dense].sum()) * limit.window)
    # Every other limiter's rate is a few per cent off too, so a small difference suggests no other count.
    return [] if count < 1 or abs(count - limit.count) <= 0.03 * limit.count else [replace(limit, count=count)]


def _near_rate(requests: RequestLog) -> list[Limit]:
    """Return a rate within 2 % of the documented rate if it explains much more than the documented rate.

    Some servers (nginx) keep rates in thousandths of a request per second and truncate the elapsed part. After a
    hundred requests the error reaches one request.
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
    """Accepted requests that were answered before a queue would have released them."""
    # Requests sent within the tolerance before may have arrived later.
    back = np.searchsorted(requests.times, requests.times - requests.tolerance_s, side="left")
    swapped = requests.passed.least[:-1] - requests.passed.least[back]
    wait = (loads[0] - swapped) / limit.rate
    took = requests.ends - requests.times
    return requests.accepted & (wait > _HELD_FROM_S) & (took < 0.98 * wait - requests.tolerance_s)


def held(requests: RequestLog) -> float | None:
    """Return the correlation between accepted requests' durations and their position in a queue.

    Returns:
        Pearson's correlation; None if too few requests would have had to wait.
    """
    wait = bucket_loads(requests, requests.limit.rate)[0] / requests.limit.rate
    passed = requests.accepted & requests.judged
    waits, took = wait[passed], (requests.ends - requests.times)[passed]
    if (waits > _HELD_FROM_S).sum() < _HELD_ENOUGH or not waits.std() or not took.std():
        return None
    return float(np.corrcoef(waits, took)[0, 1])
