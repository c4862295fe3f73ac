"""How every plot looks: one palette, one way to panels, axes, legends and distributions.

Colours are chosen from the Okabe-Ito family and differ in lightness, so that they are told apart with any colour
vision and, together with line styles and markers, in grey. In a page, each becomes a CSS variable, so that one
drawing serves light and dark.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from loadtest.analysis.distribution import Distribution
from loadtest.compare.results import MetricComparison
from loadtest.contract import LIMIT_OF_OPERATION, Operation
from loadtest.record.run_info import TrafficPlan
from loadtest.report import amounts
from loadtest.stats import ranks_to_draw
from loadtest.words import grouped

INK: Final = "#1d232a"
MUTED: Final = "#67717c"
GRID: Final = "#e3e7eb"
SHADE: Final = "#f1f3f5"
PAPER: Final = "#fffffe"
THROTTLED: Final = "#b5388f"
FADED: Final = "#b4bcc4"
GOOD: Final = "#1a7046"
BAD: Final = "#b3261e"
UNSURE: Final = "#8a5a00"
_SERIES: Final[tuple[tuple[str, Any], ...]] = (
    ("#2374b5", "-"),
    ("#d47f00", (0, (5, 1.5))),
    ("#1f9674", (0, (1.5, 1))),
    ("#7a5638", (0, (5, 1.5, 1, 1.5))),
    ("#76771c", (0, (8, 1.5))),
)
"""Colours and line styles in the order of operations; page.css has the colours as ``--series-1`` and so on."""
OPERATIONS: Final[dict[str, str]] = {name: colour for name, (colour, _) in zip(Operation, _SERIES, strict=False)}
LIMITS: Final[dict[str, str]] = {
    LIMIT_OF_OPERATION[operation]: OPERATIONS[operation] for operation in reversed(Operation)
}
"""Of a limit that several operations begin with, the colour of the first."""
LINES: Final[dict[str, Any]] = {name: line for name, (_, line) in zip(Operation, _SERIES, strict=False)}
"""Line styles by operation, for readers in grey."""

CSS_VARIABLES: Final = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    SHADE: "--shade",
    PAPER: "--paper",
    THROTTLED: "--throttled",
    FADED: "--faded",
    GOOD: "--good",
    BAD: "--bad",
    UNSURE: "--unsure",
    **{colour: f"--series-{place}" for place, (colour, _) in enumerate(_SERIES, 1)},
}
_WIDTH_IN: Final = 9.6
_RC: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.minor.pad": 5,
    "ytick.minor.pad": 5,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.borderaxespad": 0.6,
    "legend.borderpad": 0,
    "legend.handlelength": 2.2,
    "lines.linewidth": 1.3,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "hatch.linewidth": 0.6,
    "path.simplify": True,
    # A name with dollar signs in it is a name, not a formula.
    "text.parse_math": False,
}
SCATTER_AS_PATHS: Final = 600
"""Points beyond which a scatter goes into the SVG as a picture: each would cost some 80 bytes."""


@contextmanager
def styled(name: str) -> Iterator[None]:
    """Everything drawn and saved inside looks like this project, and always comes out as the same bytes."""
    settings: dict[Any, Any] = {**_RC, "svg.hashsalt": name}
    with mpl.rc_context(settings):
        yield


def stacked(heights_in: list[float]) -> tuple[Figure, list[Axes]]:
    """A figure of panels one above the other, each as high as asked for, with x axes of their own."""
    layout = ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.06)
    figure = Figure(figsize=(_WIDTH_IN, sum(heights_in) + 0.55), layout=layout)
    grid = figure.subplots(len(heights_in), 1, height_ratios=heights_in, squeeze=False)
    return figure, _quick(list(grid.flat))


def panels(count: int, height_in: float, *, columns: int = 1, share_x: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels, each ``height_in`` high, stacked or in columns."""
    rows = -(-count // columns)
    height_in *= 1.35 if rows == 1 and columns == 1 else 1.0
    layout = ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.06)
    figure = Figure(figsize=(_WIDTH_IN, height_in * rows + 0.55), layout=layout)
    grid = figure.subplots(rows, columns, sharex=share_x, squeeze=False)
    axes = list(grid.flat)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, _quick(axes[:count])


