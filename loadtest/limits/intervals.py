"""Intervals of a limiter's fitted parameters. They contain the values that the recorded decisions do not exclude."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from loadtest.limits import ALGORITHMS, LimiterSpec
from loadtest.limits.fits import (
    SIGNIFICANT,
    Fit,
    beats,
    best_threshold,
    compare_with,
    judge,
    sign_test,
    threshold_bounds,
)
from loadtest.limits.loads import LOADS, Loads, RequestLog
from loadtest.units import Limit

_LOOKED: Final = 10_000
"""At most this many requests are used to fit an interval. More would take too long."""
_RATES: Final = np.unique(np.concatenate((np.linspace(-0.02, 0.02, 17), np.linspace(-0.3, 0.3, 25))))
"""Relative differences from the best rate."""
_SHIFTS_S: Final = (-0.1, -0.03, -0.01, 0.0, 0.01, 0.03, 0.1)
"""Differences in s from the best clock shift. The largest exceed the step of 0.04 s between tried shifts."""
_PHASES: Final = 7
"""Windows may begin at any phase within an interval. This many phases of it are tried."""
EVIDENCE: Final = 6.9
"""A limiter is excluded if its log-likelihood is this far below the best, which is about 1000 to 1."""
_FURTHER: Final = 6
"""Thresholds up to twice the best plus this number are tried, because twice a small threshold is too few."""


def with_intervals(requests: RequestLog, fit: Fit, offset: float, reach: float) -> Fit:
    """Return a fit with an interval for its burst, and for its count or rate if the documented value is excluded.

    A value is excluded if it explains significantly fewer decisions, even with the best other parameters.

    Args:
        requests: the requests of one limit.
        fit: a limiter that fits.
        offset: the server's clock minus ours, in s.
        reach: the uncertainty of ``offset``, in s.
    """
    if not {"count", "burst", "rate"} & {*fit.fitted}:
        return fit
    (low, high), rates = _held(requests, fit, offset, reach)
    documented = requests.limit
    if not ALGORITHMS[fit.spec.algorithm].has_burst:
        if not low <= documented.count <= high:
            return replace(fit, counts=(low, high))
        known = compare_with(requests, fit.spec, fit.shift_s or 0.0)
        fitted = tuple(each for each in fit.fitted if each != "count")
        return replace(known, fitted=fitted, shift_s=fit.shift_s, phases=fit.phases)
    other = rates is not None and not rates[0] <= documented.rate <= rates[1]
    bursts = (low, high) if low < high and "burst" in fit.fitted and not fit.spec.count_rejected else fit.bursts
    return replace(fit, bursts=bursts, rates=rates if other else None)


def count_interval(requests: RequestLog, fit: Fit, offset: float, reach: float) -> tuple[float, float]:
    """Return the smallest and largest count per window that the decisions do not exclude.

    The count need not have been fitted. Arguments are as for ``with_intervals``.
    """
    thresholds, rates = _held(requests, replace(fit, fitted=(*fit.fitted, "count")), offset, reach)
    if rates is None:
        return thresholds
    return rates[0] * requests.limit.window, rates[1] * requests.limit.window


def _held(
    requests: RequestLog, fit: Fit, offset: float, reach: float
) -> tuple[tuple[int, int], tuple[float, float] | None]:
    """Return the ranges of thresholds and rates that the decisions do not exclude. A single tried rate gives None."""
    some, tried = requests.part(0, _LOOKED), []
    for spec, limit, shift in _neighbours(fit, offset, reach):
        loads = LOADS[ALGORITHMS[spec.algorithm].name](some, spec, limit, shift)
        best = best_threshold(some, loads)
        tried.append((judge(some, loads, best, spec, limit), best, loads))
    top = max((each for each, *_ in tried), key=lambda each: each.score)
    held = [each for each in tried if not beats(top, each[0])]
    # If times are whole seconds, a wrong shift leaves many decisions open and is hardly contradicted.
    if requests.grain_s and ALGORITHMS[fit.spec.algorithm].aligned:
        held = [each for each in held if each[0].score >= top.score - EVIDENCE]
    ends = [end for _, best, loads in held for end in _thresholds(some, loads, best)]
    rates = _widened([each.limit.rate for each, *_ in held], [each.limit.rate for each, *_ in tried])
    return (min(ends), max(ends)), rates


def _neighbours(fit: Fit, offset: float, reach: float) -> Iterator[tuple[LimiterSpec, Limit, float]]:
    """Yield the limiter with other values of its rate, clock shift or phase."""
    spec, limit, shift = fit.spec, fit.limit, fit.shift_s or 0.0
    if {"rate", "count"} & {*fit.fitted} and ALGORITHMS[spec.algorithm].has_burst:
        yield from ((spec, Limit(limit.count, limit.window / (1 + by)), shift) for by in _RATES.tolist())
    elif fit.phases is not None:
        phases = np.linspace(fit.phases[0] + reach, fit.phases[1] - reach, _PHASES) % limit.window
        yield from ((replace(spec, phase=phase), limit, shift) for phase in phases.tolist())
    elif "shift" in fit.fitted:
        shifts = np.clip(shift + np.array(_SHIFTS_S), offset - reach, offset + reach)
        yield from ((spec, limit, each) for each in shifts.tolist())
    else:
        yield spec, limit, shift


def _widened(held: list[float], tried: list[float]) -> tuple[float, float] | None:
    """Widen a range to the next tried rates, because the true rate may lie between. One tried rate gives None."""
    rates = sorted({*tried})
    if len(rates) == 1:
        return None
    low, high = rates.index(min(held)), rates.index(max(held))
    return rates[max(0, low - 1)], rates[min(len(rates) - 1, high + 1)]


def _thresholds(requests: RequestLog, loads: Loads, best: int) -> tuple[int, int]:
    """Return the smallest and largest threshold that the decisions do not exclude."""
    needs, refutes = threshold_bounds(requests, loads)
    ends = []
    for step in (-1, 1):
        other, reach = best, (0, 2 * best + _FURTHER)
        while reach[0] < other + step < reach[1]:
            low, high = min(best, other + step), max(best, other + step)
            need, refute = (int(((each > low) & (each <= high)).sum()) for each in (needs, refutes))
            if sign_test(*((need, refute) if step < 0 else (refute, need))) <= SIGNIFICANT:
                break
            other += step
        ends.append(other)
    return max(1, ends[0]), ends[1]
