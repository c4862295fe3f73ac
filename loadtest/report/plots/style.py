"""Common style of all plots: palette, panels, axes, legends and distributions.

The colours belong to the Okabe-Ito family, which suits any colour vision. Line styles and markers distinguish series
in grey. On a page, each colour becomes a CSS variable, so that the same drawing serves light and dark pages.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, pairwise
from typing import Any, Final, Literal

import matplotlib as mpl
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch

from loadtest.analysis.distribution import Distribution
from loadtest.analysis.run_record import Record
from loadtest.arrays import Floats
from loadtest.compare import amounts
from loadtest.compare.measurements import NATURES, Key, Metric, RunMeasurements
from loadtest.compare.results import MetricComparison
from loadtest.contract import LIMIT_OF_OPERATION, Operation
from loadtest.report.plots.layout import Margins, grid

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
"""Colours and line styles in the order of ``Operation``. In page.css, the colours are ``--series-1`` and so on."""
OPERATIONS: Final[dict[str, str]] = {name: colour for name, (colour, _) in zip(Operation, _SERIES, strict=False)}
LIMITS: Final[dict[str, str]] = {
    LIMIT_OF_OPERATION[operation]: OPERATIONS[operation] for operation in reversed(Operation)
}
"""Colours of limits. A limit on several operations has the colour of the first operation."""
LINES: Final[dict[str, Any]] = {name: line for name, (_, line) in zip(Operation, _SERIES, strict=False)}
"""Line styles by operation, which distinguish operations in grey."""

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
_RC: Final[dict[Any, Any]] = {
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
    "axes.titley": 1.0,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-9, 15),
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    **dict.fromkeys(("xtick.color", "ytick.color"), MUTED),
    **dict.fromkeys(("xtick.major.width", "ytick.major.width"), 0.6),
    **dict.fromkeys(("xtick.minor.width", "ytick.minor.width"), 0.4),
    **dict.fromkeys(("xtick.minor.pad", "ytick.minor.pad"), 5),
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
    # Dollar signs in a name must not start a formula.
    "text.parse_math": False,
}
LIMIT: Final[dict[str, Any]] = {"color": INK, "lw": 1.0, "ls": (0, (6, 2))}
"""Style of a limit's line."""
PAPERED: Final = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
"""Box of a note that overlaps lines."""
DOT: Final = "  ·  "
"""Separator between the parts of a title or note."""
CHANGED: Final[dict[str, Any]] = {"color": INK, "ls": (0, (4, 2))}
"""Style of the line that marks an accepted change between runs."""
_FRAME_IN: Final = 0.55
"""Height in inches of a panel's title and axis, without its rows."""
_LEAST_IN: Final = 1.0
"""Minimum height in inches of a panel with an axis and a title."""
SCATTER_AS_PATHS: Final = 600
"""More scatter points than this are rasterized, because an SVG path takes about 80 bytes for each point."""


@contextmanager
def styled(name: str) -> Iterator[None]:
    """Apply the project's style, and make the output's bytes reproducible."""
    with mpl.rc_context({**_RC, "svg.hashsalt": name}):
        yield


def panels(count: int, height_in: float, *, columns: int = 1, share_x: bool = True) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``count`` panels in one or more columns.

    Each panel is ``height_in`` inches high, but a single panel is 1.35 times as high.
    """
    rows = -(-count // columns)
    height_in *= 1.35 if rows == 1 and columns == 1 else 1.0
    figure, axes = grid([height_in] * rows, columns, share_x=share_x)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def row_panels(counts: Iterable[int], row_in: float) -> tuple[Figure, list[Axes]]:
    """Make a figure of panels one above the other. Each has its own x axis, and a height that fits its rows."""
    return grid([max(_LEAST_IN, _FRAME_IN + row_in * count) for count in counts], 1, share_x=False)


def rows(panel: Axes, labels: Sequence[str], top: float = -0.6) -> None:
    """Label rows from the top down, without horizontal grid. The first row is at 0; ``top`` is the axis's upper end."""
    panel.yaxis.set_major_locator(ticker.FixedLocator(range(len(labels))))
    shown = ["\n".join(short(line, _ROW_LETTERS) for line in label.split("\n")) for label in labels]
    panel.yaxis.set_major_formatter(ticker.FixedFormatter(shown))
    panel.set_ylim(len(labels) - 0.4, top)
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)


def stairs(panel: Axes, values: Floats, edges: Floats, **look: Any) -> None:
    """Draw stairs like ``panel.stairs``, but without its slow search for axis limits, which the caller sets."""
    panel.add_artist(StepPatch(values, edges, **{"fill": False, **look}))


