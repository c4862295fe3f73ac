"""The numbers of a plot, read off the figure itself: tables for the page, and a CSV of all that is drawn."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch

from loadtest.arrays import Floats, Ints
from loadtest.foreign_text import csv_text
from loadtest.report.page import Cell, Table
from loadtest.words import NOTHING, times_as

_MOST_ROWS: Final = 16
"""Rows of a table in the page: evenly picked where there are more."""
_MOST_POINTS: Final = 2_000
"""Points of a series in the CSV, likewise."""


@dataclass(frozen=True, eq=False)
class Series:
    """What a legend names: its points, as drawn.

    Attributes:
        panel: title of its panel.
        x: along the axis; of bins where they begin.
        y: as many.
        dots: whether it is a cloud, of which a table would say nothing.
    """

    panel: str
    label: str
    x: Floats
    y: Floats
    dots: bool = False


def series(figure: Figure) -> list[Series]:
    """Every line, step line, cloud and row of bars that has a name, in the order of drawing."""
    return [one for axes in figure.axes for one in _of_axes(axes)]


def tables(figure: Figure) -> tuple[Table, ...]:
    """A table for each panel and each set of series that share their x, thinned to a few rows."""
    found: list[Table] = []
    for axes in figure.axes:
        groups: list[list[Series]] = []
        for one in _of_axes(axes):
            if one.dots:
                continue
            same = next((g for g in groups if np.array_equal(g[0].x, one.x)), None)
            if same is None:
                groups.append([one])
            else:
                same.append(one)
        label = next((a.get_xlabel() for a in (axes, *reversed(figure.axes)) if a.get_xlabel()), "x")
        found += [_table(group, label, axes.get_ylabel()) for group in groups if len(group[0].x)]
    return tuple(found)


def as_csv(figure: Figure, instead: tuple[Table, ...]) -> str:
    """``panel,series,x,y``, a point a row; of a series with very many points evenly picked ones.

    Args:
        figure: the plot.
        instead: tables of its numbers, for a plot of bars, which has no series.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if not series(figure):
        for table in instead:
            writer.writerows([[csv_text(table.title)], [csv_text(label) for label, _ in table.columns]])
            numbers = [number for _, number in table.columns]
            for row in table.rows:
                cells = zip(row, numbers, strict=True)
                writer.writerow(cell.text if number else csv_text(cell.text) for cell, number in cells)
        return buffer.getvalue()
    writer.writerow(["panel", "series", "x", "y"])
    for one in series(figure):
        kept = _picked(len(one.x), _MOST_POINTS)
        for x, y in zip(one.x[kept].tolist(), one.y[kept].tolist(), strict=True):
            if np.isfinite(y):
                writer.writerow([csv_text(one.panel), csv_text(one.label), f"{x:.6g}", f"{y:.6g}"])
    return buffer.getvalue()


def _of_axes(axes: Axes) -> Iterator[Series]:
    panel = axes.get_title(loc="left")
    for artist in axes.get_children():
        label = str(artist.get_label())
        if not label or label.startswith("_"):
            continue
        if isinstance(artist, StepPatch):
            values, edges, _ = artist.get_data()
            yield Series(panel, label, np.asarray(edges, float)[:-1], np.asarray(values, float))
        elif isinstance(artist, Line2D) and artist.get_transform() == axes.transData:
            yield Series(panel, label, np.asarray(artist.get_xdata(), float), np.asarray(artist.get_ydata(), float))
        elif isinstance(artist, PathCollection):
            points = np.asarray(artist.get_offsets(), float).reshape(-1, 2)
            yield Series(panel, label, points[:, 0], points[:, 1], dots=True)
    for bars in axes.containers:
        label = str(bars.get_label())
        if isinstance(bars, BarContainer) and label and not label.startswith("_"):
            lying = bars.orientation == "horizontal"
            at = [b.get_y() + b.get_height() / 2 if lying else b.get_x() + b.get_width() / 2 for b in bars.patches]
            long = [b.get_width() if lying else b.get_height() for b in bars.patches]
            yield Series(panel, label, np.array(at, float), np.array(long, float))


def _table(group: list[Series], x_label: str, y_label: str) -> Table:
    x = group[0].x
    kept = _picked(len(x), _MOST_ROWS)
    columns = ((x_label, True), *((one.label, True) for one in group))
    rows = tuple((Cell(_text(x[k])), *(Cell(_text(one.y[k])) for one in group)) for k in kept.tolist())
    note = f"{len(kept)} of {len(x)} points." if len(kept) < len(x) else ""
    title = "  ·  ".join(part for part in (group[0].panel, y_label) if part) or group[0].label
    return Table("data", title, columns, rows, note)


def _picked(count: int, most: int) -> Ints:
    return (
        np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)) if count else np.zeros(0, int)
    )


def _text(value: Any) -> str:
    if not np.isfinite(value):
        return NOTHING
    return times_as(float(value))
