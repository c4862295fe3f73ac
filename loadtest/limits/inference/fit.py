"""How one limiter explains what was seen: which decisions contradict it, and how likely it makes what was seen."""

import math
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from loadtest.arrays import Bools
from loadtest.limits import LimiterSpec
from loadtest.limits.inference.occupancy import SLACK, Loads, RequestLog
from loadtest.stats import log10_at_most
from loadtest.units import Limit

_ERROR: Final = 0.01
"""Share of decisions that come out otherwise for reasons of their own: what a contradiction is charged with."""
BAR: Final = 0.95
"""Share of the decided 429s, and of the decided accepted requests, that a limiter has to predict to fit."""
_UNLIKELY: Final = -2.0
"""log10 of the probability of what was seen, below which a limiter does not fit."""

Fitted = Literal["count", "burst", "shift", "rate"]


@dataclass(frozen=True, eq=False)
class Fit:
    """How one limiter explains what was seen. Counts are of requests that were answered, by the record.

    Attributes:
        fitted: which of its numbers were fitted to what was seen: ``count``, ``burst``, ``shift``, ``rate``.
        shift_s: the server's clock minus ours, where windows are wall-aligned.
        right: decisions that it predicts.
        wrongly_rejected: refused, though it had room.
        wrongly_admitted: accepted, though it had none.
        undecidable: about which it says nothing, within the tolerance of times.
        refused: of the decided ones, those that were refused.
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
    refused: int
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
        shares = ((self.wrongly_rejected, self.refused), (self.wrongly_admitted + self.not_held, self.accepted))
        return (
            all(log10_at_most(n - wrong, n, BAR) >= _UNLIKELY for wrong, n in shares)
            and self.refused + self.accepted > 0
        )

    @property
    def explained(self) -> float | None:
        """The lesser of the shares of decided 429s and of decided accepted requests that it predicts."""
        shares = []
        if self.refused:
            shares.append(1 - self.wrongly_rejected / self.refused)
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
    rejected, admitted = known & requests.refused & would_pass, known & requests.accepted & would_not
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
        refused=int((known & requests.refused & ~unsure).sum()),
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
    # An accepted one needs load + 1 ≤ T; a refused one is contradicted where load + 1 ≤ T.
    needs = np.ceil(loads[0][known & requests.accepted] + 1 - SLACK)
    refutes = np.ceil(loads[1][known & requests.refused] + 1 - SLACK)
    most = int(needs.max(initial=1)) + 1
    needed = np.bincount(needs.astype(np.int64), minlength=most + 1)[: most + 1]
    refuted = np.bincount(np.minimum(refutes, most + 1).astype(np.int64), minlength=most + 2)[: most + 1]
    cost = needed.sum() - np.cumsum(needed) + np.cumsum(refuted)
    return int(np.argmin(cost[1:])) + 1
