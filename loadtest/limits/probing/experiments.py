"""Weighing of models by replays at possible arrival times, and the choice of the next experiment.

Bounds hold for the worst arrival times, so many models remain that would need all of these at once. Here each limiter
decides on every request again, for some of the remaining parameters and some random draws of the arrival times. Draws
with a different number of acceptances in a burst get less weight and are replaced (a particle filter: Gordon, Salmond
and Smith, IEE Proceedings F 1993). The mean over draws and parameters is the evidence of a model.

The next experiment best separates the remaining models for its cost.
"""

from collections.abc import Callable, Sequence
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
"""Minimum and maximum number of draws of arrival times, depending on the number of parameter sets: bounds the time of
one weighing."""
_AT_ONCE: Final = 2400
"""Parameter sets times draws replayed at once, if that exceeds the minimum number of draws: likewise."""
_CELLS: Final = 24
"""Maximum number of cells of one model that are replayed: likewise."""
_PER_MISS: Final = 3.0
"""Each surplus or missing accepted request of a burst makes a draw e³ = 20 times less likely; checked by the table of
bench/README.md."""
_ENTROPY: Final = 2 * np.pi * np.e
"""2πe of a normal distribution: twice its entropy is the logarithm of this times its variance."""
_APART: Final = 3.0
"""Length of a part of a stream, in longest times to a rejection: a late request only moves between neighbouring parts.
"""
_PARTS: Final = 6
"""Maximum number of parts of a stream that are compared: each must hold enough requests for a normal distribution."""
_LEAST: Final = 1e-300
"""A likelihood treated as zero: above the smallest float, so that its log is finite."""
_VARIANCE: Final = 0.25
"""Minimum variance of a count, in requests²: counts are whole, and off by 0.5 at most."""
_FAR: Final = 6.5
"""Natural log of the likelihood ratio to a model's best parameters that discards a parameter set: slightly above two
requests (`_PER_MISS`; bench/README.md)."""


@dataclass(frozen=True, slots=True)
class WeighedModel:
    """A weighed model.

    Attributes:
        model: the model.
        replay: its limiters after all requests: a row for each parameter set, a column for each draw.
        cells: index of each row's cell.
        fits: natural log of each row's likelihood.
        priors: natural log of each row's prior probability.
        evidence: natural log of the mean likelihood over all parameters initially possible.
        well: how well the best parameters explain the answers: 0 for perfectly, negative for worse.
    """

    model: Model
    replay: LimiterReplay
    cells: Ints
    fits: Floats
    priors: Floats
    evidence: float
    well: float

    def narrow(self) -> None:
        """Discard the model's parameters that are far less likely than the best."""
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
        # An untried cell has the range of the tried cells on both sides.
        before = np.clip(np.searchsorted(tried, ranks, side="right") - 1, 0, len(tried) - 1)
        after = np.clip(np.searchsorted(tried, ranks), 0, len(tried) - 1)
        self.model.narrow(np.minimum(least[before], least[after]), np.maximum(most[before], most[after]))


def _rows(model: Model, documented: Limit) -> tuple[Ints, Floats, Floats]:
    """Cells and counts to replay, with the log of their prior probabilities."""
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
        model: the model with its remaining parameters.
        seen: the evidence.
        trip: the longest time from a request to its rejection, in s.
        documented: the documented limit.
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
    """Return possible arrival times of each request at the server: a row for each draw.

    Each way takes at most half a ``trip`` of the time to an answer; a longer time means that the request was carried
    out or held. If bursts do not overlap, a third of the draws place requests anywhere before their answers. Another
    third delay a burst's requests together: a busy server may spend all of that time on one way.
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
    """Indices of the requests that start bursts without overlap with earlier bursts."""
    firsts = [0] + [place + 1 for place, whole in enumerate(seen.wholes) if whole is not None]
    return [int(each) for each in np.searchsorted(places, firsts)]


def _firsts(begins: Sequence[float], least: float) -> list[int]:
    """Indices that start groups of a stream's bursts of at least ``least`` seconds."""
    least = max(least, (begins[-1] - begins[0]) / _PARTS)
    firsts = [0]
    for place, begin in enumerate(begins):
        if begin >= begins[firsts[-1]] + least and begins[-1] >= begin + least / 2:
            firsts.append(place)
    return firsts


def _again(weights: Floats, chance: np.random.Generator) -> Ints:
    """Draws for each row, chosen by their weights (systematic resampling)."""
    ends = np.cumsum(weights, axis=1)
    draws = weights.shape[1]
    marks = (np.arange(draws) + chance.random()) / draws * ends[:, -1:]
    return np.stack([np.minimum(np.searchsorted(*each), draws - 1) for each in zip(ends, marks, strict=True)])


Experiment = Sequence[tuple[float, int]]
"""Bursts: time in unix seconds of our clock, and number of requests."""


class EvenStream(tuple[tuple[float, int], ...]):
    """Bursts without gaps: an even stream, sent regardless of earlier answers."""

    __slots__ = ()


class Flood(tuple[tuple[float, int], ...]):
    """Bursts that are sent completely, even if many requests are rejected."""

    __slots__ = ()


def stream(begin: float, pace: float, count: int) -> EvenStream:
    """Return ``count`` requests from ``begin`` on, ``pace`` per second."""
    parts = min(12, count)
    edges = [round(count * part / parts) for part in range(parts + 1)]
    return EvenStream((begin + low / pace, high - low) for low, high in pairwise(edges))