def _quick(axes: list[Axes]) -> list[Axes]:
    """The same panels, whose spines are not measured when they are laid out: labels lie further out anyway."""
    for panel in axes:
        for spine in panel.spines.values():
            spine.set_in_layout(False)
    return axes


_PLAIN: Final = FuncFormatter(lambda value, _: grouped(value, ".10g"))
_UNLABELLED: Final = NullFormatter()
_VERY_NARROW: Final = 5
"""A log axis that spans less has ticks as a linear one: powers of ten, 2 and 5 would be too few."""
_LETTERS: Final = 150
"""Of a legend, that fit into the width of a figure."""
_HANDLE: Final = 8
"""What a legend's handle and the space beside it take, in letters."""
_MOST_RANKS: Final = 500
"""Of a distribution, that are drawn."""
_MARKERS: Final = ("", "o", "s", "^", "D", "v", "P")


def plain_log(axis: Axis) -> None:
    """Label a log axis, when all is drawn on it, with plain numbers; where it spans little, 2 and 5 too."""
    low, high = axis.get_view_interval()
    axis.set_minor_formatter(_UNLABELLED)
    if low > 0 and high / low < _VERY_NARROW:
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(_PLAIN)
        axis.set_minor_locator(NullLocator())
        return
    narrow = low > 0 and high / low < 60
    axis.set_major_formatter(_PLAIN)
    axis.set_minor_formatter(_PLAIN if narrow else _UNLABELLED)
    if narrow:
        axis.set_minor_locator(LogLocator(subs=(2, 5)))


def plain(axis: Axis) -> None:
    """Label a linear axis with plain numbers, grouped by thousands."""
    axis.set_major_formatter(_PLAIN)


def line_of(traffic: dict[str, TrafficPlan], name: str) -> dict[str, Any]:
    """How the line of a traffic entry looks: its operation's colour and style; markers tell those alike apart."""
    operation = traffic[name].operation
    alike = [each for each, plan in traffic.items() if plan.operation == operation]
    marker = _MARKERS[alike.index(name) % len(_MARKERS)]
    return {"color": OPERATIONS[operation], "ls": LINES[operation], "marker": marker, "ms": 4, "markevery": 0.08}


def ecdf(panel: Axes, values: Distribution, *, floor: float | None = 0.0, **look: Any) -> None:
    """Draw how many values, in %, are at most so great: from 0 % on, so that one value is a step, too.

    A log axis has no zero: what is below ``floor`` is drawn there, or left out where that is zero; None for all.
    """
    panel.set_ylim(0, 102)
    if not values.n:
        return
    ranks = ranks_to_draw(values.n, _MOST_RANKS)
    ordered = values.at(ranks) if floor is None else np.maximum(values.at(ranks), floor)
    shown = np.unique(ordered if floor is None else ordered[ordered > 0])
    shares = ranks[np.searchsorted(ordered, shown, side="right") - 1] / values.n * 100
    if len(shown):
        panel.plot(np.r_[shown[0], shown], np.r_[0, shares], drawstyle="steps-post", **look)


def time_axis(axes: Axes, end_s: float) -> None:
    """Label an axis of seconds since the epoch."""
    end_s = max(end_s, 1e-3)
    axes.set_xlim(-end_s * 0.008, end_s)  # what starts at zero is seen whole
    axes.set_xlabel("time since the start of the run, s")


def legend(figure: Figure, axes: list[Axes]) -> None:
    """One legend for all panels, above them; a label that several panels have is listed once, one of no point never."""
    entries: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            if not (isinstance(handle, Line2D) and np.isnan(np.asarray(handle.get_ydata(), float)).all()):
                entries.setdefault(label, handle)
    if entries:
        legend_of(figure, list(entries.values()), list(entries))


