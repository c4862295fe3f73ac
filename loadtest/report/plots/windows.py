"""How many requests each window of a limiter let pass, against the limit."""

import numpy as np
from matplotlib.axes import Axes

from loadtest.analysis.accepted_windows import AcceptedWindows
from loadtest.analysis.findings import Findings
from loadtest.analysis.numbers import count
from loadtest.plan import ALL
from loadtest.report.plots import stages
from loadtest.report.plots.style import (
    FADED,
    INK,
    LIMITS,
    MUTED,
    THROTTLED,
    Drawing,
    NoData,
    legend,
    panels,
    plain,
    time_axis,
)
from loadtest.report.unexplained import unexplained

_TITLE = "Accepted per window"
_GAP = 0.006
"""Of a window, left blank on either side of its bar: enough to tell two apart, too little to look like a pause."""
_MOST_NUMBERS = 15
"""Windows beyond which numbers would run into one another."""
_HIGHEST = 2.5
"""Of the limit: where outlines are cut off."""


def draw(findings: Findings) -> Drawing | NoData:
    """One panel for each limit that counts in windows and refused something."""
    record, told = findings.record, findings.throttled
    if told.why_not is not None:
        return NoData(_TITLE, told.why_not)
    drawn = {name: each.windows for name, each in told.limits.items() if each.windows is not None and each.throttled}
    if not drawn:
        refused = any(each.throttled for each in told.limits.values())
        return NoData(_TITLE, "the limiter does not count in windows" if refused else "no window refused anything")
    figure, axes = panels(len(drawn), 1.45)
    time_axis(axes[-1], record.covered_s)
    for panel, (name, windows) in zip(axes, drawn.items(), strict=True):
        _panel(panel, windows, LIMITS.get(name, MUTED))
        stages.mark_stages(panel, record, names=panel is axes[0])
        limit = f"{count(windows.counts.count)} per {windows.counts.window_s:g} s"
        panel.set_title(f"{'all requests' if name == ALL else name}  ·  {limit}")
    legend(figure, axes)
    caption = (
        "Each bar is a window of the server, by when requests were sent; where keys have limiters of their own, their "
        "bars lie upon one another. The outline above is what was refused, cut off at 2.5 times the limit."
    )
    return Drawing(_title(findings), caption, figure)


def _panel(panel: Axes, windows: AcceptedWindows, colour: str) -> None:
    width = windows.counts.window_s * (1 - 2 * _GAP)
    for accepted_whole, label, shade in ((True, "accepted", 0.75), (False, "accepted, window cut off", 0.3)):
        mine = windows.is_whole == accepted_whole
        if not mine.any():
            continue
        panel.bar(
            windows.begins_s[mine] + windows.counts.window_s * _GAP, windows.accepted[mine], width, align="edge",
            color=colour, alpha=shade / max(1, windows.counts.limiters) ** 0.5, lw=0, label=label,
        )  # fmt: skip
    over = windows.refused > 0
    panel.bar(
        windows.begins_s[over] + windows.counts.window_s * _GAP, windows.refused[over], width,
        bottom=windows.accepted[over], align="edge", facecolor="none", edgecolor=THROTTLED, lw=0.8,
        label="429 beyond them",
    )  # fmt: skip
    panel.axhline(windows.counts.count, color=INK, lw=1.0, ls=(0, (6, 2)), label="limit")
    tallest = float(np.max(windows.accepted + windows.refused, initial=windows.counts.count))
    highest = min(tallest, windows.counts.count * _HIGHEST) * 1.15
    panel.set_ylim(0, highest)
    if windows.counts.limiters == 1 and len(windows.refused) <= _MOST_NUMBERS:
        _numbers(panel, windows, highest)
    plain(panel.yaxis)
    panel.set_ylabel("requests")
    panel.axhline(0, color=FADED, lw=0.4)


def _numbers(panel: Axes, windows: AcceptedWindows, highest: float) -> None:
    """How many were refused in each window, at the top of its outline, which may be cut off."""
    left, right = panel.get_xlim()
    for begin, accepted, refused in zip(windows.begins_s, windows.accepted, windows.refused, strict=True):
        begins, ends = max(float(begin), left), min(float(begin) + windows.counts.window_s, right)
        if not refused or ends - begins < (right - left) * 0.06:
            continue
        top = min(float(accepted + refused), highest)
        inside = top - accepted > highest * 0.18
        panel.annotate(
            f"{count(refused)} got 429", ((begins + ends) / 2, top), xytext=(0, -3 if inside else 2),
            textcoords="offset points", ha="center", va="top" if inside else "bottom", fontsize=7.5, color=THROTTLED,
        )  # fmt: skip


def _title(findings: Findings) -> str:
    limits = findings.throttled.limits
    if any(unexplained(findings, name) for name in limits):
        return "Requests were refused in windows that were not full"
    full = [each.windows.counts for each in limits.values() if each.windows is not None]
    known = [each for each in full if each.spread is not None]
    if not known:
        return "No whole window was saturated, so that none shows the limit"
    total = sum(each.saturated for each in known)
    exact = all(each.spread is not None and each.spread[0] == each.spread[2] == each.count for each in known)
    if exact and total == 1:
        return "The one saturated window let exactly its limit pass"
    if exact:
        return f"Each of {count(total)} saturated windows let exactly its limit pass"
    parts = ", ".join(
        f"{name} {_range(counts.spread[0], counts.spread[2])} of {count(counts.count)}"
        for name, each in limits.items()
        if each.windows is not None and (counts := each.windows.counts).spread is not None
    )
    return f"Saturated windows let pass: {parts}"


def _range(least: int, most: int) -> str:
    return count(least) if least == most else f"{count(least)} to {count(most)}"
