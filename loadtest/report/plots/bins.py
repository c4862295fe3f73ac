"""Time cut into bins that suit a plot, and what falls into each."""

import math
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from loadtest.analysis.frame import Record
from loadtest.ranks import rank
from loadtest.report.plots.style import GRID, MUTED, SHADE
from loadtest.runfile import StagePlan

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


def rolling(
    seconds: NDArray[np.float64], values: NDArray[np.float64], cuts: NDArray[np.float64], quantile: float, least: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Nearest-rank percentile of each bin that has ``least`` values: the bins' middles, the values, their n."""
    places = np.digitize(seconds, cuts) - 1
    order = np.lexsort((values, places))
    places, values = places[order], values[order]
    starts = np.searchsorted(places, np.arange(len(cuts)))
    middles, found, sizes = [], [], []
    for k in range(len(cuts) - 1):
        inside = values[starts[k] : starts[k + 1]]
        enough = len(inside) >= max(least, 1)
        middles.append((cuts[k] + cuts[k + 1]) / 2)
        found.append(inside[rank(len(inside), quantile) - 1] if enough else math.nan)
        sizes.append(len(inside))
    return np.asarray(middles), np.asarray(found), np.asarray(sizes)


def mark_stages(axes: Axes, record: Record, traffic: str | None = None, *, names: bool = True) -> None:
    """Draw stage boundaries, their names on top, and the warm-up shaded."""
    plans = [plan for name, plan in record.info.traffic.items() if traffic in {None, name}]
    starts: dict[float, list[StagePlan]] = {}
    for stage in (stage for plan in plans for stage in plan.stages if stage.start_s <= record.covered_s):
        starts.setdefault(stage.start_s, []).append(stage)
    for start, stages in starts.items():
        longest = max(stage.duration_s for stage in stages)
        if stages[0].warmup:
            axes.axvspan(start, start + longest, color=SHADE, lw=0, zorder=0)
        elif start > 0:
            axes.axvline(start, color=GRID, lw=1.4, zorder=0.5)
        if names and longest > record.covered_s * 0.06:
            # Entries whose stages begin together share one label, with each name once.
            axes.annotate(
                " + ".join(dict.fromkeys(stage.name for stage in stages)), (start, 1),
                xycoords=("data", "axes fraction"), xytext=(4, -2),
                textcoords="offset points", va="top", fontsize=7.5, color=MUTED, style="italic",
            )  # fmt: skip
