"""The 429 rate over time, observed and as the believed limiter would have it."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from loadtest.analysis import bins, numbers
from loadtest.analysis.findings import Findings
from loadtest.analysis.throttling import boundaries
from loadtest.contract import THROTTLED_STATUS
from loadtest.plan import ALL
from loadtest.report.plots import stages
from loadtest.report.plots.style import INK, MUTED, THROTTLED, Drawing, NoData, legend, panels, time_axis


def draw(findings: Findings) -> Drawing | NoData:
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
        width = bins.width(record.covered_s, len(mine), 8)
        cuts = bins.edges(0, record.covered_s, width, float(marks[0]) if len(marks) else 0.0)
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
    return Drawing(_title(findings), _caption(findings), figure)


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


def _title(findings: Findings) -> str:
    requests = findings.metrics.overall.requests
    observed, expected = requests.throttled_rate, requests.expected_throttled_rate
    title = f"{numbers.share(observed)} of requests got 429"
    if expected is None:
        return title
    agreement = findings.expectation.agreement
    agrees = f"; {numbers.share(agreement)} of the decisions are as expected" if agreement is not None else ""
    return f"{title}, {numbers.share(expected)} was expected{agrees}"
