"""Fits of limiters to the recorded decisions: their comparison, and intervals of their fitted parameters.

A limiter's load is the number that it compares with its threshold at a request (``limits.loads``). Loads show which
recorded decisions contradict the limiter. An interval contains the values that the decisions do not exclude.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
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
"""``held`` returns a correlation only if at least this many requests would have waited longer than ``_HELD_FROM_S``."""
_ERROR: Final = 0.01
"""Assumed share of decisions that contradict the true limiter. It sets the penalty of a contradiction."""
BAR: Final = 0.95
"""Apart from sampling error, a limiter that fits predicts at least this share of the decidable 429s, and of the
decidable accepted requests (docs/metrics.md)."""
_UNLIKELY: Final = -2.0
"""A limiter does not fit if log10 P is below this (1 in 100). P is the probability of at least as many contradictions
for a limiter that predicts exactly ``BAR``."""
SIGNIFICANT: Final = -3.0
"""A limiter or a value of a parameter is excluded if log10 of the sign test's probability is at most this."""
_LOOKED: Final = 10_000
"""At most this many requests are used to fit an interval. More would take too long."""
_RATES: Final = np.unique(np.concatenate((np.linspace(-0.02, 0.02, 17), np.linspace(-0.3, 0.3, 25))))
"""Relative differences of the tried rates from the best rate."""
_SHIFTS_S: Final = (-0.1, -0.03, -0.01, 0.0, 0.01, 0.03, 0.1)
"""Differences in s of the tried clock shifts from the best shift. The largest exceed the step of the grid in
``candidates``, usually 0.04 s."""
_PHASES: Final = 7
"""Number of phases that are tried within the interval of possible phases."""
EVIDENCE: Final = 6.9
"""A fit is clearly worse than another if its score is lower by more than this: e^6.9 ≈ 1000 times less likely."""
_FURTHER: Final = 6
"""To find an interval, thresholds below 2 × the best threshold + this number are tried. Without it, small thresholds
would get too few tries."""

Fitted = Literal["count", "burst", "shift", "rate", "phase"]


@dataclass(frozen=True, eq=False)
class Fit:
    """One limiter's fit to the recorded decisions. Numbers of requests include only ``RequestLog.known`` requests.

    Attributes:
        shift_s: the server's clock minus ours, for limiters that follow the server's clock; otherwise None.
        right: decisions that the limiter predicts.
        wrongly_rejected: requests rejected although the limiter had room.
        wrongly_admitted: requests accepted although the limiter was exhausted.
        undecidable: requests that the limiter may accept or reject, because arrival times are only known within a
            tolerance. The limiter *decides* all other requests.
        rejected: rejected requests among those that the limiter decides; ``accepted`` likewise.
        not_held: accepted requests that were answered before a queue would have released them. They count as wrong.
        score: log-likelihood of the decisions, minus ½ ln(number of decisions) for each fitted parameter (after
            Schwarz's criterion). The highest is the best.
        wrong: whether each request's decision contradicts the limiter.
        bursts: the smallest and largest burst that fit equally well, if there are several.
        counts: the smallest and largest count that the decisions do not exclude; None for the documented count, or if
            ``rates`` is given instead.
        rates: the smallest and largest rate in requests/s that are not excluded; None for the documented rate.
        phases: the earliest and latest possible phase in s; None if no phase was fitted. The earliest may be negative.
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
        """Whether the limiter predicts at least ``BAR`` of the decidable 429s, and of the decidable accepted requests.

        A lower share counts as sampling error if a limiter that predicts exactly ``BAR`` would get such a low share
        with a probability of at least 1 %. A limiter that decides no request does not fit.
        """
        likely = all(log10_at_most(n - wrong, n, BAR) >= _UNLIKELY for wrong, n in self._sides)
        return likely and self.rejected + self.accepted > 0

    @property
    def explained(self) -> float | None:
        """Predicted share of the decidable 429s or of the decidable accepted requests, whichever is smaller."""
        shares = [1 - wrong / n for wrong, n in self._sides if n]
        return max(0.0, min(shares)) if shares else None

    @property
    def _sides(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(contradictions, decided requests) among the 429s, and among the accepted requests."""
        return (self.wrongly_rejected, self.rejected), (self.wrongly_admitted + self.not_held, self.accepted)


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

    The limiter accepts a request if load + 1 ≤ ``threshold``. ``unheld`` states whether each request took less time
    than the limiter would have delayed it.
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
    """Return the score that ``judge`` gives without ``fitted`` parameters and ``unheld``."""
    edge, (accepted, rejected) = threshold + SLACK - 1, requests.decisions
    sides = [(side[accepted] > edge, side[rejected] > edge) for side in loads]
    (n_admitted, n_full), (n_not_sure, n_refused) = ([int(np.count_nonzero(each)) for each in side] for side in sides)
    n_wrong = n_admitted + len(rejected) - n_refused
    n_unsure = n_not_sure - n_admitted + n_refused - n_full
    return _likelihood(len(accepted) + len(rejected), n_wrong, n_unsure)


