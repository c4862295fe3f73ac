"""What followed the 429s: when requests passed again, what became of retries, and whether others felt the excess.

Interference is read from the others: from their 429s while one party is being refused, and while it is not, and from
their times and errors (``felt``).

A party is a traffic entry, or a key. That others are refused more often while it is can mean that they share a limit,
or only that all are above theirs in the same stage. What decides are 429s that the assumed limiter does not explain:
it knows who shares what.
"""

from typing import Final, Literal

import numpy as np
import pandas as pd

from loadtest.analysis.columns import OK, OUTCOMES
from loadtest.analysis.distribution import Distributions, summarize
from loadtest.analysis.reader import Chunk
from loadtest.analysis.record import Record
from loadtest.analysis.rejections.felt import Felt, felt_by_others
from loadtest.analysis.results import Count, Result, Summary
from loadtest.analysis.times import response_time
from loadtest.arrays import Bools, Floats, Ints
from loadtest.contract import THROTTLED_STATUS, Outcome
from loadtest.limits.loads import RequestLog
from loadtest.stats import more_often

_THROTTLED: Final = OUTCOMES.index(Outcome.THROTTLED)


class Recovery(Result, frozen=True, kw_only=True):
    """Of one limit. Times in s, from the sending of a 429's request to that of the next that passed.

    Attributes:
        limiters: that refused a request.
        recovered: of these, those that accepted one afterwards.
        first_s: from the first 429 on, over limiters: least, median, most; None if none recovered.
        spells: times of nothing but 429s, of all limiters together.
        spell_s: how long they were, of those that ended: least, median, most; None without any.
    """

    limiters: Count
    recovered: Count
    first_s: tuple[float, float, float] | None
    spells: Count
    spell_s: tuple[float, float, float] | None


def recovery(requests: RequestLog) -> Recovery:
    """How soon the limiters of one limit let requests pass again."""
    known = np.flatnonzero(requests.answered)
    times, refused = requests.times[known], requests.rejected[known]
    limiter = np.searchsorted(requests.begins, known, side="right")
    changes = np.diff(limiter, prepend=-1) != 0
    starts = np.flatnonzero(refused & (changes | ~np.concatenate((refused[:1], refused[:-1]))))
    passes = np.flatnonzero(~refused)
    following = np.append(passes, len(known))[np.searchsorted(passes, starts)]
    ended = np.append(limiter, -1)[following] == limiter[starts]
    took = np.append(times, np.nan)[following] - times[starts]
    first = np.diff(limiter[starts], prepend=-1) != 0
    return Recovery(
        limiters=int(first.sum()),
        recovered=int((first & ended).sum()),
        first_s=_spread(took[first & ended]),
        spells=len(starts),
        spell_s=_spread(took[ended]),
    )


def _spread(values: Floats) -> tuple[float, float, float] | None:
    return (float(values.min()), float(np.median(values)), float(values.max())) if len(values) else None


class Retries(Result, frozen=True, kw_only=True):
    """Operations of one traffic entry that tried again after a refusal.

    Attributes:
        operations: those of which more than one first request was sent.
        attempts: first requests that these sent, all together.
        ok: of the operations, those that ended well.
        throttled: those that gave up.
        time_to_success_ms: response time of those that ended well, waiting included.
    """

    operations: Count
    attempts: Count
    ok: Count
    throttled: Count
    time_to_success_ms: Summary


