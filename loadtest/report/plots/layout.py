"""Layout of a figure's panels. Margins fit the labels, and axes are drawn without an object for each tick.

Matplotlib's own layout solver and ticks would take three quarters of the drawing time.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import LayoutEngine
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Bbox, IdentityTransform

_WIDTH_IN: Final = 9.6
_EDGE_IN: Final = 0.1
"""Distance between the figure's edge and its content. All names that end in ``_IN`` are in inches."""
_TITLE_IN: Final = 0.24
_NO_TITLE_IN: Final = 0.09
_TICKS_IN: Final = 0.21
"""Height of a line of tick labels."""
_LABEL_IN: Final = 0.18
"""Height of an axis's label."""
_GAP_IN: Final = 0.08
"""Distance between two rows of panels."""
_KEYS_IN: Final = 0.19
"""Height of a row of the legend."""
_BAR_IN: Final = 0.75
"""Width of a colour bar with its labels."""
_LEAST_IN: Final = 0.3
"""Minimum height of a panel without its labels."""
_TICKS_ZORDER: Final = 0.55
"""Drawing order of ticks: above shades and stages, below data and other marks."""
_TICK_PT: Final = 3.5
_MINOR_PT: Final = 2.0
_PAD_PT: Final = 7.0
_SIZE_PT: Final = 8.0
"""Tick labels' distance from the axis (``_PAD_PT``) and height (``_SIZE_PT``), in points."""


class Ticks(Artist):
    """Grid, ticks, tick labels and label of one axis of a panel. They keep the style in which they were made.

    They replace the axis's own artists. Ticks are paths, and one text object draws all labels.
    """

    def __init__(self, axis: XAxis | YAxis) -> None:
        super().__init__()
        self._axis, self._is_y = axis, axis.axis_name == "y"
        rc = mpl.rcParams
        self._grid = rc["grid.linewidth"], rc["grid.color"]
        self._widths, self._colour = (rc["xtick.major.width"], rc["xtick.minor.width"]), rc["xtick.color"]
        axis.set_visible(False)
        self.set(zorder=_TICKS_ZORDER, clip_on=False)
        axis.axes.add_artist(self)

    def labels(self) -> list[tuple[float, str, bool]]:
        """Return the ticks in view, each with position, label, and whether it is a major tick."""
        axis, found = self._axis, list[tuple[float, str, bool]]()
        low, high = sorted(axis.get_view_interval())
        slack = (high - low) * 1e-6
        for ticker, places in ((axis.major, axis.get_majorticklocs()), (axis.minor, axis.get_minorticklocs())):
            shown = [place for place in np.asarray(places).tolist() if low - slack <= place <= high + slack]
            texts = ticker.formatter.format_ticks(shown) if ticker.formatter else [""] * len(shown)
            found += zip(shown, texts, [ticker is axis.major] * len(shown), strict=True)
        return found

    def look(self) -> dict[str, Any]:
        """Return the look of grid, ticks and labels, and which of them are drawn, by Matplotlib's parameter names."""
        near = "left" if self._is_y else "bottom"
        given = {"length": _TICK_PT, "rotation": 0, "labelcolor": self._colour} | self._axis.get_tick_params()
        return given | {"ticks": given[near], "labels": given[f"label{near}"]}

    def get_window_extent(self, renderer: Any = None) -> Bbox:
        """Return the box of the panel and the axis's label, because notebooks crop figures to such boxes."""
        return Bbox.union([self._axis.axes.bbox, self._axis.label.get_window_extent(renderer)])

    def draw(self, renderer: Any) -> None:
        """Draw like Matplotlib's axis, but without ticks on the far side, and without a common factor of the labels."""
        if not self._axis.axes.axison:
            return
        labels, look, scale = self.labels(), self.look(), renderer.points_to_pixels(1.0)
        (x0, y0), (x1, y1) = self._axis.axes.bbox.get_points()
        near, far = (x0, x1) if self._is_y else (y0, y1)
        pixels = self._pixels([place for place, _, _ in labels])
        major = np.array([is_major for _, _, is_major in labels], bool)
        if look["gridOn"]:
            self._strokes(renderer, *self._grid, pixels[major], (near, far))
        if look["ticks"] and look["length"]:
            lengths = look["length"], _MINOR_PT
            for chosen, width, length in zip((major, ~major), self._widths, lengths, strict=True):
                self._strokes(renderer, width, self._colour, pixels[chosen], (near - length * scale, near))
        if look["labels"]:
            self._texts(renderer, [text for _, text, _ in labels], pixels, near - _PAD_PT * scale, look)
        self._axis.label.draw(renderer)

    def _pixels(self, places: Sequence[float]) -> Any:
        panel = self._axis.axes
        points = np.zeros((len(places), 2))
        points[:, int(self._is_y)] = places
        to_pixels = panel.get_yaxis_transform() if self._is_y else panel.get_xaxis_transform()
        return to_pixels.transform(points)[:, int(self._is_y)]

    def _strokes(self, renderer: Any, width: float, colour: str, at: Any, ends: tuple[float, float]) -> None:
        if not len(at):
            return
        across, along = np.tile(ends, len(at)), np.repeat(at, 2)
        points = np.column_stack((across, along) if self._is_y else (along, across))
        gc = renderer.new_gc()
        gc.set_foreground(colour)
        gc.set_linewidth(renderer.points_to_pixels(width))
        gc.set_snap(True)
        renderer.draw_path(gc, Path(points, [Path.MOVETO, Path.LINETO] * len(at)), IdentityTransform())
        gc.restore()

    def _texts(self, renderer: Any, texts: Sequence[str], at: Any, beside: float, look: dict[str, Any]) -> None:
        text = Text(
            color=look["labelcolor"], fontsize=_SIZE_PT, rotation=look["rotation"], rotation_mode="anchor",
            ha="right" if self._is_y or look["rotation"] else "center", va="center_baseline" if self._is_y else "top",
            parse_math=False,
        )  # fmt: skip
        text.set_figure(self.figure)
        for label, place in zip(texts, at.tolist(), strict=True):
            if label:
                text.set_text(label)
                text.set_position((beside, place) if self._is_y else (place, beside))
                text.draw(renderer)