def note(panel: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], **look: Any) -> None:
    """Write a note beside a point. ``offset`` is the distance to the right and up, in typographic points."""
    panel.annotate(text, at, xytext=offset, textcoords="offset points", **{"fontsize": 7.5, **look})


_PLAIN: Final = ticker.FuncFormatter(lambda value, _: f"{value:,.10g}")
_VERY_NARROW: Final = 5
"""A log axis that spans a smaller factor has linear ticks, because ticks at 1, 2 and 5 would be too few."""
_NARROW: Final = 60
"""A log axis that spans a factor from ``_VERY_NARROW`` up to this also has ticks at 2 and 5."""
_LETTERS: Final = 150
"""A row of a legend has room for this many letters."""
_HANDLE: Final = 8
"""Width of a legend entry's handle and spacing, in letters."""
_MARKERS: Final = ("", "o", "s", "^", "D", "v", "P")


def plain_log(axis: Axis) -> None:
    """Label a log axis with plain numbers. Its limits must be final, because the labels depend on them."""
    low, high = axis.get_view_interval()
    span = high / low if low > 0 else np.inf
    plain(axis)
    axis.set_minor_formatter(_PLAIN if _VERY_NARROW <= span < _NARROW else ticker.NullFormatter())
    if span < _VERY_NARROW:
        axis.set_major_locator(ticker.MaxNLocator(4, steps=[1, 2, 5, 10]))
        axis.set_minor_locator(ticker.NullLocator())
    elif span < _NARROW:
        axis.set_minor_locator(ticker.LogLocator(subs=(2, 5)))


def log(
    panel: Axes, axis: Literal["x", "y"], label: str = "", low: float | None = None, high: float | None = None
) -> None:
    """Make an axis logarithmic after all data were drawn. ``low`` and ``high`` are its new ends; None keeps them."""
    panel.set(**{f"{axis}scale": "log", **({f"{axis}label": f"{label} (log)"} if label else {})})
    if low is not None:
        panel.set(**{f"{axis}lim": (low, high)})
    plain_log(panel.xaxis if axis == "x" else panel.yaxis)


def plain(axis: Axis) -> None:
    """Label an axis with plain numbers, grouped by thousands."""
    axis.set_major_formatter(_PLAIN)


def line_of(record: Record, name: str) -> dict[str, Any]:
    """Return a traffic entry's line style. The operation sets colour and dashes; the marker distinguishes entries."""
    traffic = record.info.traffic
    operation = traffic[name].operation
    alike = [each for each, plan in traffic.items() if plan.operation == operation]
    marker = _MARKERS[alike.index(name) % len(_MARKERS)]
    return {"color": OPERATIONS[operation], "ls": LINES[operation], "marker": marker, "ms": 4, "markevery": 0.08}


def ecdf(panel: Axes, values: Distribution, *, floor: float | None = 0.0, **look: Any) -> None:
    """Draw an empirical distribution from 0 % up, so that even a single value is a step.

    Values below ``floor`` are drawn at ``floor``. A floor of 0 leaves out values up to 0. None keeps all values.
    """
    panel.set_ylim(0, 102)
    if not values.n:
        return
    ranks = np.unique(np.linspace(1, values.n, min(values.n, 500)).astype(np.int64))
    ordered = values.at(ranks) if floor is None else np.maximum(values.at(ranks), floor)
    shown = np.unique(ordered if floor is None else ordered[ordered > 0])
    shares = ranks[np.searchsorted(ordered, shown, side="right") - 1] / values.n * 100
    if len(shown):
        panel.plot(np.r_[shown[0], shown], np.r_[0, shares], drawstyle="steps-post", **look)


def legend(figure: Figure) -> None:
    """Add one legend above all panels. It has each label once, in all its colours, and no empty series."""
    shown: dict[str, dict[str, Any]] = {}
    for panel in figure.axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            artist: Any = handle.patches[0] if isinstance(handle, BarContainer) else handle
            if isinstance(artist, StepPatch) and not artist.get_fill():
                # Matplotlib would draw several step handles on top of each other, but draws lines side by side.
                artist = key(color=artist.get_edgecolor(), lw=artist.get_linewidth(), ls=artist.get_linestyle())
            elif isinstance(artist, Line2D) and np.isnan(np.asarray(artist.get_ydata(), float)).all():
                continue
            colour = artist.get_color() if isinstance(artist, Line2D) else artist.get_facecolor()
            shown.setdefault(label, {}).setdefault(str(colour), artist)
    if shown:
        keys(figure, {label: tuple(handles.values()) for label, handles in shown.items()})


