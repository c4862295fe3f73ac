"""Every limiter that is held against what was seen of one limit: all of ``ALGORITHMS``, variants and bursts."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from loadtest.inference import occupancy
from loadtest.inference.fit import Fit, Fitted, best_threshold, judge
from loadtest.inference.occupancy import SLACK, Asked, Bools, Loads
from loadtest.limiters import ALGORITHMS, LimiterSpec
from loadtest.units import Limit

_STEPS: Final = 31
_PHASED: Final = 10_000
"""Requests on which the phase of wall-aligned windows is fitted: it is the same all along."""
_HELD_FROM_S: Final = 0.02
"""Waits from which it can be seen whether requests were held for their turn."""
_HELD_ENOUGH: Final = 10
_TOGETHER_S: Final = 0.02
"""Requests with no more than that between the first and the last may be a burst."""
_BURSTS_MOST: Final = 6
"""Bursts that are tried where it is not clear which passed."""


def candidates(asked: Asked, believed: LimiterSpec, offset: float, reach: float) -> list[Fit]:
    """Every algorithm, held against what was asked; of each also with numbers that fit better, where they do.

    Args:
        asked: of one limit.
        believed: its burst is tried as well.
        offset: the server's clock minus ours, in s.
        reach: by how much that may be wrong.
    """
    fits = [*_windows(asked, offset, reach), *_buckets(asked, believed), *_concurrent(asked)]
    return sorted(fits, key=lambda fit: -fit.score)


def hold_against(asked: Asked, spec: LimiterSpec, shift: float) -> Fit:
    """Hold one limiter, with the count that is believed, against all that was asked.

    Args:
        asked: of one limit.
        spec: of the limiter.
        shift: the server's clock minus ours, in s; only wall-aligned windows mind.
    """
    limit, counting = asked.limit, spec.count_rejected
    if spec.algorithm in ("token-bucket", "gcra", "leaky-queue"):
        burst = spec.burst or (1 if spec.algorithm == "gcra" else limit.count)
        loads = occupancy.bucket_of_all(asked, limit.rate, burst) if counting else occupancy.bucket(asked, limit.rate)
        unheld = _unheld(asked, loads, limit) if spec.algorithm == "leaky-queue" else None
        return judge(asked, loads, burst, spec, limit, unheld=unheld)
    of: dict[str, Callable[[], Loads]] = {
        "fixed-window": lambda: occupancy.fixed_window(asked, shift),
        "fixed-window-from-first": lambda: occupancy.window_from_first(asked),
        "sliding-log": lambda: occupancy.sliding_log(asked, count_rejected=counting),
        "sliding-counter": lambda: occupancy.sliding_counter(asked, shift, count_rejected=counting),
        "concurrency": lambda: occupancy.concurrency(asked),
    }
    aligned = ALGORITHMS[spec.algorithm].aligned
    return judge(asked, of[spec.algorithm](), limit.count, spec, limit, shift_s=shift if aligned else None)


def _windows(asked: Asked, offset: float, reach: float) -> Iterator[Fit]:
    yield from _counted(asked, LimiterSpec("fixed-window-from-first"), occupancy.window_from_first(asked))
    for rejected in (False, True):
        log = occupancy.sliding_log(asked, count_rejected=rejected)
        yield from _counted(asked, LimiterSpec("sliding-log", count_rejected=rejected), log)
    yield from _aligned(asked, LimiterSpec("fixed-window"), occupancy.fixed_window, offset, reach)
    for rejected in (False, True):

        def loads(some: Asked, shift: float, counting: bool = rejected) -> Loads:
            return occupancy.sliding_counter(some, shift, count_rejected=counting)

        yield from _aligned(asked, LimiterSpec("sliding-counter", count_rejected=rejected), loads, offset, reach)


def _counted(asked: Asked, spec: LimiterSpec, loads: Loads, shift: float | None = None) -> Iterator[Fit]:
    """With the documented count, and with the one that fits best."""
    limit = asked.limit
    more: tuple[Fitted, ...] = () if shift is None else ("shift",)
    yield judge(asked, loads, limit.count, spec, limit, shift_s=shift, fitted=more)
    count = best_threshold(asked, loads)
    if count != limit.count:
        other = replace(limit, count=count)
        yield judge(asked, loads, count, spec, other, shift_s=shift, fitted=("count", *more))


def _aligned(
    asked: Asked, spec: LimiterSpec, loads: Callable[[Asked, float], Loads], offset: float, reach: float
) -> Iterator[Fit]:
    """Where windows are wall-aligned: at the shift of the clock that explains most, near to what is known of it."""
    first = int(np.argmax(asked.refused))
    some = asked.part(max(0, first - _PHASED // 4), _PHASED)
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
        fits = list(_counted(asked, spec, loads(asked, centre), centre))
        yield from fits[wanted : wanted + 1]


def _scores(asked: Asked, loads: Loads, spec: LimiterSpec) -> tuple[float, float]:
    """With the documented count, and with the best one."""
    count = best_threshold(asked, loads)
    documented = judge(asked, loads, asked.limit.count, spec, asked.limit).score
    return documented, documented if count == asked.limit.count else judge(asked, loads, count, spec, asked.limit).score


def _buckets(asked: Asked, believed: LimiterSpec) -> Iterator[Fit]:
    """Token bucket and GCRA, which decide alike, and the leaky queue, which also holds what it lets pass."""
    limit = asked.limit
    rates = [limit, *_other_rate(asked)]
    for each in rates:
        loads = occupancy.bucket(asked, each.rate)
        count: tuple[Fitted, ...] = ("count",) if each is not limit else ()
        bursts = _bursts(limit, believed, best_threshold(asked, loads))
        unheld = _unheld(asked, loads, each)
        for burst, fitted in bursts.items():
            fit = judge(asked, loads, burst, LimiterSpec("token-bucket", burst), each, fitted=(*count, *fitted))
            yield fit
            yield replace(fit, spec=LimiterSpec("gcra", burst))
            queue = LimiterSpec("leaky-queue", burst)
            yield judge(asked, loads, burst, queue, each, fitted=(*count, *fitted), unheld=unheld)
        may = {
            burst: each_fitted
            for best in _first_bursts(asked, loads)
            for burst, each_fitted in _bursts(limit, believed, best).items()
        }
        for burst, fitted in may.items():
            both = occupancy.bucket_of_all(asked, each.rate, burst)
            spec = LimiterSpec("token-bucket", burst, count_rejected=True)
            fit = judge(asked, both, burst, spec, each, fitted=(*count, *fitted))
            yield fit
            yield replace(fit, spec=LimiterSpec("gcra", burst, count_rejected=True))


def _bursts(limit: Limit, believed: LimiterSpec, best: int) -> dict[int, tuple[Fitted, ...]]:
    """The bursts that are tried, and whether they were fitted: the algorithms' own, the believed and the best one."""
    known = dict.fromkeys((limit.count, 1, *((believed.burst,) if believed.burst else ())), ())
    fitted: dict[int, tuple[Fitted, ...]] = {best: ("burst",)}
    return {**fitted, **known}


