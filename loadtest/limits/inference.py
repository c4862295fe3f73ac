"""Which limiter the answers are those of: every known algorithm is compared with them.

A limiter is set aside where another one that fits better is contradicted by significantly fewer decisions: of those
that contradict one of the two but not the other, so many speak for the other that a fair coin would not do it once in
a thousand times (exact sign test). Requests of one run are not independent: take it for a measure and not for a truth.
What is left cannot be told apart by this traffic. If even the best leaves too much unexplained, none fits.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

from loadtest.limits import ALGORITHMS, LimiterSpec, at_once, in_words
from loadtest.limits.fits import Fit, candidates, held
from loadtest.limits.loads import RequestLog
from loadtest.stats.shares import log10_at_most
from loadtest.units import Limit

InferenceOutcome = Literal["nothing", "named", "several", "none"]
FITTED: Final = 50_000
"""Requests of each limit that algorithms are compared with: the first."""
_SIGNIFICANT: Final = -3.0
"""log10 of the probability below which a limiter is set aside."""
_HELD: Final = 0.9
"""Correlation from which accepted requests are taken to have been held as in a queue."""


@dataclass(frozen=True)
class Inference:
    """What the answers tell of the limiter of one limit.

    Attributes:
        word: ``nothing`` tells it (no request was rejected, or all were), one is ``named``, ``several`` cannot be told
            apart, ``none`` fits.
        named: what fits, best first; empty if nothing tells it or none fits.
        best: the best one, even if it does not fit.
        assumed: the assumed limiter's own fit; None if it is not among the candidates.
        next: the best one that was set aside.
        against: decisions that contradict ``next`` and not the best one, and the other way round.
        log10_p: of the sign test between them.
        held: correlation between the time that accepted requests took and their place in a queue.
        n: decisions that were looked at.
        rejected: of these, 429s.
        every: all candidates, best first.
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

    @property
    def other_count(self) -> int | None:
        """The count that the limit seems to have, where it is not the documented one."""
        return self.named[0].limit.count if self.named and "count" in self.named[0].fitted else None

    @property
    def best_of_each(self) -> list[Fit]:
        """Of each algorithm the candidate that fits best, best first."""
        return _one_of_each(list(self.every))


def infer(requests: RequestLog, assumed: LimiterSpec, offset: float, reach: float) -> Inference:
    """Compare every algorithm with what was seen of one limit.

    Args:
        requests: in the order of time.
        assumed: the limiter that was assumed.
        offset: the server's clock minus ours, in s.
        reach: by how much that may be wrong.
    """
    requests = requests.part(0, FITTED)
    known = requests.judged & requests.answered
    n, rejected = int(known.sum()), int((known & requests.rejected).sum())
    if rejected in (0, n):
        return Inference("nothing", n, rejected)
    fits = candidates(requests, assumed, offset, reach)
    # One that leaves every 429 undecided is contradicted by little, and explains nothing.
    fits = [fit for fit in fits if fit.rejected] or fits
    assumed_fit = next((fit for fit in fits if same(fit, assumed, requests.limit)), None)
    queued = held(requests)
    rivals = [fit for fit in fits if ALGORITHMS[fit.spec.algorithm].holds] if (queued or 0) > _HELD else []
    # Where answers were held as in a queue, and a queue explains the decisions, no limiter that holds nothing does.
    pool = rivals if any(fit.fits for fit in rivals) else fits
    # Another count is looked at only where the documented one does not do.
    plain = [fit for fit in pool if "count" not in fit.fitted]
    if plain and plain[0].fits and not any(beats(fit, plain[0]) for fit in pool):
        pool = plain
    left = [fit for place, fit in enumerate(pool) if not any(beats(other, fit) for other in pool[:place])]
    left = _one_of_each([fit for fit in left if fit.fits])
    found = partial(Inference, n=n, rejected=rejected, assumed=assumed_fit, held=queued, every=tuple(fits))
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


def same(fit: Fit, spec: LimiterSpec, limit: Limit) -> bool:
    """Whether a fit is that of a spec with the documented count."""
    burst = at_once(spec, limit) if ALGORITHMS[spec.algorithm].has_burst else spec.burst
    own = (fit.spec.algorithm, fit.spec.burst, fit.spec.count_rejected, fit.limit)
    return own == (spec.algorithm, burst, spec.count_rejected, limit)


def compare(one: Fit, other: Fit) -> tuple[int, int]:
    """Decisions that contradict the other and not the one, and the other way round."""
    return int((other.wrong & ~one.wrong).sum()), int((one.wrong & ~other.wrong).sum())


def beats(one: Fit, other: Fit) -> bool:
    """Whether one limiter explains significantly more than another."""
    return one.score > other.score and sign_test(*compare(one, other)) <= _SIGNIFICANT


def sign_test(wins: int, losses: int) -> float:
    """log10 of the probability that a fair coin, thrown wins + losses times, shows so few losses or fewer."""
    return log10_at_most(losses, wins + losses, 0.5) if wins > losses else 0.0


def _decides(spec: LimiterSpec) -> tuple[str, bool]:
    """What tells one limiter from another by its answers: decisions, and whether requests are held."""
    algorithm = ALGORITHMS[spec.algorithm]
    alike = None if algorithm.holds else algorithm.decides_as
    return alike or algorithm.name, spec.count_rejected


def _one_of_each(fits: list[Fit]) -> list[Fit]:
    """Of each algorithm the best burst and count only, with the bursts that fit as well."""
    alike: dict[tuple[str, bool], list[Fit]] = {}
    for fit in fits:
        alike.setdefault((fit.spec.algorithm, fit.spec.count_rejected), []).append(fit)
    found = []
    for best, *others in alike.values():
        bursts = [fit.spec.burst for fit in (best, *others) if fit.spec.burst is not None and fit.limit == best.limit]
        several = len(set(bursts)) > 1
        found.append(replace(best, bursts=(min(bursts), max(bursts))) if several else best)
    return found


def words(fit: Fit) -> str:
    """Return a limiter as the object of a sentence."""
    spec = fit.spec
    shown, _ = _decides(spec)
    text = in_words(replace(spec, algorithm=shown)).replace("clock that", "clock, that")
    twins = [each.called.split()[-1] for each in ALGORITHMS.values() if each.decides_as == shown and not each.holds]
    if twins:
        name = ALGORITHMS[shown].called
        text = text.replace(name, f"{name} (or {twins[0]}, which decides alike)", 1)
    if fit.bursts is not None:
        text += f" ({fit.bursts[0]} to {fit.bursts[1]} fit as well)"
    if "rate" in fit.fitted:
        text += f", at {fit.limit.rate:.4g} requests/s"
    return f"{text}, of {fit.limit.count} instead" if "count" in fit.fitted else text
