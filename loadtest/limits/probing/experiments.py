"""Which experiment to make next: the one that best separates the models that still stand, for what it costs."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from loadtest.arrays import Floats
from loadtest.limits.probing.weights import WeighedModel

Experiment = Sequence[tuple[float, int]]
"""Volleys: when, in unix seconds of our clock, and how many requests."""


class EvenStream(tuple[tuple[float, int], ...]):
    """Volleys that follow each other without a gap: requests sent evenly, whatever becomes of those before."""

    __slots__ = ()


class Flood(tuple[tuple[float, int], ...]):
    """Volleys of which all is sent, even if much is rejected."""

    __slots__ = ()


def stream(begin: float, pace: float, count: int) -> EvenStream:
    """So many requests from a moment on, ``pace`` a second."""
    parts = min(12, count)
    edges = [round(count * part / parts) for part in range(parts + 1)]
    return EvenStream((begin + low / pace, high - low) for low, high in pairwise(edges))


_TRIED: Final = 240
"""Experiments that are compared: docs/probe.md, "one of 240"."""
_VOLLEYS: Final = 3
"""Volleys of one experiment, at most: docs/probe.md, "up to three"."""
_OF_EACH: Final = 16
"""Cases that stand for one model: docs/probe.md, "sixteen cases"."""
_MOMENTS: Final = (3, 8)
"""Moments at which the requests of a foreseen volley come, at least and at most: a bound on time."""
_ALIKE: Final = 0.2
"""Worth of separating two cases of one model, where two models are worth 1: checked by bench/probe_confusion.py."""
_SAME: Final = 0.1
"""Worth of separating two cases with the same numbers and other offsets: likewise."""
_LEAST: Final = 0.01
"""Share of pairs of cases below which an experiment is not worth its requests: one in a hundred, likewise."""
_GAPS: Final = (0.15, 1.4)
"""Windows between two volleys, least and most: one in the same window, one in the next, and either side of its
end."""
_SIZES: Final = (0.05, 0.25, 0.5, 0.75, 1.0)
"""Sizes of volleys in units of more than what passes at once: from a look to all of it."""
_NOTICED: Final = 0.03
"""Share of a volley by which what passes has to differ to be noticed, at least: beyond the rounding of large
counts."""


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
    """Of many experiments, the one that separates most pairs of cases for its requests and its time.

    Args:
        rivals: the models that stand.
        now: the present, by our clock.
        most: requests that are more than what passes at once.
        budget: requests that may still be sent.
        blur: seconds in which the requests of a volley arrive.
        until: when the last volley may be sent.
        lasts: in how many seconds the requests of volleys of some sizes arrive.

    Returns:
        None if none separates any.
    """
    chance = np.random.default_rng(budget)
    times, counts = _designs(rivals, now, most, blur, chance)
    fit = (counts.sum(axis=0) <= budget) & (times[-1] <= until)
    times, counts = times[:, fit], counts[:, fit]
    if not counts.size:
        return None
    separated = _separated([_foreseen(rival, times, counts, lasts(counts), chance) for rival in rivals], counts)
    wide = max(rival.replay.idle() for rival in rivals)
    # What separates all at once is worth more than steps that each separate a part.
    cost = 0.5 + counts.sum(axis=0) / most + 0.5 * (times[-1] - now) / max(wide, 1e-3)
    chosen = int(np.argmax(separated**2 / cost))
    if separated[chosen] < _LEAST:
        return None
    volleys = zip(times[:, chosen], counts[:, chosen], strict=True)
    return Flood((float(at), int(count)) for at, count in volleys if count)


def _separated(seen: Sequence[tuple[Floats, Floats]], counts: Floats) -> Floats:
    """Of each experiment, how many pairs of cases let another number of some volley pass: by model, as shares of them.

    Two cases of one model count less, and least if they have the same numbers and other offsets.
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
    """Moments and sizes of volleys, drawn at random around the windows that stand."""
    idle = np.array([rival.replay.idle() for rival in rivals])
    lengths = [rival.replay.windows.ravel() for rival in rivals if rival.model.windowed]
    window = chance.choice(np.concatenate(lengths) if lengths else idle, _TRIED)
    rest = np.where(chance.random(_TRIED) < 0.5, 0.0, chance.choice(idle, _TRIED) + blur)
    first = now + rest + chance.random(_TRIED) * window
    gaps = np.maximum(chance.uniform(*_GAPS, (_VOLLEYS - 1, _TRIED)) * window, 0.02) + blur
    times = np.cumsum(np.vstack((first, gaps)), axis=0)
    counts = np.maximum(1.0, np.round(chance.choice(_SIZES, (_VOLLEYS, _TRIED)) * most))
    counts[np.arange(_VOLLEYS)[:, None] >= chance.integers(1, _VOLLEYS + 1, _TRIED)] = 0
    for place in range(1, _VOLLEYS):  # what is not sent ends nothing
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