def _likelihood(n: int, wrong: int, unsure: int) -> float:
    return (n - wrong - unsure) * math.log(1 - _ERROR) + wrong * math.log(_ERROR) + unsure * math.log(0.5)


def threshold_bounds(requests: RequestLog, loads: Loads) -> tuple[Floats, Floats]:
    """Return two arrays of thresholds.

    The first has, for each accepted request, the lowest threshold that may accept it. The second has, for each
    rejected request, the lowest threshold that certainly accepts it.
    """
    accepted, rejected = requests.decisions
    return np.ceil(loads[0][accepted] + 1 - SLACK), np.ceil(loads[1][rejected] + 1 - SLACK)


def sign_test(wins: int, losses: int) -> float:
    """Return log10 of the probability of at most ``losses`` heads in wins + losses throws of a coin.

    It is 0 unless ``wins`` is larger than ``losses``.
    """
    return log10_at_most(losses, wins + losses, 0.5) if wins > losses else 0.0


def compare(one: Fit, other: Fit) -> tuple[int, int]:
    """Count the decisions that contradict only ``other``, and those that contradict only ``one``."""
    return int((other.wrong & ~one.wrong).sum()), int((one.wrong & ~other.wrong).sum())


def beats(one: Fit, other: Fit) -> bool:
    """Whether one limiter explains significantly more decisions than another."""
    return one.score > other.score and sign_test(*compare(one, other)) <= SIGNIFICANT


def best_threshold(requests: RequestLog, loads: Loads) -> int:
    """Return the threshold that the fewest decisions contradict; the smallest if there are several."""
    needs, refutes = threshold_bounds(requests, loads)
    most = int(needs.max(initial=1)) + 1
    needed = np.bincount(needs.astype(np.int64), minlength=most + 1)[: most + 1]
    refuted = np.bincount(refutes[refutes <= most].astype(np.int64), minlength=most + 1)
    cost = needed.sum() - np.cumsum(needed) + np.cumsum(refuted)
    return int(np.argmin(cost[1:])) + 1


def may_fit(requests: RequestLog, loads: Loads) -> bool:
    """Whether any of several limiters may fit at some threshold. ``loads`` has bounds that hold for all of them."""
    needs, refutes = threshold_bounds(requests, loads)
    many = [
        bisect_left(range(n + 1), True, key=lambda wrong, n=n: log10_at_most(n - wrong, n, BAR) < _UNLIKELY)  # type: ignore[misc]
        for n in (len(needs), len(refutes))
    ]
    # Among the thresholds that accepted requests permit, the smallest is contradicted by the fewest rejections.
    threshold = np.sort(np.append(needs, 1.0))[-many[0]]
    return bool(np.count_nonzero(refutes <= threshold) < many[1])


def compare_with(requests: RequestLog, spec: LimiterSpec, shift: float) -> Fit:
    """Compare the recorded decisions with a limiter that has the count of ``requests.limit``.

    ``shift`` is the server's clock minus ours, in s. Only limiters that follow the server's clock depend on it.
    """
    limit = requests.limit
    loads = LOADS[spec.algorithm](requests, spec, limit, shift)
    unheld = unheld_by_queue(requests, loads, limit) if ALGORITHMS[spec.algorithm].holds else None
    shift_s = shift if spec.on_clock else None
    return judge(requests, loads, at_once(spec, limit), spec, limit, shift_s=shift_s, unheld=unheld)


