"""Plots of the limits: rates over time, the 429 rate, and accepted requests per window."""

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes

from loadtest.analysis.findings import Findings
from loadtest.analysis.rejections.usage import KEPT, AcceptedWindows
from loadtest.arrays import Bools, Floats, Ints
from loadtest.report.limits import bottleneck, unexplained_429s
from loadtest.report.page import Point
from loadtest.report.plots import marks, style
from loadtest.report.plots.drawing import Drawing
from loadtest.units import Limit
from loadtest.words import count, joined, limited, share

_HIGHEST_RATE: Final = 3.0
"""Rates above this multiple of the limit are cut off, because peaks would compress the rest."""
_WINDOWS_TITLE: Final = "Accepted per window"
_GAP: Final = 0.006
"""Blank share of a window on either side of its bar: enough to separate bars, too little to suggest a pause."""
_MOST_NUMBERS: Final = 15
"""Windows show their numbers of 429s only if there are at most this many windows; more would overlap."""
_HIGHEST: Final = 2.5
"""The outlines of a window's 429s are cut off above this multiple of the limit."""


def draw_rates(findings: Findings) -> Drawing | Point:
    """Draw request rates over time, with a panel for each limit that the run used."""
    record = findings.record
    used = record.limits()
    if not used:
        return Point("Rates against the limits", "no request was sent")
    figure, axes = style.panels(len(used), 1.75)
    for panel, name in zip(axes, used, strict=True):
        _rates_panel(panel, findings, name, record.assumed_limits.limit_on(name))
    marks.over_time(axes, record)
    caption = (
        f"Rates by sending time, cut off at {_HIGHEST_RATE:g} times the limit. A limit holds over a whole window, so "
        "short peaks may exceed it."
    )
    if findings.record.expectation.clock_shift_s is not None:
        caption += f" {marks.window_words(record)}"
    return Drawing(f"Bottleneck: {bottleneck(findings).rstrip('.')}", caption, figure)


def _rates_panel(panel: Axes, findings: Findings, name: str, limit: Limit) -> None:
    record, series = findings.record, findings.rates[name]
    cuts, colour = series.cuts, style.LIMITS.get(name, style.MUTED)
    # Rates are per minute if the limit's window is a minute or longer, and otherwise per second.
    unit_s, unit = (60.0, "min") if limit.window >= 60 else (1.0, "s")
    # The first and last bins may extend beyond the run, so divide by the time that lies within the run.
    lengths = np.minimum(cuts[1:], record.covered_s) - np.maximum(cuts[:-1], 0.0)
    enough = lengths > (cuts[1] - cuts[0]) * 0.2
    accepted, sent, throttled, offered = (
        np.where(enough, counted / np.maximum(lengths, 1e-9), np.nan) * unit_s
        for counted in (series.accepted, series.sent, series.throttled, series.offered)
    )
    style.stairs(panel, np.nan_to_num(accepted), cuts, fill=True, color=colour, alpha=0.28, lw=0, label="accepted")
    lines: dict[str, tuple[Floats, dict[str, Any]]] = {
        "sent": (sent, {"color": colour, "lw": 1.4}),
        "429": (throttled, {"color": style.THROTTLED, "lw": 1.4, "ls": (0, (4, 1))}),
        "offered": (offered, {"color": style.INK, "lw": 0.9, "ls": (0, (1, 1.6))}),
    }
    for label, (rates, look) in lines.items():
        style.stairs(panel, rates, cuts, baseline=None, label=label, **look)
    quotas = record.quotas_on(name)
    allowed = record.assumed_limits.rate_on(name) * unit_s * quotas
    if np.isfinite(allowed):  # a concurrency limit has no rate
        panel.axhline(allowed, label="limit", **style.LIMIT)
    marks.mark_windows(panel, record, series.boundaries)
    _cut_off(panel, cuts, lines, allowed, unit)
    style.plain(panel.yaxis)
    keys = f" for each of {quotas} keys" if quotas > 1 else ""
    panel.set_title(f"{limited(name)}{style.DOT}limit {record.assumed_limits.limit_text(limit)}{keys}")
    panel.set_ylabel(f"requests / {unit}")


