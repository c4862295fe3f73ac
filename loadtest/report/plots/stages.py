"""Stage boundaries on a plot over time."""

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from loadtest.analysis.record import Record
from loadtest.report.plots.style import FADED, GRID, MUTED, PAPER, SHADE
from loadtest.runfile import StagePlan

_MOST_MARKS: Final = 60
"""Window boundaries beyond which they would be a grey wall."""


def mark_windows(axes: Axes, record: Record, boundaries: NDArray[np.float64]) -> bool:
    """Draw each boundary of the server's windows as the band in which it may lie; True if any was drawn.

    The server's clock is known to within its uncertainty only. Where that is no less than half a window, or there are
    very many, nothing is drawn.

    Args:
        axes: over time.
        record: the record.
        boundaries: where they are believed to lie, in s since the epoch.
    """
    marks = boundaries[boundaries < record.covered_s]
    reach = record.info.clock.uncertainty_s if record.info.clock else 0.5
    if not 0 < len(marks) <= _MOST_MARKS or (len(marks) > 1 and 4 * reach > marks[1] - marks[0]):
        return False
    for mark in marks.tolist():
        axes.axvspan(mark - reach, mark + reach, color=FADED, alpha=0.45, lw=0, zorder=0.4)
        axes.axvline(mark, color=MUTED, lw=0.7, ls=":", zorder=0.6)
    return True


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
                bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
            )  # fmt: skip
