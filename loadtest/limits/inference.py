"""Inference of the limiter in force: the recorded decisions are compared with every known algorithm.

A limiter is excluded if significantly fewer decisions contradict a limiter that fits better. Among the decisions that
contradict exactly one of the two, the exact sign test must give a probability below 1 in 1000. Requests of one run are
not independent, so this is a measure and not a proof. This traffic does not distinguish the remaining limiters. If even
the best leaves too much unexplained, none fits.
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
"""Maximum number of requests of each limit, from the first on, that algorithms are compared with."""
_SIGNIFICANT: Final = -3.0
"""log10 of the probability below which a limiter is excluded."""
_HELD: Final = 0.9
"""Minimum correlation that shows that accepted requests were held in a queue."""


@dataclass(frozen=True)
class Inference:
    """The inferred limiter of one limit.

    Attributes:
        word: ``nothing`` can be inferred (no request or every request was rejected), one limiter is ``named``,
            ``several`` cannot be told apart, or ``none`` fits.
        named: the limiters that fit, best first; empty if nothing can be inferred or none fits.
        best: the best limiter, even if it does not fit.
        assumed: the assumed limiter's fit; None if it is not among the candidates.
        next: the best excluded limiter.
        against: decisions that contradict only ``next``, and only the best limiter.
        log10_p: result of the sign test between these two.
        held: correlation between accepted requests' durations and their position in a queue.
        n: decisions compared.
        rejected: number of 429s among them.
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
        """The count that the limit seems to have, if it is not the documented count."""
        return self.named[0].limit.count if self.named and "count" in self.named[0].fitted else None

    @property
    def best_of_each(self) -> list[Fit]:
        """The best candidate of each algorithm, best first."""
        return _one_of_each(list(self.every))


def infer(requests: RequestLog, assumed: LimiterSpec, offset: float, reach: float) -> Inference:
    """Compare every algorithm with the recorded decisions of one limit.

    Args:
        requests: in order of time.
        assumed: the assumed limiter.
        offset: the server's clock minus ours, in s.
        reach: the uncertainty of ``offset``, in s.
    """
    requests = requests.part(0, FITTED)
    known = requests.judged & requests.answered
    n, rejected = int(known.sum()), int((known & requests.rejected).sum())
    if rejected in (0, n):
        return Inference("nothing", n, rejected)
    fits = candidates(requests, assumed, offset, reach)
    # A limiter that leaves every 429 undecided is hardly contradicted but explains nothing.
    fits = [fit for fit in fits if fit.rejected] or fits
    assumed_fit = next((fit for fit in fits if same(fit, assumed, requests.limit)), None)
    queued = held(requests)
    rivals = [fit for fit in fits if ALGORITHMS[fit.spec.algorithm].holds] if (queued or 0) > _HELD else []
    # If answers were held as in a queue and a queue explains the decisions, limiters that hold nothing are excluded.
    pool = rivals if any(fit.fits for fit in rivals) else fits
    # Another count is considered only if the documented count does not fit.
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
    """Whether a fit is that of a spec with the documented limit."""
    burst = at_once(spec, limit) if ALGORITHMS[spec.algorithm].has_burst else spec.burst
    own = (fit.spec.algorithm, fit.spec.burst, fit.spec.count_rejected, fit.limit)
    return own == (spec.algorithm, burst, spec.count_rejected, limit)


def compare(one: Fit, other: Fit) -> tuple[int, int]:
    """Count the decisions that contradict only ``other``, and those that contradict only ``one``."""
    return int((other.wrong & ~one.wrong).sum()), int((one.wrong & ~other.wrong).sum())


def beats(one: Fit, other: Fit) -> bool:
    """Whether one limiter explains significantly more than another."""
    return one.score > other.score and sign_test(*compare(one, other)) <= _SIGNIFICANT


def sign_test(wins: int, losses: int) -> float:
    """Return log10 of the probability that a fair coin, thrown wins + losses times, shows at most ``losses``."""
    return log10_at_most(losses, wins + losses, 0.5) if wins > losses else 0.0


def _decides(spec: LimiterSpec) -> tuple[str, bool]:
    """The observable properties of a limiter: its decisions, and whether it holds requests."""
    algorithm = ALGORITHMS[spec.algorithm]
    alike = None if algorithm.holds else algorithm.decides_as
    return alike or algorithm.name, spec.count_rejected


def _one_of_each(fits: list[Fit]) -> list[Fit]:
    """Keep the best burst and count of each algorithm, with the range of bursts that fit equally well."""
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
    """Return a limiter's description as a noun phrase."""
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
