"""Candidates for the limiter in force: each algorithm and variant, with documented, assumed and fitted parameters."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from typing import Final

import numpy as np

from loadtest.limits import ALGORITHMS, LimiterSpec, at_once
from loadtest.limits.fits import Fit, Fitted, best_threshold, judge, may_fit, score, unheld_by_queue
from loadtest.limits.loads import LOADS, SLACK, Loads, RequestLog, bucket_loads
from loadtest.units import Limit

_STEPS: Final = 31
"""Number of clock shifts (server's clock minus ours) in a grid. If a clock may be wrong by 0.6 s, the first grid
has steps of 0.04 s. The second grid is 15 times finer."""
_PHASED: Final = 10_000
"""At most this many requests are used to fit a clock shift. More would take too long."""
_NEAR_RATED: Final = 2000
"""At most this many requests are used to fit a rate. More would take too long."""
_NEAR: Final = 0.02
"""Rates that differ from the documented rate by at most this share are tried, because nginx's real rate differs from
its configured rate by 1 %. Around the rate of accepted requests, three times this share is tried."""
TOGETHER_S: Final = 0.02
"""Requests sent within this many seconds may reach the server in any order (`analysis.rejections.BURST_SPAN_S`)."""
_BURSTS_MOST: Final = 6
"""``_first_bursts`` returns at most this many burst sizes. More would take too long."""
_RENEWALS: Final = 200
"""A phase is fitted to at most this many acceptances that follow a rejection. More would take too long."""


def candidates(requests: RequestLog, assumed: LimiterSpec, offset: float, reach: float) -> list[Fit]:
    """Return the fits of every algorithm to the recorded decisions, best first.

    The burst and phase of the ``assumed`` limiter are tried too. ``offset`` is the server's clock minus ours, and
    ``reach`` is its uncertainty. Both are in s. At least one request must have been rejected.
    """
    count = requests.limit.count
    bursts = {count, assumed.burst if assumed.round_down and assumed.burst else count}
    stepped = [LimiterSpec("token-bucket", burst, round_down=True) for burst in bursts]
    fits = [
        *_without_burst(requests, assumed, offset, reach, windowed=True),
        *_any_phase(requests, offset, reach),
        *_with_burst(requests, assumed),
        # A clock of whole seconds that is shifted by 1 s gives the same decisions, so shifts of up to 0.5 s suffice.
        *_aligned(requests, stepped, offset, min(reach, 0.5)),
        *_without_burst(requests, assumed, offset, reach, windowed=False),
    ]
    return sorted(fits, key=lambda fit: -fit.score)


def _without_burst(
    requests: RequestLog, assumed: LimiterSpec, offset: float, reach: float, *, windowed: bool
) -> Iterator[Fit]:
    """Fit the algorithms that count requests in windows or, if ``windowed`` is False, the concurrency limit."""
    wanted = [each for each in ALGORITHMS.values() if each.windowed == windowed and not each.has_burst]
    on_clock = []
    for algorithm in sorted(wanted, key=lambda each: each.aligned):
        phases = {0.0, assumed.phase} if algorithm.aligned else {0.0}
        for rejected, rounded, phase in product(algorithm.variants, algorithm.roundings, phases):
            spec = LimiterSpec(algorithm.name, count_rejected=rejected, phase=phase, round_down=rounded)
            if algorithm.aligned:
                on_clock.append(spec)
            else:
                yield from _counted(requests, spec, LOADS[spec.algorithm](requests, spec, requests.limit, 0.0))
    yield from _aligned(requests, on_clock, offset, reach)


def _counted(requests: RequestLog, spec: LimiterSpec, loads: Loads, shift: float | None = None) -> Iterator[Fit]:
    """Yield a fit with the threshold of ``spec``, and another with the best threshold if it is different.

    The threshold is the burst of a bucket, and the count of other limiters.
    """
    limit, known = requests.limit, at_once(spec, requests.limit)
    more: tuple[Fitted, ...] = () if shift is None else ("shift",)
    yield judge(requests, loads, known, spec, limit, shift_s=shift, fitted=more)
    best = best_threshold(requests, loads)
    if best != known and ALGORITHMS[spec.algorithm].has_burst:
        other = replace(spec, burst=best)
        yield judge(requests, loads, best, other, limit, shift_s=shift, fitted=("burst", *more))
    elif best != known:
        count = Limit(best, limit.window)
        yield judge(requests, loads, best, spec, count, shift_s=shift, fitted=("count", *more))


def _any_phase(requests: RequestLog, offset: float, reach: float) -> Iterator[Fit]:
    """Fit a fixed window with a phase. A window must have begun between a rejection and the next accepted request.

    The phase that lies in the largest number of these intervals is used. Nothing is yielded if a clock error could
    explain it.
    """
    window, times = requests.limit.window, requests.times
    after = np.flatnonzero(requests.rejected[:-1] & requests.accepted[1:])
    # Requests sent together arrive in any order, so only an acceptance well after the previous one shows a new window.
    passed = np.maximum.accumulate(np.where(requests.accepted, times, -np.inf))
    after = after[times[after + 1] - passed[after] > 2 * requests.tolerance_s][:_RENEWALS]
    gaps = times[after + 1] - times[after]
    begins = (times[after] + offset) % window
    edges = np.unique(np.concatenate((begins, (begins + gaps) % window)))
    if not len(edges):
        return
    wide = np.append(edges[1:], edges[0] + window) - edges
    held = (((edges + wide / 2)[:, None] - begins) % window < gaps).sum(axis=1)
    place = int(np.argmax(held))
    low, high = float(edges[place]) - reach, float(edges[place] + wide[place]) + reach
    phase = (low + high) / 2 % window
    if min(phase, window - phase) <= reach:
        return
    spec = LimiterSpec("fixed-window", phase=phase)
    for fit in _aligned(requests, [spec], offset, (high - low) / 2):
        found = replace(spec, phase=(phase + offset - (fit.shift_s or 0.0)) % window)
        fitted: tuple[Fitted, ...] = ("count", "phase") if "count" in fit.fitted else ("phase",)
        yield replace(fit, spec=found, fitted=fitted, shift_s=offset, phases=(low, high))


def _aligned(requests: RequestLog, specs: list[LimiterSpec], offset: float, reach: float) -> Iterator[Fit]:
    """Fit limiters that follow the server's clock. The best shift within the clock's uncertainty is used."""
    first = int(np.argmax(requests.rejected))
    some, step = requests.part(max(0, first - _PHASED // 4), _PHASED), 2 * reach / (_STEPS - 1)
    tried: dict[LimiterSpec, dict[float, tuple[float, float]]] = {spec: {} for spec in specs}

    def attempt(of: list[LimiterSpec], centre: float, width: float) -> None:
        for shift in np.clip(centre + np.linspace(-width, width, _STEPS), offset - reach, offset + reach).tolist():
            for spec in of:
                if shift not in tried[spec]:
                    loads = LOADS[spec.algorithm](some, spec, some.limit, shift)
                    documented = at_once(spec, some.limit)
                    best = best_threshold(some, loads)
                    known = score(some, loads, documented)
                    tried[spec][shift] = known, known if best == documented else score(some, loads, best)

    attempt(specs, offset, reach)
    fits: dict[LimiterSpec, list[Fit]] = {spec: [] for spec in specs}
    for wanted in (0, 1):  # the documented count and the best count may fit best at different shifts
        around: dict[float, list[LimiterSpec]] = {}
        for spec, scores in tried.items():
            around.setdefault(_best_shift(scores, wanted, offset), []).append(spec)
        for centre, of in around.items():
            attempt(of, centre, step)
        for spec, scores in tried.items():
            best = _best_shift(scores, wanted, offset)
            loads = LOADS[spec.algorithm](requests, spec, requests.limit, best)
            fits[spec] += list(_counted(requests, spec, loads, best))[wanted : wanted + 1]
    for found in fits.values():
        yield from found


def _best_shift(scores: dict[float, tuple[float, float]], wanted: int, offset: float) -> float:
    return max(scores, key=lambda shift: (scores[shift][wanted], -abs(shift - offset)))


def _with_burst(requests: RequestLog, assumed: LimiterSpec) -> Iterator[Fit]:
    """Fit all algorithms with a burst, at each rate of ``_rates`` and with several bursts."""
    limit = requests.limit
    for each, fitted in _rates(requests):
        loads = bucket_loads(requests, each.rate)
        bursts = _bursts(limit, assumed, [best_threshold(requests, loads)])
        yield from _each_burst(requests, each, bursts, fitted, loads)
        bursts = _bursts(limit, assumed, _first_bursts(requests, loads))
        yield from _each_burst(requests, each, bursts, fitted, None)


def _each_burst(
    requests: RequestLog,
    limit: Limit,
    bursts: dict[int, tuple[Fitted, ...]],
    fitted: tuple[Fitted, ...],
    loads: Loads | None,
) -> Iterator[Fit]:
    """Fit the algorithms with a burst. If ``loads`` is None, rejected requests count too.

    These limiters decide alike, so one comparison serves all. A queue is also judged by its delays.
    """
    counting = loads is None
    buckets = [each for each in ALGORITHMS.values() if each.has_burst and counting in each.variants]
    unheld = None if loads is None else unheld_by_queue(requests, loads, limit)
    for burst, of_burst in bursts.items():
        specs = [LimiterSpec(each.name, burst, counting) for each in buckets]
        own = loads or LOADS[specs[0].algorithm](requests, specs[0], limit, 0.0)
        alike = judge(requests, own, burst, specs[0], limit, fitted=(*fitted, *of_burst))
        for algorithm, spec in zip(buckets, specs, strict=True):
            if algorithm.holds:
                yield judge(requests, own, burst, spec, limit, fitted=(*fitted, *of_burst), unheld=unheld)
            else:
                yield replace(alike, spec=spec)


def _bursts(limit: Limit, assumed: LimiterSpec, best: Iterable[int]) -> dict[int, tuple[Fitted, ...]]:
    """Return the bursts to try. A ``best`` burst counts as fitted unless it is also a default or the assumed burst."""
    own = [each.default_burst(limit) for each in ALGORITHMS.values() if each.default_burst]
    fitted: dict[int, tuple[Fitted, ...]] = dict.fromkeys(best, ("burst",))
    return fitted | dict.fromkeys([*own, *([assumed.burst] if assumed.burst else [])], ())


def _first_bursts(requests: RequestLog, loads: Loads) -> range:
    """Return the burst sizes that just suffice for the requests accepted before the first rejection.

    Before the first rejection, loads are the same whether or not rejected requests count.
    """
    first = int(np.argmax(requests.rejected))
    # Requests sent together reach the server in any order, so those accepted soon after the rejection may precede it.
    later = int(np.searchsorted(requests.times, requests.times[first] + TOGETHER_S))
    least, most = (
        max(1, math.ceil(float(loads[0][:end][requests.accepted[:end]].max(initial=0.0)) - SLACK) + 1)
        for end in (first, later)
    )
    return range(max(least, most - _BURSTS_MOST + 1), most + 1)


def _rates(requests: RequestLog) -> Iterator[tuple[Limit, tuple[Fitted, ...]]]:
    """Yield the documented rate and, unless it explains the decisions, other rates that fit.

    These are the best rate near the documented rate, and the best rate near the rate of accepted requests.
    """
    some, limit = requests.part(0, _NEAR_RATED), requests.limit
    spec = LimiterSpec("token-bucket")

    def fit(factor: float) -> Fit:
        loads = bucket_loads(some, limit.rate * factor)
        return judge(some, loads, best_threshold(some, loads), spec, limit)

    def scored(factor: float) -> float:
        loads = bucket_loads(some, limit.rate * factor)
        return score(some, loads, best_threshold(some, loads))

    yield limit, ()
    exact = fit(1.0)
    if exact.fits and exact.rejected:  # 0 if all 429s are undecidable, for example under even load
        return
    measured = _accepted_rate(requests) / limit.rate
    centres: list[tuple[float, float, Fitted]] = [(1.0, _NEAR, "rate")]
    centres += [(measured, 3 * _NEAR, "count")] if measured and abs(measured - 1) > _NEAR else []
    for centre, width, fitted in centres:
        factors = (centre * (1 + np.linspace(-width, width, 161))).tolist()
        fastest, slowest = (bucket_loads(some, limit.rate * factors[end]) for end in (-1, 0))
        if not may_fit(some, (fastest[0], slowest[1])):
            continue
        factor = max(factors, key=lambda each: (scored(each), -abs(each - centre)))
        if not fit(factor).fits:  # a slightly wrong rate fits badly under even load: use a finer grid
            near = (factor + (factors[1] - factors[0]) * np.linspace(-1, 1, 41)).tolist()
            factor = max(near, key=lambda each: (scored(each), -abs(each - factor)))
        if fit(factor).fits:
            count = max(1, round(limit.count * factor)) if fitted == "count" else limit.count
            yield Limit(count, count / (limit.rate * factor)), (fitted,)


def _accepted_rate(requests: RequestLog) -> float:
    """Return the accepted requests/s during periods with rejections; 0 if the periods are too short."""
    limit, places = requests.limit, np.flatnonzero(requests.rejected)
    gaps, passed = np.diff(requests.times[places]), np.diff(requests.passed.least[places])
    dense = gaps < max(limit.window / 4, 3 / limit.rate)
    seconds = float(gaps[dense].sum())
    return float(passed[dense].sum()) / seconds if seconds >= limit.window / 2 else 0.0
