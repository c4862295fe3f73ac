"""The choice of the next experiment: the one that separates the remaining hypotheses best for its cost."""

import itertools
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from loadtest.arrays import Floats
from loadtest.limits.probing.evidence import SAME
from loadtest.limits.probing.hypotheses import DRAWS, Hypotheses
from loadtest.limits.replays import LimiterReplay

Experiment = Sequence[tuple[float, int]]
"""Bursts: time in unix seconds of our clock, and number of requests."""
_TRIED: Final = 1000
"""This many random experiments are compared. More would make each choice slower (bench/probe_confusion.py)."""
_VOLLEYS: Final = 3
"""An experiment has at most this many bursts. More would also make each choice slower."""
_CASES: Final = 10
"""This many likely limiters represent one model. More would also make each choice slower."""
_EXPERIMENTS: Final = 20
"""Choosing an experiment takes about 0.1 s, which weighs as much as a probe's budget ÷ this number."""
_GAP: Final = 1.5
"""Bursts are at most this many windows apart, so that the next burst may be in the same window or in the next one."""


def best(
    rivals: Sequence[Hypotheses],
    *,
    now: float,
    most: int,
    left: int,
    blur: float,
    until: float,
    budget: tuple[float, float],
    lasts: Callable[[Floats], Floats],
) -> Experiment | None:
    """Return the experiment that separates the most pairs of cases for its cost; None if it separates none.

    Args:
        rivals: the remaining models.
        now: the present, by our clock.
        most: slightly more requests than are accepted at once.
        left: remaining requests.
        blur: seconds over which the requests of a burst arrive.
        until: latest time of the last burst.
        budget: requests and seconds of a whole probe. They weigh the cost.
        lasts: returns the arrival times in s of bursts of given sizes.
    """
    chance = np.random.default_rng(left)
    cases = [_cases(rival, chance) for rival in rivals]
    idle = np.array([replay.idle() for replay, _ in cases])
    times, counts = _designs(rivals, idle, most, blur, chance)
    times += now
    fit = (counts.sum(axis=0) <= left) & (times[-1] <= until)
    times, counts = times[:, fit], counts[:, fit]
    if not counts.size:
        return None
    separated = _separated([(_foreseen(replay, times, counts, lasts(counts)), of) for replay, of in cases], counts)
    cost = 1 / _EXPERIMENTS + counts.sum(axis=0) / budget[0] + (times[-1] - now) / budget[1]
    chosen = int(np.argmax(separated / cost))
    if separated[chosen] < 2 / _CASES**2:  # one pair of cases, in either order
        return None
    return [(float(at), int(count)) for at, count in zip(times[:, chosen], counts[:, chosen], strict=True) if count]


def _separated(seen: Sequence[tuple[Floats, Floats]], counts: Floats) -> Floats:
    """Return the share of pairs of cases that each experiment separates, over all models.

    An experiment separates two cases if they accept different numbers of requests in a burst. Pairs of cases of one
    model count less. They count least if their parameters are equal and only their offsets differ.
    """
    noticed = np.maximum(1.0, SAME * counts)[:, None, None].astype(np.float32)
    separated = np.zeros(counts.shape[1])
    for (one, numbers), (other, others) in itertools.combinations_with_replacement(seen, 2):
        apart = (np.abs(one[:, :, None] - other[:, None]) >= noticed).any(axis=0)
        worth = np.ones((_CASES, _CASES))
        if one is other:
            worth = np.where((numbers[:, None] == others).all(axis=2), 0.5, 1.0) / len(seen)
        separated += (apart * worth[:, :, None]).mean(axis=(0, 1))
    return separated


def _designs(
    rivals: Sequence[Hypotheses], idle: Floats, most: int, blur: float, chance: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw times and sizes of bursts. Times are seconds from now, on the scale of the remaining windows."""
    lengths = [rival.rows[:, 1] for rival in rivals if not rival.bucket]
    window = chance.choice(np.concatenate(lengths) if lengths else idle, _TRIED)
    rest = np.where(chance.random(_TRIED) < 0.5, 0.0, chance.choice(idle, _TRIED) + blur)
    first = rest + chance.random(_TRIED) * window
    gaps = _GAP * chance.random((_VOLLEYS - 1, _TRIED)) * window + blur
    times = np.cumsum(np.vstack((first, gaps)), axis=0)
    counts = np.ceil(chance.random((_VOLLEYS, _TRIED)) * most)
    counts[np.arange(_VOLLEYS)[:, None] >= chance.integers(1, _VOLLEYS + 1, _TRIED)] = 0
    for place in range(1, _VOLLEYS):  # an unused burst takes no time
        times[place] = np.where(counts[place] > 0, times[place], times[place - 1])
    return times, counts


def _cases(rival: Hypotheses, chance: np.random.Generator) -> tuple[LimiterReplay, Floats]:
    """Return some likely limiters of one model in their present state, and their N and W."""
    rows = chance.choice(rival.likely, _CASES)
    cases = chance.integers(DRAWS, size=_CASES)
    return rival.replay.taken(cases, rival.places[rows]), rival.rows[rows, :2]


def _foreseen(replay: LimiterReplay, times: Floats, counts: Floats, lasts: Floats) -> Floats:
    moments = int(np.clip(lasts.max() / lasts.min() // 2, 3, 8))
    edges, passing = np.linspace(0, 1, moments + 1), []
    for at, count, last in zip(times, counts, lasts, strict=True):
        sent = np.diff(np.round(np.outer(edges, count)), axis=0)
        some = zip((edges[1:] + edges[:-1]) / 2, sent, strict=True)
        passing.append(sum(replay.volley(at + part * last, each) for part, each in some))
    return np.array(passing, np.float32)
