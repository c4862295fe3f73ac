"""Time cut into bins that suit a plot."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

_WIDTHS: Final = (0.1, 0.2, 0.5, 1, 2, 3, 5, 6, 10, 12, 15, 20, 30, 60, 120, 300, 600)
_MOST_BINS: Final = 240


def width(seconds: float, events: int, per_bin: int) -> float:
    """A round width at which a bin holds about ``per_bin`` events, and no more than 240 bins are drawn.

    At least six bins are kept as long as there are events: a plot over time with one bin says nothing.
    """
    wanted = max(seconds * per_bin / max(events, 1), seconds / _MOST_BINS)
    wanted = max(min(wanted, seconds / 6), seconds / _MOST_BINS)
    return next((float(w) for w in _WIDTHS if w >= wanted * 0.999), math.ceil(wanted))


def edges(start_s: float, end_s: float, width_s: float, phase_s: float = 0.0) -> NDArray[np.float64]:
    """Bin edges that cover start to end, one of them at ``phase_s`` (modulo the width)."""
    first = start_s - ((start_s - phase_s) % width_s)
    return np.arange(first, end_s + width_s * 0.999, width_s)


def place(seconds: NDArray[np.float64], cuts: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each time, -1 outside of all."""
    places = np.searchsorted(cuts, seconds, side="right") - 1
    return np.where((seconds >= cuts[0]) & (places < len(cuts) - 1), places, -1) if len(cuts) > 1 else places * 0 - 1
