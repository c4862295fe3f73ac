"""Inference of the limiter in force. The recorded decisions are compared with every known algorithm.

A limiter is excluded if significantly fewer decisions contradict a better limiter. The exact sign test compares the
decisions that contradict only one of the two limiters. It excludes a limiter if the p-value is at most 1 in 1000.
Requests are not independent, so the p-value is approximate. The remaining limiters cannot be told apart by this
traffic. If even the best limiter leaves too many decisions unexplained, none fits.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

import numpy as np

from loadtest.limits import ALGORITHMS, LimiterSpec, at_once, in_words
from loadtest.limits.candidates import TOGETHER_S, candidates
from loadtest.limits.fits import EVIDENCE, SIGNIFICANT, Fit, beats, compare, held, sign_test, with_intervals
from loadtest.limits.loads import RequestLog
from loadtest.units import Limit

InferenceOutcome = Literal["nothing", "named", "several", "none"]
FITTED: Final = 50_000
"""Only the first requests of each limit, at most this many, are used to compare algorithms."""
_LEAST_REJECTED: Final = 10
"""A fit with another count than the documented count supports an inference only if it decides at least this many 429s.
Fewer contradictions exclude no limiter: in the sign test, 2⁻¹⁰ is the first probability below 1 in 1000."""
_ALIGNED_S: Final = 2.0
"""An interval of phases counts as wide if it is wider than this, in s. The server's clock and ours may each
be wrong by 1 s."""
_HELD: Final = 0.9
"""Above this correlation (``held``), a queue is assumed to have delayed accepted requests."""


@dataclass(frozen=True)
class Inference:
    """The inferred limiter of one limit.

    Attributes:
        word: ``nothing`` can be inferred, one limiter is ``named``, ``several`` fit equally well, or ``none`` fits.
            Nothing can be inferred if no or every request was rejected, if no limiter accepted any request after its
            first 429, or if the limiters that fit decide too few requests.
        named: the limiters that fit, best first; empty if nothing can be inferred or none fits.
        best: the best limiter, even if it does not fit.
        assumed: the assumed limiter's fit.
        next: the best excluded limiter.
        against: numbers of decisions that contradict only ``next``, and only ``best``.
        log10_p: log10 of the p-value of the sign test between ``next`` and the best limiter.
        held: correlation between accepted requests' durations and their waits in an assumed queue, if known.
        n: number of compared decisions. ``rejected`` counts the 429s among them.
        every: the candidates that decide at least one 429, best first; all candidates if none does.
        blocked_s: the longest time in s from the first rejected request of a limiter to this limiter's last request.
            None if no request followed a rejected request, or if a limiter accepted a later request.
    """

    word: InferenceOutcome
    n: int
    rejected: int
    named: tuple[Fit, ...] = ()
    best: Fit | None = None
    assumed: Fit | None = None
    next: Fit | None = None
    against: tuple[int, int] = (0, 0)
    log10_p: float | None = None
    held: float | None = None
    every: tuple[Fit, ...] = ()
    blocked_s: float | None = None

    @property
    def other_count(self) -> int | None:
        """The count that the limit seems to have; None if ``other_counts`` is None."""
        return None if self.other_counts is None else self.named[0].limit.count

    @property
    def other_counts(self) -> tuple[int, int] | None:
        """Smallest and largest count of the named limiters; None if none is named or one has the documented count."""
        held = [counts for fit in self.named if (counts := counts_of(fit)) is not None]
        if not held or len(held) < len(self.named):
            return None
        return min(low for low, _ in held), max(high for _, high in held)

    @property
    def best_of_each(self) -> list[Fit]:
        """The best candidate of each algorithm and value of ``count_rejected``, best first."""
        return _one_of_each(list(self.every))


def infer(requests: RequestLog, assumed: LimiterSpec, offset: float, reach: float) -> Inference:
    """Compare every algorithm with the recorded decisions of one limit.

    ``offset`` is the server's clock minus ours, and ``reach`` is its uncertainty. Both are in s.
    """
    requests = requests.part(0, FITTED)
    n, rejected = sum(map(len, requests.decisions)), len(requests.decisions[1])
    if rejected in (0, n):
        return Inference("nothing", n, rejected)
    tried = candidates(requests, assumed, offset, reach)
    # A limiter for which every 429 is undecidable is hardly contradicted but explains no 429. It is left out at first.
    fits = [fit for fit in tried if fit.rejected] or tried
    assumed_fit = next((fit for fit in fits if same(fit, assumed, requests.limit)), None)
    queued, blocked = held(requests), _blocked(requests)
    rivals = [fit for fit in fits if ALGORITHMS[fit.spec.algorithm].holds] if (queued or 0) > _HELD else []
    # If answers were delayed as in a queue and a queue explains the decisions, only queues are considered.
    pool = _considered(rivals if any(fit.fits for fit in rivals) else fits)
    left = _not_excluded(pool, requests)
    unsure = bool(left) and not requests.grain_s and not any(_decides_enough(fit, n, rejected) for fit in left)
    left += [fit for fit in tried if left and not (fit.rejected or requests.grain_s) and _undecided(fit, left)]
    left = [_with_phases(with_intervals(requests, fit, offset, reach), left) for fit in left]
    left = _one_of_each(left)
    found = partial(
        Inference, n=n, rejected=rejected, assumed=assumed_fit, held=queued, every=tuple(fits), blocked_s=blocked
    )
    if blocked is not None or unsure:
        return found("nothing")
    if not left:
        return found("none", best=max(fits, key=lambda fit: (fit.explained or 0, fit.score)))
    following = next((fit for fit in pool if all(_decides(fit.spec) != _decides(one.spec) for one in left)), None)
    against = compare(left[0], following) if following else (0, 0)
    return found(
        "named" if len({_decides(fit.spec) for fit in left}) == 1 else "several",
        named=tuple(left),
        best=left[0],
        next=following,
        against=against,
        log10_p=sign_test(*against) if following else None,
    )


def _considered(fits: list[Fit]) -> list[Fit]:
    """Keep only fits with the documented count if such a fit without a fitted burst is nearly the best."""
    plain = next((fit for fit in fits if not {"count", "burst"} & {*fit.fitted}), None)
    if plain and plain.fits and plain.explained and plain.score >= fits[0].score - EVIDENCE:
        return [fit for fit in fits if "count" not in fit.fitted]
    return fits


def _not_excluded(pool: list[Fit], requests: RequestLog) -> list[Fit]:
    """Return the limiters that fit and that no better limiter excludes, best first."""
    left = [fit for place, fit in enumerate(pool) if not any(beats(other, fit) for other in pool[:place])]
    # If a ``_kind`` fits with the documented count, its fits with other counts are left out. If times are in whole
    # seconds, the decisions exclude few counts, so a fit with another count must decide at least half of the requests.
    documented = {_kind(fit) for fit in left if fit.fits and "count" not in fit.fitted}
    return [
        fit
        for fit in left
        if fit.fits
        and not ("count" in fit.fitted and _kind(fit) in documented)
        and not ("count" in fit.fitted and requests.grain_s and fit.undecidable > fit.rejected + fit.accepted)
    ]


def _blocked(requests: RequestLog) -> float | None:
    """Return ``Inference.blocked_s``."""
    lasted = 0.0
    for part in np.split(np.arange(len(requests.times)), requests.begins[1:]):
        rejected = part[requests.rejected[part]]
        # Requests sent together reach the server in any order, so those sent with the rejected request are left out.
        later = part[requests.times[part] > requests.times[rejected[0]] + TOGETHER_S] if len(rejected) else rejected
        if requests.accepted[later].any():
            return None
        if len(later):
            lasted = max(lasted, float(requests.times[later[-1]] - requests.times[rejected[0]]))
    return lasted or None


def _decides_enough(fit: Fit, n: int, rejected: int) -> bool:
    if "count" in fit.fitted and fit.rejected < _LEAST_REJECTED:
        return False
    return bool(fit.explained) and 10 * fit.rejected >= rejected and 10 * fit.accepted >= n - rejected


def _undecided(fit: Fit, left: list[Fit]) -> bool:
    """Whether to keep a limiter that decides no 429.

    It is kept if no decision contradicts it and ``left`` has another fit of its ``_kind``. It is also kept if it
    explains significantly more decisions than the best limiter in ``left``.
    """
    uncontradicted = any(_kind(fit) == _kind(other) for other in left) and not fit.wrong.any()
    return uncontradicted or sign_test(*compare(fit, left[0])) <= SIGNIFICANT


def same(fit: Fit, spec: LimiterSpec, limit: Limit) -> bool:
    """Whether a fit has this limit, and this spec apart from the scope."""
    burst = at_once(spec, limit) if ALGORITHMS[spec.algorithm].has_burst else None
    return replace(fit.spec, scope=spec.scope) == replace(spec, burst=burst) and fit.limit == limit


def counts_of(fit: Fit) -> tuple[int, int] | None:
    """Return the smallest and largest count per window of a limiter; None if it has the documented count."""
    if fit.rates is not None and "count" in fit.fitted:
        return math.floor(fit.rates[0] * fit.limit.window), math.ceil(fit.rates[1] * fit.limit.window)
    return fit.counts


def _decides(spec: LimiterSpec) -> tuple[str, bool]:
    """Return a value that is equal for limiters that cannot be told apart by decisions and delays."""
    algorithm = ALGORITHMS[spec.algorithm]
    alike = None if algorithm.holds else algorithm.decides_as
    return alike or algorithm.name, spec.count_rejected


def _kind(fit: Fit) -> tuple[str, bool]:
    return fit.spec.algorithm, fit.spec.count_rejected


def _with_phases(fit: Fit, left: list[Fit]) -> Fit:
    """Give a fixed window's fit the first wide interval of phases among the fits in ``left``, if there is one."""
    wide = [each.phases for each in left if each.phases and each.phases[1] - each.phases[0] > _ALIGNED_S]
    return replace(fit, phases=wide[0]) if wide and fit.spec.algorithm == "fixed-window" else fit


