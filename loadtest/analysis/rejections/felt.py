"""What others feel of one party's excess beside 429s: longer service times and executionTimes, and more errors.

They are compared in the party's stages in which it was refused anything with all other times, by traffic entry and kind
of request: an aggressor that floods a service slows others down long before its first 429 of a window.
"""

from typing import Final, Literal

import numpy as np
import pandas as pd

from loadtest.analysis.columns import KINDS, OK, OUTCOMES
from loadtest.analysis.distribution import distribution
from loadtest.analysis.keys import slower
from loadtest.analysis.results import Result
from loadtest.arrays import Bools, Floats, Ints
from loadtest.contract import THROTTLED_STATUS, Outcome
from loadtest.stats import more_often

MOST: Final = 100_000
"""Requests that are compared, evenly picked of more."""
_FAILED: Final = [OUTCOMES.index(Outcome.FAILED), OUTCOMES.index(Outcome.TIMED_OUT)]


class Slowdown(Result, frozen=True, kw_only=True):
    """A time of others that is significantly longer meanwhile: 95 % intervals apart, and half as long again at least.

    Attributes:
        time: what is longer: ``service_time`` of a request, or its ``execution_time``.
        traffic: whose.
        kind: of request.
        statistic: in which it is longer: ``p50``, or ``p95`` where that is not.
        meanwhile_ms: while the party was refused.
        otherwise_ms: at other times.
        factor: how many times as long.
    """

    time: Literal["service_time", "execution_time"]
    traffic: str
    kind: str
    statistic: Literal["p50", "p95"]
    meanwhile_ms: float
    otherwise_ms: float
    factor: float


class Felt(Result, frozen=True, kw_only=True):
    """What others felt of one party, but for 429s.

    Attributes:
        slower: times that were longer meanwhile, the most so first.
        errors_meanwhile: others' requests that were sent meanwhile, and how many failed or timed out.
        errors_otherwise: likewise at other times.
        more_errors: whether so many more failed meanwhile that chance would not do it once in a thousand times.
    """

    slower: tuple[Slowdown, ...]
    errors_meanwhile: tuple[int, int]
    errors_otherwise: tuple[int, int]
    more_errors: bool

    @property
    def anything(self) -> bool:
        """Whether they felt anything."""
        return bool(self.slower) or self.more_errors


def felt_by_others(sent: pd.DataFrame, party: Bools) -> Felt | None:
    """What all others felt of a party; None where there was no other time to compare with.

    Args:
        sent: requests in figures, in any order: ``start``, ``end``, ``status``, ``outcome``, ``execution_time_ms``,
            ``traffic``, ``kind`` and ``stage_index``.
        party: which of them are the party's own.
    """
    start = sent["start"].to_numpy(float)
    meanwhile = _meanwhile(
        start, sent["stage_index"].to_numpy(), party, (sent["status"] == THROTTLED_STATUS).to_numpy()
    )
    others = np.flatnonzero(~party)
    if not meanwhile[others].any() or meanwhile[others].all():
        return None
    failed = np.isin(sent["outcome"].to_numpy(), _FAILED)
    during, apart = (_errors(failed[others], mask[others]) for mask in (meanwhile, ~meanwhile))
    picked = others[:: -(-len(others) // MOST)]
    slower = _slower(sent.iloc[picked], meanwhile[picked])
    return Felt(
        slower=tuple(sorted(slower, key=lambda one: -one.factor)),
        errors_meanwhile=during,
        errors_otherwise=apart,
        more_errors=more_often(during, apart),
    )


def _meanwhile(start: Floats, stage: Ints, party: Bools, refused: Bools) -> Bools:
    """Which requests were sent while the party was in a stage in which it was refused anything."""
    found = np.zeros(len(start), bool)
    for index in np.unique(stage[party & refused]).tolist():
        own = start[party & (stage == index)]
        found |= (start >= own.min()) & (start <= own.max())
    return found


def _errors(failed: Bools, mask: Bools) -> tuple[int, int]:
    return int(mask.sum()), int((failed & mask).sum())


def _slower(sent: pd.DataFrame, meanwhile: Bools) -> list[Slowdown]:
    found = []
    ok = (sent["outcome"] == OK).to_numpy()
    times: dict[Literal["service_time", "execution_time"], Floats] = {
        "service_time": ((sent["end"] - sent["start"]) / 1e6).to_numpy(float),
        "execution_time": sent["execution_time_ms"].to_numpy(float),
    }
    entries, kinds = sent["traffic"].cat, sent["kind"].cat
    pair = entries.codes.to_numpy(np.int64) * len(KINDS) + kinds.codes.to_numpy(np.int64)
    for code in np.unique(pair[ok]).tolist():
        own = np.flatnonzero(ok & (pair == code))
        traffic, kind = entries.categories[code // len(KINDS)], KINDS[code % len(KINDS)]
        for name, values in times.items():
            now, then = (values[own[mask[own]]] for mask in (meanwhile, ~meanwhile))
            if (slow := slower(distribution(now), distribution(then))) is not None:
                statistic, meanwhile_ms, otherwise_ms, factor = slow
                found.append(
                    Slowdown(
                        time=name, traffic=str(traffic), kind=str(kind), statistic=statistic,
                        meanwhile_ms=meanwhile_ms, otherwise_ms=otherwise_ms, factor=factor,
                    )
                )  # fmt: skip
    return found
