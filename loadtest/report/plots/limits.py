"""The limits: what was offered, sent, accepted and refused over time, the 429 rate, and what each window let pass."""

from typing import Final

import numpy as np
from matplotlib.axes import Axes

from loadtest import words
from loadtest.analysis import distribution
from loadtest.analysis.findings import Findings
from loadtest.analysis.rejections.expected_429 import Expectation, boundaries
from loadtest.analysis.rejections.usage import bottleneck_limit
from loadtest.analysis.rejections.windows import KEPT, AcceptedWindows
from loadtest.arrays import Floats, Ints
from loadtest.contract import ALL, THROTTLED_STATUS
from loadtest.report.limits import unexplained_429s
from loadtest.report.plots import stages, style
from loadtest.report.plots.drawing import Drawing, NoData
from loadtest.units import Limit
from loadtest.words import count


def draw_rates(findings: Findings) -> Drawing | NoData:
    """One panel for each limit that was asked anything."""
    record = findings.record
    used = record.limits()
    if not used:
        return NoData("Rates against the limits", "no request was sent")
    figure, axes = style.panels(len(used), 1.75)
    for panel, name in zip(axes, used, strict=True):
        _rates_panel(panel, findings, name, record.assumed_limits.limit_on(name))
        stages.mark_stages(panel, record, names=panel is axes[0])
    style.time_axis(axes[-1], record.covered_s)
    style.legend(figure, axes)
    caption = (
        "Requests by the second they were sent, polls and retries included; offered is what the schedule and the "
        "polling policy wanted. What goes beyond 3 times the limit is a line at the upper edge, and its peak is named. "
        "A limit holds over its whole window, so that single seconds may lie above it."
    )
    if findings.expectation.shift_s is not None:
        caption += f" {stages.window_words(record)}"
    return Drawing(_rates_title(findings), caption, figure)


def _rates_title(findings: Findings) -> str:
    use = bottleneck_limit(findings.uses)
    if use is None:
        return "No limit was asked anything in a judged stage"
    called, requests = words.limit_name(use.limit), findings.metrics.overall.requests
    if not requests.accepted and not requests.throttled:
        return "No request was answered"
    if use.throttled and unexplained_429s(findings, use.limit) is not None:
        got = f"{words.share(use.throttled_rate)} of what “{use.stretch}” asked of the {called} got 429"
        return f"{got}, though it had room"
    if use.throttled:
        got = f"{words.share(use.throttled_rate)} of what “{use.stretch}” asked of it got 429"
        return f"The {called} bound the run: {got}"
    whom = f" key {use.keys[0].key}" if use.uneven else ""
    if use.busiest > 1:
        asked = f"the {called} was asked {words.times_what(use.busiest)} what it allows{whom}"
        return f"No request got 429, though {asked}"
    near = f"the nearest was the {called}, at {words.times(use.busiest)} of what it allows{whom}"
    return f"No limit was reached; {near}"


def _rates_panel(panel: Axes, findings: Findings, name: str, limit: Limit) -> None:
    record, series = findings.record, findings.rates[name]
    cuts, marks = series.cuts, series.boundaries
    # A minute's limit is read by the minute, a second's by the second.
    unit_s, unit = (60.0, "min") if limit.window >= 60 else (1.0, "s")
    # The first and last bins may reach beyond the run: their rate is over their part of it.
    lengths = np.minimum(cuts[1:], record.covered_s) - np.maximum(cuts[:-1], 0.0)

    def per_unit(counted: Ints) -> Floats:
        enough = lengths > (cuts[1] - cuts[0]) * 0.2
        return np.where(enough, counted / np.maximum(lengths, 1e-9), np.nan) * unit_s

    accepted, throttled = per_unit(series.accepted), per_unit(series.throttled)
    sent, offered = per_unit(series.sent), per_unit(series.offered)
    colour = style.LIMITS.get(name, style.MUTED)
    panel.stairs(np.nan_to_num(accepted), cuts, fill=True, color=colour, alpha=0.28, lw=0, label="accepted")
    panel.stairs(sent, cuts, color=colour, lw=1.4, label="sent", baseline=None)
    panel.stairs(throttled, cuts, color=style.THROTTLED, lw=1.4, ls=(0, (4, 1)), label="429", baseline=None)
    panel.stairs(offered, cuts, color=style.INK, lw=0.9, ls=(0, (1, 1.6)), label="offered", baseline=None)
    quotas = record.quotas_on(name)
    allowed = record.assumed_limits.rate_on(name) * unit_s * quotas
    if np.isfinite(allowed):  # a limit on concurrency is no rate
        panel.axhline(allowed, color=style.INK, lw=1.0, ls=(0, (6, 2)), label="limit")
    stages.mark_windows(panel, record, marks)
    lines = {"sent": (sent, colour), "429": (throttled, style.THROTTLED), "offered": (offered, style.INK)}
    _cut_off(panel, cuts, lines, allowed, unit)
    style.plain(panel.yaxis)
    keys = f", {quotas} keys" if quotas > 1 else ""
    called = "all requests" if name == ALL else name
    panel.set_title(f"{called}  ·  limit {record.assumed_limits.limit_text(limit)}{keys}")
    panel.set_ylabel(f"requests / {unit}")


