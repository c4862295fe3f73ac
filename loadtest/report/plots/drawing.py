"""Drawings, which are plots with a title, and their files: SVG, PNG and CSV."""

import csv
import io
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer, Container
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch

from loadtest.analysis.findings import Findings
from loadtest.analysis.results import OperationStage, Summary, Value, bounded
from loadtest.analysis.run_record import Record
from loadtest.arrays import Floats, Ints
from loadtest.compare.changes import LEAST_MS
from loadtest.foreign_text import csv_text
from loadtest.record.effective_scenario import polling
from loadtest.report.deciding import deciding
from loadtest.report.page import Plot, Table, TableCell
from loadtest.report.plots.layout import Margins
from loadtest.report.plots.style import CSS_VARIABLES, DOT, INK, OPERATIONS, PAPER, legend, panels, styled
from loadtest.words import NOTHING, counted, joined, share, times_as

_MOST_ROWS: Final = 16
"""A table read from a figure has at most this many rows. Longer series are thinned evenly."""
_MOST_POINTS: Final = 2_000
"""A series has at most this many points in the CSV. Longer series are thinned evenly."""
_LEFT_OUT: Final = "Not drawn: {} ({}), whose figures are in metrics.json."
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Drawing:
    """A plot: title, caption and figure.

    ``data`` has the plot's numbers. If it is None, the numbers are read from the figure. ``left_out`` names the
    traffic entries that the figure does not show. A figure without a legend gets a legend of its panels' labels.
    """

    title: str
    caption: str
    figure: Figure
    data: tuple[Table, ...] | None = None
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.figure.legends:
            legend(self.figure)


def entry_panels(
    findings: Findings, found: Mapping[str, _Value], height_in: float, *, columns: int = 1
) -> tuple[Figure, list[tuple[Axes, str, _Value, str]], tuple[str, ...]]:
    """Make a figure with a panel for each traffic entry that ``deciding`` chooses.

    Panels in a single column share an x axis.

    Return the figure, a (panel, entry, value in ``found``, colour) tuple for each panel, and the entries left out.
    """
    shown, left_out = deciding(findings, found)
    figure, axes = panels(len(shown), height_in, columns=min(columns, len(shown)), share_x=columns == 1)
    panelled = [(panel, name, shown[name], colour) for panel, name, colour in entries(findings.record, axes, shown)]
    return figure, panelled, left_out


def entries(record: Record, axes: Sequence[Axes], names: Iterable[str]) -> Iterator[tuple[Axes, str, str]]:
    """Give each traffic entry's panel a title. Yield the panel, the entry's name, and the colour of its operation."""
    for panel, name in zip(axes, names, strict=True):
        operation = record.info.traffic[name].operation
        panel.set_title(DOT.join(part for part in (name, operation, polling(record.info, name)) if part))
        yield panel, name, OPERATIONS[operation]


def finished(name: str, drawn: Drawing, *, png: bool) -> Plot:
    """Return a plot for pages, with its SVG and its numbers, and a PNG if ``png`` is true."""
    with styled(name):
        numbers = tables(drawn.figure) if drawn.data is None else drawn.data
        listed, svg = as_csv(drawn.figure, numbers), to_svg(drawn.figure)
        picture = to_png(drawn.figure, drawn.title) if png else b""
    caption = drawn.caption
    if drawn.left_out:
        names = counted(len(drawn.left_out), "traffic entry", "traffic entries")
        caption += f" {_LEFT_OUT.format(names, ', '.join(drawn.left_out))}"
    return Plot(name, drawn.title, caption, svg, picture, tuple(table.listed() for table in numbers), listed)


