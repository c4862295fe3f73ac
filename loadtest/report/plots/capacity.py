"""Response time and 429 rate over the rate, with the constraint marked and untested rates shaded."""

from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from loadtest.capacity.results import Capacity, Constraint
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import BAD, INK, LIMITS, LINES, OPERATIONS, SHADE, key, keys, panels, plain_log

_CAPTION: Final = "Each point is a judged run; shaded rates were not tested."
_PANEL_IN: Final = 1.7
_MARGIN: Final = 1.15
_BESIDE: Final = 1.5
"""Factor by which the axis extends beyond the lowest and highest tested rate."""
_MARKERS: Final = "osDv^"
_STOPS: Final[dict[str, Any]] = {"color": BAD, "lw": 1.2, "ls": (0, (4, 2))}


def draw(found: Capacity) -> Drawing | None:
    """Draw p95 and each limit's 429 rate over the rate, on a log scale."""
    levels = sorted((level for level in found.levels if not level.scout), key=lambda level: level.multiplier)
    if not levels:
        return None
    figure, (times, refused) = panels(2, _PANEL_IN)
    shown: dict[str, Line2D | Patch] = {}
    for place, (name, entry) in enumerate(levels[0].entries.items()):
        look = {"color": OPERATIONS[entry.operation], "ls": LINES[entry.operation]}
        look["marker"] = _MARKERS[place % len(_MARKERS)]
        points = [(level.multiplier, level.entries[name]) for level in levels if name in level.entries]
        timed = [(x, y) for x, each in points if (y := each.response_p95_ms or each.response_p50_ms) is not None]
        times.plot(*zip(*timed, strict=True), label=name, **look) if timed else None
        shown[name] = key(**look)
    for limit in sorted({name for level in levels for name in level.limits}):
        on = [(level.multiplier, level.limits[limit].throttled_rate * 100) for level in levels if limit in level.limits]
        look = {"color": LIMITS[limit], "marker": "x", "ls": ":"}
        refused.plot(*zip(*on, strict=True), label=limit, **look)
        shown[f"on {limit}"] = key(**look)
    times.set(ylim=(0, times.get_ylim()[1] * 1.05), ylabel="response time p95 (ms)")
    refused.set(ylim=(0, max(1.0, refused.get_ylim()[1] * 1.05)), ylabel="429s of requests (%)")
    refused.set_xlabel("times the scenario's rates")
    for panel in (times, refused):
        _mark(panel, found, [level.multiplier for level in levels])
    plain_log(refused.xaxis)
    shown |= {"constraint": key(**_STOPS), "not tested": Patch(facecolor=SHADE, edgecolor=INK, lw=0.3)}
    keys(figure, shown)
    return Drawing(_title(found), _CAPTION, figure)


def _mark(panel: Axes, found: Capacity, rates: list[float]) -> None:
    """Mark the constraint as a line, and shade untested rates."""
    start, end = rates[0] / _BESIDE, rates[-1] * _BESIDE
    panel.set(xscale="log", xlim=(start, end))
    edges = [start, *(edge for rate in rates for edge in (rate / _MARGIN, rate * _MARGIN)), end]
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if start < end:
            panel.axvspan(start, end, facecolor=SHADE, lw=0, zorder=0)
    if found.multiplier is not None:
        panel.axvline(found.multiplier, **_STOPS)


def _title(found: Capacity) -> str:
    if found.multiplier is None or found.constraint is None:
        return "No rate is known above which thresholds break"
    which = f"the {found.limit} limit"
    what = {Constraint.LIMIT: which, Constraint.POLL_BUDGET: f"polls, which use {which}"}
    named = what.get(found.constraint, found.constraint)
    return f"The constraint above {found.multiplier:.3g} times the rate: {named}"
