"""Time cut into bins, and events thinned out, to suit a plot."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.distribution import Distributions
from loadtest.analysis.rows import groups

Floats = NDArray[np.float64]

_WIDTHS: Final = (0.1, 0.2, 0.5, 1, 2, 3, 5, 6, 10, 12, 15, 20, 30, 60, 120, 300, 600)
_MOST_BINS: Final = 240


def width(seconds: float, events: int, per_bin: int) -> float:
    """A round width at which a bin holds about ``per_bin`` events, and no more than 240 bins are drawn.

    At least six bins are kept as long as there are events: a plot over time with one bin says nothing.
    """
    wanted = max(seconds * per_bin / max(events, 1), seconds / _MOST_BINS)
    wanted = max(min(wanted, seconds / 6), seconds / _MOST_BINS)
    return next((float(w) for w in _WIDTHS if w >= wanted * 0.999), math.ceil(wanted))


def edges(start_s: float, end_s: float, width_s: float, phase_s: float = 0.0) -> Floats:
    """Bin edges that cover start to end, one of them at ``phase_s`` (modulo the width)."""
    first = start_s - ((start_s - phase_s) % width_s)
    return np.arange(first, end_s + width_s * 0.999, width_s)


def place(seconds: Floats, cuts: Floats) -> NDArray[np.int64]:
    """The bin of each time, -1 outside of all."""
    if len(cuts) < 2 or not len(seconds):
        return np.full(len(seconds), -1)
    # Rows come in the order of time, so that a chunk of a long run lies in a bin or two.
    low, high = np.searchsorted(cuts, (np.fmin.reduce(seconds), np.fmax.reduce(seconds)), side="right")
    places: NDArray[np.int64] = low - 1 + np.searchsorted(cuts[low:high], seconds, side="right")
    inside = (seconds >= cuts[0]) & (seconds < cuts[-1])
    return places if inside.all() else np.where(inside, places, -1)


def spread(binned: Distributions, cuts: Floats, seconds: Floats, values: Floats) -> None:
    """Add each value to the distribution of its bin; those outside of all are left out."""
    for bin_, places in groups(place(seconds, cuts)):
        if bin_ >= 0:
            binned.add_to(bin_, values if places is None else values.take(places))


def every(step: int, before: int, events: int) -> NDArray[np.int64]:
    """Which of some events to keep, so that of all events one in ``step`` is kept.

    Args:
        step: how many stand for one.
        before: events that came before these.
        events: how many these are.
    """
    return np.arange(-before % step, events, step)
