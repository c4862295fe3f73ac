"""Response time beside service time: what waiting and retrying add to the server's part."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from loadtest.analysis import numbers
from loadtest.analysis.distribution import Distribution
from loadtest.analysis.findings import Findings
from loadtest.analysis.record import Record
from loadtest.contract import Operation
from loadtest.report.plots.style import INK, OPERATIONS, Drawing, NoData, legend, panels, plain_log
from loadtest.stats import ranks_to_draw

_MOST_POINTS = 600


def draw(findings: Findings) -> Drawing | NoData:
    """Cumulative distributions, one panel for each traffic entry that got answers."""
    record = findings.record
    names = [name for name in record.info.traffic if _of(record, "response_time_ms", name).n]
    if not names:
        return NoData("Response time beside service time", "no operation was answered with success or timed out")
    figure, axes = panels(len(names), 2.3, columns=min(3, len(names)), share_x=False)
    for panel, name in zip(axes, names, strict=True):
        colour = OPERATIONS[record.info.traffic[name].operation]
        _curve(panel, _of(record, "response_time_ms", name), "response time", INK, "-")
        _curve(panel, _of(record, "service_time_ms", name), "service time of a request", colour, (0, (4, 1.5)))
        panel.set_xscale("log")
        plain_log(panel.xaxis)
        panel.set_ylim(0, 102)
        panel.set_xlabel("ms (log)")
        panel.set_title(f"{name}  ·  {record.info.traffic[name].operation}")
    axes[0].set_ylabel("share at most this long, %")
    legend(figure, axes)
    caption = (
        "Response time runs from the intended start, so that nothing which waited is left out; service time is one "
        "request’s, from its first byte sent. Where the curves part, operations waited, retried or polled. Dashed "
        "lines take the colour of the operation."
    )
    return Drawing(_title(findings), caption, figure)


def _of(record: Record, metric: str, traffic: str) -> Distribution:
    return record.times.of[metric].get(record.cells(record.stages(traffic=traffic)))


def _curve(panel: Axes, values: Distribution, label: str, colour: str, line: Any) -> None:
    if not values.n:
        return
    # Evenly by rank, both ends kept.
    ranks = ranks_to_draw(values.n, _MOST_POINTS)
    ordered, shares = values.at(ranks), ranks / values.n * 100
    ordered, shares = ordered[ordered > 0], shares[ordered > 0]
    if len(ordered) == 1:
        panel.plot(ordered, shares, "o", color=colour, ms=4, label=label)
    elif len(ordered):
        panel.plot(np.r_[ordered[0], ordered], np.r_[0, shares], color=colour, ls=line, lw=1.5, label=label,
                   drawstyle="steps-post")  # fmt: skip


def _title(findings: Findings) -> str:
    gaps = []
    for name, cell in findings.metrics.traffic.items():
        response, service = cell.response_time_ms.p50, cell.service_time_ms.p50
        polled = findings.record.info.traffic[name].operation == Operation.ASYNC_RUN
        if response is not None and service is not None and not polled:
            gaps.append((response - service, name))
    if not gaps:
        return _polled_title(findings)
    gap, name = max(gaps)
    if gap < 1:
        return f"Response time is service time: waiting adds at most {numbers.duration_ms(max(gap, 0))} at the median"
    median = numbers.duration_ms(findings.metrics.traffic[name].response_time_ms.p50)
    return f"Waiting and retries are {numbers.duration_ms(gap)} of the median response time of {name}, {median}"


def _polled_title(findings: Findings) -> str:
    """Of jobs, whose requests are many."""
    for name, cell in findings.metrics.traffic.items():
        response, service = cell.response_time_ms, cell.service_time_ms
        if response.p50 is not None and service.p50 is not None:
            whole = numbers.bounded(response.get("p50"))
            return f"At the median a request of {name} takes {numbers.duration_ms(service.p50)}, a whole job {whole}"
    return "Response time, and the service time of single requests"
