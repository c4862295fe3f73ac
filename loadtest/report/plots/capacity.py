"""Response time and 429 rate over the rate, with the constraint marked and what was never tried shaded."""

from typing import Final

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from loadtest.capacity.results import Capacity, Constraint, Level
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import BAD, INK, LIMITS, LINES, OPERATIONS, SHADE, legend_of, panels, plain_log

_CAPTION: Final = "Each point is a run that was judged. Shaded: rates that no such run was near to."
_PANEL_IN: Final = 1.7
_MARGIN: Final = 1.15
_BESIDE: Final = 1.5
"""Times the lowest and the highest rate that was tried: how far the axis goes."""
_MARKERS: Final = "osDv^"


def draw(found: Capacity) -> Drawing | None:
    """Two panels over the same rates, in log scale: p95 above, 429s of the requests on each limit below."""
    levels = sorted((level for level in found.levels if not level.scout), key=lambda level: level.multiplier)
    if not levels:
        return None
    figure, (times, refused) = panels(2, _PANEL_IN)
    shown: dict[str, Line2D] = {}
    for place, (name, entry) in enumerate(levels[0].entries.items()):
        look = {"color": OPERATIONS[entry.operation], "ls": LINES[entry.operation]}
        look["marker"] = _MARKERS[place % len(_MARKERS)]
        points = [(level.multiplier, level.entries[name]) for level in levels if name in level.entries]
        timed = [(x, y) for x, each in points if (y := each.response_p95_ms or each.response_p50_ms) is not None]
        times.plot(*zip(*timed, strict=True), label=name, **look) if timed else None
        shown[name] = Line2D([], [], **look)
    for limit in sorted({name for level in levels for name in level.limits}):
        drawn = [
            (level.multiplier, level.limits[limit].throttled_rate * 100) for level in levels if limit in level.limits
        ]
        look = {"color": LIMITS[limit], "marker": "x", "ls": ":"}
        refused.plot(*zip(*drawn, strict=True), label=limit, **look)
        shown[f"on {limit}"] = Line2D([], [], **look)
    times.set_ylim(0, times.get_ylim()[1] * 1.05)
    times.set_ylabel("response time p95 (ms)")
    refused.set_ylabel("429s of requests (%)")
    refused.set_ylim(0, max(1.0, refused.get_ylim()[1] * 1.05))
    refused.set_xlabel("times the scenario's rates")
    for panel in (times, refused):
        _mark(panel, found, levels)
    plain_log(refused.xaxis)
    shown["what stops more"] = Line2D([], [], color=BAD, lw=1.2, ls=(0, (4, 2)))
    shown["never tried"] = Patch(facecolor=SHADE, edgecolor=INK, lw=0.3)  # type: ignore[assignment] # also a handle
    legend_of(figure, list(shown.values()), list(shown))
    title = "No rate is known above which thresholds break"
    if found.multiplier is not None and found.constraint is not None:
        which = f"the {found.limit} limit"
        what = {Constraint.LIMIT: which, Constraint.POLL_BUDGET: f"polls, which spend {which}"}
        named = what.get(found.constraint, found.constraint)
        title = f"What stops more than {found.multiplier:.3g} times the rate: {named}"
    return Drawing(title, _CAPTION, figure)


def _mark(panel: Axes, found: Capacity, levels: list[Level]) -> None:
    """The constraint as a line, and the rates that no run came near to as shaded."""
    rates = [level.multiplier for level in levels]
    panel.set_xscale("log")
    start, end = rates[0] / _BESIDE, rates[-1] * _BESIDE
    panel.set_xlim(start, end)
    edges = [start, *(edge for rate in rates for edge in (rate / _MARGIN, rate * _MARGIN)), end]
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if start < end:
            panel.axvspan(start, end, facecolor=SHADE, lw=0, zorder=0)
    if found.multiplier is not None:
        panel.axvline(found.multiplier, color=BAD, lw=1.2, ls=(0, (4, 2)))