_TRIED: Final = 240
"""Number of experiments compared (bench/README.md)."""
_VOLLEYS: Final = 3
"""Maximum number of bursts in one experiment (bench/README.md)."""
_OF_EACH: Final = 16
"""Number of cases that represent one model (bench/README.md)."""
_MOMENTS: Final = (3, 8)
"""Minimum and maximum number of arrival times in a simulated burst: bounds the time."""
_ALIKE: Final = 0.2
"""Value of separating two cases of one model, where two models have the value 1: checked by bench/probe_confusion.py.
"""
_SAME: Final = 0.1
"""Value of separating two cases with equal parameters and different offsets: likewise."""
_WORTH: Final = 0.01
"""Minimum share of separated pairs for an experiment to be worth its requests: 1 in 100, likewise."""
_GAPS: Final = (0.15, 1.4)
"""Minimum and maximum distance of two bursts in windows: within one window, in the next, and on either side of its end.
"""
_SIZES: Final = (0.05, 0.25, 0.5, 0.75, 1.0)
"""Sizes of bursts, relative to slightly more than the number accepted at once."""
_NOTICED: Final = 0.03
"""Minimum difference of accepted requests, as a share of a burst, that counts as separation: above the rounding of
large counts."""


def best(
    rivals: Sequence[WeighedModel],
    *,
    now: float,
    most: int,
    budget: int,
    blur: float,
    until: float,
    lasts: Callable[[Floats], Floats],
) -> Flood | None:
    """Return the experiment that separates most pairs of cases for its requests and time.

    Args:
        rivals: the remaining models.
        now: the present, by our clock.
        most: slightly more requests than are accepted at once.
        budget: remaining requests.
        blur: seconds over which the requests of a burst arrive.
        until: latest time of the last burst.
        lasts: returns the arrival times in s of bursts of given sizes.

    Returns:
        None if no experiment separates enough.
    """
    chance = np.random.default_rng(budget)
    times, counts = _designs(rivals, now, most, blur, chance)
    fit = (counts.sum(axis=0) <= budget) & (times[-1] <= until)
    times, counts = times[:, fit], counts[:, fit]
    if not counts.size:
        return None
    separated = _separated([_foreseen(rival, times, counts, lasts(counts), chance) for rival in rivals], counts)
    wide = max(rival.replay.idle() for rival in rivals)
    # One experiment that separates everything is better than several that each separate a part.
    cost = 0.5 + counts.sum(axis=0) / most + 0.5 * (times[-1] - now) / max(wide, 1e-3)
    chosen = int(np.argmax(separated**2 / cost))
    if separated[chosen] < _WORTH:
        return None
    volleys = zip(times[:, chosen], counts[:, chosen], strict=True)
    return Flood((float(at), int(count)) for at, count in volleys if count)


def _separated(seen: Sequence[tuple[Floats, Floats]], counts: Floats) -> Floats:
    """For each experiment, the share of pairs of cases with different numbers accepted in some burst, over all models.

    Pairs of cases of one model count less, and least if their parameters are equal and only their offsets differ.
    """
    noticed = np.maximum(1.0, _NOTICED * counts)[:, None, None]
    separated = np.zeros(counts.shape[1])
    for place, (one, numbers) in enumerate(seen):
        for other, others in seen[place:]:
            apart = (np.abs(one[:, :, None] - other[:, None]) >= noticed).any(axis=0)
            worth = np.ones((_OF_EACH, _OF_EACH))
            if one is other:
                same = (numbers[:, None] == others).all(axis=2)
                worth = np.where(same, _SAME, 1.0) * (1.0 if len(seen) == 1 else _ALIKE)
            separated += (apart * worth[:, :, None]).mean(axis=(0, 1))
    return separated


def _designs(
    rivals: Sequence[WeighedModel], now: float, most: int, blur: float, chance: np.random.Generator
) -> tuple[Floats, Floats]:
    """Random times and sizes of bursts around the remaining windows."""
    idle = np.array([rival.replay.idle() for rival in rivals])
    lengths = [rival.replay.windows.ravel() for rival in rivals if rival.model.windowed]
    window = chance.choice(np.concatenate(lengths) if lengths else idle, _TRIED)
    rest = np.where(chance.random(_TRIED) < 0.5, 0.0, chance.choice(idle, _TRIED) + blur)
    first = now + rest + chance.random(_TRIED) * window
    gaps = np.maximum(chance.uniform(*_GAPS, (_VOLLEYS - 1, _TRIED)) * window, 0.02) + blur
    times = np.cumsum(np.vstack((first, gaps)), axis=0)
    counts = np.maximum(1.0, np.round(chance.choice(_SIZES, (_VOLLEYS, _TRIED)) * most))
    counts[np.arange(_VOLLEYS)[:, None] >= chance.integers(1, _VOLLEYS + 1, _TRIED)] = 0
    for place in range(1, _VOLLEYS):  # an unused burst takes no time
        times[place] = np.where(counts[place] > 0, times[place], times[place - 1])
    return times, counts


def _foreseen(
    rival: WeighedModel, times: Floats, counts: Floats, lasts: Floats, chance: np.random.Generator
) -> tuple[Floats, Floats]:
    weights = np.exp(rival.fits - rival.fits.max())
    rows = chance.choice(len(weights), _OF_EACH, p=weights / weights.sum())
    draws = chance.integers(rival.replay.counts.shape[1], size=_OF_EACH)
    replay = rival.replay.taken(rows, draws)
    moments = int(np.clip(lasts.max() / lasts.min() // 2, *_MOMENTS))
    edges, passing = np.linspace(0, 1, moments + 1), []
    for at, count, last in zip(times, counts, lasts, strict=True):
        sent = np.diff(np.round(np.outer(edges, count)), axis=0)
        some = zip((edges[1:] + edges[:-1]) / 2, sent, strict=True)
        passing.append(sum(replay.volley(at + part * last, each) for part, each in some))
    return np.array(passing), np.stack((replay.counts[:, 0], replay.windows[:, 0]), axis=1)
