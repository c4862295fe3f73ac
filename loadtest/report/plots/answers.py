"""Plot of a comparison: a panel for each metric, with a dot and an interval for each side."""

import math
from typing import Final

from matplotlib.axes import Axes

from loadtest.analysis.answers import ComparisonAnswer, SideFigure
from loadtest.analysis.findings import Findings
from loadtest.report.answers import answer, answer_tables, label, value
from loadtest.report.deciding import MOST
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import FADED, INK, MUTED, OPERATIONS, note, panels, plain, rows, short
from loadtest.units import Unit
from loadtest.words import capital

_SCALE: Final[dict[Unit, tuple[float, str]]] = {
    "ms": (1.0, "ms"), "share": (100.0, "%"), "per_s": (1.0, "1/s"), "number": (1.0, ""),
}  # fmt: skip
_SECOND: Final = 1000.0


def draw(findings: Findings) -> Drawing | None:
    """Draw a panel for each metric of each comparison; None without comparisons."""
    drawn = [
        (found, place)
        for found in findings.answers
        for place in range(min(4, len(found.by)))
        if any(side.figures[place].value is not None for side in found.sides)
    ]
    if not drawn:
        return None
    left, drawn = len(drawn) - MOST, drawn[:MOST]
    most = max(len(found.sides) for found, _ in drawn)
    figure, axes = panels(len(drawn), 0.62 + 0.27 * most, columns=min(2, len(drawn)), share_x=False)
    for panel, (found, place) in zip(axes, drawn, strict=True):
        _panel(panel, findings, found, place)
    caption = "Dots are figures with 95 % intervals (an arrow: no bound); the table has the intervals of differences."
    if left > 0:
        caption += f" The figures of {left} more panels are in the tables."
    return Drawing(capital(answer(findings)), caption, figure, answer_tables(findings))


def _panel(panel: Axes, findings: Findings, found: ComparisonAnswer, place: int) -> None:
    figures = [side.figures[place] for side in found.sides]
    factor, unit_name = _SCALE[figures[0].unit]
    longest = max(
        (
            end
            for each in figures
            for end in (each.value, *(each.interval or ()))
            if end is not None and math.isfinite(end)
        ),
        default=0.0,
    )
    if unit_name == "ms" and longest >= _SECOND:
        factor, unit_name = 1 / _SECOND, "s"
    right = longest * factor * 1.12 or 1.0
    rows(panel, [short(side.name) for side in found.sides])
    panel.tick_params(axis="y", labelcolor=INK)
    for row, (side, each) in enumerate(zip(found.sides, figures, strict=True)):
        operation = findings.record.info.traffic[found.entry or side.name].operation
        lead = side.name == found.chosen or (found.kind == "effect" and row == 0)
        _dot(panel, each, row, (factor, right, OPERATIONS[operation]), lead=lead)
    name = label(found.by[place])
    panel.set(xlim=(0, right * 1.16), title=name if found.entry is None else f"{found.entry}: {name}", xlabel=unit_name)
    plain(panel.xaxis)


def _dot(panel: Axes, figure: SideFigure, row: int, how: tuple[float, float, str], *, lead: bool) -> None:
    factor, right, colour = how
    if figure.value is None and not figure.infinite:
        panel.text(right * 0.01, row, figure.why, va="center", color=MUTED, fontsize=7)
        return
    low, high = figure.interval or (figure.value, figure.value)
    begin = (right if figure.infinite else 0.0) if low is None else low * factor
    end = right if high is None else high * factor
    ink = FADED if figure.infinite else colour
    if figure.interval is not None or figure.infinite:
        panel.plot([begin, end], [row, row], color=ink, lw=2.4, alpha=0.55)
    if high is None or figure.infinite:
        panel.plot([end], [row], marker=">", color=ink, ms=5, ls="")
    if figure.value is not None:
        face = colour if lead else "none"
        panel.plot([figure.value * factor], [row], marker="o", ms=6, color=colour, mfc=face, clip_on=False, ls="")
    weight = "bold" if lead else "normal"
    note(panel, value(figure), (end, row), (7, 0), va="center", color=INK, fontweight=weight)
