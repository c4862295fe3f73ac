"""Effect of one party's excess traffic on the 429s, times and errors of all other traffic.

A party is a traffic entry or a key. The 429s of other traffic are compared between seconds with a 429 of the party and
all other seconds. Several parties may exceed their own limits at the same time, so 429s that the assumed limiter
explains do not count.

Times and errors of other traffic are compared between stages with a 429 of the party and the rest of the run. Whole
stages are compared, because a flood slows other traffic long before the first 429. Times are compared separately for
each traffic entry and kind of request.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
import numpy as np

from loadtest.analysis.anomalies import slower
from loadtest.analysis.columns import FAILED, KINDS, OK, TIMED_OUT
from loadtest.analysis.distribution import distribution
from loadtest.analysis.results import Result, result_of
from loadtest.analysis.run_record import Record
from loadtest.arrays import Bools, Floats, Ints, NamedColumns
from loadtest.contract import THROTTLED_STATUS
from loadtest.stats.shares import more_often

_COMPARED: Final = 100_000
"""The times of at most this many requests of other traffic are compared, evenly sampled."""
_LEAST_MS: Final = 1.0
"""A time counts as longer only if the difference is at least this many ms, as between runs (``compare.changes``)."""


class Slowdown(Result, frozen=True, kw_only=True):
    """A significantly longer time of other traffic: by at least 1 ms and 50 %, with disjoint 95 % intervals.

    ``meanwhile_ms`` is the value during the party's stages with 429s. The statistic is p95 if p50 is not longer.
    """

    time: Literal["service_time", "execution_time"]
    traffic: str
    kind: str
    statistic: Literal["p50", "p95"]
    meanwhile_ms: float
    otherwise_ms: float
    factor: float


class Felt(Result, frozen=True, kw_only=True):
    """A party's effect on the times and errors of other traffic.

    Attributes:
        slower: significantly longer times, the greatest factor first.
        errors_meanwhile: two counts of other traffic during the party's stages with 429s: requests, and requests that
            failed or timed out. ``errors_otherwise`` has the same counts at other times.
        more_errors: whether failures are significantly more frequent during these stages (p < 0.001).
    """

    slower: tuple[Slowdown, ...]
    errors_meanwhile: tuple[int, int]
    errors_otherwise: tuple[int, int]
    more_errors: bool


def _felt_by_others(sent: NamedColumns, entries: Sequence[str], party: Bools) -> Felt | None:
    """Return a party's effect on times and errors.

    The result is None unless other traffic was sent both in the party's stages with 429s and at other times.
    """
    meanwhile = np.zeros(len(sent), bool)
    start = sent["start"]
    stage = sent["stage_index"]
    for index in np.unique(stage[party & (sent["status"] == THROTTLED_STATUS)]).tolist():
        own = start[party & (stage == index)]
        meanwhile |= (start >= own.min()) & (start <= own.max())
    others = np.flatnonzero(~party)
    if not meanwhile[others].any() or meanwhile[others].all():
        return None
    failed, during = np.isin(sent["outcome"][others], (FAILED, TIMED_OUT)), meanwhile[others]
    errors = [(int(mask.sum()), int((failed & mask).sum())) for mask in (during, ~during)]
    picked = others[:: -(-len(others) // _COMPARED)]
    slower = _slower(sent[picked], entries, meanwhile[picked])
    return Felt(
        slower=tuple(sorted(slower, key=lambda one: -one.factor)),
        errors_meanwhile=errors[0],
        errors_otherwise=errors[1],
        more_errors=more_often(*errors),
    )


def _slower(sent: NamedColumns, entries: Sequence[str], meanwhile: Bools) -> list[Slowdown]:
    found = []
    ok = sent["outcome"] == OK
    times: dict[Literal["service_time", "execution_time"], Floats] = {
        "service_time": (sent["end"] - sent["start"]) / 1e6,
        "execution_time": sent["execution_time_ms"],
    }
    pair = sent["traffic"].astype(np.int64) * len(KINDS) + sent["kind"]
    for code in np.unique(pair[ok]).tolist():
        own = np.flatnonzero(ok & (pair == code))
        traffic, kind = entries[code // len(KINDS)], KINDS[code % len(KINDS)]
        for name, values in times.items():
            now, then = (values[own[mask[own]]] for mask in (meanwhile, ~meanwhile))
            slow = slower(distribution(now), distribution(then))
            if slow is not None and slow.value_ms - slow.others_ms >= _LEAST_MS:
                both = {"meanwhile_ms": slow.value_ms, "otherwise_ms": slow.others_ms}
                found.append(result_of(Slowdown, slow, time=name, traffic=traffic, kind=str(kind), **both))
    return found


_BIN_NS: Final = 1e9
_BINS_MOST: Final = 100_000
MOST: Final = 20
"""The parties with the most 429s are analysed, at most this many of a kind."""

PartyKind = Literal["traffic", "key"]


class Interference(Result, frozen=True, kw_only=True):
    """Other traffic in the seconds with a 429 of a party, compared with all other seconds.

    Attributes:
        party: name of the traffic entry, or number of the key.
        while_refused: three counts of other traffic in the seconds with a 429 of the party: requests, 429s, and 429s
            that the assumed limiter does not explain. ``while_not`` has the same counts in all other seconds.
        refusals_felt: whether other traffic has significantly more unexplained 429s in the seconds with a 429 of the
            party (p < 0.001). None if no limiter was replayed, or other traffic was sent only in these seconds.
        others: effect on times and errors; None unless other traffic was sent both in the party's stages with 429s
            and at other times.
        felt: whether 429s, times or errors of other traffic were affected; None if all of these are unknown.
    """

    kind: PartyKind
    party: str
    while_rejected: tuple[int, int, int] = msgspec.field(name="while_refused")
    while_not: tuple[int, int, int]
    rejections_felt: bool | None = msgspec.field(name="refusals_felt")
    others: Felt | None
    felt: bool | None


def interference(record: Record, wrong: Bools | None) -> list[Interference]:
    """Return the effect of each party that got a 429 while other traffic was sent: at most ``MOST`` of each kind.

    ``wrong``: by request, whether it was rejected although the assumed limiter would accept it; None if unknown.
    """
    sent, entries = record.requests, record.vocabulary.words["traffic"]
    codes, keys = sent["traffic"].astype(np.int64), np.fmax(sent["key_index"], 0).astype(np.int64)
    width = int(keys.max(initial=0)) + 1
    pairs = [each.tolist() for each in divmod(np.unique(codes * width + keys), width)]
    often = [Counter(each) for each in pairs]
    # If an entry and a key are used only with each other, they are one client and one party.
    own = {str(key) for entry, key in zip(*pairs, strict=True) if often[0][entry] == often[1][key] == 1}
    by_key = [one for one in _parties("key", sent, entries, keys, wrong) if one.party not in own]
    return _parties("traffic", sent, entries, codes, wrong) + by_key


def _parties(
    kind: PartyKind, sent: NamedColumns, entries: Sequence[str], party: Ints, wrong: Bools | None
) -> list[Interference]:
    if len(sent) == 0 or party.min() == party.max():
        return []
    start = sent["start"]
    second = ((start - start.min()) // max(_BIN_NS, (start.max() - start.min()) / _BINS_MOST)).astype(np.int64)
    bins = int(second.max()) + 1
    rejected = sent["status"] == THROTTLED_STATUS
    unexplained = np.zeros_like(rejected) if wrong is None else rejected & wrong

    def counts(mask: Bools) -> Ints:
        return np.array([np.bincount(second[mask & each], minlength=bins) for each in (mask, rejected, unexplained)])

    everyone, found = counts(np.ones_like(rejected)), []
    by_party = np.bincount(party[rejected], minlength=int(party.max()) + 1)
    for each in np.argsort(-by_party, kind="stable")[:MOST].tolist():
        own = counts(party == each)
        during, apart = ((everyone - own)[:, mask].sum(axis=1).tolist() for mask in (own[1] > 0, own[1] == 0))
        if not by_party[each] or not during[0]:
            continue
        compared = wrong is not None and apart[0]
        rejections = more_often((during[0], during[2]), (apart[0], apart[2])) if compared else None
        others = _felt_by_others(sent, entries, party == each)
        felt = (rejections, None if others is None else bool(others.slower) or others.more_errors)
        known = [one for one in felt if one is not None]
        found.append(
            Interference(
                kind=kind,
                party=entries[each] if kind == "traffic" else str(each),
                while_rejected=tuple(during),
                while_not=tuple(apart),
                rejections_felt=rejections,
                others=others,
                felt=any(known) if known else None,
            )
        )
    return found