def _one_of_each(fits: list[Fit]) -> list[Fit]:
    """Keep the best fit of each ``_kind``, with intervals widened to include the other fits of this kind."""
    alike: dict[tuple[str, bool], list[Fit]] = {}
    for fit in fits:
        alike.setdefault(_kind(fit), []).append(fit)
    found = []
    for same_kind in alike.values():
        best = same_kind[0]
        near = [fit for fit in same_kind if fit.limit == best.limit]
        bursts = [each for fit in near for each in fit.bursts or (fit.spec.burst,) if each is not None]
        counts = [each for fit in same_kind for each in fit.counts or ()]
        found.append(
            replace(
                best,
                bursts=(min(bursts), max(bursts)) if len(set(bursts)) > 1 else None,
                counts=(min(counts), max(counts)) if best.counts is not None else None,
            )
        )
    return found


def words(fit: Fit) -> str:
    """Describe a fitted limiter with a noun phrase."""
    spec = fit.spec
    shown, _ = _decides(fit.spec)
    text = in_words(replace(spec, algorithm=shown)).replace("clock that", "clock, that")
    twins = [each.called.split()[-1] for each in ALGORITHMS.values() if each.decides_as == shown and not each.holds]
    if twins:
        name = ALGORITHMS[shown].called
        text = text.replace(name, f"{name} (or {twins[0]}, which decides alike)", 1)
    if fit.bursts is not None:
        text += f" ({fit.bursts[0]} to {fit.bursts[1]} fit as well)"
    if fit.phases is not None:
        early, late = fit.phases
        text = text.replace(f"by {spec.phase:.3g} s", f"by {early:.3g} to {late:.3g} s")
        text += "" if spec.phase else f" (a phase of {early:.3g} to {late:.3g} s fits as well)"
    if fit.rates is not None:
        text += f", at {fit.rates[0]:.4g} to {fit.rates[1]:.4g} requests/s"
    if fit.counts is not None:
        text += f", of {range_text(fit.counts)} instead"
    return text


def range_text(ends: tuple[int, int]) -> str:
    """Format a range of whole numbers: ``79 to 82``, or ``80``."""
    return " to ".join(str(end) for end in dict.fromkeys(ends))