def unheld_by_queue(requests: RequestLog, loads: Loads, limit: Limit) -> Bools:
    """Return which accepted requests were answered before a queue would have released them."""
    # A request sent up to ``tolerance_s`` earlier may have arrived later, so the wait does not include it.
    back = np.searchsorted(requests.times, requests.times - requests.tolerance_s, side="left")
    swapped = requests.passed.least[:-1] - requests.passed.least[back]
    wait = (loads[0] - swapped) / limit.rate
    took = requests.ends - requests.times
    return requests.accepted & (wait > _HELD_FROM_S) & (took < 0.98 * wait - requests.tolerance_s)


def held(requests: RequestLog) -> float | None:
    """Return Pearson's correlation between accepted requests' durations and their waits in an assumed queue.

    It is None if too few requests would have waited, or if all waits or all durations are equal.
    """
    wait = bucket_loads(requests, requests.limit.rate)[0] / requests.limit.rate
    passed = requests.accepted & requests.judged
    waits, took = wait[passed], (requests.ends - requests.times)[passed]
    if (waits > _HELD_FROM_S).sum() < _HELD_ENOUGH or not waits.std() or not took.std():
        return None
    return float(np.corrcoef(waits, took)[0, 1])


def with_intervals(requests: RequestLog, fit: Fit, offset: float, reach: float) -> Fit:
    """Return a fit with an interval for its burst, and for its count or rate if the documented value is excluded.

    A limiter without a burst gets the documented count unless this count is excluded. A value is excluded if it
    explains significantly fewer decisions than the best value. ``offset`` is the server's clock minus ours, and
    ``reach`` is its uncertainty. Both are in s.
    """
    if not {"count", "burst", "rate"} & {*fit.fitted}:
        return fit
    (low, high), rates = _not_excluded(requests, fit, offset, reach)
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
    """Return the smallest and largest count per window that are not excluded, even if ``fit`` has no fitted count."""
    thresholds, rates = _not_excluded(requests, replace(fit, fitted=(*fit.fitted, "count")), offset, reach)
    if rates is None:
        return thresholds
    return rates[0] * requests.limit.window, rates[1] * requests.limit.window


def _not_excluded(
    requests: RequestLog, fit: Fit, offset: float, reach: float
) -> tuple[tuple[int, int], tuple[float, float] | None]:
    """Return the ranges of thresholds and rates that are not excluded; None for rates if only one was tried."""
    some, tried = requests.part(0, _LOOKED), []
    for spec, limit, shift in _neighbours(fit, offset, reach):
        loads = LOADS[spec.algorithm](some, spec, limit, shift)
        best = best_threshold(some, loads)
        tried.append((judge(some, loads, best, spec, limit), best, loads))
    top = max((each for each, *_ in tried), key=lambda each: each.score)
    held = [each for each in tried if not beats(top, each[0])]
    # If times are whole seconds, a wrong shift leaves many decisions undecidable and is hardly contradicted, so
    # limiters with a clearly lower score are left out too.
    if requests.grain_s and ALGORITHMS[fit.spec.algorithm].aligned:
        held = [each for each in held if each[0].score >= top.score - EVIDENCE]
    ends = [end for _, best, loads in held for end in _thresholds(some, loads, best)]
    rates = _widened([each.limit.rate for each, *_ in held], [each.limit.rate for each, *_ in tried])
    return (min(ends), max(ends)), rates


def _neighbours(fit: Fit, offset: float, reach: float) -> Iterator[tuple[LimiterSpec, Limit, float]]:
    """Yield the limiter with several values of its fitted rate, phase or clock shift; unchanged if none was fitted."""
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
    """Widen the range of ``held`` rates by one tried rate at each end; None if only one rate was tried.

    The true rate may lie between two tried rates.
    """
    rates = sorted({*tried})
    if len(rates) == 1:
        return None
    low, high = rates.index(min(held)), rates.index(max(held))
    return rates[max(0, low - 1)], rates[min(len(rates) - 1, high + 1)]


def _thresholds(requests: RequestLog, loads: Loads, best: int) -> tuple[int, int]:
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
