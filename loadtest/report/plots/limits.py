"""The 429 rate over time, observed and as the believed limiter would have it.

How many requests each window of a limiter let pass, against the limit.
"""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from loadtest.analysis import distribution, numbers
from loadtest.analysis.findings import Findings
from loadtest.analysis.limits.expected_429 import boundaries
from loadtest.analysis.limits.windows import AcceptedWindows
from loadtest.analysis.numbers import count
from loadtest.contract import THROTTLED_STATUS
from loadtest.plan import ALL
from loadtest.report.bottleneck import unexplained
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


def draw_throttling(findings: Findings) -> Drawing | NoData:
    """One panel for each limit that gave or should have given any 429."""
    record = findings.record
    sent = record.sent_requests.assign(expected=findings.expectation.rejected)
    names = [
        name
        for name in record.limits()
        if ((mine := sent.loc[record.on_limit(name).index])["status"] == THROTTLED_STATUS).any()
        or mine["expected"].eq(1).any()
    ]
    if not len(sent):
        return NoData("429 rate over time", "no request was sent")
    if not names:
        return NoData("No request was answered with 429, and none was to be expected", "there is no 429 to draw")
    figure, axes = panels(len(names), 1.35)
    for panel, name in zip(axes, names, strict=True):
        mine = sent.loc[record.on_limit(name).index]
        mine = mine[mine["start"].between(0, record.covered_s * 1e9)]
        marks = boundaries(record, findings.expectation, record.belief.limit_on(name).window)
        width = distribution.width(record.covered_s, len(mine), 8)
        cuts = distribution.edges(0, record.covered_s, width, float(marks[0]) if len(marks) else 0.0)
        seconds = mine["start"].to_numpy(dtype=float) / 1e9
        _share(panel, seconds, (mine["status"] == THROTTLED_STATUS).to_numpy().astype(float), cuts, fill=True)
        if mine["expected"].notna().any():
            _share(panel, seconds, mine["expected"].to_numpy(dtype=float), cuts, fill=False)
        for mark in marks:
            panel.axvline(mark, color=MUTED, lw=0.7, ls=":", zorder=0.6)
        stages.mark_stages(panel, record, names=panel is axes[0])
        panel.set_ylim(0, 112)
        panel.set_yticks([0, 50, 100])
        panel.set_ylabel("429s, %")
        panel.set_title("all requests" if name == ALL else name)
    time_axis(axes[-1], record.covered_s)
    legend(figure, axes)
    return Drawing(_throttling_title(findings), _caption(findings), figure)


def _share(
    panel: Axes, seconds: NDArray[np.float64], hits: NDArray[np.float64], cuts: NDArray[np.float64], *, fill: bool
) -> None:
    counts = np.histogram(seconds, cuts)[0]
    shares = np.histogram(seconds, cuts, weights=hits)[0] / np.maximum(counts, 1) * 100
    shares = np.where(counts > 0, shares, np.nan)
    if fill:
        panel.stairs(np.nan_to_num(shares), cuts, fill=True, color=THROTTLED, alpha=0.35, lw=0, label="observed")
        panel.stairs(shares, cuts, color=THROTTLED, lw=1.1, baseline=None)
    else:
        panel.stairs(shares, cuts, color=INK, lw=1.1, ls=(0, (2, 1.5)), baseline=None, label="expected")


def _caption(findings: Findings) -> str:
    expectation = findings.expectation
    text = "Requests answered with 429 ÷ requests sent, by the second they were sent."
    if expectation.why_not is not None:
        return f"{text} Nothing was expected, because {expectation.why_not}."
    text += f" Expected is what {findings.record.belief.words}, does with the recorded sends"
    if expectation.shift_s is None:
        return f"{text}."
    # Adding zero makes a rounded −0 a 0.
    return f"{text}, the server’s clock {round(expectation.shift_s, 2) + 0.0:+.2f} s from ours."


def _throttling_title(findings: Findings) -> str:
    requests = findings.metrics.overall.requests
    observed, expected = requests.throttled_rate, requests.expected_throttled_rate
    title = f"{numbers.share(observed)} of requests got 429"
    if expected is None:
        return title
    agreement = findings.expectation.agreement
    agrees = f"; {numbers.share(agreement)} of the decisions are as expected" if agreement is not None else ""
    return f"{title}, {numbers.share(expected)} was expected{agrees}"


_TITLE = "Accepted per window"
_GAP = 0.006
"""Of a window, left blank on either side of its bar: enough to tell two apart, too little to look like a pause."""
_MOST_NUMBERS = 15
"""Windows beyond which numbers would run into one another."""
_HIGHEST = 2.5
"""Of the limit: where outlines are cut off."""


def draw_windows(findings: Findings) -> Drawing | NoData:
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
    return Drawing(_windows_title(findings), caption, figure)


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


def _windows_title(findings: Findings) -> str:
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