def legend_of(figure: Figure, handles: list[Any], labels: list[str]) -> None:
    """A legend above all panels, in as many rows as it takes."""
    widths = [len(label) + _HANDLE for label in labels]
    columns = len(labels) if sum(widths) <= _LETTERS else max(1, _LETTERS // max(widths))
    made = figure.legend(
        handles, labels, loc="outside upper left", ncols=columns, columnspacing=1.6, alignment="left", markerscale=1.7
    )
    for handle in made.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_alpha(1)  # a single dot of a cloud would hardly be seen


def finite_max(values: Any, default: float = 1.0) -> float:
    """The greatest finite value, or a default where there is none."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    return float(known.max()) if len(known) else default


BAND: Final[dict[str, Any]] = {"color": FADED, "alpha": 0.35, "lw": 0}
"""What is expected of no change."""
BASE: Final = MUTED
HEAD: Final = INK
VERDICTS: Final[dict[str, tuple[str, str]]] = {
    "suspected": (BAD, "D"),
    "regressed": (BAD, "X"),
    "improved": (GOOD, "P"),
    "unchanged": (INK, "o"),
    "inconclusive": (UNSURE, "D"),
    "learning": (MUTED, "s"),
    "not comparable": (MUTED, "v"),
}
"""Colour and marker: told apart in grey, too."""
_NAME_LETTERS: Final = 30
_MOST_TICKS: Final = 7
_LEAST_GAPS: Final = 7.0
"""So many labels would fill an axis."""
_LEAST_FACTOR: Final = 1e-9
"""1 − 20 · 5 % is not quite zero."""


def short(name: str, letters: int = _NAME_LETTERS) -> str:
    """A name that fits into a plot; the table has all of it."""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def label(one: MetricComparison, *, stages: bool, letters: int = _NAME_LETTERS) -> str:
    """``greetings: executionTime p50``."""
    return f"{short(amounts.where(one, stages=stages), letters)}: {amounts.name(one)}"


def verdict(one: MetricComparison) -> str:
    """Its verdict in a word; ``suspected`` where a rerun has to confirm it."""
    return "suspected" if one.suspect else one.verdict


def marked(one: MetricComparison, **more: Any) -> dict[str, Any]:
    """Colour and marker of its verdict."""
    colour, marker = VERDICTS[verdict(one)]
    return {"color": colour, "marker": marker, **more}


def change_axis(axis: Axis) -> None:
    """Label an axis of log ratios with changes: −20 %, 0, +20 %, × 3."""
    axis.set_major_locator(FixedLocator(_ticks(*axis.get_view_interval())))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(float(value))))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _ticks(low: float, high: float) -> list[float]:
    """Log ratios to label: the finest steps of which there are few, and none too close to the next one."""
    ticks = [0.0]
    for ratios in _scales():
        ticks = [math.log(ratio) for ratio in ratios if low <= math.log(ratio) <= high]
        gaps = [after - before for before, after in pairwise(ticks)]
        if len(ticks) <= _MOST_TICKS and all(gap * _LEAST_GAPS >= high - low for gap in gaps):
            break
    return ticks


def _scales() -> Iterator[list[float]]:
    """Ratios in steps of some per cent, then powers, from the finest on; each scale has 1."""
    for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        yield [1 + step * k for k in range(-20, 21) if 1 + step * k > _LEAST_FACTOR]
    for base in (2.0, 4.0, 10.0, 100.0, 1e3, 1e6):
        yield [base**k for k in range(-6, 7)]


def _tick(value: float) -> str:
    ratio = math.exp(value)
    if abs(value) < 1e-9:
        return "0"
    if ratio >= 3 or ratio <= 0.3:
        return f"× {amounts.factor(ratio)}"
    return amounts.percent(round(ratio, 6)).replace(".0", "")
