"""What plots over time share: boundaries of stages and windows, and lines of percentiles of bins."""

from typing import Final

import numpy as np
from matplotlib.axes import Axes

from loadtest.analysis.distribution import Distribution
from loadtest.analysis.record import Record
from loadtest.arrays import Floats
from loadtest.record.run_info import StagePlan
from loadtest.report.plots.style import FADED, GRID, INK, MUTED, PAPER, SHADE
from loadtest.stats import interval_ranks, rank

_MOST_MARKS: Final = 24
"""Window boundaries beyond which they would be a grey wall."""
_SEEN: Final = 0.002
"""Half of a band's width, as a share of the plot's, below which it is a line."""
_CHARACTERS: Final = 135
"""Letters of a stage's name that fit beside one another into the width of a plot."""
_LEAST: Final = 4
"""Letters below which a name says nothing."""


def draw_bins(axes: Axes, n: int, cuts: Floats, binned: list[Distribution]) -> None:
    """Median and p95 of each bin of time, dotted where it holds too few to carry them; nothing of very few values.

    Args:
        axes: over time.
        n: values in all bins.
        cuts: edges of the bins, in s since the epoch.
        binned: the values of each bin.
    """
    if n < 12:
        return
    middles = (cuts[:-1] + cuts[1:]) / 2
    for quantile, least, label, width in ((0.5, 6, "p50", 1.5), (0.95, 20, "p95", 1.0)):
        found = np.array([each.at([rank(each.n, quantile)])[0] if each.n >= least else np.nan for each in binned])
        carried = np.array([interval_ranks(each.n, quantile) is not None for each in binned])
        axes.plot(middles, found, color=INK, lw=width * 0.7, ls=(0, (1, 1.5)))
        axes.plot(middles, np.where(carried, found, np.nan), color=INK, lw=width, label=f"{label} of a bin")


def mark_windows(axes: Axes, record: Record, boundaries: Floats) -> bool:
    """Draw each boundary of the server's windows as the band in which it may lie; True if any was drawn.

    The server's clock is known to within its uncertainty only. Where that is no less than half a window, or there are
    very many, nothing is drawn.

    Args:
        axes: over time.
        record: the record.
        boundaries: where they are assumed to lie, in s since the epoch.
    """
    marks = boundaries[boundaries < record.covered_s]
    reach = _reach(record)
    if not 0 < len(marks) <= _MOST_MARKS or (len(marks) > 1 and 4 * reach > marks[1] - marks[0]):
        return False
    for mark in marks.tolist():
        axes.axvspan(mark - reach, mark + reach, color=FADED, alpha=0.45, lw=0, zorder=0.4)
        axes.axvline(mark, color=MUTED, lw=0.7, ls=":", zorder=0.6)
    return True


def window_words(record: Record) -> str:
    """What the marks of ``mark_windows`` are."""
    wide = _reach(record) > record.covered_s * _SEEN
    bands = ", in bands as wide as its clock is unsure" if wide else ""
    return f"Dotted verticals are the assumed beginnings of the server’s windows{bands}."


def _reach(record: Record) -> float:
    return record.info.clock.uncertainty_s if record.info.clock else 0.5


def same_stages(record: Record, one: str, other: str) -> bool:
    """Whether two traffic entries have stages of the same names at the same times: one label does for both."""
    first, second = ([(s.name, s.start_s) for s in record.info.traffic[name].stages] for name in (one, other))
    return first == second


def _fitting(names: list[str], share: float) -> str:
    """As many of the names as fit into a share of the axis, cut off if not even the first does; empty for a sliver."""
    room = int(share * _CHARACTERS) - 1
    whole = " + ".join(dict.fromkeys(names))
    if len(whole) <= room:
        return whole
    first = names[0] if len(names[0]) <= room else f"{names[0][: room - 1]}…"
    return first if room > _LEAST else ""


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
        following = min((other for other in starts if other > start), default=record.covered_s)
        # Entries whose stages begin together share one label, with each name once.
        label = _fitting([stage.name for stage in stages], (following - start) / record.covered_s)
        if names and label:
            axes.annotate(
                label, (start, 1),
                xycoords=("data", "axes fraction"), xytext=(4, -2),
                textcoords="offset points", va="top", fontsize=7.5, color=MUTED, style="italic",
                bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
            )  # fmt: skip