def _cut_off(
    panel: Axes, cuts: Floats, lines: dict[str, tuple[Floats, dict[str, Any]]], allowed: float, unit: str
) -> None:
    """End the axis above the highest rate, or cut off rates far above the limit and mark them at the edge."""
    peaks = {label: float(np.nanmax(rates, initial=0.0)) for label, (rates, _) in lines.items()}
    label = max(peaks, key=lambda each: peaks[each])
    top, highest = max(peaks[label], allowed if np.isfinite(allowed) else 0.0, 1e-9), allowed * _HIGHEST_RATE
    if top <= highest:
        panel.set_ylim(0, top * 1.18)
        return
    panel.set_ylim(0, highest * 1.08)
    for rates, look in lines.values():
        beyond = np.where(rates > highest * 1.08, highest * 1.05, np.nan)
        style.stairs(panel, beyond, cuts, baseline=None, **{**look, "lw": 1.4})
    at = float(cuts[int(np.nanargmax(lines[label][0]))])
    # The note lies below the names of stages.
    offset, side = ((-4, -15), "right") if at > cuts[0] + (cuts[-1] - cuts[0]) * 0.6 else ((4, -15), "left")
    text = f"↑ {label}: peak {count(peaks[label])} / {unit}, cut off"
    style.note(panel, text, (at, highest), offset, ha=side, va="top", color=style.INK, bbox=style.PAPERED)


def draw_429_rate(findings: Findings) -> Drawing | Point:
    """Draw the 429 rate over time for each limit that has observed or expected 429s."""
    if not findings.rates:
        return Point("429 rate over time", "no request was sent")
    shown = {name: each for name, each in findings.rates.items() if each.throttled.any() or (each.expected > 0).any()}
    if not shown:
        return Point("429 rate over time", "no request got 429, and none was expected to")
    figure, axes = style.panels(len(shown), 1.35)
    for panel, (name, series) in zip(axes, shown.items(), strict=True):
        observed = np.where(series.sent > 0, series.throttled / np.maximum(series.sent, 1), np.nan) * 100
        filled = {"fill": True, "alpha": 0.35, "lw": 0, "label": "observed"}
        style.stairs(panel, np.nan_to_num(observed), series.cuts, color=style.THROTTLED, **filled)
        style.stairs(panel, observed, series.cuts, color=style.THROTTLED, lw=1.1, baseline=None)
        if not np.isnan(series.expected).all():
            look = {"color": style.INK, "lw": 1.1, "ls": (0, (2, 1.5)), "label": "expected"}
            style.stairs(panel, series.expected * 100, series.cuts, baseline=None, **look)
        for begin in series.boundaries:
            marks.mark_window(panel, begin)
        panel.set(ylim=(0, 112), yticks=[0, 50, 100], ylabel="429s, %", title=limited(name))
    marks.over_time(axes, findings.record)
    caption = "Requests answered with 429 ÷ requests sent, by sending time"
    if (why := findings.record.expectation.why_not) is not None:
        caption += f". Expected 429s are unknown, because {why}."
    else:
        caption += f"; expected: decisions of {findings.record.assumed_limits.words}, on the same requests."
    return Drawing(_429_rate_title(findings), caption, figure)


def _429_rate_title(findings: Findings) -> str:
    requests, found = findings.metrics.overall.requests, findings.record.expectation
    title = f"{share(requests.throttled_rate)} of requests got 429"
    if requests.expected_throttled_rate is None:
        return title
    title += f", {share(requests.expected_throttled_rate)} were expected to"
    if found.agreement is None:
        return title
    order = ", if each burst’s accepted requests arrived first" if found.reordered else ""
    return f"{title}; {share(found.agreement)} of the decisions are as expected{order}"


def draw_windows(findings: Findings) -> Drawing | Point:
    """Draw accepted requests per window for each limit that rejected requests and whose limiter counts in windows."""
    record, observed = findings.record, findings.observed_429
    if observed.why_not is not None:
        return Point(_WINDOWS_TITLE, observed.why_not)
    windowed = {name: each.accepted for name, each in observed.limits.items() if each.accepted is not None}
    drawn = {name: windows for name, windows in windowed.items() if windows.rejected.any()}
    if not drawn:
        rejecting = {name for name, each in observed.limits.items() if each.throttled}
        why = "no request got 429"
        if rejecting:
            kept = f"none of the first {count(KEPT)} windows has a 429"
            why = kept if rejecting & windowed.keys() else "the limiter does not count in windows"
        return Point(_WINDOWS_TITLE, why)
    figure, axes = style.panels(len(drawn), 1.45)
    marks.time_axis(axes[-1], record)
    for panel, (name, windows) in zip(axes, drawn.items(), strict=True):
        _windows_panel(panel, windows, style.LIMITS.get(name, style.MUTED))
        panel.set_title(f"{limited(name)}{style.DOT}{count(windows.counts.count)} per {windows.counts.window_s:g} s")
    marks.over_time(axes, record)
    beside = any(windows.counts.limiters > 1 for windows in drawn.values())
    caption = (
        f"Each bar is a window of the server{', keys side by side' if beside else ''}; the outline above shows the "
        f"window’s 429s, cut off at {_HIGHEST:g} times the limit."
    )
    return Drawing(_windows_title(findings, windowed), caption, figure)


