"""How well limiters explain all that was seen, where bounds leave several: replays at moments of arrival that may be.

Bounds hold for the worst moments of arrival, so that much stands that would need all of them at once. Here each limiter
decides on every request again, with some numbers that stand and some draws of the moments at which requests arrived.
Draws in which another number of a volley pass count less, and give way to the others (a particle filter: Gordon,
Salmond and Smith, IEE Proceedings F 1993). The mean over draws and numbers is the evidence of a model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from loadtest.arrays import Floats, Ints
from loadtest.limits.probing.cells import Model
from loadtest.limits.probing.evidence import ProbedRequest, ProbeEvidence
from loadtest.limits.probing.models import Bucket
from loadtest.limits.replays import LimiterReplay
from loadtest.units import Limit

_DRAWS: Final = (24, 240)
"""Draws of moments of arrival, least and most, by how many numbers there are: a bound on the time of one weighing."""
_AT_ONCE: Final = 2400
"""Numbers times draws that are replayed at once, where that is more than the fewest draws: likewise."""
_CELLS: Final = 24
"""Cells of one model that are replayed at most: likewise."""
_PER_MISS: Final = 3.0
"""Natural log of how much less likely a draw is for each request more or less that passes of a volley: 20 times,
checked by the table of docs/probe.md."""
_ENTROPY: Final = 2 * np.pi * np.e
"""2πe of a normal distribution: twice its entropy is the logarithm of this times its variance."""
_APART: Final = 3.0
"""Longest times to a rejection that a part of a stream lasts: what one part lacks by a late request, its neighbour
has."""
_PARTS: Final = 6
"""Parts of a stream that are compared, at most: fewer hold enough requests each for a normal distribution."""
_LEAST: Final = 1e-300
"""Likelihood that is as good as none: above the smallest float, so that its log is finite."""
_VARIANCE: Final = 0.25
"""Variance of a count in any case, in requests²: counts are whole, and off by a half at most."""
_FAR: Final = 6.5
"""Natural log of how much less likely numbers have to be than the best ones of their model to be set aside: two
requests more or less (`_PER_MISS`), and a little (docs/probe.md)."""


@dataclass(frozen=True, slots=True)
class WeighedModel:
    """A model, weighed.

    Attributes:
        model: the model.
        replay: its limiters after all that was sent: a row for each of the numbers, a column for each draw.
        cells: of each row, the place of its cell.
        fits: of each row, the natural log of its likelihood.
        priors: of each row, that of how likely it was at first.
        evidence: natural log of the mean likelihood over all numbers that it may have had at first.
        well: how well the best numbers explain what was seen: 0 for as well as can be, less for worse.
    """

    model: Model
    replay: LimiterReplay
    cells: Ints
    fits: Floats
    priors: Floats
    evidence: float
    well: float

    def narrow(self) -> None:
        """Set aside, of the model, numbers that are far less likely than its best ones."""
        likely, counts = self.fits + self.priors, self.replay.counts[:, 0]
        kept = likely > likely.max() - _FAR
        order = self.model.order()
        ranks = np.empty(len(order), int)
        ranks[order] = np.arange(len(order))
        tried = np.unique(ranks[self.cells])
        least, most = np.full(len(tried), np.inf), np.full(len(tried), -np.inf)
        for place, rank in enumerate(tried):
            own = ranks[self.cells] == rank
            if kept[own].any():
                some, good = counts[own], counts[own & kept]
                least[place] = max(some[some < good.min()], default=-1.0) + 1
                most[place] = min(some[some > good.max()], default=np.inf) - 1
        # One that was not tried has what those on either side have.
        before = np.clip(np.searchsorted(tried, ranks, side="right") - 1, 0, len(tried) - 1)
        after = np.clip(np.searchsorted(tried, ranks), 0, len(tried) - 1)
        self.model.narrow(np.minimum(least[before], least[after]), np.maximum(most[before], most[after]))


def _rows(model: Model, documented: Limit) -> tuple[Ints, Floats, Floats]:
    """Cells and counts to replay, with the log of how likely each was at first."""
    order = model.order()
    chosen = np.unique(np.linspace(0, len(order) - 1, min(len(order), _CELLS)).round().astype(int))
    likely = {int(cell) for cell in model.nearest(documented)}
    others = (len(order) - len(likely)) / max(1, len({int(each) for each in order[chosen]} - likely))
    cells, counts, priors = [], [], []
    wanted = float(documented.count)
    for cell in sorted(likely | {int(each) for each in order[chosen]}):
        least = float(model.least_n[cell])
        most = float(min(model.most_n[cell], 2 * least + 10))
        some = {least, most, wanted - 1, wanted, wanted + 1, round((least + wanted) / 2), round((wanted + most) / 2)}
        if isinstance(model, Bucket):
            some |= set(np.unique(np.round(np.geomspace(least, most, 4))))
        own = sorted(count for count in some if least <= count <= most)
        cells += [int(cell)] * len(own)
        counts += own
        share = model.share(int(cell), documented) * (1.0 if cell in likely else others)
        priors += [share * (0.5 if count == wanted else 0.5 / wanted) for count in own]
    return np.array(cells), np.array(counts, float), np.log(np.array(priors))


def weigh(model: Model, seen: ProbeEvidence, trip: float, documented: Limit) -> WeighedModel:
    """Weigh a model.

    Args:
        model: with the numbers that stand.
        seen: all that was sent.
        trip: the longest time from a request to its refusal, in s.
        documented: the limit that the documentation gives.
    """
    cells, counts, priors = _rows(model, documented)
    draws = max(_DRAWS[0], min(_DRAWS[1], _AT_ONCE // len(cells)))
    chance = np.random.default_rng(len(seen.requests))
    within = chance.random((len(cells), draws))
    values = model.low[cells, None] + (model.high - model.low)[cells, None] * within
    replay = model.replay(np.repeat(counts[:, None], draws, 1), values, cells)
    fits, well = np.zeros((2, len(cells)))
    times, places = arrivals(seen, trip, draws), np.array([each[3] for each in seen.requests])
    for begin, end in pairwise(_groups(seen, places)):
        more = _replayed(replay, times[:, begin:end], seen.requests[begin:end])
        if len(more) == 1:
            weights = np.exp(-_PER_MISS * np.abs(more[0].T))
            found = np.log(weights.mean(axis=1) + _LEAST)
            usual = 0.5 * np.log1p(_ENTROPY * more[0].var(axis=0))
            fits, well = fits + found, well + np.minimum(found + usual, 0.0)
            if np.ptp(weights, axis=1).any():
                replay.choose(_again(weights, chance))
            continue
        begins = [volley.begin for volley in seen.volleys[places[begin] : places[end - 1] + 1]]
        more = np.add.reduceat(more, _firsts(begins, _APART * trip), axis=0)
        mean, variance = more.mean(axis=1), more.var(axis=1) + _VARIANCE
        squares = (mean**2 / variance).sum(axis=0)
        fits = fits - 0.5 * squares - 0.5 * np.log(variance / _VARIANCE).sum(axis=0)
        well = well - np.maximum(0.5 * (squares - len(more)) - np.sqrt(2 * len(more)), 0.0)
    evidence = float(np.logaddexp.reduce(fits + priors))
    return WeighedModel(model, replay, cells, fits, priors, evidence, float(well[fits.argmax()]))


def _replayed(replay: LimiterReplay, times: Floats, requests: Sequence[ProbedRequest]) -> Floats:
    passed, places = np.array([each[2:] for each in requests], int).T
    places -= places[0]
    order = np.argsort(times, axis=1)
    ordered, of, draws = np.take_along_axis(times, order, 1), places[order], np.arange(len(times))
    more = np.zeros((places[-1] + 1, len(times), len(replay.counts)))
    more -= np.bincount(places, passed)[:, None, None]
    for at in range(len(requests)):
        more[of[:, at], draws] += replay.volley(ordered[:, at], 1).T
    return more


def arrivals(seen: ProbeEvidence, trip: float, draws: int) -> Floats:
    """Moments at which each request may have reached the server: a row for each of some draws.

    Of the time to an answer, each way takes at most half a ``trip``. What took longer was carried out or held. Where
    volleys do not overlap, a third of the draws have requests at any moment before their answers, and another third
    have those of a volley late together: a server that is busy may take all of that time on one way.
    """
    sent, answered = np.array([each[:2] for each in seen.requests]).T
    took = answered - sent
    low = np.where(took > trip, 0.0, np.maximum(took - trip / 2, 0.0))
    high = np.minimum(took, trip / 2)
    chance = np.random.default_rng(len(sent))
    within = chance.random((draws, len(sent)))
    times = sent + low + (high - low) * within
    places = np.array([each[3] for each in seen.requests])
    alone = np.array([whole is volley for whole, volley in zip(seen.wholes, seen.volleys, strict=True)])[places]
    any_time = (took <= trip) & alone
    times[1::3] = np.where(any_time, sent + took * within[1::3], times[1::3])
    together = chance.random((len(times[2::3]), len(seen.volleys)))[:, places]
    times[2::3] = np.where(any_time, sent + took * together, times[2::3])
    return np.asarray(times)


def _groups(seen: ProbeEvidence, places: Ints) -> list[int]:
    """Where, among the requests, volleys begin that do not overlap with those before."""
    firsts = [0] + [place + 1 for place, whole in enumerate(seen.wholes) if whole is not None]
    return [int(each) for each in np.searchsorted(places, firsts)]


def _firsts(begins: Sequence[float], least: float) -> list[int]:
    """The first of each of some groups of a stream's volleys that last so long: what one lacks the next may have."""
    least = max(least, (begins[-1] - begins[0]) / _PARTS)
    firsts = [0]
    for place, begin in enumerate(begins):
        if begin >= begins[firsts[-1]] + least and begins[-1] >= begin + least / 2:
            firsts.append(place)
    return firsts


def _again(weights: Floats, chance: np.random.Generator) -> Ints:
    """Of each row, draws chosen by their weights (systematic resampling)."""
    ends = np.cumsum(weights, axis=1)
    draws = weights.shape[1]
    marks = (np.arange(draws) + chance.random()) / draws * ends[:, -1:]
    return np.stack([np.minimum(np.searchsorted(*each), draws - 1) for each in zip(ends, marks, strict=True)])