def _first_bursts(asked: Asked, loads: Loads) -> range:
    """The bursts that may have passed when the first request was refused: until then, rejected ones do not matter."""
    first = int(np.argmax(asked.refused)) if asked.refused.any() else len(asked.times) - 1
    # Requests that left together reach the server in any order.
    later = int(np.searchsorted(asked.times, asked.times[first] + _TOGETHER_S))
    least, most = (
        max(1, math.ceil(float(loads[0][:end][asked.accepted[:end]].max(initial=0.0)) - SLACK) + 1)
        for end in (first, later)
    )
    return range(max(least, most - _BURSTS_MOST + 1), most + 1)


def _other_rate(asked: Asked) -> list[Limit]:
    """The rate at which requests passed while others were being refused, where it is another than the documented."""
    limit, places = asked.limit, np.flatnonzero(asked.refused)
    gaps, passed = np.diff(asked.times[places]), np.diff(asked.passed.least[places])
    dense = gaps < max(limit.window / 4, 3 / limit.rate)
    if gaps[dense].sum() < limit.window / 2:
        return []
    count = round(float(passed[dense].sum() / gaps[dense].sum()) * limit.window)
    # A few per cent off is what any other limiter's rate is, too: no other count is suggested by it.
    return [] if count < 1 or abs(count - limit.count) <= 0.03 * limit.count else [replace(limit, count=count)]


def _unheld(asked: Asked, loads: Loads, limit: Limit) -> Bools:
    """Accepted requests that were answered before a queue would have let them out."""
    # Those that were sent just before may have come after it.
    back = np.searchsorted(asked.times, asked.times - asked.tolerance_s, side="left")
    swapped = asked.passed.least[:-1] - asked.passed.least[back]
    wait = (loads[0] - swapped) / limit.rate
    took = asked.ends - asked.times
    return asked.accepted & (wait > _HELD_FROM_S) & (took < 0.98 * wait - asked.tolerance_s)


def held(asked: Asked) -> float | None:
    """How closely the time that accepted requests took follows their place in a queue.

    Returns:
        Pearson's correlation; None where there are too few that would have had to wait.
    """
    wait = occupancy.bucket(asked, asked.limit.rate)[0] / asked.limit.rate
    mine = asked.accepted & asked.judged
    waits, took = wait[mine], (asked.ends - asked.times)[mine]
    if (waits > _HELD_FROM_S).sum() < _HELD_ENOUGH or not waits.std() or not took.std():
        return None
    return float(np.corrcoef(waits, took)[0, 1])


def _concurrent(asked: Asked) -> Iterator[Fit]:
    yield from _counted(asked, LimiterSpec("concurrency"), occupancy.concurrency(asked))
