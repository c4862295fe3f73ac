"""Offered, sent, accepted and 429, for each limit, against the limit."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from loadtest.analysis import numbers
from loadtest.analysis.findings import Findings
from loadtest.analysis.limits.usage import binding_limit
from loadtest.plan import ALL
from loadtest.report.bottleneck import unexplained
from loadtest.report.plots import stages
from loadtest.report.plots.style import INK, LIMITS, MUTED, THROTTLED, Drawing, NoData, legend, panels, plain, time_axis
from loadtest.units import Limit


def draw(findings: Findings) -> Drawing | NoData:
    """One panel for each limit that was asked anything."""
    record = findings.record
    used = record.limits()
    if not used:
        return NoData("Rates against the limits", "no request was sent")
    figure, axes = panels(len(used), 1.75)
    for panel, name in zip(axes, used, strict=True):
        _panel(panel, findings, name, record.belief.limit_on(name))
        stages.mark_stages(panel, record, names=panel is axes[0])
    time_axis(axes[-1], record.covered_s)
    legend(figure, axes)
    caption = (
        "Requests by the second they were sent, polls and retries included; offered is what the schedule and the "
        "polling policy wanted."
    )
    if findings.expectation.shift_s is not None:
        caption += f" {stages.window_words(record)}"
    return Drawing(_title(findings), caption, figure)


def _title(findings: Findings) -> str:
    use = binding_limit(findings.uses)
    if use is None:
        return "No limit was asked anything in a judged stage"
    called, requests = numbers.limit_name(use.limit), findings.metrics.overall.requests
    if not requests.accepted and not requests.throttled:
        return "No request was answered"
    if use.throttled and unexplained(findings, use.limit) is not None:
        got = f"{numbers.share(use.throttled_rate)} of what “{use.stretch}” asked of the {called} got 429"
        return f"{got}, though it had room"
    if use.throttled:
        got = f"{numbers.share(use.throttled_rate)} of what “{use.stretch}” asked of it got 429"
        return f"The {called} bound the run: {got}"
    if use.share > 1:
        return f"No request got 429, though the {called} was asked {numbers.times_what(use.share)} what it allows"
    return f"No limit was reached; the nearest was the {called}, at {numbers.times(use.share)} of what it allows"


def _panel(panel: Axes, findings: Findings, name: str, limit: Limit) -> None:
    record, series = findings.record, findings.rates[name]
    cuts, marks = series.cuts, series.boundaries
    # A minute's limit is read by the minute, a second's by the second.
    unit_s, unit = (60.0, "min") if limit.window >= 60 else (1.0, "s")
    # The first and last bins may reach beyond the run: their rate is over their part of it.
    lengths = np.minimum(cuts[1:], record.covered_s) - np.maximum(cuts[:-1], 0.0)

    def per_unit(counted: NDArray[np.int64]) -> NDArray[np.float64]:
        enough = lengths > (cuts[1] - cuts[0]) * 0.2
        return np.where(enough, counted / np.maximum(lengths, 1e-9), np.nan) * unit_s

    accepted, throttled = per_unit(series.accepted), per_unit(series.throttled)
    sent, offered = per_unit(series.sent), per_unit(series.offered)
    colour = LIMITS.get(name, MUTED)
    panel.stairs(np.nan_to_num(accepted), cuts, fill=True, color=colour, alpha=0.28, lw=0, label="accepted")
    panel.stairs(sent, cuts, color=colour, lw=1.4, label="sent", baseline=None)
    panel.stairs(throttled, cuts, color=THROTTLED, lw=1.4, ls=(0, (4, 1)), label="429", baseline=None)
    panel.stairs(offered, cuts, color=INK, lw=0.9, ls=(0, (1, 1.6)), label="offered", baseline=None)
    quotas = record.quotas_on(name)
    allowed = record.belief.rate_on(name) * unit_s * quotas
    if np.isfinite(allowed):  # a limit on concurrency is no rate
        panel.axhline(allowed, color=INK, lw=1.0, ls=(0, (6, 2)), label="limit")
    stages.mark_windows(panel, record, marks)
    top = max(np.nanmax([*sent, *offered, allowed if np.isfinite(allowed) else 0.0]), 1e-9)
    panel.set_ylim(0, top * 1.18)
    plain(panel.yaxis)
    keys = f", {quotas} keys" if quotas > 1 else ""
    called = "all requests" if name == ALL else name
    panel.set_title(f"{called}  ·  limit {numbers.limit_of(limit, record.belief)}{keys}")
    panel.set_ylabel(f"requests / {unit}")
