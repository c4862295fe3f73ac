"""Every limiter that is compared with what was seen of one limit: all of ``ALGORITHMS``, variants and bursts."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from loadtest.arrays import Bools
from loadtest.limits import ALGORITHMS, LimiterSpec
from loadtest.limits.inference import occupancy
from loadtest.limits.inference.fit import Fit, Fitted, best_threshold, judge
from loadtest.limits.inference.occupancy import SLACK, Loads, RequestLog
from loadtest.units import Limit

_STEPS: Final = 31
_PHASED: Final = 10_000
"""Requests on which the phase of wall-aligned windows is fitted: it is the same all along."""
_NEAR_RATED: Final = 2000
"""Requests to which a rate near the documented one is fitted."""
_HELD_FROM_S: Final = 0.02
"""Waits from which it can be seen whether requests were held for their turn."""
_HELD_ENOUGH: Final = 10
_TOGETHER_S: Final = 0.02
"""Requests with no more than that between the first and the last may be a burst."""
_BURSTS_MOST: Final = 6
"""Bursts that are tried where it is not clear which passed."""


def candidates(requests: RequestLog, assumed: LimiterSpec, offset: float, reach: float) -> list[Fit]:
    """Every algorithm, compared with what was seen; of each also with numbers that fit better, where they do.

    Args:
        requests: of one limit.
        assumed: its burst is tried as well.
        offset: the server's clock minus ours, in s.
        reach: by how much that may be wrong.
    """
    fits = [*_windows(requests, offset, reach), *_buckets(requests, assumed), *_concurrent(requests)]
    return sorted(fits, key=lambda fit: -fit.score)


def compare_with(requests: RequestLog, spec: LimiterSpec, shift: float) -> Fit:
    """Compare one limiter, with the count that is assumed, with all that was seen.

    Args:
        requests: of one limit.
        spec: of the limiter.
        shift: the server's clock minus ours, in s; only wall-aligned windows mind.
    """
    limit, counting = requests.limit, spec.count_rejected
    if spec.algorithm in ("token-bucket", "gcra", "leaky-queue"):
        burst = spec.burst or (1 if spec.algorithm == "gcra" else limit.count)
        loads = (
            occupancy.bucket_of_all(requests, limit.rate, burst) if counting else occupancy.bucket(requests, limit.rate)
        )
        unheld = _unheld(requests, loads, limit) if spec.algorithm == "leaky-queue" else None
        return judge(requests, loads, burst, spec, limit, unheld=unheld)
    loads_of: dict[str, Callable[[], Loads]] = {
        "fixed-window": lambda: occupancy.fixed_window(requests, shift),
        "fixed-window-from-first": lambda: occupancy.window_from_first(requests),
        "sliding-log": lambda: occupancy.sliding_log(requests, count_rejected=counting),
        "sliding-counter": lambda: occupancy.sliding_counter(requests, shift, count_rejected=counting),
        "concurrency": lambda: occupancy.concurrency(requests),
    }
    aligned = ALGORITHMS[spec.algorithm].aligned
    return judge(requests, loads_of[spec.algorithm](), limit.count, spec, limit, shift_s=shift if aligned else None)


def _windows(requests: RequestLog, offset: float, reach: float) -> Iterator[Fit]:
    yield from _counted(requests, LimiterSpec("fixed-window-from-first"), occupancy.window_from_first(requests))
    for rejected in (False, True):
        log = occupancy.sliding_log(requests, count_rejected=rejected)
        yield from _counted(requests, LimiterSpec("sliding-log", count_rejected=rejected), log)
    yield from _aligned(requests, LimiterSpec("fixed-window"), occupancy.fixed_window, offset, reach)
    for rejected in (False, True):

        def loads(some: RequestLog, shift: float, counting: bool = rejected) -> Loads:
            return occupancy.sliding_counter(some, shift, count_rejected=counting)

        yield from _aligned(requests, LimiterSpec("sliding-counter", count_rejected=rejected), loads, offset, reach)


def _counted(requests: RequestLog, spec: LimiterSpec, loads: Loads, shift: float | None = None) -> Iterator[Fit]:
    """With the documented count, and with the one that fits best."""
    limit = requests.limit
    more: tuple[Fitted, ...] = () if shift is None else ("shift",)
    yield judge(requests, loads, limit.count, spec, limit, shift_s=shift, fitted=more)
    count = best_threshold(requests, loads)
    if count != limit.count:
        other = replace(limit, count=count)
        yield judge(requests, loads, count, spec, other, shift_s=shift, fitted=("count", *more))


def _aligned(
    requests: RequestLog, spec: LimiterSpec, loads: Callable[[RequestLog, float], Loads], offset: float, reach: float
) -> Iterator[Fit]:
    """Where windows are wall-aligned: at the shift of the clock that explains most, near to what is known of it."""
    first = int(np.argmax(requests.refused))
    some = requests.part(max(0, first - _PHASED // 4), _PHASED)
    tried: dict[float, tuple[float, float]] = {}
    for wanted in (0, 1):  # the documented count has a phase of its own
        step, centre, width = 0.0, offset, reach
        for _ in range(2):
            step = 2 * width / (_STEPS - 1)
            for shift in np.clip(centre + np.linspace(-width, width, _STEPS), offset - reach, offset + reach).tolist():
                if shift not in tried:
                    tried[shift] = _scores(some, loads(some, shift), spec)
            centre = max(tried, key=lambda shift: (tried[shift][wanted], -abs(shift - offset)))
            width = step
        fits = list(_counted(requests, spec, loads(requests, centre), centre))
        yield from fits[wanted : wanted + 1]


def _scores(requests: RequestLog, loads: Loads, spec: LimiterSpec) -> tuple[float, float]:
    """With the documented count, and with the best one."""
    count = best_threshold(requests, loads)
    documented = judge(requests, loads, requests.limit.count, spec, requests.limit).score
    return documented, documented if count == requests.limit.count else judge(
        requests, loads, count, spec, requests.limit
    ).score


def _buckets(requests: RequestLog, assumed: LimiterSpec) -> Iterator[Fit]:
    """Token bucket and GCRA, which decide alike, and the leaky queue, which also holds what it lets pass."""
    limit = requests.limit
    rates: list[tuple[Limit, tuple[Fitted, ...]]] = [
        (limit, ()),
        *((each, ("count",)) for each in _other_rate(requests)),
    ]
    rates += [(each, ("rate",)) for each in _near_rate(requests)]
    for each, count in rates:
        loads = occupancy.bucket(requests, each.rate)
        bursts = _bursts(limit, assumed, best_threshold(requests, loads))
        unheld = _unheld(requests, loads, each)
        for burst, fitted in bursts.items():
            fit = judge(requests, loads, burst, LimiterSpec("token-bucket", burst), each, fitted=(*count, *fitted))
            yield fit
            yield replace(fit, spec=LimiterSpec("gcra", burst))
            queue = LimiterSpec("leaky-queue", burst)
            yield judge(requests, loads, burst, queue, each, fitted=(*count, *fitted), unheld=unheld)
        may = {
            burst: each_fitted
            for best in _first_bursts(requests, loads)
            for burst, each_fitted in _bursts(limit, assumed, best).items()
        }
        for burst, fitted in may.items():
            both = occupancy.bucket_of_all(requests, each.rate, burst)
            spec = LimiterSpec("token-bucket", burst, count_rejected=True)
            fit = judge(requests, both, burst, spec, each, fitted=(*count, *fitted))
            yield fit
            yield replace(fit, spec=LimiterSpec("gcra", burst, count_rejected=True))


def _bursts(limit: Limit, assumed: LimiterSpec, best: int) -> dict[int, tuple[Fitted, ...]]:
    """The bursts that are tried, and whether they were fitted: the algorithms' own, the assumed and the best one."""
    known = dict.fromkeys((limit.count, 1, *((assumed.burst,) if assumed.burst else ())), ())
    fitted: dict[int, tuple[Fitted, ...]] = {best: ("burst",)}
    return {**fitted, **known}