def _windows_panel(panel: Axes, windows: AcceptedWindows, colour: str) -> None:
    counts, width = windows.counts, windows.counts.window_s * (1 - 2 * _GAP) / windows.counts.limiters
    begins = windows.begins_s + windows.counts.window_s * _GAP + windows.limiter * width

    def bars(shown: Bools, heights: Ints, **look: Any) -> None:
        panel.bar(begins[shown], heights[shown], width, align="edge", **look)

    for shown, label, alpha in (
        (windows.is_whole, "accepted", 0.75),
        (~windows.is_whole, "accepted, window cut off", 0.3),
    ):
        if shown.any():
            bars(shown, windows.accepted, color=colour, alpha=alpha, lw=0, label=label)
    over = windows.rejected > 0
    outline = {"facecolor": "none", "edgecolor": style.THROTTLED, "lw": 0.8, "label": "429"}
    bars(over, windows.rejected, bottom=windows.accepted[over], **outline)
    panel.axhline(counts.count, label="limit", **style.LIMIT)
    tallest = float(np.max(windows.accepted + windows.rejected, initial=counts.count))
    highest = min(tallest, counts.count * _HIGHEST) * 1.15
    panel.set(ylim=(0, highest), ylabel="requests")
    if counts.limiters == 1 and len(windows.rejected) <= _MOST_NUMBERS:
        _numbers(panel, windows, highest)
    style.plain(panel.yaxis)
    panel.axhline(0, color=style.FADED, lw=0.4)


def _numbers(panel: Axes, windows: AcceptedWindows, highest: float) -> None:
    """Write each window's number of 429s at the top of its outline, or at the axis's end if the outline is cut off."""
    left, right = panel.get_xlim()
    for begin, accepted, refused in zip(windows.begins_s, windows.accepted, windows.rejected, strict=True):
        begins, ends = max(float(begin), left), min(float(begin) + windows.counts.window_s, right)
        if not refused or ends - begins < (right - left) * 0.06:
            continue
        top = min(float(accepted + refused), highest)
        offset, side = ((0, -3), "top") if top - accepted > highest * 0.18 else ((0, 2), "bottom")
        at = ((begins + ends) / 2, top)
        style.note(panel, f"{count(refused)} got 429", at, offset, ha="center", va=side, color=style.THROTTLED)


def _windows_title(findings: Findings, windowed: dict[str, AcceptedWindows]) -> str:
    odd = [name for name in findings.observed_429.limits if unexplained_429s(findings, name)]
    if odd:
        return f"Requests on {joined(odd)} got 429 in windows that were not full"
    full = {name: (each.counts, each.counts.spread) for name, each in windowed.items() if each.counts.spread}
    if not full:
        # The run covers each window with a 429 only in part. The server may have accepted more before or after the run.
        cut = ((name, each.accepted[each.rejected > 0], each.counts.count) for name, each in windowed.items())
        parts = [_passed(name, int(got.min()), int(got.max()), most) for name, got, most in cut if len(got)]
        return f"Accepted in windows with 429s, which the run covers in part: {', '.join(parts)}"
    if all(spread[0] == spread[2] == counts.count for counts, spread in full.values()):
        total = sum(counts.saturated for counts, _ in full.values())
        which = "the one full window" if total == 1 else f"all {count(total)} full windows"
        return f"In {which}, the API accepted exactly the limit"
    parts = [_passed(name, spread[0], spread[2], counts.count) for name, (counts, spread) in full.items()]
    return f"Accepted in full windows: {', '.join(parts)}"


def _passed(name: str, least: int, most: int, limit: int) -> str:
    return f"{name} {count(least)}{f' to {count(most)}' if most != least else ''} of {count(limit)}"
