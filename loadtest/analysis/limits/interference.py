"""Whether one party's excess is felt by the others: their 429s while it is being refused, and while it is not.

A party is a traffic entry, or a key. That others are refused more often while it is can mean that they share a limit,
or only that all are above theirs in the same stage. What decides are 429s that the assumed limiter does not explain:
it knows who shares what.
"""

from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loadtest.analysis.results import Result
from loadtest.contract import THROTTLED_STATUS
from loadtest.stats import log10_at_most

_BIN_NS: Final = 1e9
_BINS_MOST: Final = 100_000
MOST: Final = 20
"""Parties of a kind that are looked at: those with most 429s."""
_UNLIKELY: Final = -3.0

Kind = Literal["traffic", "key"]
Bools = NDArray[np.bool_]


class Interference(Result, frozen=True, kw_only=True):
    """One party, and all others while it is being refused (in seconds in which it got a 429) and while it is not.

    Attributes:
        kind: of party.
        party: its name, or the number of a key.
        while_refused: the others' requests in such seconds: sent, 429s, and those of the 429s that are wrong by the
            assumed limiter.
        while_not: likewise in all other seconds.
        felt: whether unexplained 429s of others are so much more frequent meanwhile that chance would not do it once
            in a thousand times; None where nothing is expected or either time is empty.
    """

    kind: Kind
    party: str
    while_refused: tuple[int, int, int]
    while_not: tuple[int, int, int]
    felt: bool | None


def interference(sent: pd.DataFrame, wrong: Bools | None) -> list[Interference]:
    """Each party that was refused anything while others sent.

    Args:
        sent: requests in figures.
        wrong: of each, whether it was refused though its assumed limiter had room; None if that is unknown.
    """
    found: list[Interference] = []
    keys = sent["key_index"].fillna(0).to_numpy(np.int64)
    found += _parties(
        "traffic", sent, np.asarray(sent["traffic"].cat.codes, np.int64), list(sent["traffic"].cat.categories), wrong
    )
    return found + _parties("key", sent, keys, [], wrong)


def _parties(
    kind: Kind, sent: pd.DataFrame, party: NDArray[np.int64], names: list[str], wrong: Bools | None
) -> list[Interference]:
    if len(sent) == 0 or party.min() == party.max():
        return []
    start = sent["start"].to_numpy(float)
    second = ((start - start.min()) // max(_BIN_NS, (start.max() - start.min()) / _BINS_MOST)).astype(np.int64)
    refused = (sent["status"] == THROTTLED_STATUS).to_numpy()
    unexplained = np.zeros_like(refused) if wrong is None else refused & wrong

    def counts(mask: Bools) -> NDArray[np.int64]:
        """Sent, 429s, and unexplained ones, in each second."""
        bins = int(second.max()) + 1
        return np.array([np.bincount(second[mask & each], minlength=bins) for each in (mask, refused, unexplained)])

    everyone = counts(np.ones_like(refused))
    found = []
    by_party = np.bincount(party[refused], minlength=int(party.max()) + 1)
    for each in np.argsort(-by_party, kind="stable")[:MOST].tolist():
        own = counts(party == each)
        over = own[1] > 0
        during = _three((everyone - own)[:, over])
        apart = _three((everyone - own)[:, ~over])
        if not by_party[each] or not during[0]:
            continue
        felt = _felt(during, apart) if wrong is not None and apart[0] else None
        party_name = names[each] if names else str(each)
        found.append(Interference(kind=kind, party=party_name, while_refused=during, while_not=apart, felt=felt))
    return found


def _three(counts: NDArray[np.int64]) -> tuple[int, int, int]:
    sent, refused, unexplained = counts.sum(axis=1).tolist()
    return sent, refused, unexplained


def _felt(during: tuple[int, int, int], apart: tuple[int, int, int]) -> bool:
    """Fisher's question, asked of a binomial: given all unexplained 429s, are so many of them in these seconds?"""
    total = during[2] + apart[2]
    share = during[0] / (during[0] + apart[0])
    # At least that many in these seconds: at most that few in the others.
    return total > 0 and during[2] > total * share and log10_at_most(apart[2], total, 1 - share) <= _UNLIKELY