class Retried:
    """Gathers what operations in figures did that took more than one attempt."""

    def __init__(self, record: Record) -> None:
        entries = len(record.vocabulary.entries)
        self._names = record.vocabulary.entries
        self._counts = np.zeros((entries, len(OUTCOMES)), np.int64)
        self._attempts = np.zeros(entries, np.int64)
        self._times = Distributions(entries)

    def add(self, chunk: Chunk) -> None:
        """Take in some more rows."""
        rows = chunk.operations
        rows = rows.where(rows.floats("attempt") > 1)
        rows = rows.where(chunk.vocabulary.in_figures[rows.stage_index])
        if not len(rows):
            return
        traffic, outcome = rows.words("traffic"), rows.words("outcome")
        np.add.at(self._counts, (traffic, outcome), 1)
        np.add.at(self._attempts, traffic, rows.floats("attempt").astype(np.int64))
        self._times.add(rows.ok.words("traffic"), response_time(rows.ok))

    def result(self) -> dict[str, Retries]:
        """Of each traffic entry."""
        return {
            name: Retries(
                operations=int(self._counts[entry].sum()),
                attempts=int(self._attempts[entry]),
                ok=int(self._counts[entry, OK]),
                throttled=int(self._counts[entry, _THROTTLED]),
                time_to_success_ms=summarize(self._times.get([entry])),
            )
            for entry, name in enumerate(self._names)
        }


_BIN_NS: Final = 1e9
_BINS_MOST: Final = 100_000
MOST: Final = 20
"""Parties of a kind that are looked at: those with most 429s."""

Kind = Literal["traffic", "key"]


class Interference(Result, frozen=True, kw_only=True):
    """One party, and all others while it is being refused (in seconds in which it got a 429) and while it is not.

    Attributes:
        kind: of party.
        party: its name, or the number of a key.
        while_refused: the others' requests in such seconds: sent, 429s, and those of the 429s that are wrong by the
            assumed limiter.
        while_not: likewise in all other seconds.
        refusals_felt: whether unexplained 429s of others are so much more frequent meanwhile that chance would not do
            it once in a thousand times; None where nothing is expected or either time is empty.
        others: what else others felt; None where there was no time without it.
        felt: whether others felt anything, be it 429s, longer times or errors; None where none of it is known.
    """

    kind: Kind
    party: str
    while_refused: tuple[int, int, int]
    while_not: tuple[int, int, int]
    refusals_felt: bool | None
    others: Felt | None
    felt: bool | None


def interference(sent: pd.DataFrame, wrong: Bools | None) -> list[Interference]:
    """Each party that was refused anything while others sent.

    Args:
        sent: requests in figures, as ``SentRequests.frame`` has them.
        wrong: of each, whether it was refused though its assumed limiter had room; None if that is unknown.
    """
    found: list[Interference] = []
    keys = sent["key_index"].fillna(0).to_numpy(np.int64)
    found += _parties(
        "traffic", sent, np.asarray(sent["traffic"].cat.codes, np.int64), list(sent["traffic"].cat.categories), wrong
    )
    return found + _parties("key", sent, keys, [], wrong)


def _parties(kind: Kind, sent: pd.DataFrame, party: Ints, names: list[str], wrong: Bools | None) -> list[Interference]:
    if len(sent) == 0 or party.min() == party.max():
        return []
    start = sent["start"].to_numpy(float)
    second = ((start - start.min()) // max(_BIN_NS, (start.max() - start.min()) / _BINS_MOST)).astype(np.int64)
    refused = (sent["status"] == THROTTLED_STATUS).to_numpy()
    unexplained = np.zeros_like(refused) if wrong is None else refused & wrong

    def counts(mask: Bools) -> Ints:
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
        refusals = more_often((during[0], during[2]), (apart[0], apart[2])) if wrong is not None and apart[0] else None
        others = felt_by_others(sent, party == each)
        known = [one for one in (refusals, None if others is None else others.anything) if one is not None]
        found.append(
            Interference(
                kind=kind,
                party=names[each] if names else str(each),
                while_refused=during,
                while_not=apart,
                refusals_felt=refusals,
                others=others,
                felt=any(known) if known else None,
            )
        )
    return found


def _three(counts: Ints) -> tuple[int, int, int]:
    sent, refused, unexplained = counts.sum(axis=1).tolist()
    return sent, refused, unexplained
