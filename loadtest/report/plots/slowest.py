"""The slowest operations as a waterfall of requests and waits."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Patch

from loadtest import words
from loadtest.analysis.findings import Findings
from loadtest.analysis.slowest import SlowOperation
from loadtest.contract import THROTTLED_STATUS, Outcome
from loadtest.report.deciding import deciding
from loadtest.report.facts import start_of
from loadtest.report.plots.drawing import Drawing, NoData, entries
from loadtest.report.plots.style import INK, MUTED, SHADE, THROTTLED, keys, note, plain, row_panels, rows
from loadtest.report.tables.target import slowest, slowest_table

_HALF: Final = 0.31
"""Height of a bar, in rows."""
_Bar = tuple[int, float, float]
"""Row, begin and end."""
_ENDED: Final[dict[str, str]] = {
    Outcome.THROTTLED: "was throttled (429) after",
    Outcome.FAILED: "failed after",
    Outcome.TIMED_OUT: "timed out after",
}


def draw(findings: Findings) -> Drawing | NoData:
    """Draw a panel per traffic entry, a row per operation and a bar per request."""
    found = slowest(findings)
    if not found:
        return NoData("The slowest operations", "no operation was answered")
    shown = {one.traffic: [each for each in found if each.traffic == one.traffic] for one in found}
    shown, left_out = deciding(findings, shown)
    figure, axes = row_panels(map(len, shown.values()), 0.21)
    colours = dict[str, None]()
    for panel, name, colour in entries(findings.record, axes, shown):
        colours[colour] = None
        _rows(panel, shown[name], colour)
        rows(panel, [words.count(one.arrival) for one in shown[name]])
        panel.set_xlim(0, max(one.response_ms for one in shown[name]) * 1.14)
        plain(panel.xaxis)
    axes[-1].set_xlabel(f"ms since the {start_of(findings.record)}")
    keys(
        figure,
        {
            "waiting for the next request": Patch(color=SHADE),
            "start lag": Patch(color=INK),
            "request, until its first byte": tuple(Patch(color=colour) for colour in colours),
            "rest of its answer": tuple(Patch(color=colour, alpha=0.4) for colour in colours),
            "429": Patch(color=THROTTLED),
        },
    )
    caption = (
        "Each row is an operation, by its arrival’s number, and each bar a request; gaps are poll intervals or backoff."
    )
    return Drawing(_title(found[0]), caption, figure, (slowest_table(findings),), left_out)


def _rows(panel: Axes, shown: Sequence[SlowOperation], colour: str) -> None:
    """Draw all bars of a kind at once: singly they would dominate the drawing time."""
    waits = [(place, 0.0, one.response_ms) for place, one in enumerate(shown)]
    lags = [(place, 0.0, one.start_lag_ms) for place, one in enumerate(shown) if one.start_lag_ms]
    requests: dict[str, list[_Bar]] = {colour: [], THROTTLED: []}
    answers: dict[str, list[_Bar]] = {colour: [], THROTTLED: []}
    for place, one in enumerate(shown):
        least = one.response_ms * 0.002  # what is shorter would not be seen
        for phase in one.phases:
            end = one.response_ms if phase.end_ms is None else phase.end_ms
            first = end if phase.first_byte_ms is None else phase.first_byte_ms
            ink = THROTTLED if phase.status == THROTTLED_STATUS else colour
            requests[ink].append((place, phase.start_ms, max(first, phase.start_ms + least)))
            answers[ink].append((place, first, end))
        ended = "" if one.outcome == Outcome.OK else f"  {one.outcome.replace('_', ' ')}"
        at = (one.response_ms, place)
        note(panel, f"{words.duration_ms(one.response_ms)}{ended}", at, (4, 0), va="center", fontsize=7, color=MUTED)
    _bars(panel, waits, SHADE)
    _bars(panel, lags, INK)
    for ink in (colour, THROTTLED):
        _bars(panel, requests[ink], ink)
        _bars(panel, answers[ink], ink, alpha=0.4)


def _bars(panel: Axes, bars: list[_Bar], colour: str, alpha: float = 1.0) -> None:
    if not bars:
        return
    row, begin, end = np.array(bars, float).T
    low, high = row - _HALF, row + _HALF
    corners = np.stack([begin, low, end, low, end, high, begin, high], axis=1).reshape(-1, 4, 2)
    panel.add_collection(PolyCollection(list(corners), color=colour, alpha=alpha, lw=0), autolim=False)


def _title(worst: SlowOperation) -> str:
    asked = len(worst.phases)
    requests = "1 request" if asked == 1 else f"{words.count(asked)} requests"
    ended = _ENDED.get(worst.outcome, "took")
    return f"The slowest operation, of {worst.traffic}, {ended} {words.duration_ms(worst.response_ms)} in {requests}"
