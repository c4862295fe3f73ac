"""Which experiment to make next: the one that best separates the models that still stand, for what it costs."""

import math
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from loadtest.inference.occupancy import Floats
from loadtest.probing.buckets import Bucket
from loadtest.probing.models import Model
from loadtest.probing.past import Past
from loadtest.probing.tallies import Tally
from loadtest.units import Limit

Experiment = Sequence[tuple[float, int]]
"""Volleys: when, in unix seconds of our clock, and how many requests."""


class Stream(tuple[tuple[float, int], ...]):
    """Volleys that follow each other without a gap: requests sent evenly, whatever becomes of those before."""

    __slots__ = ()


class Flood(tuple[tuple[float, int], ...]):
    """Volleys of which all is sent, even if much is refused."""

    __slots__ = ()


def stream(begin: float, pace: float, count: int) -> Stream:
    """So many requests from a moment on, ``pace`` a second."""
    parts = min(12, count)
    edges = [round(count * part / parts) for part in range(parts + 1)]
    return Stream((begin + low / pace, high - low) for low, high in pairwise(edges))


_OF_EACH: Final = 3
"""Cells that stand for one model."""
_ALIKE: Final = 0.2
"""What it is worth to separate two cells of one model, if two models are worth 1."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model with numbers, that may be in force.

    Attributes:
        model: whose it is.
        tally: after all that was sent so far.
        room: when one more request would pass, by our clock.
        full: when all of it is unused again, by our clock.
    """

    model: Model
    tally: Tally
    room: float
    full: float

    @property
    def window(self) -> float:
        """Of its windows; of a bucket, in which it fills up."""
        return self.tally.window

    def passing(self, experiment: Experiment) -> list[int]:
        """How many of each volley would pass."""
        tally = copy(self.tally)
        return [tally.volley(at, count) for at, count in experiment]


def candidates(models: Sequence[Model], past: Past, documented: Limit, now: float) -> list[Candidate]:
    """Some numbers of each model, with what was sent so far."""
    return [_candidate(tally, model, past, now) for model, tally in tallies(models, documented, _OF_EACH)]


def tallies(models: Sequence[Model], documented: Limit, of_each: int) -> list[tuple[Model, Tally]]:
    """Some numbers of each model: the extremes that stand, and what lies nearest to the documentation."""
    found = []
    for model in models:
        if not model.stands:
            continue
        order = model.order()
        chosen = {int(order[round(place)]) for place in np.linspace(0, len(order) - 1, of_each)}
        column = model.windows if model.aligned else (model.low + model.high) / 2
        wanted = documented.rate if isinstance(model, Bucket) else documented.window
        chosen.add(int(np.argmin(np.abs(column - wanted))))
        chosen |= {int(np.argmin(model.least_n)), int(np.argmax(model.most_n))}
        for cell in sorted(chosen):
            counts = {float(model.least_n[cell]), float(min(model.most_n[cell], 2 * model.least_n[cell]))}
            found += [(model, model.tally(cell, count)) for count in sorted(counts)]
    return found


def _candidate(tally: Tally, model: Model, past: Past, now: float) -> Candidate:
    for volley in past.volleys:
        tally.volley((volley.begin + volley.end) / 2, volley.sent)
    return Candidate(model, tally, tally.room(now), tally.full(now))


def experiments(rivals: Sequence[Candidate], now: float, most: int, margin: float, until: float) -> list[Experiment]:
    """Experiments that could separate some candidates.

    Args:
        rivals: the candidates.
        now: the earliest moment, by our clock.
        most: requests that are more than what passes at once.
        margin: seconds by which to keep away from a moment at which something changes.
        until: when the last volley may be sent.
    """
    few = max(3, round(most * 0.1))
    moments = {now}
    for rival in rivals:
        for at in (rival.room, rival.full, now + 0.3 * rival.window):
            moments |= {at + margin, at - margin, at + margin + 0.02 * rival.window}
    wide = max(rival.window for rival in rivals)
    apart = _apart((at for at in moments if now <= at <= until), max(margin / 3, 0.01 * wide))
    found: list[Experiment] = [((at, count),) for at in apart for count in (1, few, most)]
    idle = max(rival.full for rival in rivals) + margin
    for window in sorted({round(rival.window, 2) for rival in rivals}):
        part, gap = max(2, round(most * 0.25)), margin + 0.03 * window
        for begin in (idle, idle + 0.37 * window):
            late, again = begin + 0.85 * window, begin + window + gap
            found += [((begin, 1), (late, part), (again, most)), ((begin, part), (late, part), (again, part + few))]
        found += [Flood(((now, 2 * part), (now + at * window, part))) for at in (0.5, 0.8, 1.1)]
        found += [((idle + 0.4 * window, part), (idle + window + gap, most))]
    found.append(((idle, most), (idle + margin + 0.3 * wide, few)))
    return [each for each in found if each[-1][0] <= until]


def form(experiment: Experiment) -> tuple[int, ...]:
    """What experiments of one kind have in common."""
    counts = tuple(count for _, count in experiment)
    if isinstance(experiment, Stream):
        return *counts, round(4 * math.log(experiment[-1][0] - experiment[0][0]))
    return counts


def _apart(moments: Iterable[float], least: float) -> list[float]:
    """Moments in order, without those that lie so near to one before."""
    kept: list[float] = []
    for at in sorted(moments):
        if not kept or at >= kept[-1] + least:
            kept.append(at)
    return kept


def best(
    rivals: Sequence[Candidate], tried: Sequence[Experiment], now: float, budget: int, blur: float
) -> Experiment | None:
    """The experiment that separates most pairs of candidates for its requests and its time; None if none does.

    Args:
        rivals: the candidates.
        tried: the experiments to choose from.
        now: the present, by our clock.
        budget: requests that may still be sent.
        blur: seconds by which the moment of a decision is not known.
    """
    worth = _worth(rivals)
    size = max((1, *(count for each in tried for _, count in each)))  # none, where no more may be sent
    wide = max(rival.window for rival in rivals)
    chosen, best_value = None, 0.0
    for each in tried:
        requests = sum(count for _, count in each)
        if requests > budget:
            continue
        early, late = ([(at + by, count) for at, count in each] for by in (-blur, blur))
        seen = np.array([(rival.passing(early), rival.passing(late)) for rival in rivals])
        least, most = seen.min(axis=1), seen.max(axis=1)
        apart = (least[:, None, :] > most[None, :, :]).any(axis=2)
        # What separates all at once is worth more than steps that each separate a part.
        value = float((apart * worth).sum()) ** 2 / (
            0.5 + requests / size + 0.5 * (each[-1][0] - now) / max(wide, 1e-3)
        )
        if value > best_value:
            chosen, best_value = each, value
    return chosen


def _worth(rivals: Sequence[Candidate]) -> Floats:
    """What it is worth to separate each pair: two models more than two cells of one, unless one model stands."""
    names = sorted({rival.model.key for rival in rivals})
    of = np.array([names.index(rival.model.key) for rival in rivals])
    share = 1 / np.bincount(of)[of]
    same = of[:, None] == of[None, :]
    weight: Floats = np.where(same, _ALIKE if len(names) > 1 else 1.0, 1.0) * share[:, None] * share[None, :]
    return weight