class Margins(LayoutEngine):
    """A grid of panels. Margins fit the labels, and rows share the remaining height in proportion to ``heights_in``.

    Attributes:
        key_rows: number of rows of the legend above the panels; see ``make_room``.
        head_in: inches above the legend.
        ticks: the ticks of both axes of each panel. The panels are in order, row by row.
    """

    _adjust_compatible = False
    _colorbar_gridspec = False

    def __init__(self, heights_in: Sequence[float], columns: int) -> None:
        super().__init__()
        self._heights, self._columns = np.array(heights_in), columns
        self.key_rows, self.head_in = 0, 0.0
        self.ticks: dict[Axes, tuple[Ticks, Ticks]] = {}

    def make_room(self, figure: Figure, key_rows: int) -> None:
        """Reserve rows for a legend. From the third row on, each row makes the figure higher."""
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + _KEYS_IN * max(0, key_rows - 2))
        self.key_rows = key_rows

    def execute(self, fig: Figure) -> None:
        width, height = fig.get_size_inches()
        rows, columns = len(self._heights), self._columns
        top = self.head_in + (self.key_rows * _KEYS_IN + _EDGE_IN if self.key_rows else 0.0)
        for legend in fig.legends:
            legend.set_bbox_to_anchor((0.0, 1 - self.head_in / height), fig.transFigure)
        needs = np.array([_needs(panel, *ticks) for panel, ticks in self.ticks.items()]).reshape(rows, columns, 4)
        above, below = needs[:, :, :2].max(axis=1).T
        left, right = needs[:, :, 2:].max(axis=0).T
        room = height - top - above.sum() - below.sum() - _GAP_IN * (rows - 1) - _EDGE_IN / 2
        heights = np.maximum(room * self._heights / self._heights.sum(), _LEAST_IN)
        wide = (width - left.sum() - right.sum()) / columns
        y = height - top - np.cumsum(above + heights + np.r_[0, below[:-1] + _GAP_IN])
        x = np.cumsum(left + np.r_[0, wide + right[:-1]])
        for place, panel in enumerate(self.ticks):
            row, column = divmod(place, columns)
            panel.set_position((x[column] / width, y[row] / height, wide / width, heights[row] / height))
            _cut_title(panel, wide + right[column])
            panel.xaxis.set_label_coords(0.5, -(needs[row, column, 1] - 0.03) / heights[row])
            panel.yaxis.set_label_coords(-(left[column] - _EDGE_IN) / wide, 0.5)
            panel.xaxis.label.set(va="bottom")
            panel.yaxis.label.set(va="top")


def _needs(panel: Axes, x_ticks: Ticks, y_ticks: Ticks) -> tuple[float, float, float, float]:
    """Return the inches that a panel's labels need above, below, left and right of it. A spare panel has no labels."""
    if not panel.axison:
        return 0.0, 0.0, 0.0, _EDGE_IN
    above = _TITLE_IN if panel.get_title(loc="left") else _NO_TITLE_IN
    x, y = x_ticks.look(), y_ticks.look()
    wide = [text_in(text) for _, text, _ in x_ticks.labels()] if x["labels"] else []
    below = _TICKS_IN + max(wide) * np.sin(np.radians(x["rotation"])) if wide else 0.0
    below += _LABEL_IN if panel.get_xlabel() else 0.0
    left = _EDGE_IN + (_LABEL_IN if panel.get_ylabel() else 0.0)
    if y["labels"]:
        left += max((text_in(text) for _, text, _ in y_ticks.labels()), default=0.0) + _PAD_PT / 72
    right = _BAR_IN if panel.child_axes else _EDGE_IN + (wide[-1] / 2 if wide else 0.0)
    return above, below, left, right


def _cut_title(panel: Axes, wide: float) -> None:
    title = panel.get_title(loc="left")
    texts = [one for one in panel.get_children() if isinstance(one, Text) and one.get_text() == title]
    for text in texts if title else ():
        needed = text_in(title, text.get_fontsize(), text.get_fontweight())
        if needed > wide:
            text.set_text(f"{title[: int(len(title) * wide / needed) - 2]}…")


@cache
def text_in(text: str, size_pt: float = _SIZE_PT, weight: str | int = "normal") -> float:
    """Return a text's width in inches, which is the width of its widest line."""
    font = FontProperties(size=size_pt, weight=weight)
    return max(text_to_path.get_text_width_height_descent(line, font, False)[0] / 72 for line in text.split("\n"))


def grid(heights_in: Sequence[float], columns: int, *, share_x: bool) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels in rows of the given heights."""
    layout = Margins(heights_in, columns)
    figure = Figure(figsize=(_WIDTH_IN, sum(heights_in) + 0.55), layout=layout)
    panels: list[Axes] = []
    for place in range(len(heights_in) * columns):
        above = panels[place - columns] if share_x and place >= columns else None
        panels.append(figure.add_axes((0.1, 0.1, 0.8, 0.8), sharex=above, label=str(place)))
        layout.ticks[panels[-1]] = Ticks(panels[-1].xaxis), Ticks(panels[-1].yaxis)
        if above is not None:
            above.tick_params(axis="x", labelbottom=False)  # only the last of these panels has tick labels
    return figure, panels
