"""The slowest operations as a waterfall: where the time of each went."""

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.slowest import SlowOperation
from loadtest.contract import THROTTLED_STATUS, Outcome
from loadtest.report.plots import style
from loadtest.report.plots.drawing import Drawing, NoData
from loadtest.report.tables.target import slowest, slowest_table

_FRAME_IN: Final = 0.5
"""Height of a panel without its rows: title and axis."""
_ROW_IN: Final = 0.21
_LEAST_IN: Final = 1.0
_ENDED: Final[dict[str, str]] = {
    Outcome.THROTTLED: "was throttled (429) after",
    Outcome.FAILED: "failed after",
    Outcome.TIMED_OUT: "timed out after",
}
"""A lower panel has no room for its axis and a title above it."""


def draw(findings: Findings) -> Drawing | NoData:
    """A panel for each traffic entry, a row for each operation, a bar for each of its requests."""
    shown = slowest(findings)
    if not shown:
        return NoData("The slowest operations", "no operation was answered")
    entries = list(dict.fromkeys(one.traffic for one in shown))
    rows = [sum(one.traffic == name for one in shown) for name in entries]
    figure, axes = style.stacked([max(_LEAST_IN, _FRAME_IN + _ROW_IN * each) for each in rows])
    for panel, name in zip(axes, entries, strict=True):
        operation = findings.record.info.traffic[name].operation
        _panel(panel, [one for one in shown if one.traffic == name], style.OPERATIONS[operation])
        panel.set_title(f"{name}  ·  {operation}")
    axes[-1].set_xlabel("ms since the intended start")
    keys = [
        Patch(color=style.SHADE, label="waiting for the next request"),
        Patch(color=style.INK, label="start lag"),
        Patch(color=style.MUTED, label="request, until its first byte"),
        Patch(color=style.MUTED, alpha=0.4, label="rest of its answer"),
        Patch(color=style.THROTTLED, label="429"),
    ]
    style.legend_of(figure, keys, [str(key.get_label()) for key in keys])
    caption = (
        "Each row is an operation, named by its arrival’s number; each bar a request, in the colour of its operation; "
        "what lies between is the policy’s wait: a poll interval or a backoff."
    )
    return Drawing(_title(shown), caption, figure, (slowest_table(findings),))


def _panel(panel: Axes, shown: list[SlowOperation], colour: str) -> None:
    for place, one in enumerate(shown):
        _row(panel, place, one, colour)
    panel.set_yticks(np.arange(len(shown)), [words.count(one.arrival) for one in shown])
    panel.set_ylim(len(shown) - 0.4, -0.6)
    panel.set_xlim(0, max(one.response_ms for one in shown) * 1.14)
    style.plain(panel.xaxis)
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)


def _row(panel: Axes, place: int, one: SlowOperation, colour: str) -> None:
    panel.barh(place, one.response_ms, height=0.62, color=style.SHADE)
    if one.start_lag_ms > 0:
        panel.barh(place, one.start_lag_ms, height=0.62, color=style.INK)
    least = one.response_ms * 0.002  # what is shorter would not be seen
    for phase in one.phases:
        end = one.response_ms if phase.end_ms is None else phase.end_ms
        first = end if phase.first_byte_ms is None else phase.first_byte_ms
        ink = style.THROTTLED if phase.status == THROTTLED_STATUS else colour
        panel.barh(place, max(first - phase.start_ms, least), left=phase.start_ms, height=0.62, color=ink)
        panel.barh(place, end - first, left=first, height=0.62, color=ink, alpha=0.4)
    text = words.duration_ms(one.response_ms) + (
        "" if one.outcome == Outcome.OK else f"  {one.outcome.replace('_', ' ')}"
    )
    panel.annotate(text, (one.response_ms, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7,
                   color=style.MUTED)  # fmt: skip


def _title(shown: list[SlowOperation]) -> str:
    worst = shown[0]
    asked = len(worst.phases)
    requests = "1 request" if asked == 1 else f"{words.count(asked)} requests"
    took = f"{words.duration_ms(worst.response_ms)} in {requests}"
    ended = _ENDED.get(worst.outcome, "took")
    return f"The slowest operation, of {worst.traffic}, {ended} {took}"