def _first_bursts(requests: RequestLog, loads: Loads) -> range:
    """The bursts that may have passed when the first request was refused: until then, rejected ones do not matter."""
    first = int(np.argmax(requests.refused)) if requests.refused.any() else len(requests.times) - 1
    # Requests that left together reach the server in any order.
    later = int(np.searchsorted(requests.times, requests.times[first] + _TOGETHER_S))
    least, most = (
        max(1, math.ceil(float(loads[0][:end][requests.accepted[:end]].max(initial=0.0)) - SLACK) + 1)
        for end in (first, later)
    )
    return range(max(least, most - _BURSTS_MOST + 1), most + 1)


def _other_rate(requests: RequestLog) -> list[Limit]:
    """The rate at which requests passed while others were being refused, where it is another than the documented."""
    limit, places = requests.limit, np.flatnonzero(requests.refused)
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
        loads = occupancy.bucket(some, limit.rate * factor)
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
    wait = occupancy.bucket(requests, requests.limit.rate)[0] / requests.limit.rate
    passed = requests.accepted & requests.judged
    waits, took = wait[passed], (requests.ends - requests.times)[passed]
    if (waits > _HELD_FROM_S).sum() < _HELD_ENOUGH or not waits.std() or not took.std():
        return None
    return float(np.corrcoef(waits, took)[0, 1])


def _concurrent(requests: RequestLog) -> Iterator[Fit]:
    yield from _counted(requests, LimiterSpec("concurrency"), occupancy.concurrency(requests))
