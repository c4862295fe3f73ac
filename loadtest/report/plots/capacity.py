"""Response time and 429 rate over the rate, with the range that contains the answer shaded."""

from typing import Any, Final

from loadtest.capacity.results import Capacity, Constraint
from loadtest.report.plots.drawing import Drawing
from loadtest.report.plots.style import BAD, BAND, LIMITS, LINES, OPERATIONS, panels, plain_log

_CAPTION: Final = "Each point is a run; the band contains the capacity, and a dashed line marks its middle."
_PANEL_IN: Final = 1.7
_BESIDE: Final = 1.3
"""Factor by which the axis extends beyond the lowest and highest tested rate."""
_MARKERS: Final = "osDv^"
_MIDDLE: Final[dict[str, Any]] = {"color": BAD, "lw": 1.2, "ls": (0, (4, 2))}


def draw(found: Capacity) -> Drawing | None:
    """Draw p95 and each limit's 429 rate over the rate, on a log scale."""
    levels = sorted(found.levels, key=lambda level: level.multiplier)
    if not levels:
        return None
    figure, (times, rejected) = panels(2, _PANEL_IN)
    for place, (name, entry) in enumerate(levels[0].entries.items()):
        look = {"color": OPERATIONS[entry.operation], "ls": LINES[entry.operation]}
        look["marker"] = _MARKERS[place % len(_MARKERS)]
        points = [(level.multiplier, level.entries[name]) for level in levels if name in level.entries]
        timed = [(x, y) for x, each in points if (y := each.typical_ms) is not None]
        times.plot(*zip(*timed, strict=True), label=name, **look) if timed else None
    for limit in sorted({name for level in levels for name in level.limits}):
        on = [(level.multiplier, level.limits[limit].throttled_rate * 100) for level in levels if limit in level.limits]
        look = {"color": LIMITS[limit], "marker": "x", "ls": ":"}
        rejected.plot(*zip(*on, strict=True), label=f"on {limit}", **look)
    times.set(ylim=(0, times.get_ylim()[1] * 1.05), ylabel="response time p95 (ms)")
    rejected.set(ylim=(0, max(1.0, rejected.get_ylim()[1] * 1.05)), ylabel="429s of requests (%)")
    rejected.set_xlabel("times the scenario's rates")
    for panel in (times, rejected):
        panel.set(xscale="log", xlim=(levels[0].multiplier / _BESIDE, levels[-1].multiplier * _BESIDE))
        if found.multiplier is not None and found.low is not None and found.high is not None:
            panel.axvspan(found.low, found.high, zorder=0, label="capacity", **BAND)
            panel.axvline(found.multiplier, **_MIDDLE)
    plain_log(rejected.xaxis)
    return Drawing(_title(found), _CAPTION, figure)


def _title(found: Capacity) -> str:
    if found.multiplier is None or found.constraint is None or found.low is None or found.high is None:
        return "No rate is known above which thresholds break"
    which = f"the {found.limit} limit"
    what = {Constraint.LIMIT: which, Constraint.POLL_BUDGET: f"polls, which exhaust {which}"}
    ends = f"{found.low:.3g} to {found.high:.3g}"
    return f"Bottleneck above {ends} times the rate: {what.get(found.constraint, found.constraint)}"