def to_svg(figure: Figure) -> str:
    """Return the figure as an ``<svg>`` element for a page, with unique ids, and with CSS variables as colours."""
    buffer = io.StringIO()
    # ``savefig`` would draw everything twice. Its first drawing is for the layout, which ``print_svg`` makes anyway.
    about = {"Date": None, "Creator": None, "Format": None, "Type": None}
    FigureCanvasSVG(figure).print_svg(buffer, metadata=about)  # type: ignore[no-untyped-call] # matplotlib's
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r' id="(?:figure|axes|patch|matplotlib\.axis|[a-zA-Z]+|[a-zA-Z]*tick|line2d|text|[A-Z]\w+)_\d+"', "", text
    )
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
    # Matplotlib's ids depend on every digit of the layout, and the last digit may differ between processes.
    salt = str(mpl.rcParams["svg.hashsalt"])
    for place, clip in enumerate(re.findall(r'<clipPath id="(\w+)"', text)):
        text = text.replace(clip, f"clip-{salt}-{place}")
    text = re.sub(r' transform="rotate\(-?0 [\d. -]+\)"', "", text)
    text = re.sub(r"<(?:path|use) [^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), text)
    for colour, variable in CSS_VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return re.sub(r">\s*\n\s*<", ">\n<", text)


def to_png(figure: Figure, title: str) -> bytes:
    """Return the figure as a standalone PNG on white, with its title above it."""
    lines = textwrap.wrap(title, 100)
    width, height = figure.get_size_inches()
    layout = figure.get_layout_engine()
    if isinstance(layout, Margins):
        layout.head_in = len(lines) * 0.19 + 0.1
        height += layout.head_in
        figure.set_size_inches(width, height)
        figure.text(0.01, 1 - 0.08 / height, "\n".join(lines), fontsize=10.5, fontweight="bold", color=INK, va="top")
    figure.set(dpi=144, facecolor=PAPER)
    buffer = io.BytesIO()
    options: dict[str, Any] = {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 4}}
    FigureCanvasAgg(figure).print_png(buffer, **options)  # type: ignore[no-untyped-call] # matplotlib's
    return buffer.getvalue()


@dataclass(frozen=True, eq=False)
class PlottedSeries:
    """A series that a legend names, with its points as drawn.

    Attributes:
        x: positions along the axis: left edges of steps, middles of bars.
        dots: whether the series is a scatter, which gets no table.
    """

    panel: str
    label: str
    x: Floats
    y: Floats
    dots: bool = False


def series(figure: Figure) -> list[PlottedSeries]:
    """Return all named steps, scatters, bars, and lines (except lines across a whole panel), panel by panel."""
    return [one for panel in figure.axes for one in _of_panel(panel)]


def tables(figure: Figure) -> tuple[Table, ...]:
    """Return a table for each set of series that share a panel and x positions. Scatters have no table."""
    found: list[Table] = []
    for panel in figure.axes:
        groups: dict[bytes, list[PlottedSeries]] = {}
        for one in _of_panel(panel):
            if len(one.x) and not one.dots:
                groups.setdefault((one.x + 0.0).tobytes(), []).append(one)
        label = next((a.get_xlabel() for a in (panel, *reversed(figure.axes)) if a.get_xlabel()), "x")
        found += [_table(group, label, panel.get_ylabel()) for group in groups.values()]
    return tuple(found)