_HIGHEST_RATE: Final = 3.0
"""Times the limit: where rates are cut off, so that a peak doesn't hide what happens at the limit."""


def _cut_off(panel: Axes, cuts: Floats, lines: dict[str, tuple[Floats, str]], allowed: float, unit: str) -> None:
    """End the axis above the highest rate, or well above the limit: then what goes on beyond is a line at the edge."""
    peaks = {label: float(np.nanmax(values, initial=0.0)) for label, (values, _) in lines.items()}
    label = max(peaks, key=lambda each: peaks[each])
    top, highest = max(peaks[label], allowed if np.isfinite(allowed) else 0.0, 1e-9), allowed * _HIGHEST_RATE
    if top <= highest:
        panel.set_ylim(0, top * 1.18)
        return
    panel.set_ylim(0, highest * 1.08)
    for name, (values, colour) in lines.items():
        beyond = np.where(values > highest * 1.08, highest * 1.05, np.nan)
        line = "-" if name == "sent" else (0, (4, 1)) if name == "429" else (0, (1, 1.6))
        panel.stairs(beyond, cuts, color=colour, lw=1.4, ls=line, baseline=None)
    at = float(cuts[int(np.nanargmax(lines[label][0]))])
    late = at > cuts[0] + (cuts[-1] - cuts[0]) * 0.6
    panel.annotate(
        f"↑ {label}: peak {count(peaks[label])} / {unit}, cut off", (at, highest), xytext=(-4 if late else 4, -4),
        textcoords="offset points", ha="right" if late else "left", va="top", fontsize=7.5, color=style.INK,
        bbox={"facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
    )  # fmt: skip


def draw_429_rate(findings: Findings) -> Drawing | NoData:
    """One panel for each limit that gave or should have given any 429."""
    record = findings.record
    sent = record.sent_requests.assign(expected=findings.expectation.rejected)
    names = [
        name
        for name in record.limits()
        if ((own := sent.loc[record.on_limit(name).index])["status"] == THROTTLED_STATUS).any()
        or own["expected"].eq(1).any()
    ]
    if not len(sent):
        return NoData("429 rate over time", "no request was sent")
    if not names:
        return NoData("No request was answered with 429, and none was to be expected", "there is no 429 to draw")
    figure, axes = style.panels(len(names), 1.35)
    for panel, name in zip(axes, names, strict=True):
        own = sent.loc[record.on_limit(name).index]
        own = own[own["start"].between(0, record.covered_s * 1e9)]
        marks = boundaries(record, findings.expectation, record.assumed_limits.limit_on(name).window)
        width = distribution.width(record.covered_s, len(own), 8)
        cuts = distribution.edges(0, record.covered_s, width, float(marks[0]) if len(marks) else 0.0)
        seconds = own["start"].to_numpy(dtype=float) / 1e9
        _share(panel, seconds, (own["status"] == THROTTLED_STATUS).to_numpy().astype(float), cuts, fill=True)
        if own["expected"].notna().any():
            _share(panel, seconds, own["expected"].to_numpy(dtype=float), cuts, fill=False)
        for mark in marks:
            panel.axvline(mark, color=style.MUTED, lw=0.7, ls=":", zorder=0.6)
        stages.mark_stages(panel, record, names=panel is axes[0])
        panel.set_ylim(0, 112)
        panel.set_yticks([0, 50, 100])
        panel.set_ylabel("429s, %")
        panel.set_title("all requests" if name == ALL else name)
    style.time_axis(axes[-1], record.covered_s)
    style.legend(figure, axes)
    return Drawing(_429_rate_title(findings), _caption(findings), figure)


def _share(panel: Axes, seconds: Floats, hits: Floats, cuts: Floats, *, fill: bool) -> None:
    counts = np.histogram(seconds, cuts)[0]
    shares = np.histogram(seconds, cuts, weights=hits)[0] / np.maximum(counts, 1) * 100
    shares = np.where(counts > 0, shares, np.nan)
    if fill:
        panel.stairs(np.nan_to_num(shares), cuts, fill=True, color=style.THROTTLED, alpha=0.35, lw=0, label="observed")
        panel.stairs(shares, cuts, color=style.THROTTLED, lw=1.1, baseline=None)
    else:
        panel.stairs(shares, cuts, color=style.INK, lw=1.1, ls=(0, (2, 1.5)), baseline=None, label="expected")


def _caption(findings: Findings) -> str:
    expectation = findings.expectation
    text = "Requests answered with 429 ÷ requests sent, by the second they were sent."
    if expectation.why_not is not None:
        return f"{text} Nothing was expected, because {expectation.why_not}."
    text += f" Expected is what {findings.record.assumed_limits.words}, does with the recorded sends"
    if expectation.reordered:
        moved = "1 request" if expectation.reordered == 1 else f"{count(expectation.reordered)} requests"
        text += (
            f", {moved} of bursts put in another order: such arrive in any, so that their number is compared and "
            "not which of them passed"
        )
    if expectation.shift_s is None:
        return f"{text}."
    # Adding zero makes a rounded −0 a 0.
    return f"{text}, the server’s clock {round(expectation.shift_s, 2) + 0.0:+.2f} s from ours."


def _429_rate_title(findings: Findings) -> str:
    requests = findings.metrics.overall.requests
    observed, expected = requests.throttled_rate, requests.expected_throttled_rate
    title = f"{words.share(observed)} of requests got 429"
    if expected is None:
        return title
    return f"{title}, {words.share(expected)} was expected{_agreement(findings.expectation)}"


def _agreement(found: Expectation) -> str:
    """How many decisions a replay predicts: in the order of sending first, which nothing was changed for."""
    if found.agreement is None:
        return ""
    if not found.reordered:
        return f"; {words.share(found.agreement)} of the decisions are as expected"
    as_sent = "" if found.agreement_as_sent is None else f"{words.share(found.agreement_as_sent)} in the order sent, "
    return f"; as expected are {as_sent}{words.share(found.agreement)} with accepted requests of bursts first"


_WINDOWS_TITLE = "Accepted per window"
_GAP = 0.006
"""Of a window, left blank on either side of its bar: enough to tell two apart, too little to look like a pause."""
_MOST_NUMBERS = 15
"""Windows beyond which numbers would run into one another."""
_HIGHEST = 2.5
"""Of the limit: where outlines are cut off."""


def draw_windows(findings: Findings) -> Drawing | NoData:
    """One panel for each limit that counts in windows and refused something."""
    record, observed = findings.record, findings.observed_429
    if observed.why_not is not None:
        return NoData(_WINDOWS_TITLE, observed.why_not)
    refusing = [each for each in observed.limits.values() if each.throttled]
    drawn = {
        name: each.windows
        for name, each in observed.limits.items()
        if each.windows is not None and each.windows.rejected.any()
    }
    if not drawn:
        why = "no window refused anything"
        if refusing:
            windowed = any(each.windows is not None for each in refusing)
            why = (
                f"none of the first {count(KEPT)} windows refused anything"
                if windowed
                else "the limiter does not count in windows"
            )
        return NoData(_WINDOWS_TITLE, why)
    figure, axes = style.panels(len(drawn), 1.45)
    style.time_axis(axes[-1], record.covered_s)
    for panel, (name, windows) in zip(axes, drawn.items(), strict=True):
        _windows_panel(panel, windows, style.LIMITS.get(name, style.MUTED))
        stages.mark_stages(panel, record, names=panel is axes[0])
        limit = f"{count(windows.counts.count)} per {windows.counts.window_s:g} s"
        panel.set_title(f"{'all requests' if name == ALL else name}  ·  {limit}")
    style.legend(figure, axes)
    caption = (
        "Each bar is a window of the server, by when requests were sent; where keys have limiters of their own, their "
        "bars lie upon one another. The outline above is what was refused, cut off at 2.5 times the limit."
    )
    return Drawing(_windows_title(findings), caption, figure)


def _windows_panel(panel: Axes, windows: AcceptedWindows, colour: str) -> None:
    width = windows.counts.window_s * (1 - 2 * _GAP)
    for accepted_whole, label, shade in ((True, "accepted", 0.75), (False, "accepted, window cut off", 0.3)):
        shown = windows.is_whole == accepted_whole
        if not shown.any():
            continue
        panel.bar(
            windows.begins_s[shown] + windows.counts.window_s * _GAP, windows.accepted[shown], width, align="edge",
            color=colour, alpha=shade / max(1, windows.counts.limiters) ** 0.5, lw=0, label=label,
        )  # fmt: skip
    over = windows.rejected > 0
    panel.bar(
        windows.begins_s[over] + windows.counts.window_s * _GAP, windows.rejected[over], width,
        bottom=windows.accepted[over], align="edge", facecolor="none", edgecolor=style.THROTTLED, lw=0.8,
        label="429 beyond them",
    )  # fmt: skip
    panel.axhline(windows.counts.count, color=style.INK, lw=1.0, ls=(0, (6, 2)), label="limit")
    tallest = float(np.max(windows.accepted + windows.rejected, initial=windows.counts.count))
    highest = min(tallest, windows.counts.count * _HIGHEST) * 1.15
    panel.set_ylim(0, highest)
    if windows.counts.limiters == 1 and len(windows.rejected) <= _MOST_NUMBERS:
        _numbers(panel, windows, highest)
    style.plain(panel.yaxis)
    panel.set_ylabel("requests")
    panel.axhline(0, color=style.FADED, lw=0.4)


def _numbers(panel: Axes, windows: AcceptedWindows, highest: float) -> None:
    """How many were refused in each window, at the top of its outline, which may be cut off."""
    left, right = panel.get_xlim()
    for begin, accepted, refused in zip(windows.begins_s, windows.accepted, windows.rejected, strict=True):
        begins, ends = max(float(begin), left), min(float(begin) + windows.counts.window_s, right)
        if not refused or ends - begins < (right - left) * 0.06:
            continue
        top = min(float(accepted + refused), highest)
        inside = top - accepted > highest * 0.18
        panel.annotate(
            f"{count(refused)} got 429", ((begins + ends) / 2, top), xytext=(0, -3 if inside else 2),
            textcoords="offset points", ha="center", va="top" if inside else "bottom", fontsize=7.5,
            color=style.THROTTLED,
        )  # fmt: skip


def _windows_title(findings: Findings) -> str:
    limits = findings.observed_429.limits
    odd = [name for name in limits if unexplained_429s(findings, name)]
    if odd:
        return f"Requests to {' and '.join(odd)} were refused in windows that were not full"
    full = [each.windows.counts for each in limits.values() if each.windows is not None]
    known = [each for each in full if each.spread is not None]
    if not known:
        return _cut_windows_title({name: each.windows for name, each in limits.items() if each.windows is not None})
    total = sum(each.saturated for each in known)
    exact = all(each.spread is not None and each.spread[0] == each.spread[2] == each.count for each in known)
    if exact and total == 1:
        return "The one saturated whole window let exactly its limit pass"
    if exact:
        return f"Each of {count(total)} saturated whole windows let exactly its limit pass"
    parts = ", ".join(
        f"{name} {_range(counts.spread[0], counts.spread[2])} of {count(counts.count)}"
        for name, each in limits.items()
        if each.windows is not None and (counts := each.windows.counts).spread is not None
    )
    return f"Saturated whole windows let pass: {parts}"


def _cut_windows_title(found: dict[str, AcceptedWindows]) -> str:
    """Of windows that refused, and that the run holds only a part of: the rest may have been accepted unseen."""
    parts = [
        f"{name} {_range(int(accepted.min()), int(accepted.max()))} of {count(windows.counts.count)}"
        for name, windows in found.items()
        if len(accepted := windows.accepted[windows.rejected > 0])
    ]
    return f"Windows that refused let pass: {', '.join(parts)} (cut off by the run’s ends)"


def _range(least: int, most: int) -> str:
    return count(least) if least == most else f"{count(least)} to {count(most)}"
