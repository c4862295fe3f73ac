"""How every plot looks: one palette, one type, one way of becoming SVG and PNG.

Colours are chosen from the Okabe-Ito family and differ in lightness, so that they are told apart with any colour
vision and, together with line styles and markers, in grey. In a page, each becomes a CSS variable, so that one
drawing serves light and dark.
"""

import io
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from loadtest.analysis.distribution import Distribution
from loadtest.contract import LIMIT_OF_OPERATION, Operation
from loadtest.record.run_info import TrafficPlan
from loadtest.report.page import Table
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

_VARIABLES: Final = {
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
_DPI: Final = 144
SCATTER_AS_PATHS: Final = 600
"""Points beyond which a scatter goes into the SVG as a picture: each would cost some 80 bytes."""


@dataclass(frozen=True)
class Drawing:
    """A plot: what it shows in a sentence, how to read it, and the figure.

    ``data`` are its numbers, if they are not to be read off the figure's own lines.
    """

    title: str
    caption: str
    figure: Figure
    data: tuple[Table, ...] | None = None


@dataclass(frozen=True)
class NoData:
    """A plot that cannot be drawn, and why."""

    title: str
    why: str


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


def to_svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element for a page: colours as CSS variables, no ids that could clash."""
    buffer = io.StringIO()
    # Not by savefig, which draws everything twice to lay it out first: drawing does that, too.
    about = {"Date": None, "Creator": None, "Format": None, "Type": None}
    FigureCanvasSVG(figure).print_svg(buffer, metadata=about)  # type: ignore[no-untyped-call] # matplotlib's
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(
        r' id="(?:figure|axes|patch|matplotlib\.axis|[a-zA-Z]+|[a-zA-Z]*tick|line2d|text|[A-Z]\w+)_\d+"', "", text
    )
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
    text = re.sub(r"'DejaVu Sans'(?:, [\w\s',-]+?)?sans-serif", "sans-serif", text)
    # Their names are made of the layout's every digit, of which the last one may differ from process to process.
    salt = str(mpl.rcParams["svg.hashsalt"])
    for place, clip in enumerate(re.findall(r'<clipPath id="(\w+)"', text)):
        text = text.replace(clip, f"clip-{salt}-{place}")
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return re.sub(r">\s*\n\s*<", ">\n<", text)


def to_png(figure: Figure, title: str) -> bytes:
    """The figure as a PNG on white that stands alone, its title above it, in the layout that ``to_svg`` gave it."""
    canvas = FigureCanvasAgg(figure)
    # Laying out takes as long as drawing, and the title needs no more than a strip above all the rest.
    figure.set_layout_engine("none")
    _entitle(figure, canvas, "\n".join(textwrap.wrap(title, 100)))
    buffer = io.BytesIO()
    figure.set(dpi=_DPI, facecolor=PAPER)
    canvas.print_png(buffer, metadata={"Software": None}, pil_kwargs={"compress_level": 4})  # type: ignore[no-untyped-call] # matplotlib's
    return buffer.getvalue()


def _entitle(figure: Figure, canvas: FigureCanvasAgg, title: str) -> None:
    """Make the figure higher by its title's height; everything else keeps its size and place."""
    font = FontProperties(size=10.5, weight="bold")
    width, height = figure.get_size_inches()
    renderer, legend = canvas.get_renderer(), figure.legends[0] if figure.legends else None  # type: ignore[no-untyped-call] # matplotlib's
    if legend is not None:
        before = legend.get_window_extent(renderer).height
        legend.set_title(title + "\n", prop=font)
        more = (legend.get_window_extent(renderer).height - before) / figure.dpi
    else:
        more = (title.count("\n") + 2) * 1.3 * 10.5 / 72
        figure.text(0.01, 1 - 0.5 * more / (height + more), title, fontproperties=font, color=INK, va="center")
    for panel in figure.axes:
        box = panel.get_position()
        shrunk = height / (height + more)
        panel.set_position((box.x0, box.y0 * shrunk, box.width, box.height * shrunk))
    figure.set_size_inches(width, height + more)


def finite_max(values: Any, default: float = 1.0) -> float:
    """The greatest finite value, or a default where there is none."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    return float(known.max()) if len(known) else default