def as_csv(figure: Figure, instead: tuple[Table, ...]) -> str:
    """Return CSV with the columns ``panel,series,x,y``. Very long series are thinned evenly.

    If the figure has no named series, as with bars of several parts, the numbers come from the tables ``instead``.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    drawn = series(figure)
    if not drawn:
        for table in instead:
            writer.writerows([[csv_text(table.title)], [csv_text(label) for label, _ in table.columns]])
            for row in table.rows:
                cells = zip(row, table.columns, strict=True)
                writer.writerow(cell.text if is_number else csv_text(cell.text) for cell, (_, is_number) in cells)
        return buffer.getvalue()
    writer.writerow(["panel", "series", "x", "y"])
    for one in drawn:
        kept = picked(len(one.x), _MOST_POINTS)
        for x, y in zip(one.x[kept].tolist(), one.y[kept].tolist(), strict=True):
            if np.isfinite(y):
                writer.writerow([csv_text(one.panel), csv_text(one.label), f"{x:.6g}", f"{y:.6g}"])
    return buffer.getvalue()


def _of_panel(panel: Axes) -> Iterator[PlottedSeries]:
    artists: list[Artist | Container] = [*panel.get_children(), *panel.containers]
    for artist in artists:
        label = str(artist.get_label())
        if label and not label.startswith("_") and (points := _points(artist, panel)) is not None:
            x, y = (np.asarray(each, float) for each in points)
            yield PlottedSeries(panel.get_title(loc="left"), label, x, y, dots=isinstance(artist, PathCollection))


def _points(artist: Artist | Container, panel: Axes) -> tuple[Any, Any] | None:
    if isinstance(artist, StepPatch):
        values, edges, _ = artist.get_data()
        return edges[:-1], values
    if isinstance(artist, Line2D) and artist.get_transform() == panel.transData:
        return artist.get_data()
    if isinstance(artist, PathCollection):
        x, y = np.reshape(artist.get_offsets(), (-1, 2)).T
        return x, y
    if isinstance(artist, BarContainer):
        return [b.get_x() + b.get_width() / 2 for b in artist.patches], [b.get_height() for b in artist.patches]
    return None


def _table(group: list[PlottedSeries], x_label: str, y_label: str) -> Table:
    x = group[0].x
    kept = picked(len(x), _MOST_ROWS)
    columns = ((x_label, True), *((one.label, True) for one in group))
    rows = tuple((TableCell(_text(x[k])), *(TableCell(_text(one.y[k])) for one in group)) for k in kept.tolist())
    note = f"{len(kept)} of {len(x)} points." if len(kept) < len(x) else ""
    title = DOT.join(part for part in (group[0].panel, y_label) if part) or group[0].label
    return Table(title, columns, rows, note)


def picked(count: int, most: int) -> Ints:
    """Return at most ``most`` evenly spaced indices below ``count``, including the first and last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _text(value: Any) -> str:
    return times_as(float(value)) if np.isfinite(value) else NOTHING


MOST_NAMED: Final = 3
"""A title names at most this many traffic entries."""
SAME: Final = 1.1
"""A title treats two times as equal if their ratio is below this."""


def names_or_count(names: Sequence[str]) -> str:
    """Return the names in a row, or their number if there are many."""
    return joined(names) if len(names) <= MOST_NAMED else f"{len(names)} entries"


def ok_share(findings: Findings, name: str) -> str:
    """Return an entry's share of ok operations in brackets, to follow its figures; empty if all were ok."""
    counts = findings.metrics.traffic[name].operations
    return f" ({share(counts.ok / counts.sent)} were ok)" if counts.ok < counts.sent else ""


def medians(findings: Findings, names: Iterable[str], time: str, summary: Callable[[OperationStage], Summary]) -> str:
    """Return a title with the two most different medians of an entry's stages, or with medians of whole entries.

    Stages are left out if none differ clearly, or if the scenario compares entries. ``summary`` returns the time of an
    entry or of its stage.
    """
    traffic, changes = findings.metrics.traffic, []
    whole = _known((name, summary(traffic[name])) for name in names)
    compared = any(one.kind != "effect" for one in findings.answers)
    for name in whole:
        stages = _known((stage, summary(part)) for stage, part in traffic[name].stages.items())
        if len(stages) < 2 or compared:
            continue
        low, high = (stages[stage].value or 0.0 for stage in _ends(stages))
        if high >= max(SAME * low, low + LEAST_MS):
            said = ", ".join(f"{bounded(stages[stage])} in “{stage}”" for stage in stages if stage in _ends(stages))
            changes.append((high / max(low, LEAST_MS), f"Median {time} of {name}{ok_share(findings, name)}: {said}"))
    if changes:
        return max(changes)[1]
    texts = {name: f"{bounded(value)} for {name}{ok_share(findings, name)}" for name, value in whole.items()}
    if not texts:
        return f"Too few answers for a median {time}"
    if len(texts) > MOST_NAMED:
        if len({bounded(value) for value in whole.values()}) == 1:
            return f"Median {time}: {bounded(next(iter(whole.values())))} each"
        return f"Median {time}: {' to '.join(texts[name] for name in _ends(whole))}"
    return f"Median {time}: {', '.join(texts.values())}"


def _known(summaries: Iterable[tuple[str, Summary]]) -> dict[str, Value]:
    return {name: value for name, each in summaries if (value := each.get("p50")).value is not None}


def _ends(values: dict[str, Value]) -> tuple[str, str]:
    order = sorted(values, key=lambda name: (values[name].value or 0.0, values[name].at_least))
    return order[0], order[-1]