def keys(figure: Figure, handles: Mapping[str, Any]) -> None:
    """Add a legend above all panels, in as many rows as needed. Handles in a tuple are drawn side by side."""
    widths = [len(label) + _HANDLE for label in handles]
    columns = len(widths) if sum(widths) <= _LETTERS else max(1, _LETTERS // max(widths))
    made = figure.legend(
        list(handles.values()), list(handles), loc="upper left", ncols=columns, columnspacing=1.6, alignment="left",
        markerscale=1.7, handler_map={tuple: HandlerTuple(ndivide=None, pad=0.3)},
    )  # fmt: skip
    if isinstance(layout := figure.get_layout_engine(), Margins):
        layout.make_room(figure, -(-len(handles) // columns))
    for handle in made.findobj(PathCollection):
        handle.set_alpha(1)  # a single transparent dot would hardly be visible


def key(**look: Any) -> Line2D:
    """Return a legend handle with a given look."""
    return Line2D([], [], **look)


BAND: Final[dict[str, Any]] = {"color": FADED, "alpha": 0.35, "lw": 0}
"""Style of a shaded band, such as an interval or the values that are expected if nothing changed."""
VERDICTS: Final[dict[str, tuple[str, str]]] = {
    "suspected": (BAD, "D"),
    "regressed": (BAD, "X"),
    "improved": (GOOD, "P"),
    "unchanged": (INK, "o"),
    "inconclusive": (UNSURE, "D"),
    "changed": (UNSURE, "^"),
    "learning": (MUTED, "s"),
    "not comparable": (MUTED, "v"),
}
"""Colour and marker of each verdict."""
_NAME_LETTERS: Final = 30
_ROW_LETTERS: Final = 64
"""A row's label has at most this many letters, which fill half of the figure's width."""
_MOST_TICKS: Final = 7
_LEAST_GAPS: Final = 7.0
"""The distance between two tick labels is at least the axis's length ÷ this number."""


def short(name: str, letters: int = _NAME_LETTERS) -> str:
    """Shorten a name to fit into a plot."""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def label(one: MetricComparison, metrics: Sequence[MetricComparison], letters: int = _NAME_LETTERS) -> str:
    """Return a metric's shortened name: ``greetings: executionTime p50``."""
    return f"{short(amounts.place(one, metrics), letters)}: {one.nature.name}"


def verdict(one: MetricComparison) -> str:
    """Return a metric's verdict in a word, or ``suspected`` before the confirming rerun."""
    return "suspected" if one.suspect else one.verdict


def marked(one: MetricComparison) -> dict[str, Any]:
    """Return the colour and marker of a metric's verdict."""
    colour, marker = VERDICTS[verdict(one)]
    return {"color": colour, "marker": marker}


def metric_axis(panel: Axes, metric: Metric) -> None:
    """Label the y axis with a metric's unit. Shares are in percent."""
    plain(panel.yaxis)
    panel.yaxis.set_major_locator(ticker.MaxNLocator(4))
    panel.set_ylabel({"ms": "ms", "share": "%", "1/s": "/s"}[NATURES[metric].unit])


def drawn_value(run: RunMeasurements, key: Key) -> float | None:
    """Return a run's metric in the unit of ``metric_axis``; None if it is missing."""
    found = run.by_key().get(key)
    return None if found is None else found.value * (100.0 if NATURES[key.metric].unit == "share" else 1.0)


def change_axis(axis: Axis) -> None:
    """Label an axis of log ratios with changes: −20 %, 0, +20 %, × 3."""
    axis.set_major_locator(ticker.FixedLocator(_ticks(*axis.get_view_interval())))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: _tick(float(value))))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_minor_formatter(ticker.NullFormatter())


def _ticks(low: float, high: float) -> list[float]:
    """Return the log ratios to label. They have the finest steps whose labels are few enough and do not overlap."""
    # Steps in per cent come first, then powers; each list contains 1. A ratio of 0 may be rounded above 0.
    steps = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    percent = ([1 + step * k for k in range(-20, 21) if 1 + step * k > 1e-9] for step in steps)
    powers = ([base**k for k in range(-6, 7)] for base in (2.0, 4.0, 10.0, 100.0, 1e3, 1e6))
    ticks = [0.0]
    for ratios in chain(percent, powers):
        ticks = [math.log(ratio) for ratio in ratios if low <= math.log(ratio) <= high]
        gaps = [after - before for before, after in pairwise(ticks)]
        if len(ticks) <= _MOST_TICKS and all(gap * _LEAST_GAPS >= high - low for gap in gaps):
            break
    return ticks


def _tick(value: float) -> str:
    ratio = math.exp(value)
    if abs(value) < 1e-9:
        return "0"
    if ratio >= 3 or ratio <= 0.3:
        return f"× {amounts.factor(ratio)}"
    return amounts.percent(round(ratio, 6)).replace(".0", "")
